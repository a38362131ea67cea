"""Tables of a group's points: the ranking, statistics over seeds, and published results beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gluon_rnn.reporting.report.content import Column, Section, Table, listed, shown
from gluon_rnn.reporting.report.group import NUMBER, Group, amount_trained, average, meaning, range_of
from gluon_rnn.reporting.report.points import CONFIDENCE, LOGARITHMIC, Point
from gluon_rnn.reporting.report.published import PUBLISHED, PUBLISHED_OF
from gluon_rnn.reporting.report.reading import ENDED_WELL
from gluon_rnn.runs.metrics import (
    BITS_PER_CHARACTER,
    MEMORY,
    SECONDS,
    SPEED,
    STEP,
    WORSE_THAN_UNIGRAM,
    Measure,
    outcome,
)

#: A column of a table of points, and what a point has there.
_Field = tuple[Column, Callable[[Point], Any]]
#: Points that differ in many settings, and are so few, have a column each.
_FEW_POINTS = 3


def ranking(group: Group) -> Section:
    """Every point, best first: its results, its settings and its costs."""
    amounts = [
        name
        for name in ("epochs_run", "max_train_tokens", "max_steps")
        if name not in group.names and len({record.row[name] for point in group.points for record in point.records}) > 1
    ]
    results: list[_Field] = [
        (_column(measure), partial(average, measure=measure)) for measure in group.measured(group.measures.all)
    ]
    costs = _costs(group)
    # What the points are ranked by: of runs for speed alone that is their speed.
    first = results[:1] or costs[:1]
    fields: list[_Field] = [(NUMBER, lambda point: point.number), *first]
    fields += zip(group.setting_columns(), (partial(_setting, name) for name in group.names), strict=True)
    if group.seeded and results:
        fields.append((_range(group.loss), partial(range_of, column=group.loss.column, digits=group.loss.digits)))
    fields += [(Column(name, meaning(name)), partial(_amount, name)) for name in amounts]
    fields += [(_column(measure), partial(average, measure=measure)) for measure in bits_of(group)]
    fields += [field for field in (*results, *costs) if field not in first]
    if group.seeded:
        fields.append((Column("seeds", "different seeds that ended well", 0), lambda point: len(point.seeds_ok)))
    fields.append((Column("parameters", meaning("parameters"), 0), lambda point: point.parameters))
    if any(not point.ok for point in group.points):
        fields.append((Column("status", meaning("status")), lambda point: point.status))
    table = Table([column for column, _ in fields], [[value(point) for _, value in fields] for point in group.points])
    if len(group.brief) < len(group.names) and len(table.rows) <= _FEW_POINTS:
        table = _downwards(table)
    return Section("Ranking", notes=_notes_on_ranking(group), tables=[table])


def _costs(group: Group) -> list[_Field]:
    """Speed, memory and time at each place."""
    fields: list[_Field] = []
    repeated = any(len(p.values(SPEED.column)) > 1 for place in group.places for p in group.at(place))
    for place in group.places:
        here = {point.number: point for point in group.at(place)}
        for measure in (SPEED, STEP, MEMORY, SECONDS):
            if any(point.values(measure.column) for point in here.values()):
                fields.append((_column(measure, group.on(place)), partial(_cost, measure, here)))
                if measure is SPEED and repeated:
                    fields.append((_range(measure, group.on(place)), partial(_cost_range, measure, here)))
    return fields


def _cost(measure: Measure, here: Mapping[int, Point], point: Point) -> float | None:
    return average(here[point.number], measure) if point.number in here else None


def _cost_range(measure: Measure, here: Mapping[int, Point], point: Point) -> str:
    return range_of(here[point.number], measure.column, measure.digits) if point.number in here else "-"


def _setting(name: str, point: Point) -> Any:
    return point.settings[name]


def _amount(name: str, point: Point) -> str:
    return listed(sorted({str(record.row[name]) for record in point.records}))


def _downwards(table: Table) -> Table:
    """`table` transposed: a row for each column except the number, and a column for each point."""
    points = [Column(f"no. {number}") for number, *_ in table.rows]
    rows = [
        [column.name, *(shown(row[place], column) for row in table.rows)]
        for place, column in enumerate(table.columns)
        if place > 0
    ]
    return Table([Column("point"), *points], rows)


def _column(measure: Measure, where: str = "") -> Column:
    return Column(measure.title + where, meaning(measure.column), measure.digits)


def _range(measure: Measure, where: str = "") -> Column:
    return Column(f"{measure.title} range{where}", f"lowest to highest {measure.title}", whole=True)


def bits_of(group: Group) -> list[Measure]:
    """Bits per character, if the targets are characters."""
    return group.measured(BITS_PER_CHARACTER) if group.record.config.level == "character" else []


def _notes_on_ranking(group: Group) -> list[str]:
    notes = [f"Best first, by {f'validation {group.loss.name}' if group.scored else 'tokens/s'}."]
    if group.seeded:
        notes.append(
            "Speeds and times are medians, since other work on a machine only slows a run; other figures are means "
            "over seeds. Ranges are from the lowest to the highest."
        )
    if any(outcome(record) not in ENDED_WELL for point in group.points for record in point.records):
        notes.append(
            "Points with a failed run come last; their figures average the runs that succeeded or, if none did, all."
        )
    if any(record.status == "pruned" for point in group.points for record in point.records):
        notes.append("Pruned points come after complete ones: their losses are of fewer epochs.")
    if any(WORSE_THAN_UNIGRAM in point.status for point in group.points):
        notes.append(
            f"A run is {WORSE_THAN_UNIGRAM} if its validation loss is not below that of a model that knows only "
            "how frequent each target is in training. Such a run learned nothing, whatever its status."
        )
    return notes


def over_seeds(group: Group) -> Section | None:
    """Mean, standard deviation and confidence interval of each point with several seeds."""
    measures = group.measured((*group.measures.all, *bits_of(group)))
    points = [
        point for point in group.points if len(point.seeds) > 1 and any(outcome(r) == "ok" for r in point.counted)
    ]
    if not points or not measures:
        return None
    columns = [NUMBER, *group.setting_columns(group.brief), Column("seeds", "different seeds that ended well", 0)]
    for measure in measures:
        title, digits = measure.title, measure.digits
        columns.append(Column(f"{title} mean", meaning(measure.column), digits))
        columns.append(Column("sd", f"standard deviation (n - 1) of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} low", f"of the mean of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} high", f"of the mean of {title}", digits))
    rows = []
    for point in points:
        cells: list[Any] = [point.number, *group.settings(point, group.brief), len(point.seeds)]
        for measure in measures:
            spread = point.spread(measure.column)
            values = (spread.mean, spread.deviation, spread.low, spread.high) if spread else (None,) * 4
            cells += [None if value is None else measure.figure(value) for value in values]
        rows.append(cells)
    note = (
        "Mean, standard deviation (n - 1) and Student's two-sided confidence interval of the mean, over the seeds "
        "that ended well. These runs do not tell apart two points whose intervals overlap widely."
    )
    if group.loss.column in LOGARITHMIC:
        note += " The interval of a perplexity is that of the loss, exponentiated."
    return Section("Over seeds", notes=[note], tables=[Table(columns, rows)])


def beside_published(group: Group) -> Section | None:
    """The best point of each cell and size beside published perplexities of the same corpus."""
    if not group.scored or any(group.record.row[name] != value for name, value in PUBLISHED_OF.items()):
        return None
    best: dict[tuple[Any, Any], Point] = {}
    for point in group.points:
        if point.ok and point.average("valid_perplexity") is not None:
            best.setdefault((point.settings["cell"], point.settings["hidden_size"]), point)
    if not best:
        return None
    rows: list[list[Any]] = [
        [
            f"{_network(point)} (no. {point.number})",
            "measured here",
            amount_trained(point.counted[0]),
            point.average("valid_perplexity"),
            point.average("test_perplexity"),
        ]
        for point in best.values()
    ]
    rows += [[model, f"published: {source}", training, *figures] for model, source, training, *figures in PUBLISHED]
    columns = [Column(name, wide=True) for name in ("model", "whose figure", "trained for")]
    columns += [Column(title, digits=2) for title in ("valid ppl", "test ppl")]
    note = (
        "Published figures come from other code, optimizers and numbers of epochs. They say what such models reach, "
        "not what these runs should have reached. Of this suite, the best point of each cell and size is shown."
    )
    return Section("Published perplexities", notes=[note], tables=[Table(columns, rows)])


def _network(point: Point) -> str:
    s = point.settings
    tied = "tied" if s["tie_weights"] else "untied"
    dropped = f", weight_drop {s['weight_drop']}" if s["weight_drop"] else ""
    return f"{s['cell']} {s['hidden_size']}, {tied}, dropout {s['dropout']}{dropped}"
