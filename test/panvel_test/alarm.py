"""What ends a run or a test from outside: signals, and time that is up."""

import signal

import pytest


class Alarm:
    """Ends the run (SIGTERM, SIGHUP) or the test (its time is up) by an exception.

    An exception raised inside a destructor would be swallowed, hence by way of a timer that tries
    again.
    """

    def __init__(self):
        self.ended_by = None
        self.seconds = 0

    def install(self):
        signal.signal(signal.SIGTERM, self.terminated)
        signal.signal(signal.SIGHUP, self.terminated)
        signal.signal(signal.SIGALRM, self.rung)

    def set(self, seconds):
        self.seconds = seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def clear(self):
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.exit_if_ended()

    def terminated(self, number, frame):
        self.ended_by = number
        self.rung(number, frame)

    def rung(self, number, frame):
        while frame is not None:
            if frame.f_code.co_name == "__del__":
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                return
            frame = frame.f_back
        self.exit_if_ended()
        pytest.fail(f"not done within {self.seconds} s")

    def exit_if_ended(self):
        if self.ended_by is not None:
            name = signal.Signals(self.ended_by).name
            pytest.exit(f"ended by {name}", returncode=128 + self.ended_by)
