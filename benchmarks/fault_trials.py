"""Hundreds of ways to disturb a sweep, and whether anything was lost: the figures of docs/reliability.md.

    make dev
    .venv/bin/python benchmarks/fault_trials.py [--trials 200] [--seed 0] [--jobs 2] [--only kill]

Each trial is a sweep of two tiny runs as a user starts it, something that befalls it, the same command again, and a
comparison with an undisturbed sweep (`tests/faults/trials.py` says of what). The kinds:

* kill: ``kill -9`` of the sweep, of its worker or of both at a random moment, ``--trials`` times;
* write: ``kill -9`` at each write of the sweep and of a worker, once;
* disk: a disk that is full, or read-only, from each write on, once;
* worker: workers that hang, are stopped, leave without a record, flood their log or run out of memory;
* damage: a file cut short, or one bit of it turned;
* other: two sweeps at once, a wall clock that jumps.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1]))

from tests.faults.trials import (
    MID_WRITE,
    Befall,
    Site,
    at_write,
    damaged,
    jumping_clock,
    killed,
    killed_over_a_hanging_worker,
    may_mount,
    small_disk,
    two_sweeps_at_once,
)

FILES = (
    "results/tiny/runs/*/record.json",
    "results/tiny/runs/*/checkpoint/state.json",
    "results/tiny/runs/*/checkpoint/*.params",
    "results/tiny/runs/*/checkpoint/*.states",
    "results/tiny/runs.csv",
    "results/tiny/epochs.csv",
    "results/tiny/sweep.json",
    "cache/gluon_rnn/corpus-*",
)

Named = tuple[str, Befall]


def kill(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """At any moment of the sweep's life."""
    for number in range(trials):
        target = ("sweep", "worker", "both")[number % 3]
        yield f"{target} killed", killed(target, generator.random())


def write(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """At each write."""
    for role, writes in site.writes.items():
        for number in range(1, writes + 1):
            yield f"{role} killed in a write", at_write(role, "kill", number)


def disk(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """From each write on."""
    for role, writes in site.writes.items():
        for number in range(1, writes + 1):
            fault = ("full", "readonly")[number % 2]
            yield f"disk {fault} for the {role}", at_write(role, fault, number)
    if may_mount():
        yield "disk of 48 KiB", small_disk


def worker(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """Before, in the middle of and near the end of a run."""
    yield "sweep killed over a hanging worker", killed_over_a_hanging_worker
    for fault in ("hang", "stop", "leave", "flood", "starve"):
        # Once a run has all the memory that it needs, a limit does nothing.
        for number in (1, 2, 3) if fault == "starve" else (1, MID_WRITE, site.writes["worker"] - 9):
            yield f"worker: {fault}", at_write("worker", fault, number, "--stall-timeout", "5")


def damage(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """Each kind of file, both ways, several times."""
    for pattern in FILES:
        for number in range(max(2, trials // 25)):
            yield f"damaged: {pattern}", damaged(pattern, generator, cut=number % 2 == 0)


def other(site: Site, trials: int, generator: random.Random) -> Iterator[Named]:
    """Several times."""
    for _ in range(max(1, trials // 50)):
        yield "two sweeps at once", two_sweeps_at_once
        yield "clock jumps", jumping_clock


KINDS = {kind.__name__: kind for kind in (kill, write, disk, worker, damage, other)}


def main() -> None:
    """Make the trials, and end with status 1 if one of them went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="random kills (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and bits (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="trials side by side (default: 2)")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=list(KINDS), help="the kinds to try (default: all)")
    options = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory(prefix="faults-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        site = Site(Path(folder))
        print(f"{len(site.outcomes)} runs in {site.seconds:.1f} s; writes: {site.writes}", flush=True)
        total = wrong = 0
        for kind in options.only:
            trials = list(KINDS[kind](site, options.trials, random.Random(options.seed)))
            counts: dict[str, list[int]] = {}
            verdicts = pool.map(lambda trial: site.trial(trial[1]), trials)
            for (name, _), problems in zip(trials, verdicts, strict=True):
                counts.setdefault(name, []).append(len(problems) > 0)
                for problem in problems:
                    print(f"  {name}: {problem}", flush=True)
            for name, failures in counts.items():
                print(f"{name}: {len(failures)} trials, {sum(failures)} went wrong", flush=True)
                total, wrong = total + len(failures), wrong + sum(failures)
    print(f"{total} trials in {(time.monotonic() - began) / 60:.0f} min, {wrong} went wrong")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
