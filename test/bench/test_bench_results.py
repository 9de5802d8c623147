"""What the table of `make bench` makes of measurements."""

import pytest
from bench_report import number, results_table
from bench_results import Measurements, Row, Speed, rows, speed_at


def test_a_speed_lies_on_the_line_between_two_values_of_ef():
    curve = [(10, 0.95, 5000.0), (20, 0.99, 3000.0), (40, 0.998, 1000.0)]
    assert speed_at(curve, 0.97) == Speed(4000.0, 0.97)
    assert speed_at(curve, 0.99) == Speed(3000.0, 0.99)
    assert speed_at(reversed(curve), 0.994).per_second == pytest.approx(2000.0)


def test_a_speed_at_a_recall_that_is_not_reached():
    assert speed_at([(10, 0.95, 5000.0), (20, 0.98, 3000.0)], 0.99) is None
    assert speed_at([], 0.99) is None


def test_the_lowest_ef_may_already_be_better():
    assert speed_at([(10, 0.995, 5000.0), (20, 0.999, 3000.0)], 0.99) == Speed(5000.0, 0.995)


def test_fewer_answers_than_asked_for_are_no_speed():
    """ef 8 gives eight answers: the way from there to ef 10 is none of searching better."""
    assert speed_at([(8, 0.80, 9000.0), (10, 0.99, 5000.0)], 0.97) == Speed(5000.0, 0.99)


def test_the_first_ef_that_is_good_enough_counts():
    """Recall may go down by chance."""
    curve = [(10, 0.98, 4.0), (12, 1.0, 3.0), (14, 0.985, 2.0), (16, 1.0, 1.0)]
    assert speed_at(curve, 0.99).per_second == pytest.approx(3.5)


def measurements(*values, metric="l2"):
    facts = {"name": "n", "vectors": 9, "dimensions": 2, "metric": metric, "queries": 1}
    lines = [f"fact\t{name}\t{value}\n" for name, value in facts.items()]
    lines += ["measurement\t" + "\t".join(map(str, words)) + "\n" for words in values]
    return Measurements(lines)


def search(who, form, speeds, recall=0.99):
    for number_, speed in enumerate(speeds):
        yield (who, f"q/s {form}", 20, number_, speed)
        yield (who, f"recall {form}", 20, number_, recall)


def test_speeds_are_compared_by_medians_and_the_spread_by_rounds():
    data = measurements(
        *search("hnswlib", "one", [100, 300, 200]),
        *search("panvel", "one", [200, 300, 100]),
        *search("panvel", "two", [400, 450, 150]),
        *search("panvel", "inside", [500, 600, 700]),
    )
    inside, one, two = rows(data, {"search"})
    assert (inside.values["panvel"], inside.values["hnswlib"]) == (600, 200)
    assert (inside.ratio, inside.spread, inside.met()) == (3, (2, 5), True)
    assert (one.ratio, one.spread, one.met()) == (1, (0.5, 2), True)
    assert (two.ratio, two.ratio_of, two.met()) == (2, "one client", True)


def test_a_recall_that_is_not_reached_is_told():
    data = measurements(
        *search("hnswlib", "one", [100]), *search("panvel", "inside", [100], recall=0.9)
    )
    row = rows(data, {"search"})[0]
    assert (row.values["panvel"], row.ratio, row.met()) == (None, None, None)
    assert row.note == "panvel does not reach this recall. "


def test_changing_rows():
    after = "recall after half was deleted and inserted"
    data = measurements(
        *(("panvel", "vacuum seconds", 0, i, seconds) for i, seconds in enumerate([3, 2, 9])),
        *(("panvel", "build seconds", 0, i, 10) for i in range(3)),
        *(("hnswlib", "build seconds", 0, i, 5) for i in range(3)),
        *(("panvel", "recall fresh", ef, 0, 0.99) for ef in (8, 10, 20)),
        *(("panvel", after, ef, 0, recall) for ef, recall in [(8, 0.5), (10, 0.97), (20, 0.98)]),
    )
    build = rows(data, {"build"})[0]
    assert (build.ratio, build.met()) == (0.5, False)
    vacuum, recall, _ = rows(data, {"vacuum"})
    assert (vacuum.ratio, vacuum.spread, vacuum.met()) == (0.3, (0.2, 0.9), False)
    assert recall.values == {"panvel": pytest.approx(0.02)}
    assert recall.note.startswith("ef 10: 0.9900, then 0.9700; ef 8: 0.9900, then 0.5000")
    assert recall.met() is False


def test_another_server_has_a_column():
    data = measurements(
        *(("panvel", "build seconds", 0, 0, 10),),
        *(("other", "build seconds", 0, 0, 20),),
        *(("hnswlib", "build seconds", 0, 0, 10),),
    )
    table = results_table(data, rows(data, {"build"})).splitlines()
    assert [cell.strip() for cell in table[0].split("|")[1:5]] == ["what", "ours", "hnswlib", "other"]
    assert [cell.strip() for cell in table[2].split("|")[2:6]] == ["10.0", "10.0", "20.0", "1.00"]


def test_ivfflat_is_compared_at_another_recall():
    data = measurements(
        *search("hnswlib", "one", [100, 200]),
        *search("panvel", "inside", [50, 180], recall=0.975),
        *(("panvel", "build seconds", 0, i, 3) for i in range(2)),
        *(("hnswlib", "build seconds", 0, i, 10) for i in range(2)),
    )
    data.facts["index"] = "ivfflat"
    inside, one, build, _ = rows(data, {"ivfflat"})
    assert (inside.ratio, inside.spread, inside.met()) == (115 / 150, (0.5, 0.9), True)
    assert one.ratio is None
    assert (build.ratio, build.met()) == (0.3, True)


def test_probes_may_be_fewer_than_the_answers():
    assert speed_at([(1, 0.9, 9.0), (3, 0.98, 5.0)], 0.98, least=1) == Speed(5.0, 0.98)


def test_met():
    assert Row("", "", {}, ratio=2, bar=2).met() is True
    assert Row("", "", {}, ratio=1.9, bar=2).met() is False
    assert Row("", "", {}, ratio=1.9, bar=2, bar_is_limit=True).met() is True
    assert Row("", "", {}, bar=2).met() is None


def test_numbers():
    assert [number(n) for n in (None, 12345.6, 12.34, 1.234, 0.12345)] == [
        "–", "12346", "12.3", "1.23", "0.1235",
    ]  # fmt: skip


def test_other_output_is_an_error():
    with pytest.raises(ValueError, match="not a measurement"):
        Measurements(["something else\n"])
