"""Plots of a group's points: lines over an axis, heat maps of two axes, loss against speed, learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from gluon_rnn.reporting.report.chances import front_of
from gluon_rnn.reporting.report.content import (
    Column,
    Curves,
    HeatMap,
    Line,
    Lines,
    Scatter,
    Section,
    Spot,
    Table,
    figure,
    listed,
    plain,
)
from gluon_rnn.reporting.report.group import NUMBER, Group, average
from gluon_rnn.reporting.report.points import CONFIDENCE, NETWORK, Point, comparable
from gluon_rnn.runs.metrics import MEMORY, SPEED, Measure
from gluon_rnn.runs.records import RunRecord

#: Curves that can still be told apart.
_NAMED_CURVES = 8
#: Plots of one measure over one setting.
_PARTS = 9
#: Settings that may change along with an axis whose points a line joins.
_ALONG = 3


def over_axes(group: Group, searched: Mapping[str, bool | None]) -> list[Section]:
    """A section for each numeric axis, with a line for each combination of the other settings.

    Args:
        group: of runs.
        searched: axes whose values a search has chosen, together with those of others, so that each point is a dot; and
            whether it chose them on a logarithmic scale, None where it chose from a list.
    """
    # Points of a search rarely share a value: there any setting decides all the others, and only the first is an axis.
    axes = [name for name in group.names if (name in group.axes or name in searched) and _is_numeric(group, name)]
    return [section for axis in axes if (section := _over(group, axis, searched))]


def _is_numeric(group: Group, axis: str) -> bool:
    values = {point.settings[axis] for point in group.points}
    numbers = {v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)}
    return len(numbers) > 1 and len(values - numbers) <= 1


def _over(group: Group, axis: str, searched: Mapping[str, bool | None]) -> Section | None:
    dots, log = axis in searched, searched.get(axis)
    along = [name for name in group.names if name not in ("cell", axis) and _comes_along(group, name, axis)]
    joined = not dots and all(_is_monotonic(group, axis, name) for name in along) and len(along) <= _ALONG
    drawn = [(group.loss, f"Validation {group.loss.name} by {axis}", group.axis, group.points)] * group.scored
    if group.timed and axis in NETWORK:
        for place in group.places:
            drawn.append((SPEED, f"Speed by {axis}{group.on(place)}", "training tokens/s", group.at(place)))
    plots = []
    for measure, title, name, points in drawn:
        lines = (_lines if joined else _dots)(group, axis, measure, points)
        # Two points that differ in much say nothing of one setting.
        if joined or dots or len({x for line in lines for x, *_ in line.points}) > 2:
            plots += _parts(Lines(title, axis, name, lines, joined, log), highest=measure is SPEED) if lines else []
    if not plots:
        return None
    what = _A_LINE if joined else "A dot for each point that ended well, whatever its other settings"
    notes = [f"{what}; the best point of each cell has a ring and its value."]
    if along and joined:
        notes.append(f"Along with {axis}, {listed(along)} {'changes' if len(along) == 1 else 'change'}.")
    elif along and not dots:
        notes.append(f"The points differ in {listed(along)} as well, so no lines join them.")
    if any(not line.kind for plot in plots for line in plot.lines):
        notes.append(f"Of each plot the {_NAMED_CURVES} best lines are named, the others are faint.")
    if any(low < high for plot in plots for line in plot.lines for *_, low, high in line.points):
        notes.append("Bands are from the lowest to the highest seed or repeat.")
    absent = [point for point in group.points if group.scored and point.average(group.loss.column) is None]
    if absent and joined:
        notes.append(f"Without a result and not drawn: {group.numbers(absent)}.")
    return Section(f"By {axis}", notes=notes, plots=plots)


_A_LINE = "A line for each combination of the other settings"


def _dots(group: Group, axis: str, measure: Measure, points: Sequence[Point]) -> list[Line]:
    """The points of each cell that ended well, as a `Line` whose points are not joined."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for point in points:
        x, y = point.settings[axis], point.average(measure.column)
        if point.ok and not isinstance(x, str | bool) and x is not None and y is not None and 0 < y < math.inf:
            values = point.values(measure.column)
            found.setdefault(str(point.settings["cell"]), []).append((float(x), y, min(values), max(values)))
    lines = []
    for kind, spots in sorted(found.items()):
        spots.sort()
        places = range(len(spots))
        best = max(places, key=lambda n: spots[n][1]) if measure is SPEED else min(places, key=lambda n: spots[n][1])
        lines.append(Line(kind, "", spots, best))
    return lines


def _comes_along(group: Group, name: str, axis: str) -> bool:
    """Whether the setting `name` is a function of `axis` in each cell, and is not constant."""
    return _is_decided(group, name, "cell", axis) and not _is_decided(group, name, "cell")


