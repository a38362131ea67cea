r"""How often the throughput gate closes although nothing slowed, and how large a slowdown it finds: by simulation.

    .venv/bin/python benchmarks/gate_false_alarms.py

A side of a gate is measured in several sessions. The logarithm of a speed is the point's own, plus what the machine
does during the whole session (shared by all of its points and repeats), plus what meets one run alone; both are normal.
The tables are Markdown; equal versions of NumPy and SciPy print equal ones.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from gluon_rnn.reporting.regression.changes import SLOWER
from gluon_rnn.reporting.regression.significance import ALPHA, POWER, sittings_p_value

SHARED = (0.0, 0.02, 0.05, 0.08)
RESIDUAL = (0.01, 0.03, 0.05)
REPEATS = (1, 3, 5)
POINTS = (1, 6)
SITTINGS = (2, 3, 5)
THRESHOLD = -math.log1p(-SLOWER)
TRIES = 20_000


@dataclass(frozen=True)
class Machine:
    """What moves a speed when nothing has changed: standard deviations of its logarithm.

    Attributes:
        shared: of what a whole session has in common.
        residual: of what each run has for itself.
    """

    shared: float
    residual: float


@dataclass(frozen=True)
class Design:
    """How a side of a gate is measured."""

    sittings: int
    repeats: int
    points: int


def draw(machine: Machine, design: Design, *, tries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Nats lost to chance by each run of two sides, each (tries, points, sittings, repeats)."""
    generator = np.random.default_rng(seed)
    shape = (2, tries, design.points, design.sittings, design.repeats)
    shared = generator.normal(scale=machine.shared, size=(2, tries, 1, design.sittings, 1))
    before, after = shared + generator.normal(scale=machine.residual, size=shape)
    return before, after


def alarms(before: np.ndarray, after: np.ndarray, change: float) -> float:
    """The share of gates that close where every point has lost `change` nats: one of Holm's tests rejects."""
    p_values = sittings_p_value(np.median(before, axis=-1), np.median(after, axis=-1) + change, THRESHOLD)
    return float((p_values.min(axis=-1) * before.shape[1] <= ALPHA).mean())


def alarms_of_one_sitting(before: np.ndarray, after: np.ndarray, change: float) -> float:
    """The same of a test that takes the repeats of one session for independent, as if they were sessions."""
    p_values = stats.ttest_1samp((after - before)[:, :, 0] + change, THRESHOLD, axis=-1, alternative="greater").pvalue
    return float((p_values.min(axis=-1) * before.shape[1] <= ALPHA).mean())


def found(before: np.ndarray, after: np.ndarray) -> float:
    """The slowdown, as a fraction, of the first point alone that closes `POWER` of all gates."""
    here, there = (np.median(side, axis=-1)[:, 0] for side in (before, after))
    count, points = here.shape[-1], before.shape[1]
    error = np.sqrt((here.var(axis=-1, ddof=1) + there.var(axis=-1, ddof=1)) / count)
    critical = stats.t.isf(ALPHA / points, 2 * count - 2)
    needed = THRESHOLD + critical * error - (there.mean(axis=-1) - here.mean(axis=-1))
    return -math.expm1(-float(np.quantile(needed, POWER)))


def false_alarms(design: Design, shared: float, *, tries: int = TRIES) -> tuple[float, float]:
    """The share of gates that close by chance, unchanged and at the threshold: the highest over residual noises."""
    test = alarms if design.sittings > 1 else alarms_of_one_sitting
    sides = [draw(Machine(shared, noise), design, tries=tries, seed=n) for n, noise in enumerate(RESIDUAL)]
    unchanged, tolerated = (max(test(*pair, change) for pair in sides) for change in (0.0, THRESHOLD))
    return unchanged, tolerated


def smallest_found(design: Design, shared: float, *, tries: int = TRIES) -> float:
    """The slowdown that is found nine times in ten, at the middle one of the residual noises."""
    return found(*draw(Machine(shared, RESIDUAL[1]), design, tries=tries))


def table(title: str, rows: Iterable[tuple[Design, Sequence[str]]]) -> str:
    """A Markdown table with a column for each of `SHARED`."""
    head = ["sessions a side", "repeats in each", "points", *(f"{shared:.0%} shared" for shared in SHARED)]
    lines = [f"{title}\n", f"| {' | '.join(head)} |", "| ---: " * len(head) + "|"]
    for design, cells in rows:
        counts = (design.sittings, design.repeats, design.points)
        lines.append(f"| {' | '.join([*map(str, counts), *cells])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the three tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    designs = [Design(*counts) for counts in product(SITTINGS, REPEATS, POINTS)]
    alone = [Design(1, repeats, points) for repeats, points in product(REPEATS, POINTS) if repeats > 1]
    noises = ", ".join(f"{noise:.0%}" for noise in RESIDUAL)
    whole = f"%, unchanged / slower by the tolerated {SLOWER:.0%}; the highest over residual noises of {noises}"

    def shares(found: Sequence[Design]) -> list[tuple[Design, list[str]]]:
        pairs = [(design, [false_alarms(design, shared) for shared in SHARED]) for design in found]
        return [(design, [f"{100 * none:.1f} / {100 * some:.1f}" for none, some in row]) for design, row in pairs]

    print(table(f"False alarms of the gate, {whole} ({TRIES:,} gates each):", shares(designs)))
    title = f"If the repeats of one session were treated as sessions, which the gate does not do: {whole}:"
    print(table(title, shares(alone)))
    title = f"The slowdown of one point that the gate finds nine times in ten (residual noise {RESIDUAL[1]:.0%}):"
    print(table(title, [(d, [f"{smallest_found(d, shared):.0%}" for shared in SHARED]) for d in designs]))


if __name__ == "__main__":
    main()
