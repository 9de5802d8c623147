"""What concurrent clients did and saw, and whether a database may have behaved so.

Every key is written by one client, one write after the other, and each write gives it a value of its own
(`None`: the row is deleted). So the writes of a key are in order, and a value tells which write it is
from. Reads are anybody's.
"""

import bisect
import dataclasses

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclasses.dataclass
class Write:
    """One transaction. `values`: {key: value}, of one key or of several (then often on several nodes)."""

    values: dict
    start: float
    end: float
    outcome: str


@dataclasses.dataclass
class Read:
    """`values`: what was seen of each key that was asked for; a key without a row is None.

    `distance`: of a k-NN read, from a key to its distance; then `values` are the nearest, the farthest last.
    """

    values: dict
    start: float
    end: float
    distance: object = None


class KeyWrites:
    """The writes of one key in their order, to be asked by time: a history has 10,000 of them and as many reads."""

    def __init__(self, writes):
        self.writes = writes
        self.starts = [write.start for write in writes]
        self.acknowledged = [i for i, write in enumerate(writes) if write.outcome == OK]
        self.ends = [writes[i].end for i in self.acknowledged]
        self.not_failed = [write for write in writes if write.outcome != FAILED]
        self.starts_not_failed = [write.start for write in self.not_failed]
        self.place = {id(write): i for i, write in enumerate(writes)}

    def least(self, start):
        """Index of the last one that was acknowledged before."""
        return self.acknowledged[bisect.bisect_left(self.ends, start) - 1]

    def possible(self, start, end):
        """Those whose value may be seen between the two."""
        found = self.writes[self.least(start) : bisect.bisect_left(self.starts, end)]
        return [write for write in found if write.outcome != FAILED]

    def last_begun(self, end):
        return self.not_failed[bisect.bisect_left(self.starts_not_failed, end) - 1]


class History:
    def __init__(self, initial):
        self.initial = dict(initial)
        self.writes = []
        self.reads = []

    def problems(self, final, placements=None):
        """What cannot be, as texts. `final`: {key: value} at the end, when all is quiet.

        `placements`: {shard: [{key: value} of each in-sync placement]}.
        """
        order = self._order()
        found = []
        for read in self.reads:
            for key, value in read.values.items():
                found += self._seen(order[key], key, value, read.start, read.end, "a read")
        for key in self.initial:
            found += self._seen(order[key], key, final.get(key), float("inf"), float("inf"), "the end")
        found += self._halves(order, final)
        found += [f"a row that nobody wrote: {key}" for key in final if key not in self.initial]
        for shard, copies in (placements or {}).items():
            for copy in copies[1:]:
                if copy != copies[0]:
                    keys = [key for key in {*copy, *copies[0]} if copy.get(key) != copies[0].get(key)]
                    found.append(f"placements of shard {shard} differ: {sorted(keys)[:5]}")
        return found

    def recall(self):
        """Of the rows that k-NN reads must have found, the part that they have.

        Those are rows that nobody wrote meanwhile and that are nearer than the farthest one found.
        """
        order = self._order()
        wanted = found = 0
        for read in self.reads:
            if read.distance is None or not read.values:
                continue
            limit = max(read.distance(key) for key in read.values)
            for key in self.initial:
                if read.distance(key) < limit and self._is_there(order[key], key, read.start, read.end):
                    wanted += 1
                    found += key in read.values
        return found / wanted if wanted else 1.0

    @staticmethod
    def _is_there(writes, key, start, end):
        """Whether the row was there all the time, for sure."""
        last = writes.last_begun(end)
        return last.outcome == OK and last.end < start and last.values[key] is not None

    def _order(self):
        order = {key: [Write({key: value}, -1, -1, OK)] for key, value in self.initial.items()}
        for write in sorted(self.writes, key=lambda write: write.start):
            for key in write.values:
                order[key].append(write)
        return {key: KeyWrites(writes) for key, writes in order.items()}

    def _seen(self, writes, key, value, start, end, where):
        """A value is that of the last write acknowledged before `start`, or of a later one."""
        if any(write.values[key] == value for write in writes.possible(start, end)):
            return []
        at = [write for write in writes.writes if write.values[key] == value and value is not None]
        if at and at[0].outcome == FAILED:
            return [f"{where} has {key}={value}, a write that was reported as failed"]
        if value is None:
            return [f"{where} misses the row of {key}, which was acknowledged"]
        return [f"{where} has {key}={value}, older than what was acknowledged"]

    def _halves(self, order, final):
        """A transaction is in effect for a key that has its value or a later one; for all keys or for none."""
        found = []
        for write in self.writes:
            if len(write.values) < 2:
                continue
            effects = {}
            for key in write.values:
                if final.get(key) is None:  # by which of several deletions?
                    continue
                place = order[key].place[id(write)]
                current = [i for i, other in enumerate(order[key].writes) if other.values[key] == final[key]]
                if current and current[0] <= place:
                    effects[key] = current[0] == place
            if len(set(effects.values())) > 1:
                found.append(f"a transaction is there by half: {write.values}, in effect {effects}")
        return found
