"""The answers of a model: confusion matrices, and predictions for single examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gluon_rnn.common.printable import printable
from gluon_rnn.reporting.report.content import Column, Table
from gluon_rnn.runs.progress import Confusion, Prediction

#: Labels that a table has room for, a row and a column each.
_SQUARE = 12
_PAIRS = 20
_FREQUENT = 20
_PREDICTIONS = 10
_TEXT_CHARACTERS = 200
_LABEL_CHARACTERS = 40

_RECALL = Column("recall %", "of those that truly have the label, how many were given it", 1)
_PRECISION = Column("precision %", "of those that were given the label, how many truly have it", 1)


def confusion_tables(confusion: Confusion) -> tuple[list[str], list[Table]]:
    """Notes and tables: the whole matrix where labels are few, else the most confused pairs and the single labels."""
    few = len(confusion.labels) <= _SQUARE
    return _square(confusion) if few else _most_confused(confusion)


def _square(confusion: Confusion) -> tuple[list[str], list[Table]]:
    names, totals = _labels(confusion), _totals(confusion)
    columns = [
        Column("true", "the label in the data; each column is one that was predicted"),
        *(Column(name, digits=0) for name in names),
        Column("total", "how many truly have the label", 0),
        _RECALL,
        _PRECISION,
    ]
    rows: list[list[Any]] = [
        [name, *row, *_rates(confusion, place)]
        for place, (name, row) in enumerate(zip(names, confusion.counts, strict=True))
    ]
    rows.append(["all", *totals, sum(totals), _share(_right(confusion), sum(totals)), None])
    return ["A row for each true label, a column for each that was predicted."], [Table(columns, rows)]


def _most_confused(confusion: Confusion) -> tuple[list[str], list[Table]]:
    names = _labels(confusion)
    wrong = sorted(
        (-count, true, predicted)
        for true, row in enumerate(confusion.counts)
        for predicted, count in enumerate(row)
        if count and true != predicted
    )
    missed = -sum(count for count, _, _ in wrong)
    pairs = [
        [names[true], names[predicted], -count, _share(-count, sum(confusion.counts[true])), _share(-count, missed)]
        for count, true, predicted in wrong[:_PAIRS]
    ]
    frequent = sorted(range(len(names)), key=lambda place: (-sum(confusion.counts[place]), place))[:_FREQUENT]
    notes = [
        f"There are {len(names):,} labels. The first table holds the most confused pairs, {len(pairs)} of the "
        f"{len(wrong):,} that occurred; the second the most frequent labels, {len(frequent)} of {len(names):,}."
    ]
    columns = [
        Column("true", "the label in the data"),
        Column("predicted", "the label given instead"),
        Column("count", "how often", 0),
        Column("% of the label", "of those that truly have the label", 1),
        Column("% of all wrong", "of all that were given a wrong label", 1),
    ]
    single = [Column("label"), Column("total", "how many truly have the label", 0), _RECALL, _PRECISION]
    rows = [[names[place], *_rates(confusion, place)] for place in frequent]
    return notes, [Table(columns, pairs), Table(single, rows)]


def _rates(confusion: Confusion, place: int) -> list[float | None]:
    """How often a label is the true one, and its recall and precision in per cent; None where it never occurs."""
    right, total = confusion.counts[place][place], sum(confusion.counts[place])
    return [total, _share(right, total), _share(right, sum(row[place] for row in confusion.counts))]


def _totals(confusion: Confusion) -> list[int]:
    """How often each label was predicted."""
    return [sum(column) for column in zip(*confusion.counts, strict=True)]


def _right(confusion: Confusion) -> int:
    return sum(row[place] for place, row in enumerate(confusion.counts))


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _labels(confusion: Confusion) -> list[str]:
    return [_cut(label, _LABEL_CHARACTERS) for label in confusion.labels]


def prediction_table(predictions: Sequence[Prediction]) -> tuple[list[str], Table]:
    """Notes and a table of the first predictions, their texts shortened."""
    shown = predictions[:_PREDICTIONS]
    first = f"The first {len(shown)} of {len(predictions)}" if len(shown) < len(predictions) else "All"
    notes = [f"{first}, cut to {_TEXT_CHARACTERS} characters."]
    rows = [[_cut(text, _TEXT_CHARACTERS) for text in (item.text, item.truth, item.predicted)] for item in shown]
    meanings = {
        "text": "what the model was given",
        "truth": "what was to be predicted",
        "predicted": "what the model thought most likely",
    }
    columns = [
        Column(name, meaning, wide=any(len(row[place]) > _LABEL_CHARACTERS for row in rows))
        for place, (name, meaning) in enumerate(meanings.items())
    ]
    return notes, Table(columns, rows)


def _cut(text: str, characters: int) -> str:
    """The beginning of `text`, with line ends and other control characters escaped.

    Blanks at its ends, which nobody would see, are ``␣``; ``(empty)`` stands for nothing.
    """
    if not text:
        return "(empty)"
    cut = len(text) > characters
    shown = printable(text[:characters])
    start = len(shown) - len(shown.lstrip(" "))
    shown = "␣" * start + shown[start:]
    if not cut:
        end = len(shown) - len(shown.rstrip(" "))
        shown = shown[: len(shown) - end] + "␣" * end
    return shown + "…" * cut
