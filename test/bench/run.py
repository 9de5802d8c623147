"""`make bench`: the benchmarks, on a server of their own; tables under build/bench/.

PANVEL_BENCH_DATA: directory with MNIST's IDX files (default: the 10,000 images of this repository).
PANVEL_BENCH_ROUNDS: rounds of the sweep (default 5).
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from panvel_test import Server, postgres  # noqa: E402

SETTINGS = {"shared_buffers": "1GB", "maintenance_work_mem": "1GB", "max_wal_size": "4GB"}


def run(name, command):
    """Runs a program; its output goes to the terminal and to build/bench/NAME.txt."""
    print(f"== {name}", flush=True)
    with open(postgres.BUILD / "bench" / f"{name}.txt", "w") as file:
        program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in program.stdout:
            print(line, end="", flush=True)
            file.write(line)
        if program.wait() != 0:
            sys.exit(f"{name}: exit status {program.returncode}")


def main():
    programs = postgres.BUILD / "test"
    (postgres.BUILD / "bench").mkdir(exist_ok=True)
    filter_ = "--benchmark_filter=dim:(128|784)$"
    run("distance", [programs / "distance_bench", filter_, "--benchmark_min_time=0.1"])
    data = os.environ.get("PANVEL_BENCH_DATA", postgres.REPOSITORY / "test/bench/data")
    rounds = os.environ.get("PANVEL_BENCH_ROUNDS", "5")
    server = Server("bench", conf=SETTINGS).initialize().start()
    try:
        run("hnsw", [programs / "hnsw_sweep", data, server.conninfo(), rounds])
    finally:
        server.remove()


if __name__ == "__main__":
    main()
