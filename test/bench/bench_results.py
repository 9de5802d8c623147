"""What hnsw_compare measured, and the rows of the table that are made of it."""

import collections
import dataclasses
import statistics

OURS = "panvel"
HALVES = "halfvec"  # ours as well, with a column of halfvec
HNSWLIB = "hnswlib"
NEIGHBOURS = 10


class Measurements:
    """The lines that hnsw_compare prints: facts, and values by who, what, ef and round."""

    def __init__(self, lines):
        self.facts = {}
        self.values = collections.defaultdict(dict)  # (who, what, ef) -> {round: value}
        for line in lines:
            kind, *words = line.rstrip("\n").split("\t")
            if kind == "fact":
                name, value = words
                self.facts[name] = value
            elif kind == "measurement":
                who, what, ef, number, value = words
                self.values[who, what, int(ef)][int(number)] = float(value)
            else:
                raise ValueError(f"not a measurement: {line!r}")

    def servers(self):
        """Who was measured, hnswlib apart; ours first."""
        names = {who for who, _, _ in self.values} - {HNSWLIB}
        return sorted(names, key=lambda name: (name != OURS, name))

    def rounds(self, who, what, ef=0):
        """The values of all rounds, in their order."""
        found = self.values.get((who, what, ef), {})
        return [found[number] for number in sorted(found)]

    def median(self, who, what, ef=0):
        """None if that was not measured."""
        values = self.rounds(who, what, ef)
        return statistics.median(values) if values else None

    def efs(self, who, what):
        return sorted(ef for w, t, ef in self.values if (w, t) == (who, what))

    def curve(self, who, form, per="q/s"):
        """[(ef, recall, q/s)], medians; or queries per second of CPU time ("q/cpu s")."""
        return [
            (ef, self.median(who, f"recall {form}", ef), self.median(who, f"{per} {form}", ef))
            for ef in self.efs(who, f"{per} {form}")
        ]

    def curves(self, who, form):
        """One such curve for each round."""
        by_round = collections.defaultdict(list)
        for ef in self.efs(who, f"q/s {form}"):
            recalls = self.values[who, f"recall {form}", ef]
            for number, speed in self.values[who, f"q/s {form}", ef].items():
                by_round[number].append((ef, recalls[number], speed))
        return [by_round[number] for number in sorted(by_round)]


@dataclasses.dataclass
class Speed:
    per_second: float
    recall: float  # what was asked for, or that of the lowest ef if it is already better


def speed_at(curve, recall, least=NEIGHBOURS):
    """The Speed of [(ef, recall, q/s)] at this recall, on the line between two values of ef.

    A search narrower than the ten answers cannot give them: such values of ef (below `least`) are
    left out. Where
    the lowest ef that is left is better than asked for, its own speed; None where no ef is as good.
    """
    curve = sorted(point for point in curve if point[0] >= least)
    for before, (_, reached, speed) in zip([None, *curve], curve):
        if reached >= recall:
            if before is None:
                return Speed(speed, reached)
            _, low, low_speed = before
            return Speed(low_speed + (speed - low_speed) * (recall - low) / (reached - low), recall)
    return None


@dataclasses.dataclass
class Row:
    """A line of the table. `ratio` is what the bar is about; `spread` its lowest and highest round."""

    what: str
    unit: str
    values: dict  # who -> number
    ratio: float | None = None
    spread: tuple | None = None
    ratio_of: str = ""
    bar: float | None = None
    bar_is_limit: bool = False  # the ratio must not exceed the bar
    note: str = ""
    needs_answer: bool = False  # a run that cannot compare with the bar has failed

    def met(self):
        """None where there is no bar, or nothing to hold against it."""
        if self.bar is None or self.ratio is None:
            return None
        return self.ratio <= self.bar if self.bar_is_limit else self.ratio >= self.bar


def ratio_row(row, ours, theirs):
    """Sets the ratio of medians and its spread, from the values of each round."""
    if ours and theirs and all(theirs):
        row.ratio = statistics.median(ours) / statistics.median(theirs)
        ratios = [a / b for a, b in zip(ours, theirs)]
        row.spread = (min(ratios), max(ratios))
    return row


def speed_row(data, what, form, recall, bar, against=(HNSWLIB, "one"), ratio_of="hnswlib"):
    """A speed at a recall, of ours and of every other server, against another speed."""
    row = Row(what, "q/s", {}, ratio_of=ratio_of, bar=bar)
    for who, its_form in [*((server, form) for server in data.servers()), (HNSWLIB, "one")]:
        speed = speed_at(data.curve(who, its_form), recall)
        row.values[who] = speed and speed.per_second
        if speed is None and data.curve(who, its_form):
            row.note += f"{who} does not reach this recall. "
        elif speed and speed.recall > recall:
            row.note += f"{who}: recall {speed.recall:.4f} at the lowest ef. "
    theirs = speed_at(data.curve(*against), recall)
    if row.values.get(OURS) and theirs:
        row.ratio = row.values[OURS] / theirs.per_second
        pairs = zip(data.curves(OURS, form), data.curves(*against))
        speeds = [(speed_at(a, recall), speed_at(b, recall)) for a, b in pairs]
        ratios = [a.per_second / b.per_second for a, b in speeds if a and b]
        row.spread = (min(ratios), max(ratios)) if ratios else None
    if form == "inside":
        row.note += cpu_note(data, recall)
    return row


