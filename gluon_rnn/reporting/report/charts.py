"""Plots of a group's points, with the tables of what they show: loss against speed, maps of two settings, curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from gluon_rnn.reporting.report.chances import front_of
from gluon_rnn.reporting.report.content import Column, Curves, HeatMap, Scatter, Section, Table, figure
from gluon_rnn.reporting.report.group import NUMBER, Group, average, listed, meaning
from gluon_rnn.reporting.report.points import CONFIDENCE, Point, comparable
from gluon_rnn.runs.metrics import MEMORY, SPEED
from gluon_rnn.runs.records import RunRecord

#: Curves that can still be told apart.
_NAMED_CURVES = 8


def against_throughput(group: Group) -> Section | None:
    """Loss against speed, a plot for each place, and the Pareto fronts."""
    title = f"{group.loss.name.capitalize()} against throughput"
    plots, rows = [], []
    for place in group.places:
        here = {group.number(point): point for point in group.at(place)}
        plot = trade_off(title + group.on(place), group.axis, here, loss=group.loss.column, names=group.names)
        if len(plot.points) < 2:
            continue
        plots.append(plot)
        for word, spots in (("yes", plot.front), ("undecided", plot.undecided)):
            for speed, loss, number, _ in spots:
                figures = [loss, speed, here[number].average(MEMORY.column)]
                rows.append([number, *group.settings(here[number]), *figures, word])
    if not plots:
        return None
    columns = [NUMBER, *group.setting_columns()]
    columns += [Column(measure.title, digits=measure.digits) for measure in (group.loss, SPEED, MEMORY)]
    columns.append(Column("on the front"))
    notes = [
        f"On the line: the Pareto front, the points that no other beats in {group.loss.name} without being slower."
    ]
    if any(plot.ranges for plot in plots):
        notes.append(
            "Bars are ranges over seeds. A point is on the front where, by t-tests of the logarithms, no other is "
            f"at least as good in both with a probability above {1 - CONFIDENCE:.0%}, and beaten where one is with "
            f"{CONFIDENCE:.0%}. What lies between is undecided; more seeds decide it."
        )
    return Section(title, notes=notes, plots=plots, tables=[Table(columns, rows)])


def trade_off(title: str, axis: str, points: Mapping[int, Point], *, loss: str, names: Sequence[str]) -> Scatter:
    """The `comparable` points of one place and their Pareto front.

    Args:
        axis: what stands at the axis of losses.
        points: by their number in the ranking.
        loss: the column that is read.
        names: the settings that the front's points are called by.
    """

    def spot(point: Point) -> tuple[float, float, int]:
        return point.average(SPEED.column) or 0.0, point.average(loss) or 0.0, numbers[id(point)]

    numbers = {id(point): number for number, point in points.items()}
    front = front_of(points.values(), loss)
    sure, undecided = ([(*spot(p), p.label(names)) for p in part] for part in (front.sure, front.undecided))
    shown = comparable(points.values(), loss)
    measured = {numbers[id(point)]: (point.values(SPEED.column), point.values(loss)) for point in shown}
    ranges = {
        number: (min(speeds), max(speeds), min(losses), max(losses))
        for number, (speeds, losses) in measured.items()
        if max(len(speeds), len(losses)) > 1
    }
    return Scatter(title, axis, [spot(point) for point in shown], sure, undecided, ranges)


def maps(group: Group) -> list[Section]:
    """One for each pair of settings that were swept."""
    return [_map(group, first, second) for first, second in combinations(group.axes, 2)]


def _map(group: Group, first: str, second: str) -> Section:
    titles = {m: f"Validation {m.name}" + f", {m.unit}" * bool(m.unit) for m in group.measures.valid}
    titles |= {SPEED: "Tokens/s", MEMORY: "Peak MB"}
    shown = group.measured(titles)
    plots: list[HeatMap] = []
    best_points: list[Point] = []
    for place in group.places:
        here = group.at(place)
        down, across = (_ordered({point.settings[name] for point in here}) for name in (first, second))
        # The ranking's order makes the first that fits the best one.
        best: dict[tuple[int, int], Point] = {}
        for point in here:
            best.setdefault((down.index(point.settings[first]), across.index(point.settings[second])), point)
        for measure in shown:
            cells: dict[tuple[int, int], tuple[float | None, str]] = {
                spot: (value, figure(value, measure.digits)) if p.ok and value is not None else (None, p.status)
                for spot, p in best.items()
                for value in [average(p, measure)]
            }
            title, lower_is_better = titles[measure] + group.on(place), measure in (group.loss, MEMORY)
            plots.append(HeatMap(title, first, second, [*map(str, down)], [*map(str, across)], cells, lower_is_better))
        best_points += [point for _, point in sorted(best.items(), key=lambda item: item[0])]
    rows: list[list[Any]] = [
        [*group.settings(point, (first, second)), *(average(point, measure) for measure in shown)]
        for point in best_points
    ]
    columns = group.setting_columns((first, second))
    columns += [Column(titles[measure], meaning(measure.column), measure.digits) for measure in shown]
    notes = []
    if others := [name for name in group.names if name not in (first, second)]:
        columns.append(Column("with", "the other settings of the point shown"))
        rows = [[*row, point.label(others)] for row, point in zip(rows, best_points, strict=True)]
        if free := [name for name in others if name in group.axes]:
            notes.append(f"Each cell is the best-ranked point with these two settings, over all {listed(free)}.")
    return Section(f"{first} and {second}", notes=notes, plots=plots, tables=[Table(columns, rows)])


def curves(group: Group) -> Section | None:
    """The validation loss after each epoch, a line for each run that has several."""
    lines = [
        (point, [curve for record in point.records if len(curve := curve_of(record, group.loss.column)) > 1])
        for point in group.points
    ]
    lines = [(point, curves) for point, curves in lines if curves]
    if not lines:
        return None
    named = [
        (group.label(point) if number < _NAMED_CURVES else "", curves) for number, (point, curves) in enumerate(lines)
    ]
    notes = [f"Validation {group.loss.name} after each epoch" + (", a line for each seed." if group.seeded else ".")]
    if len(lines) > _NAMED_CURVES:
        notes.append(f"The {_NAMED_CURVES} best-ranked points are named, the others are faint.")
    return Section("Learning curves", notes=notes, plots=[Curves("Learning curves", group.axis, named)])


def curve_of(record: RunRecord, loss: str) -> tuple[tuple[int, float], ...]:
    """(epoch, validation loss) after each epoch that has one."""
    values = ((epoch.epoch, getattr(epoch, loss)) for epoch in record.history)
    return tuple(sorted((n, value) for n, value in values if None not in (n, value) and math.isfinite(value)))


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers by size, then words, None first."""
    return sorted(values, key=lambda v: (v is not None, isinstance(v, str), v if v is not None else 0))
