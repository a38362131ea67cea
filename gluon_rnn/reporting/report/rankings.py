"""Tables of a group's points: best first, over their seeds, and beside published figures."""

from __future__ import annotations

from typing import Any

from gluon_rnn.reporting.report.content import Column, Section, Table
from gluon_rnn.reporting.report.group import NUMBER, Group, amount_trained, average, listed, meaning, range_of
from gluon_rnn.reporting.report.points import CONFIDENCE, Point
from gluon_rnn.reporting.report.published import PUBLISHED, PUBLISHED_OF
from gluon_rnn.runs.metrics import MEMORY, SECONDS, SPEED, STEP, WORSE_THAN_UNIGRAM, outcome


def ranking(group: Group) -> Section:
    """Every point, best first."""
    amounts = [
        name
        for name in ("epochs_run", "max_train_tokens", "max_steps")
        if name not in group.names and len({record.row[name] for point in group.points for record in point.records}) > 1
    ]
    shown = group.measured((*group.measures.all, SPEED, STEP, MEMORY, SECONDS))
    ranged = [measure for measure in (group.loss, SPEED) if group.seeded and measure in shown]
    columns = [
        NUMBER,
        *group.setting_columns(),
        *(Column(name, meaning(name)) for name in amounts),
        *(Column(measure.title, meaning(measure.column), measure.digits) for measure in shown),
        *(Column(f"{m.title} range", f"lowest to highest {m.title} of the seeds") for m in ranged),
        *([Column("seeds", "runs that the figures are averages of", 0)] if group.seeded else []),
        Column("status", meaning("status")),
    ]

    def cells(point: Point) -> list[Any]:
        trained = [listed(sorted({str(record.row[name]) for record in point.records})) for name in amounts]
        seeds = [len(point.counted)] if group.seeded else []
        averages = [average(point, measure) for measure in shown]
        ranges = [range_of(point, measure.column, measure.digits) for measure in ranged]
        return [group.number(point), *group.settings(point), *trained, *averages, *ranges, *seeds, point.status]

    # Speeds of two places do not compare, so they cannot be ranked in one table.
    parts = [group.points] if group.scored else [group.at(place) for place in group.places]
    tables = [Table(columns, [cells(point) for point in points]) for points in parts]
    return Section("Ranking", notes=_notes_on_ranking(group), tables=tables)


def _notes_on_ranking(group: Group) -> list[str]:
    notes = [f"Best first, by {f'validation {group.loss.name}' if group.scored else 'tokens/s'}."]
    if group.seeded:
        notes.append(
            "Speeds and times are medians over seeds, since whatever else a machine did only slowed a run; other "
            "figures are means. Ranges are from the lowest to the highest seed."
        )
    if any(not point.ok for point in group.points):
        notes.append("Points of which a run went wrong come last, with what their good runs, or else all, came to.")
    if any(WORSE_THAN_UNIGRAM in point.status for point in group.points):
        notes.append(
            f"A run is {WORSE_THAN_UNIGRAM} if its validation loss is not below that of a model that knows only "
            "how frequent each target is in training. Such a run learned nothing, whatever its status."
        )
    return notes


def over_seeds(group: Group) -> Section | None:
    """Mean, deviation and interval of each point that has several seeds."""
    measures = (*group.measures.all, SPEED)
    columns = [*group.setting_columns(), Column("seeds", "runs that ended well", 0)]
    for measure in measures:
        title, digits = measure.title, measure.digits
        columns.append(Column(f"{title} mean", meaning(measure.column), digits))
        columns.append(Column("sd", f"standard deviation (n - 1) of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} low", f"of the mean of {title}", digits))
        columns.append(Column(f"{CONFIDENCE:.0%} high", f"of the mean of {title}", digits))
    rows = []
    for point in group.points:
        good = sum(outcome(record) == "ok" for record in point.records)
        if good < 2:
            continue
        cells: list[Any] = [*group.settings(point), good]
        for measure in measures:
            spread = point.spread(measure.column)
            values = (spread.mean, spread.deviation, spread.low, spread.high) if spread else (None,) * 4
            cells += [None if value is None else measure.figure(value) for value in values]
        rows.append(cells)
    if not rows:
        return None
    note = (
        "Mean, standard deviation (n - 1) and Student's two-sided confidence interval of the mean, over the seeds "
        "that ended well; of a perplexity that of the loss, of a speed that of its logarithm. Two points whose "
        "intervals overlap widely are not told apart by these runs."
    )
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
            f"{_network(point)} (no. {group.number(point)})",
            "measured here",
            amount_trained(point.counted[0]),
            point.average("valid_perplexity"),
            point.average("test_perplexity"),
        ]
        for point in best.values()
    ]
    rows += [[model, f"published: {source}", training, *figures] for model, source, training, *figures in PUBLISHED]
    columns = [*map(Column, ("model", "whose figure", "trained for"))]
    columns += [Column(title, digits=2) for title in ("valid ppl", "test ppl")]
    note = (
        "The published figures are others', of other code, optimizers and numbers of epochs; they say what such "
        "models reach, not what these runs should have reached. Of this suite: the best-ranked point of each cell "
        "and size."
    )
    return Section("Beside published perplexities", notes=[note], tables=[Table(columns, rows)])


def _network(point: Point) -> str:
    s = point.settings
    tied = "tied" if s["tie_weights"] else "untied"
    return f"{s['cell']} {s['hidden_size']}, {tied}, dropout {s['dropout']}"
