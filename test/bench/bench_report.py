"""The table of results as Markdown and CSV, and the plot of speed over recall."""

import csv

from bench_results import HNSWLIB, OURS

FORMS = {"inside": "inside the server", "one": "one client", "two": "two clients"}


def number(value):
    """With the digits that mean something: 12345, 123, 12.3, 1.23, 0.0012."""
    if value is None:
        return "–"
    magnitude = abs(value)
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 else 4
    return f"{value:.{digits}f}"


def who_else(data):
    return [who for who in data.servers() if who != OURS]


def markdown_table(head, lines):
    text = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(text + ["| " + " | ".join(line) + " |" for line in lines])


def bar_text(row):
    if row.bar is None:
        return ""
    return f"{'at most ' if row.bar_is_limit else ''}{row.bar:g}"


def results_table(data, rows):
    head = ["what", "ours", HNSWLIB, *who_else(data), "ratio", "rounds", "to", "bar", "met", "note"]
    lines = []
    for row in rows:
        values = [number(row.values.get(who)) for who in [OURS, HNSWLIB, *who_else(data)]]
        spread = "–".join(f"{value:.2f}" for value in row.spread) if row.spread else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.{4 if row.bar == 0.005 else 2}f}"
        met = {None: "", True: "yes", False: "NO"}[row.met()]
        lines.append(
            [f"{row.what} ({row.unit})", *values, ratio, spread, row.ratio_of, bar_text(row), met]
            + [row.note.strip()]
        )
    return markdown_table(head, lines)


def sweep_columns(data):
    """(title, who, form) of every curve."""
    columns = [(f"{HNSWLIB} in process", HNSWLIB, "one")]
    for who in data.servers():
        columns += [(f"{who}, {name}", who, form) for form, name in FORMS.items()]
    return [column for column in columns if data.curve(*column[1:])]


def sweep_table(data):
    """Recall and speed at every ef; of an ivfflat index at its probes, beside hnswlib's ef."""
    columns = sweep_columns(data)
    curves = [{point[0]: point[1:] for point in data.curve(who, form)} for _, who, form in columns]
    lines = []
    for ef in sorted(set().union(*curves)):
        line = [str(ef)]
        for curve in curves:
            recall, speed = curve.get(ef, (None, None))
            line += ["" if recall is None else f"{recall:.4f}", "" if recall is None else number(speed)]
        lines.append(line)
    head = ["probes or ef" if data.facts.get("part") == "ivfflat" else "ef"]
    for title, _, _ in columns:
        head += [f"{title}: recall@10", "q/s"]
    return markdown_table(head, lines)


def title(data):
    facts = data.facts
    metric = "cosine" if facts["metric"] == "cosine" else "L2"
    part = f", {facts['part']}" if "part" in facts else ""
    return f"{facts['name']}, {facts['vectors']} x {facts['dimensions']}, {metric}{part}"


def markdown(results, about):
    """`results`: [(Measurements, rows)]; `about`: lines on the machine and the run."""
    parts = ["# make bench", "\n".join(f"- {line}" for line in about)]
    for data, rows in results:
        parts += [f"## {title(data)}", results_table(data, rows)]
        if sweep_columns(data):
            parts.append(sweep_table(data))
    return "\n\n".join(parts) + "\n"


def write_csv(path, results):
    """One line for each row of the table and each server."""
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["data", "what", "unit", "who", "value", "ratio", "low", "high", "to", "bar", "met"])
        for data, rows in results:
            for row in rows:
                for who, value in row.values.items():
                    ours = [""] * 6
                    if who == OURS:
                        ours = [row.ratio, *(row.spread or ("", "")), row.ratio_of, row.bar, row.met()]
                    out.writerow([title(data), row.what, row.unit, who, value, *ours])


def write_sweep_csv(path, results):
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["data", "who", "form", "ef", "recall", "queries per second"])
        for data, _ in results:
            for _, who, form in sweep_columns(data):
                for point in data.curve(who, form):
                    out.writerow([title(data), who, form, *point])


def plot(paths, results):
    """Speed over recall, one diagram per data set. Needs matplotlib (ImportError)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [data for data, _ in results if sweep_columns(data)]
    if not shown:
        return
    figure, axes = pyplot.subplots(1, len(shown), figsize=(7.5 * len(shown), 5.5), squeeze=False)
    for axis, data in zip(axes[0], shown):
        draw_curves(axis, data)
    figure.tight_layout()
    for path in paths:
        figure.savefig(path, dpi=120)
    pyplot.close(figure)


def error_scale(recall):
    import numpy

    return -numpy.log10(numpy.maximum(1 - numpy.asarray(recall), 1e-4))


def draw_curves(axis, data):
    colours = {HNSWLIB: "black", OURS: "tab:blue"}
    others = ["tab:orange", "tab:green", "tab:red"]
    styles = {"inside": "-", "one": "--", "two": ":"}
    for label, who, form in sweep_columns(data):
        if who not in colours:
            colours[who] = others[(len(colours) - 2) % len(others)]
        _, recalls, speeds = zip(*data.curve(who, form))
        recalls = [min(recall, 0.9995) for recall in recalls]
        style = "-" if who == HNSWLIB else styles[form]
        axis.plot(recalls, speeds, style, color=colours[who], marker="o", markersize=3, label=label)
    # As a plot of the error: what lies between 0.99 and 1 takes the room that it is worth.
    axis.set_xscale("function", functions=(error_scale, lambda x: 1 - 10**-x))
    ticks = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:.0f}")
    axis.yaxis.set_minor_formatter("{x:.0f}")
    axis.set_xlabel("recall@10 (all above 0.9995 at 0.9995)")
    axis.set_ylabel("queries per second")
    axis.set_title(title(data))
    axis.grid(True, which="both", alpha=0.3)
    axis.legend()
