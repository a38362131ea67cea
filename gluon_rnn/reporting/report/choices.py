"""The first section on a group: which point to choose, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence

from gluon_rnn.common.printable import counted
from gluon_rnn.reporting.report.chances import Front, front_of, rivals_of
from gluon_rnn.reporting.report.content import Section, figure, listed
from gluon_rnn.reporting.report.group import Group, amount_trained, epochs_trained
from gluon_rnn.reporting.report.points import CONFIDENCE, Place, Point, compromise, fastest_within, pareto_front, within
from gluon_rnn.runs.metrics import MEMORY, SECONDS, SPEED, WORSE_THAN_UNIGRAM
from gluon_rnn.runs.records import RunRecord

#: How much worse a loss may be for the sake of speed: about what a seed changes.
TOLERANCE = 0.05
#: Costs in a sentence, by their units there.
_COSTS = {"tokens/s": SPEED, "MB": MEMORY, "s a run": SECONDS}


def choice(group: Group) -> Section:
    """The best point and, for each place, the Pareto front, a compromise and the fastest point."""
    heading = f"Corpus {group.corpus or 'unknown'}, {_taken_as(group.record)}"
    heading += f" on {group.where}" * bool(group.where)
    notes = [_training(group)]
    if most := group.record.config.max_eval_tokens:
        notes.append(f"Scored on the first {most:,} tokens of validation and test only.")
    good = [point for point in group.points if point.ok]
    if not good:
        unlearned = any(WORSE_THAN_UNIGRAM in point.status for point in group.points)
        whose = "No point ended well" + " and learned something" * unlearned
        notes.insert(0, f"{whose}, so there is nothing to choose from. The reasons are below.")
        return Section(heading, level=2, notes=notes)
    choices = []
    if good[0].average(group.loss.column) is not None:
        choices.append((f"Best {group.loss.name}", f"{_costs(group, good[0])}.{_certainty(group, good)}"))
    for place in group.places if group.timed else ():
        choices += _at(group, place)
    return Section(heading, level=2, choices=choices, notes=notes)


def _taken_as(record: RunRecord) -> str:
    """``characters, next_token``: the level of the tokens and the objective."""
    config = record.config
    parts = [f"{config.level}s", *["lower case"] * bool(config.lower)]
    parts += [f"seen {config.min_freq:,} times or more"] * (config.min_freq > 1)
    return ", ".join([*parts, config.objective])


def _training(group: Group) -> str:
    """How long the points were trained and on how many tokens, or that they differ in it."""
    records = [record for point in group.points for record in point.records]
    good = [record for record in records if record.status == "ok"]
    whose = "Every run" if len(good) in (0, len(records)) else "Every run that ended well"
    records = good or records
    if len({(epochs_trained(r), r.config.max_train_tokens, r.config.max_steps) for r in records}) > 1:
        return (
            "The runs differ in epochs finished, max_train_tokens or max_steps; the ranking has a column for each. "
            "Compare rows that agree in them."
        )
    return f"{whose}: {amount_trained(records[0])}."


def _at(group: Group, place: Place) -> list[tuple[str, str]]:
    """Which of the points of a place to choose, by loss and speed."""
    here = [point for point in group.at(place) if point.ok]
    on, loss = group.on(place), group.loss.column
    if len(here) < 2 and group.scored:
        return []
    choices = []
    front = front_of(here, loss)
    if front.sure or front.undecided:
        choices.append((f"Pareto-optimal{on}", _front(group, front, len(here))))
        if middle := compromise(pareto_front(here, loss), loss):
            doubt = " Whether it is Pareto-optimal is undecided." * (middle not in front.sure)
            choices.append((f"Best compromise{on}", f"{_costs(group, middle)}.{doubt}"))
    if fastest := fastest_within(here, TOLERANCE, loss):
        best = fastest.number == group.points[0].number
        text = f"The point with the best {group.loss.name}" if best else _costs(group, fastest)
        text += f".{_as_fast(group, fastest, within(here, TOLERANCE, loss))}"
        choices.append((f"Fastest within {TOLERANCE:.0%} of the best{on}", text))
    elif here and not group.scored:
        fastest = max(here, key=lambda point: point.average(SPEED.column) or 0.0)
        text = f"{_costs(group, fastest)}. Nothing was evaluated.{_as_fast(group, fastest, here)}"
        choices.append((f"Fastest{on}", text))
    return choices


def _front(group: Group, front: Front, count: int) -> str:
    """The points on the Pareto front, and those of which that is unknown."""

    def named(points: Sequence[Point]) -> str:
        return "; ".join(f"{point.label(group.brief)} (no. {point.number})" for point in points) + "."

    unbeaten = f"no other point is better in both {group.loss.name} and speed"
    if not front.spread_known:
        return (
            f"{len(front.sure)} of {counted(count, 'point')}, fastest first: {named(front.sure)} Judged by the values "
            f"alone, since no point has several seeds: {unbeaten}."
        )
    parts = []
    if front.sure:
        parts.append(f"{len(front.sure)} of {counted(count, 'point')}, fastest first: {named(front.sure)} ")
    if front.undecided:
        parts.append(f"Undecided: {len(front.undecided)} of {counted(count, 'point')}: {named(front.undecided)} ")
    return "".join(parts) + f"Beyond chance, {unbeaten}." * bool(front.sure)


def _as_fast(group: Group, fastest: Point, others: Sequence[Point]) -> str:
    """Those of `others` (which include `fastest`) that may be as fast as `fastest`."""
    rivals = rivals_of(fastest, others, SPEED.column)
    return f" Undecided: {group.numbers(rivals)} may be as fast." if rivals else ""


def _costs(group: Group, point: Point) -> str:
    """``cell=gru: validation perplexity 100.00, test 90.00, at 1,000 tokens/s, 500 MB and 30 s a run``."""
    parts = [
        f"{measure.words} {measure.written(value)}"
        for measure in group.measures.all
        if (value := point.average(measure.column)) is not None
    ]
    costs = [
        f"{figure(value, 0)} {unit}"
        for unit, measure in _COSTS.items()
        if (value := point.average(measure.column)) is not None
    ]
    parts += ["at " + listed(costs)] * bool(costs)
    where = group.on(point.place) if point.place and costs else ""
    return f"{group.label(point)}: {', '.join(parts)}{where}"


def _certainty(group: Group, good: Sequence[Point]) -> str:
    """How certain it is that the first of the `good` points is the best."""
    best, loss = good[0], group.loss
    spread = best.spread(loss.column)
    if spread is None or spread.low is None or spread.high is None:
        text = f" Based on one seed. Seeds alone move a {loss.name} by several per cent."
    else:
        text = (
            f" The {CONFIDENCE:.0%} interval of its mean over {spread.count} seeds is "
            f"{loss.written(spread.low)} to {loss.written(spread.high)}."
        )
    rivals = rivals_of(best, good, loss.column)
    if rivals:
        return f"{text} Undecided: {group.numbers(rivals)} may be as good."
    if rivals is None or len(good) == 1:
        return text
    others = "All other points" if len(good) == len(group.points) else "The other points whose runs all ended well"
    return f"{text} {others} are worse, beyond chance."
