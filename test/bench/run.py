"""`make bench`: the benchmarks, on a server of their own; tables and a plot under build/bench/.

README.md says what is measured. Environment: PANVEL_BENCH_DATA and PANVEL_BENCH_ROUNDS are the
defaults of --data and --rounds.
"""

import argparse
import os
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import bench_report  # noqa: E402
from bench_results import HALVES, OURS, Measurements, rows, without_answer  # noqa: E402
from panvel_test import Server, postgres  # noqa: E402

ALONE = ("ivfflat", "halfvec")  # each a run of its own, with indexes of its own
PARTS = ("distance", "search", "build", "insert", "vacuum", *ALONE)
EFS = "10,11,12,13,14,16,18,20,24,28,32,40,60,80,120,160,240"
HNSW = "using hnsw (embedding {opclass}) with (m = {m}, ef_construction = {ef_construction})"
IVFFLAT = "using ivfflat (embedding {opclass}) with (lists = {lists})"
PROBES = "1,2,3,4,5,6,7,8,10,12,14,16,20,24,32"
VCHORDG = (
    "using vchordg (embedding {opclass}) "
    "with (options = $$ m = {m}\nef_construction = {ef_construction} $$)"
)
# Of a peer: extension, index, the setting that takes ef.
KINDS = {
    "pgvector": ("vector", HNSW, "hnsw.ef_search"),
    "vchordg": ("vchord", VCHORDG, "vchordg.ef_search"),
}


def arguments(words=None):
    parser = argparse.ArgumentParser(prog='make bench ARGS="..."')
    add = parser.add_argument
    add("--data", default=os.environ.get("PANVEL_BENCH_DATA", str(HERE / "data")))
    add("--metric", choices=("l2", "cosine"), help="of MNIST: that of its two sets alone")
    add("--rounds", type=int, default=int(os.environ.get("PANVEL_BENCH_ROUNDS", "5")))
    add("--limit", type=int, help="at most so many vectors in the index")
    add("--queries", type=int, default=1000)
    add("--insert-rows", type=int, default=1000, help="in each round")
    add("--efs", default=EFS, help="values of ef, with commas")
    add("--probes", default=PROBES, help="of ivfflat, with commas; --efs are hnswlib's beside it")
    add("--recall", type=float, help="where speeds are compared; default 0.99, cosine 0.97")
    add("--threads", type=int, default=2, help="of a build")
    add("--only", action="append", choices=PARTS, help="more than once for several")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="in searching sessions")
    add("--conf", action="append", default=[], metavar="NAME=VALUE", help="of our server")
    add("--peer", metavar="CONNINFO", help="another server that runs the same")
    add("--peer-kind", choices=KINDS, default="pgvector", help="what the next three are by default")
    add("--peer-extension")
    add("--peer-index", help="USING ...; {opclass}, {m}, {ef_construction} are replaced")
    add("--peer-ef", metavar="SETTING", help="which takes ef")
    add("--peer-name", help="in the table")
    add("--peer-set", action="append", default=[], metavar="NAME=VALUE", help="in searching sessions")
    add("--peer-build-set", action="append", metavar="NAME=VALUE", help="in the building session")
    add("--output", type=pathlib.Path, default=postgres.BUILD / "bench")
    options = parser.parse_args(words)
    if not os.path.exists(options.data):
        parser.error(f"{options.data} is not there")
    return options


