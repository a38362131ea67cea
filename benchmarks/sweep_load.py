"""What a sweep of thousands of points asks of the machine: the figures under Load in docs/reliability.md.

    .venv/bin/python benchmarks/sweep_load.py [--points 2000]

A sweep of so many points is started as a user starts it, once with no results and once with all but one of them there,
and stopped when it says that its first run has started. Then tables of 100, 1,000 and 10,000 records are written. The
records are made up; no training takes place. Everything happens in a folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.progress import EpochResult, Lap, Progress
from gluon_rnn.runs.records import RunRecord, make_record, write_record
from gluon_rnn.runs.tables import write_tables
from gluon_rnn.sweeps.planning import plan_sweep

SCRIPT = Path(__file__).parents[1] / "scripts" / "run_sweep.py"


def made_up(job: Job) -> RunRecord:
    """A record with ten epochs of numbers as long as real ones."""
    history = [
        EpochResult(n, 20 / 3, 5 / n, 16 / 3 / n, 700 / n / 3, 5.1 / n, 650 / n / 3, 1e4 / 3, 1e2 / 3)
        for n in range(1, 11)
    ]
    progress = Progress(history=history, laps=[Lap(200, 140_000, 100 / 3)], steps=200, train_seconds=1e3 / 3)
    return make_record(job, progress, status="ok", started_at="2024-01-02T03:04:05+00:00", wall_seconds=1e3 / 7)


def start(sweep: Path, results: Path) -> tuple[float, float]:
    """Seconds from the command to its first run's start, and its peak memory by then, in 2**20 bytes."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, sweep, "--results", results], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    if not any(line.startswith("started ") for line in process.stdout):
        raise SystemExit(process.stderr.read())
    seconds = time.perf_counter() - began
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert peak
    process.send_signal(signal.SIGINT)
    process.communicate()
    return seconds, int(peak[1]) / 1024


def table_seconds(directory: Path, records: Sequence[RunRecord]) -> tuple[float, float]:
    """Seconds to write the tables of records just read, and to write them again when one more run has ended."""
    seconds = []
    for known in (records[:-1], records):
        began = time.perf_counter()
        write_tables(directory, known)
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000, help="of the sweep (default: 2000)")
    points = parser.parse_args().points
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "many.yaml"
        content = {"set": {"dataset": "synthetic", "device": "cpu"}, "axes": {"seed": list(range(points))}}
        file.write_text(yaml.safe_dump(content))
        print("{} points, none done: started after {:.2f} s, {:.0f} MB".format(points, *start(file, folder / "new")))
        plan = plan_sweep(load_sweep(file), results=folder / "old")
        for job in plan.jobs[1:]:
            directory = plan.directory / "runs" / job.run_id
            directory.mkdir(parents=True)
            write_record(directory, made_up(job))
        print("{} points, one to do: started after {:.2f} s, {:.0f} MB".format(points, *start(file, folder / "old")))

        (job,) = plan_sweep(Sweep("one", {"dataset": "synthetic", "device": "cpu"}), results=folder).jobs
        record = made_up(job)
        for count in (100, 1000, 10_000):
            records = [record.with_columns({"run_id": f"{number:012x}"}) for number in range(count)]
            first, again = (seconds * 1000 for seconds in table_seconds(folder, records))
            print(f"tables of {count} records: {first:.0f} ms at first, {again:.0f} ms after each run")


if __name__ == "__main__":
    main()