def cpu_note(data, recall):
    """The ratio of CPU times, which other work on the machine disturbs less."""
    ours = speed_at(data.curve(OURS, "inside", "q/cpu s"), recall)
    theirs = speed_at(data.curve(HNSWLIB, "one", "q/cpu s"), recall)
    if not ours or not theirs:
        return ""
    times = f"{1e6 / ours.per_second:.0f} and {1e6 / theirs.per_second:.0f} µs a query"
    return f"by CPU time {ours.per_second / theirs.per_second:.2f} ({times}). "


def search_rows(data, recall):
    at = f"recall@10 {recall:g}"
    one = (OURS, "one")
    if data.facts["metric"] == "cosine":
        return [
            speed_row(data, f"q/s inside the server, {at}", "inside", recall, 1.2),
            speed_row(data, f"q/s, one client, {at}", "one", recall, None),
        ]
    return [
        speed_row(data, f"q/s inside the server (LATERAL), {at}", "inside", recall, 2.0),
        speed_row(data, f"q/s, one client over libpq, {at}", "one", recall, 0.9),
        speed_row(data, f"q/s, two clients, {at}", "two", recall, 1.8, one, "one client"),
    ]


def ivfflat_speed_row(data, what, form, bar):
    """The speed of an ivfflat index at recall 0.97 against hnswlib's at 0.99.

    Both between two measured points: where one sweep does not go from below its recall to above,
    there is no ratio, and the note says which.
    """
    row = Row(what, "q/s", {}, ratio_of="hnswlib at 0.99", bar=bar, needs_answer=bar is not None)

    def speeds(ours, theirs):
        return speed_between(ours, 0.97, least=1), speed_between(theirs, 0.99)

    ours, theirs = speeds(data.curve(OURS, form), data.curve(HNSWLIB, "one"))
    row.values = {OURS: ours and ours.per_second, HNSWLIB: theirs and theirs.per_second}
    if ours and theirs:
        row.ratio = ours.per_second / theirs.per_second
        pairs = zip(data.curves(OURS, form), data.curves(HNSWLIB, "one"))
        rounds = [speeds(*pair) for pair in pairs]
        ratios = [a.per_second / b.per_second for a, b in rounds if a and b]
        row.spread = (min(ratios), max(ratios)) if ratios else None
    row.note += sweep_note(OURS, data.curve(OURS, form), ours, 0.97)
    row.note += sweep_note(HNSWLIB, data.curve(HNSWLIB, "one"), theirs, 0.99)
    return row


def speed_between(curve, recall, least=NEIGHBOURS):
    """As speed_at(), but None where the lowest ef is already better."""
    speed = speed_at(curve, recall, least)
    return speed if speed is None or speed.recall == recall else None


def sweep_note(who, curve, speed, recall):
    if speed is not None or not curve:
        return ""
    recalls = [reached for _, reached, _ in curve]
    return f"{who}: recall {min(recalls):.4f} to {max(recalls):.4f} was swept, not {recall:g}. "


def ivfflat_rows(data):
    seconds = "build seconds"
    build = Row("ivfflat: build, two threads", "s", all_servers(data, seconds))
    build.ratio_of, build.bar, build.bar_is_limit = "hnswlib's time", 0.3, True
    ratio_row(build, data.rounds(OURS, seconds), data.rounds(HNSWLIB, seconds))
    pages = all_servers(data, "pages per element")
    return [
        ivfflat_speed_row(data, "ivfflat: q/s inside the server, recall@10 0.97", "inside", 0.7),
        ivfflat_speed_row(data, "ivfflat: q/s, one client, recall@10 0.97", "one", None),
        build,
        Row("ivfflat: index size", "pages per vector", pages),
    ]


def halfvec_rows(data, recall):
    """An hnsw index of halfvec beside one of vector, of the same numbers."""
    inside = Row(f"halfvec: q/s inside the server, recall@10 {recall:g}", "q/s", {})
    inside.ratio_of, inside.bar, inside.needs_answer = "vector", 0.9, True
    speeds = {who: speed_at(data.curve(who, "inside"), recall) for who in (OURS, HALVES)}
    inside.values = {who: speed and speed.per_second for who, speed in speeds.items()}
    if all(speeds.values()):
        inside.ratio = speeds[HALVES].per_second / speeds[OURS].per_second
        pairs = zip(data.curves(HALVES, "inside"), data.curves(OURS, "inside"))
        rounds = [[speed_at(curve, recall) for curve in pair] for pair in pairs]
        ratios = [a.per_second / b.per_second for a, b in rounds if a and b]
        inside.spread = (min(ratios), max(ratios)) if ratios else None
        inside.note = "".join(
            f"{who}: recall {speed.recall:.4f} at the lowest ef. "
            for who, speed in speeds.items()
            if speed.recall > recall
        )
    build = Row("halfvec: build, two threads", "s", all_servers(data, "build seconds"))
    build.ratio_of = "vector's time"
    ratio_row(build, data.rounds(HALVES, "build seconds"), data.rounds(OURS, "build seconds"))
    size = Row("halfvec: index size", "pages per element", all_servers(data, "pages per element"))
    size.ratio_of = "vector's"
    pages = "pages per element"
    return [inside, build, ratio_row(size, data.rounds(HALVES, pages), data.rounds(OURS, pages))]