def _is_monotonic(group: Group, axis: str, name: str) -> bool:
    """Whether the setting `name` rises or falls monotonically with `axis` in each cell."""
    pairs: dict[Any, set[tuple[Any, Any]]] = {}
    for point in group.points:
        pairs.setdefault(point.settings["cell"], set()).add((point.settings[axis], point.settings[name]))
    flat = [value for found in pairs.values() for pair in found for value in pair]
    if not all(isinstance(value, int | float) for value in flat):
        return False
    orders = [[value for _, value in sorted(found)] for found in pairs.values()]
    return any(all(values == sorted(values, reverse=fall) for values in orders) for fall in (False, True))


def _parts(plot: Lines, *, highest: bool) -> list[Lines]:
    """`plot`, split by the other settings or by cell where it has too many lines.

    Args:
        plot: with all its lines.
        highest: whether a high value is a good one.
    """
    if len(plot.lines) <= _NAMED_CURVES:
        return [plot]
    names, kinds = (
        [*dict.fromkeys(found)] for found in zip(*((line.name, line.kind) for line in plot.lines), strict=True)
    )
    if 1 < len(names) <= _PARTS:
        parts = [(name, [replace(line, name="") for line in plot.lines if line.name == name]) for name in names]
    else:
        parts = [(kind, [line for line in plot.lines if line.kind == kind]) for kind in kinds]

    def goodness(line: Line) -> float:
        values = [value for _, value, *_ in line.points]
        return -max(values) if highest else min(values)

    found = []
    for name, lines in parts:
        named = {id(line) for line in sorted(lines, key=goodness)[:_NAMED_CURVES]}
        shown = [line if id(line) in named else Line("", "", line.points) for line in lines]
        title = f"{plot.title}: {name}" if len(parts) > 1 else plot.title
        found.append(replace(plot, title=title, lines=shown, whole=plot))
    return found


def _lines(group: Group, axis: str, measure: Measure, points: Sequence[Point]) -> list[Line]:
    """A line for each combination of the other settings; no lines where each would be a single dot."""
    others = [
        name for name in group.names if name != axis and name != "cell" and not _is_decided(group, name, "cell", axis)
    ]
    if measure is SPEED and all(point.timed for point in points):
        others = [name for name in others if name in NETWORK]
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    best: dict[str, tuple[float, tuple[str, str], float]] = {}
    for point in points:
        x, y = point.settings[axis], point.average(measure.column)
        if isinstance(x, str | bool) or x is None or y is None or not 0 < y < math.inf:
            continue
        values = point.values(measure.column)
        key = (str(point.settings["cell"]), point.label(others))
        line = found.setdefault(key, [])
        if all(x != spot[0] for spot in line):  # one timing stands for several points
            line.append((float(x), y, min(values), max(values)))
        goodness = -y if measure is SPEED else y
        if point.ok and (key[0] not in best or goodness < best[key[0]][0]):
            best[key[0]] = (goodness, key, float(x))
    if all(len(spots) < 2 for spots in found.values()):
        return []
    lines = []
    for (kind, name), spots in sorted(found.items()):
        spots.sort()
        _, where, x = best.get(kind, (0.0, None, 0.0))
        mark = next((n for n, spot in enumerate(spots) if spot[0] == x), None) if where == (kind, name) else None
        lines.append(Line(kind, name, spots, mark))
    return lines


def _is_decided(group: Group, name: str, *by: str) -> bool:
    """Whether the setting `name` is a function of the settings `by`."""
    keys = [tuple(point.settings[other] for other in by) for point in group.points]
    pairs = {(key, point.settings[name]) for key, point in zip(keys, group.points, strict=True)}
    return len(pairs) == len({*keys})


def _title(group: Group, measure: Measure) -> str:
    return f"Validation {measure.name}" + f", {measure.unit}" * bool(measure.unit)


def maps(group: Group) -> list[Section]:
    """A heat map for each pair of axes with a full grid of points that differ in nothing else."""
    return [section for pair in combinations(group.axes, 2) if (section := _map(group, *pair))]


