"""The checker of histories finds what it is there for: five planted bugs, one at a time."""

import random

import pytest

from panvel_test.history import FAILED, OK, UNKNOWN, History, KeyWrites, Read, Write

KEYS = 40
SHARDS = 4


def simulate(seed):
    """A correct run: (history, final rows, placements)."""
    generator = random.Random(seed)
    rows = {key: 0 for key in range(KEYS)}
    history = History(rows)
    now = 0.0
    for number in range(1, 400):
        now += 1
        if generator.random() < 0.3:
            keys = generator.sample(range(KEYS), 5)
            history.reads.append(Read({key: rows[key] for key in keys}, now, now + 0.5))
            continue
        keys = generator.sample(range(KEYS), 2 if generator.random() < 0.4 else 1)
        values = {key: None if generator.random() < 0.1 else number * 100 + key for key in keys}
        outcome = generator.choices([OK, FAILED, UNKNOWN], [8, 1, 1])[0]
        if outcome == OK or (outcome == UNKNOWN and generator.random() < 0.5):
            rows.update(values)
        history.writes.append(Write(values, now, now + 0.5, outcome))
    history.reads.append(Read(dict(rows), now + 1, now + 2))
    final = {key: value for key, value in rows.items() if value is not None}
    placements = {
        shard: [{key: value for key, value in final.items() if key % SHARDS == shard} for _ in range(2)]
        for shard in range(SHARDS)
    }
    return history, final, placements


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_history_is_clean(seed):
    history, final, placements = simulate(seed)
    assert history.problems(final, placements) == []


def last_write(history, final, condition):
    """One that is in effect at the end, with the state of its keys before it."""
    for write in reversed(history.writes):
        if condition(write) and all(final.get(key) == value for key, value in write.values.items()):
            before = {}
            for key in write.values:
                earlier = [w for w in history.writes if key in w.values and w.start < write.start and w.outcome == OK]
                before[key] = earlier[-1].values[key] if earlier else 0
            if all(value is not None and before[key] is not None for key, value in write.values.items()):
                return write, before
    pytest.skip("no such write in this history")


@pytest.mark.parametrize("seed", range(5))
class TestPlantedBugs:
    def test_a_lost_write(self, seed):
        history, final, placements = simulate(seed)
        write, before = last_write(history, final, lambda w: w.outcome == OK and len(w.values) == 1)
        final.update(before)
        assert any("older than what was acknowledged" in text for text in history.problems(final))

    def test_a_half_commit(self, seed):
        history, final, placements = simulate(seed)
        write, before = last_write(history, final, lambda w: w.outcome == OK and len(w.values) == 2)
        write.outcome = UNKNOWN  # else it is a lost write as well
        key = next(iter(write.values))
        final[key] = before[key]
        assert any("by half" in text for text in history.problems(final))

    def test_a_stale_read(self, seed):
        history, final, placements = simulate(seed)
        write, before = last_write(history, final, lambda w: w.outcome == OK)
        history.reads[-1].values.update(before)
        assert any("a read has" in text and "older" in text for text in history.problems(final))

    def test_a_skipped_shard(self, seed):
        history, final, placements = simulate(seed)
        for key in range(0, KEYS, SHARDS):
            history.reads[-1].values[key] = None
        assert any("a read misses the row" in text for text in history.problems(final))

    def test_a_diverged_follower(self, seed):
        history, final, placements = simulate(seed)
        key = next(iter(placements[1][1]))
        placements[1][1][key] = -1
        assert history.problems(final, placements) == [f"placements of shard 1 differ: [{key}]"]

    def test_a_failed_write_that_is_there(self, seed):
        history, final, placements = simulate(seed)
        write, _ = last_write(history, final, lambda w: w.outcome == OK and len(w.values) == 1)
        write.outcome = FAILED
        assert any("reported as failed" in text for text in history.problems(final))


@pytest.mark.parametrize("seed", range(5))
def test_recall(seed):
    """Of k-NN reads: all rows that must have been found, and fewer when some are not."""
    history, final, _ = simulate(seed)
    nearest = sorted(final, key=lambda key: abs(key - 20.25))[:10]
    read = Read({key: final[key] for key in nearest}, 1000, 1001, lambda key: abs(key - 20.25))
    history.reads.append(read)
    assert history.recall() == 1
    del read.values[nearest[3]]
    assert history.recall() < 1
    assert history.problems(final) == []


def test_asked_by_time_as_by_looking_at_all():
    generator = random.Random(7)
    for _ in range(50):
        moment, writes = 0, [Write({1: 0}, -1, -1, OK)]
        for value in range(1, generator.randrange(2, 30)):
            start, end = (moment := moment + generator.randrange(3)), (moment := moment + generator.randrange(3))
            writes.append(Write({1: value}, start, end, generator.choice([OK, OK, FAILED, UNKNOWN])))
        asked = KeyWrites(writes)
        for start in range(moment + 2):
            least = max(i for i, write in enumerate(writes) if write.outcome == OK and write.end < start)
            assert asked.least(start) == least
            for end in range(start, moment + 3):
                not_failed = [write for write in writes if write.outcome != FAILED and write.start < end]
                assert asked.last_begun(end) is not_failed[-1]
                assert asked.possible(start, end) == [write for write in writes[least:] if write in not_failed]