def all_servers(data, what, scale=1.0):
    values = {who: data.median(who, what) for who in [*data.servers(), HNSWLIB]}
    return {who: value * scale for who, value in values.items() if value is not None}


def build_rows(data):
    seconds = "build seconds"
    build = Row("build, two threads", "s", all_servers(data, seconds), ratio_of="hnswlib's speed")
    build.bar = 0.8
    ratio_row(build, data.rounds(HNSWLIB, seconds), data.rounds(OURS, seconds))
    threads = data.median(OURS, "build threads")
    if threads is not None:
        build.note = f"{threads:.0f} threads in the backend, the waiting one included"
    memory = Row("build, peak memory", "MB", all_servers(data, "build kB", 1 / 1024))
    memory.ratio_of = "hnswlib's"
    ratio_row(memory, data.rounds(OURS, "build kB"), data.rounds(HNSWLIB, "build kB"))
    private = all_servers(data, "build private kB", 1 / 1024)
    if private:
        told = ", ".join(f"{who} {value:.0f} MB" for who, value in private.items())
        memory.note = f"VmHWM; without shared buffers {told}"
    pages = all_servers(data, "pages per element")
    size = Row("index size", "pages per element", pages, pages.get(OURS), ratio_of="a page")
    size.bar, size.bar_is_limit = 1.05, True
    return [build, memory, size]


def insert_rows(data):
    rows = []
    for how in ("each committed", "one transaction"):
        what = f"inserts/s {how}"
        values = {**all_servers(data, what), HNSWLIB: data.median(HNSWLIB, "inserts/s")}
        row = Row(f"single-row inserts, {how}", "rows/s", values, ratio_of="hnswlib", bar=0.5)
        rows.append(ratio_row(row, data.rounds(OURS, what), data.rounds(HNSWLIB, "inserts/s")))
    return rows


def vacuum_rows(data):
    what = "vacuum seconds"
    vacuum = Row("VACUUM after deleting 20%", "s", all_servers(data, what), ratio_of="the build")
    vacuum.bar, vacuum.bar_is_limit = 0.25, True
    ratio_row(vacuum, data.rounds(OURS, what), data.rounds(OURS, "build seconds"))
    copy = Row("COPY into the index", "rows/s", all_servers(data, "inserts/s by COPY"))
    copy.note = "the half that was deleted, ef_construction as in the build"
    return [vacuum, recall_row(data), copy]


def recall_row(data):
    """How much recall is lost, at worst, by deleting half and inserting it again."""
    lost = {}
    after = "recall after half was deleted and inserted"
    for who in data.servers():
        for ef in data.efs(who, after):
            if ef >= NEIGHBOURS:
                change = data.median(who, "recall fresh", ef) - data.median(who, after, ef)
                lost[who] = max(lost.get(who, (-1.0, 0)), (change, ef))
    row = Row("recall lost by deleting half and inserting it again", "at worst", {})
    row.values = {who: change for who, (change, _) in lost.items()}
    row.bar, row.bar_is_limit, row.ratio_of = 0.005, True, "a fresh index"
    if OURS in lost:
        row.ratio, worst = lost[OURS]
        told = []
        for ef in dict.fromkeys([worst, *data.efs(OURS, after)]):
            fresh = data.median(OURS, "recall fresh", ef)
            told.append(f"ef {ef}: {fresh:.4f}, then {data.median(OURS, after, ef):.4f}")
        row.note = "; ".join(told)
    return row


def rows(data, parts, recall=None):
    """The table of one run on one data set; `recall`: where speeds are compared."""
    if recall is None:
        recall = 0.97 if data.facts["metric"] == "cosine" else 0.99
    if data.facts.get("part") == "ivfflat":
        return ivfflat_rows(data)
    if data.facts.get("part") == "halfvec":
        return halfvec_rows(data, recall)
    made = []
    if "search" in parts:
        made += search_rows(data, recall)
    if "build" in parts:
        made += build_rows(data)
    if "insert" in parts:
        made += insert_rows(data)
    if "vacuum" in parts:
        made += vacuum_rows(data)
    return made


def without_answer(made):
    """The rows that had to be held against their bar and could not."""
    return [row for row in made if row.needs_answer and row.met() is None]