def _map(group: Group, first: str, second: str) -> Section | None:
    """The heat map of the slice through the best point; None if a cell is empty or holds several points."""
    # What brings a setting of its own along, as a cell its learning rate, differs in that as well.
    brought = [name for name in group.names if name not in group.axes and _is_decided(group, name, first, second)]
    others = [name for name in group.names if name not in (first, second, *brought)]
    top = group.points[0]
    there = [p for p in group.points if all(p.settings[name] == top.settings[name] for name in others)]
    down, across = (_ordered({point.settings[name] for point in there}) for name in (first, second))
    if min(len(down), len(across)) < 2 or len(there) != len(down) * len(across):
        return None
    spots = {(down.index(p.settings[first]), across.index(p.settings[second])) for p in there}
    if len(spots) != len(there):
        return None
    numbers = {point.number for point in there}
    decides_speed = {first, second} <= {*NETWORK}
    drawn = [(m, m in (group.loss,), _title(group, m), there) for m in group.measured(group.measures.valid)]
    for place in group.places:
        here = [point for point in group.at(place) if point.number in numbers]
        if len(here) == len(there):
            drawn += [(SPEED, False, "Tokens/s" + group.on(place), here)] * (group.timed and decides_speed)
            drawn += [(MEMORY, True, "Peak MB" + group.on(place), here)] * decides_speed
    plots = []
    for measure, lower_is_better, title, points in drawn:
        cells: dict[tuple[int, int], tuple[float | None, str]] = {}
        for point in points:
            value = average(point, measure)
            spot = (down.index(point.settings[first]), across.index(point.settings[second]))
            good = point.ok and value is not None
            cells[spot] = (value, figure(value, measure.digits)) if good else (None, point.status)
        if len({text for _, text in cells.values()}) > 1:
            names = [*map(plain, down)], [*map(plain, across)]
            plots.append(HeatMap(title, first, second, *names, cells, lower_is_better))
    notes = [f"The other settings are those of the best point: {top.label(others)}."] if others else []
    return Section(f"{first} and {second}", notes=notes, plots=plots) if plots else None


def against_throughput(group: Group) -> Section | None:
    """Loss against speed: a plot for each place, with the Pareto front."""
    title = f"{group.loss.name.capitalize()} against throughput"
    plots, rows = [], []
    for place in group.places:
        here = group.at(place)
        plot = trade_off(
            title + group.on(place), group.axis, here, loss=group.loss.column, names=group.axes or group.names
        )
        if len(plot.spots) < 2:
            continue
        plots.append(plot)
        points = {point.number: point for point in here}
        where = [place.letter] if len(group.places) > 1 else []
        for spot in (*plot.having("yes"), *plot.having("undecided")):
            figures = [spot.loss, spot.speed, points[spot.number].average(MEMORY.column)]
            rows.append([spot.number, *where, *group.settings(points[spot.number], group.brief), *figures, spot.front])
    if not plots:
        return None
    columns = [NUMBER, *[Column("place")] * (len(group.places) > 1), *group.setting_columns(group.brief)]
    columns += [Column(measure.title, digits=measure.digits) for measure in (group.loss, SPEED, MEMORY)]
    columns.append(Column("Pareto-optimal"))
    notes = [
        f"Pareto-optimal points, which no other beats in {group.loss.name} without being slower, are filled and joined "
        "by a line; points that may be so are ringed."
    ]
    if any(spot.ranges for plot in plots for spot in plot.spots):
        notes.append(
            "Bars are ranges over repeats. A point is Pareto-optimal where, by t-tests of the logarithms, no other is "
            f"at least as good in both with a probability above {1 - CONFIDENCE:.0%}, and not so where one is with "
            f"{CONFIDENCE:.0%}. What lies between is undecided; more seeds decide it."
        )
    return Section(title, notes=notes, plots=plots, tables=[Table(columns, rows)])


def trade_off(title: str, axis: str, points: Sequence[Point], *, loss: str, names: Sequence[str]) -> Scatter:
    """The `comparable` points of one place, with their Pareto front.

    Args:
        axis: what stands at the axis of losses.
        points: ranked.
        loss: the column that is read.
        names: the settings that the points are called by.
    """
    front = front_of(points, loss)
    places = {point.number: "yes" for point in front.sure} | {point.number: "undecided" for point in front.undecided}
    others = [name for name in names if name != "cell"]
    spots = []
    for point in comparable(points, loss):
        speeds, losses = point.values(SPEED.column), point.values(loss)
        several = max(len(speeds), len(losses)) > 1
        spots.append(
            Spot(
                point.average(SPEED.column) or 0.0,
                point.average(loss) or 0.0,
                point.number,
                ", ".join(plain(point.settings[name]) for name in others),
                str(point.settings["cell"]),
                places.get(point.number, "no"),
                (min(speeds), max(speeds), min(losses), max(losses)) if several else (),
            )
        )
    return Scatter(title, axis, spots, ", ".join(("cell", *others)))


def curves(group: Group) -> Section | None:
    """The validation loss after each epoch, with a line for each run of several epochs."""
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
    """(epoch, validation loss) for each epoch that was scored."""
    values = ((epoch.epoch, getattr(epoch, loss)) for epoch in record.history)
    return tuple(sorted((n, value) for n, value in values if None not in (n, value) and math.isfinite(value)))


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers in order, then words; None comes first."""
    return sorted(values, key=lambda v: (v is not None, isinstance(v, str), v if v is not None else 0))
