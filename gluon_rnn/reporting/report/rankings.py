"""Tables of a group's points: best first, over their seeds, and beside published figures."""

from __future__ import annotations

from typing import Any

from gluon_rnn.reporting.report.content import Column, Section, Table, listed
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


def ranking(group: Group) -> Section:
    """Every point, best first: the result, then what it is a result of, then what it cost."""
    amounts = [
        name
        for name in ("epochs_run", "max_train_tokens", "max_steps")
        if name not in group.names and len({record.row[name] for point in group.points for record in point.records}) > 1
    ]
    others = group.measured(group.measures.all)
    loss = others.pop(0) if others else None
    costs = (SPEED, STEP, MEMORY, SECONDS)
    spent = [
        (place, [cost for cost in costs if any(point.values(cost.column) for point in group.at(place))])
        for place in group.places
    ]
    bits = bits_of(group)
    wrong = any(not point.ok for point in group.points)
    ranged = group.seeded and loss is not None

    def cells(point: Point) -> list[Any]:
        here = {place: next((p for p in group.at(place) if p.number == point.number), None) for place, _ in spent}
        row: list[Any] = [point.number, *([average(point, loss)] if loss else [])]
        row += group.settings(point)
        row += [range_of(point, loss.column, loss.digits)] if ranged and loss else []
        row += [listed(sorted({str(record.row[name]) for record in point.records})) for name in amounts]
        row += [average(point, measure) for measure in (*bits, *others)]
        for place, measures in spent:
            at = here[place]
            for measure in measures:
                row.append(None if at is None else average(at, measure))
                if measure is SPEED and repeated:
                    row.append("-" if at is None else range_of(at, measure.column, measure.digits))
        return [
            *row,
            *([len(point.seeds)] if group.seeded else []),
            point.parameters,
            *([point.status] if wrong else []),
        ]

    repeated = any(len(p.values(SPEED.column)) > 1 for place in group.places for p in group.at(place))
    columns = [NUMBER, *([_column(loss)] if loss else [])]
    columns += [*group.setting_columns(), *([_range(loss)] if ranged and loss else [])]
    columns += [Column(name, meaning(name)) for name in amounts]
    columns += [_column(measure) for measure in (*bits, *others)]
    for place, measures in spent:
        for measure in measures:
            columns.append(_column(measure, group.on(place)))
            columns += [_range(measure, group.on(place))] if measure is SPEED and repeated else []
    columns += [Column("seeds", "different seeds that ended well", 0)] if group.seeded else []
    columns += [Column("parameters", meaning("parameters"), 0)]
    columns += [Column("status", meaning("status"))] if wrong else []
    table = Table(columns, [cells(point) for point in group.points])
    return Section("Ranking", notes=_notes_on_ranking(group), tables=[table])


def _column(measure: Measure, where: str = "") -> Column:
    return Column(measure.title + where, meaning(measure.column), measure.digits)


def _range(measure: Measure, where: str = "") -> Column:
    return Column(f"{measure.title} range{where}", f"lowest to highest {measure.title}", whole=True)


def bits_of(group: Group) -> list[Measure]:
    """Bits per character, where the targets are characters."""
    return group.measured(BITS_PER_CHARACTER) if group.record.config.level == "character" else []


def _notes_on_ranking(group: Group) -> list[str]:
    notes = [f"Best first, by {f'validation {group.loss.name}' if group.scored else 'tokens/s'}."]
    if group.seeded:
        notes.append(
            "Speeds and times are medians, since other work on a machine only slows a run; other figures are means "
            "over seeds. Ranges are from the lowest to the highest."
        )
    if any(outcome(record) not in ENDED_WELL for point in group.points for record in point.records):
        notes.append("Points with a failed run come last; their figures average the runs that succeeded.")
    if any(record.status == "pruned" for point in group.points for record in point.records):
        notes.append("Pruned points come after complete ones: their losses are of fewer epochs.")
    if any(WORSE_THAN_UNIGRAM in point.status for point in group.points):
        notes.append(
            f"A run is {WORSE_THAN_UNIGRAM} if its validation loss is not below that of a model that knows only "
            "how frequent each target is in training. Such a run learned nothing, whatever its status."
        )
    return notes


def over_seeds(group: Group) -> Section | None:
    """Mean, deviation and interval of each point that has several seeds."""
    measures = group.measured((*group.measures.all, *bits_of(group)))
    points = [
        point for point in group.points if len(point.seeds) > 1 and any(outcome(r) == "ok" for r in point.counted)
    ]
    if not points or not measures:
        return None
    columns = [NUMBER, *group.setting_columns(), Column("seeds", "different seeds that ended well", 0)]
    for measure in measures:
        title, digits = measure.title, measure.digits
        columns.append(Column(f"{title} mean", meaning(measure.column), digits))
        columns.append(Column("sd", f"standard deviation (n - 1) of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} low", f"of the mean of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} high", f"of the mean of {title}", digits))
    rows = []
    for point in points:
        cells: list[Any] = [point.number, *group.settings(point), len(point.seeds)]
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
    """The best point of each cell and size beside others' perplexities, where these are of the same corpus."""
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
    return f"{s['cell']} {s['hidden_size']}, {tied}, dropout {s['dropout']}"