def server_settings():
    """For vectors and index to stay in memory, and for nothing to be written while we time."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "shared_buffers": f"{min(memory // 4, 16384)}MB",
        "maintenance_work_mem": f"{min(memory // 8, 8192)}MB",
        "wal_level": "replica",
        "max_wal_size": "32GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
    }


def data_sets(options):
    """[words for hnsw_compare, parts]: MNIST as it is, and small under cosine; a file as it is."""
    chosen = set(options.only or PARTS) - {"distance"}
    words = [f"data={options.data}"]
    if options.limit:
        words.append(f"limit={options.limit}")
    if not pathlib.Path(options.data).is_dir():
        if options.metric:
            words.append(f"metric={options.metric}")
        return [(words, parts) for parts in runs(chosen)]
    sets = [
        ("l2", [*words, "metric=l2"], chosen),
        ("cosine", [*words, "metric=cosine", "resample=on"], chosen & {"search"}),
    ]
    return [
        (its_words, parts)
        for metric, its_words, its_chosen in sets
        if options.metric in (None, metric)
        for parts in runs(its_chosen)
    ]


def runs(chosen):
    """The parts of each run of hnsw_compare."""
    found = [chosen - set(ALONE), *(chosen & {part} for part in ALONE)]
    return [parts for parts in found if parts]


def server_words(name, conninfo, extension, index, ef, settings, build_settings):
    return [
        f"server={name}",
        f"conninfo={conninfo}",
        f"extension={extension}",
        f"index={index}",
        f"ef_setting={ef}",
        *(f"set={setting}" for setting in settings),
        *(f"build_set={setting}" for setting in build_settings),
    ]


def peer_words(options):
    if not options.peer:
        return []
    build_set = options.peer_build_set
    if build_set is None:  # the leader of a parallel build takes part
        build_set = [f"max_parallel_maintenance_workers={options.threads - 1}"]
    extension, index, ef = KINDS[options.peer_kind]
    return server_words(
        options.peer_name or options.peer_kind,
        options.peer,
        options.peer_extension or extension,
        options.peer_index or index,
        options.peer_ef or ef,
        options.peer_set,
        build_set,
    )


def our_words(options, server, name=OURS, database="postgres", ivfflat=False):
    """Over the Unix socket, as psql on the same machine."""
    conninfo = server.conninfo(host=server.directory, dbname=database)
    index, setting = (IVFFLAT, "ivfflat.probes") if ivfflat else (HNSW, "hnsw.ef_search")
    build_set = [f"max_parallel_maintenance_workers={options.threads}"]
    return server_words(name, conninfo, "vector", index, setting, options.set, build_set)


def run_words(options, server, parts):
    """What hnsw_compare is to measure and of whom."""
    if "ivfflat" in parts:
        return [
            "parts=build,search",
            f"server_efs={options.probes}",
            *our_words(options, server, ivfflat=True),
        ]
    if "halfvec" in parts:
        server.execute("create database bench_halves")
        halves = our_words(options, server, HALVES, "bench_halves")
        return ["parts=search", *our_words(options, server), *halves, "type=halfvec"]
    parts_word = f"parts={','.join(sorted(parts))}"
    return [parts_word, *our_words(options, server), *peer_words(options)]


def compare(options, server, words, parts):
    """Runs hnsw_compare; what it prints is kept, and comes back as Measurements."""
    command = [
        postgres.BUILD / "test/hnsw_compare",
        *words,
        f"efs={options.efs}",
        f"rounds={options.rounds}",
        f"queries={options.queries}",
        f"insert_rows={options.insert_rows}",
        f"threads={options.threads}",
        *run_words(options, server, parts),
    ]
    lines = [f"fact\tpart\t{part}\n" for part in parts.intersection(ALONE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            lines += program.stdout
        finally:
            if program.poll() is None and sys.exc_info()[0]:
                program.kill()
    if program.returncode != 0:
        sys.exit(f"hnsw_compare: exit status {program.returncode}")
    return Measurements(lines), lines


def distance(output):
    """The distance kernels alone, by Google Benchmark where that is installed."""
    program = postgres.BUILD / "test/distance_bench"
    if not program.exists():
        print("== distance: not built; needs libbenchmark-dev")
        return
    print("== distance", flush=True)
    command = [program, "--benchmark_filter=dim:(128|784)$", "--benchmark_min_time=0.1"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    (output / "distance.txt").write_text(done.stdout)


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def about(options, server, load):
    command = ["git", "-C", HERE, "describe", "--always", "--dirty"]
    commit = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    settings = ("shared_buffers", "maintenance_work_mem", "wal_level", "fsync", "huge_pages")
    shown = ", ".join(f"{name} = {server.value(f'show {name}')}" for name in settings)
    return [
        f"{time.strftime('%Y-%m-%d %H:%M')} UTC, commit {commit.stdout.strip() or 'unknown'}",
        f"{cpu()}, {os.cpu_count()} CPUs; load average before the run {load:.2f}",
        f"PostgreSQL {server.value('show server_version')}: {shown}",
        f"m = 16, ef_construction = 200 (inserts: 64), {options.threads} threads build; "
        f"medians of {options.rounds} rounds, rounds interleaved",
        "hnswlib in this process, one thread, -march=native; clients over the Unix socket, "
        "prepared statement, binary parameters",
    ]


def write_results(output, results, lines, text):
    output.mkdir(parents=True, exist_ok=True)
    (output / "measurements.tsv").write_text("".join(lines))
    (output / "results.md").write_text(text)
    bench_report.write_csv(output / "results.csv", results)
    bench_report.write_sweep_csv(output / "sweep.csv", results)
    print(text)
    try:
        bench_report.plot([output / "recall.svg", output / "recall.png"], results)
    except ImportError:
        print("no plot: matplotlib is missing (apt-get install python3-matplotlib)")
    print(f"all of this is in {output}: results.md, results.csv, sweep.csv, recall.svg, recall.png")


def main(words=None):
    options = arguments(words)
    load = os.getloadavg()[0]
    options.output.mkdir(parents=True, exist_ok=True)
    if "distance" in (options.only or PARTS):
        distance(options.output)
    sets = data_sets(options)
    if not sets:
        return
    conf = {**server_settings(), **dict(setting.split("=", 1) for setting in options.conf)}
    server = Server("bench", conf=conf).initialize().start()
    results, lines = [], []
    try:
        for its_words, parts in sets:
            print(f"== {' '.join(its_words)}: {', '.join(sorted(parts))}", flush=True)
            data, printed = compare(options, server, its_words, parts)
            results.append((data, rows(data, parts, options.recall)))
            lines += printed
        text = bench_report.markdown(results, about(options, server, load))
    finally:
        server.remove()
    write_results(options.output, results, lines, text)
    unanswered = [row for _, its_rows in results for row in without_answer(its_rows)]
    if unanswered:
        sys.exit("".join(f"no answer to the bar: {row.what}: {row.note}\n" for row in unanswered))


if __name__ == "__main__":
    main()
