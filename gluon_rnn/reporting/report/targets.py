"""The time that runs took to reach given perplexities."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gluon_rnn.reporting.report.content import Column, Section, Table, figure
from gluon_rnn.reporting.report.group import NUMBER, Group
from gluon_rnn.reporting.report.points import Place, Point
from gluon_rnn.runs.metrics import Reached, time_to_perplexity
from gluon_rnn.runs.records import RunRecord

_MOST_TARGETS = 3


def time_to_targets(group: Group, targets: Sequence[float] = ()) -> Section | None:
    """Epochs, tokens and seconds until validation was first at or below each of the `targets`.

    Args:
        group: of runs that were read by perplexity; of others there is no such section.
        targets: perplexities; empty: some that tell the points apart.
    """
    if group.loss.column != "valid_perplexity" or all(len(r.history) < 2 for p in group.points for r in p.records):
        return None
    wanted = sorted(set(targets), reverse=True) or _chosen(group)
    if not wanted:
        return None
    untimed = not any(run.speeds_count for point in group.points for run in point.runs)
    columns = [NUMBER, *group.setting_columns(group.brief)]
    for target in wanted:
        name = f"{target:g}"
        columns.append(Column(f"epochs to {name}", "epochs until validation perplexity was first at or below it"))
        columns.append(Column(f"tokens to {name}", "training tokens read until then", 0))
        if not untimed:
            columns.append(Column(f"s to {name}", "seconds of training and scoring until then", 0))
    rows = []
    for point in group.points:
        cells: list[Any] = [point.number, *group.settings(point, group.brief)]
        for target in wanted:
            cells += _reached(point, target, untimed)
        rows.append(cells)
    notes = [
        "Until validation perplexity was first at or below each target, as scored after each epoch. Seconds count "
        "training and scoring. Of several seeds these are medians, and how many reached the target is said where not "
        "all did; - was not reached."
    ]
    if untimed:
        notes.append("Seconds are left out, since the times of these runs do not count.")
    elif len(group.places) > 1:
        notes.append("Seconds compare between runs of one machine only.")
    return Section("Time to a perplexity", notes=notes, tables=[Table(columns, rows)])


def _chosen(group: Group) -> list[float]:
    """Up to three perplexities: one that all good points reach, one that half reach, one for the best."""
    best = sorted(value for p in group.points if p.ok and (value := p.average(group.loss.column)) is not None)
    best = [value for value in best if 0 < value < math.inf]
    if not best:
        return []
    targets = (best[-1], statistics.median_high(best), best[min(1, len(best) - 1)])
    return sorted({rounded_up(value) for value in targets}, reverse=True)[:_MOST_TARGETS]


def rounded_up(value: float) -> float:
    """`value` rounded up to two significant digits: 175.6 becomes 180."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.6g}")


def first_at(record: RunRecord, target: float) -> Reached | None:
    """The epoch at which `record` first was at or below `target`; None if it never was or columns are missing."""
    whole = all(None not in (epoch.epoch, epoch.valid_perplexity, epoch.seconds) for epoch in record.history)
    return time_to_perplexity(record, target) if whole else None


@dataclass(frozen=True)
class Arrival:
    """When a point reached a perplexity: medians over the runs that reached it.

    Attributes:
        epochs: whose last was the first to be at or below it.
        tokens: read in training until then.
        seconds: of training and scoring until then; None where no times count, or are of several places.
        share: `` (2 of 3 runs)``, where not all did; else empty.
    """

    epochs: float
    tokens: int
    seconds: float | None
    share: str


def arrival(point: Point, target: float) -> Arrival | None:
    """When `point` first was at or below `target`; None if none of its runs was."""
    found = [first_at(record, target) for record in point.counted]
    reached = [item for item in found if item is not None]
    if not reached:
        return None
    timed = [
        (Place.of(run.record), item.seconds)
        for run in point.counted_runs
        if run.speeds_count and (item := first_at(run.record, target)) is not None
    ]
    in_one_place = len({place for place, _ in timed}) == 1
    return Arrival(
        statistics.median(item.epoch for item in reached),
        int(statistics.median(item.tokens for item in reached)),
        statistics.median(seconds for _, seconds in timed) if in_one_place else None,
        f" ({len(reached)} of {len(found)} runs)" * (len(reached) < len(found)),
    )


def _reached(point: Point, target: float, untimed: bool) -> list[Any]:
    """The cells for a target: epochs, tokens and, where they count, seconds."""
    found = arrival(point, target)
    if found is None:
        return ["-", None] + [None] * (not untimed)
    epochs = figure(found.epochs, 1).removesuffix(".0")
    return [epochs + found.share, found.tokens, *([] if untimed else [found.seconds])]
