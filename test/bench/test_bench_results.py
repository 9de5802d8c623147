"""What the table of `make bench` makes of measurements."""

import pytest
from bench_report import number, results_table
from bench_results import Measurements, Row, Speed, rows, speed_at, without_answer


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


def ivfflat(ours, theirs):
    """Rows of a run of two rounds, from {probes: recall} and {ef: recall}."""
    values = [("panvel", "build seconds", 0, i, 3) for i in range(2)]
    values += [("hnswlib", "build seconds", 0, i, 10) for i in range(2)]
    for who, form, recalls, speeds in (("panvel", "inside", ours, (50, 180)), ("hnswlib", "one", theirs, (100, 200))):
        for ef, recall in recalls.items():
            for round_, speed in enumerate(speeds):
                values += [(who, f"q/s {form}", ef, round_, speed), (who, f"recall {form}", ef, round_, recall)]
    data = measurements(*values)
    data.facts["part"] = "ivfflat"
    return rows(data, {"ivfflat"})


def test_ivfflat_is_compared_at_another_recall():
    made = ivfflat({1: 0.9, 2: 0.975}, {20: 0.98, 40: 0.995})
    inside, one, build, _ = made
    assert (inside.ratio, inside.spread, inside.met()) == (115 / 150, (0.5, 0.9), True)
    assert one.ratio is None
    assert (build.ratio, build.met()) == (0.3, True)
    assert without_answer(made) == []


@pytest.mark.parametrize("ours, theirs, told", [
    ({2: 0.975, 4: 0.99}, {20: 0.98, 40: 0.995}, "panvel: recall 0.9750 to 0.9900 was swept, not 0.97. "),
    ({1: 0.9, 2: 0.96}, {20: 0.98, 40: 0.995}, "panvel: recall 0.9000 to 0.9600 was swept, not 0.97. "),
    ({1: 0.9, 2: 0.975}, {20: 0.98, 40: 0.989}, "hnswlib: recall 0.9800 to 0.9890 was swept, not 0.99. ")])
def test_a_sweep_of_ivfflat_that_misses_a_recall_is_no_answer(ours, theirs, told):
    """The nearest measured point would flatter the one side or the other."""
    made = ivfflat(ours, theirs)
    assert without_answer(made) == [made[0]]
    assert (made[0].ratio, made[0].note) == (None, told)


def test_halfvec_is_compared_with_vector():
    data = measurements(
        *search("panvel", "inside", [100, 200]), *search("halfvec", "inside", [90, 240]),
        *(("panvel", "pages per element", 0, i, 1.0) for i in range(1)),
        *(("halfvec", "pages per element", 0, i, 0.5) for i in range(1)),
    )
    data.facts["part"] = "halfvec"
    inside, _, size = rows(data, {"halfvec"})
    assert (inside.ratio, inside.spread, inside.met(), inside.ratio_of) == (1.1, (0.9, 1.2), True, "vector")
    assert size.ratio == 0.5


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
