"""What a report is made of, as plain data: nothing here knows HTML, Markdown or matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gluon_rnn.runs.metrics import written


@dataclass(frozen=True)
class Column:
    """Of a table.

    Attributes:
        name: its heading.
        meaning: for whoever asks.
        digits: after the point, of numbers; None: a setting or words, shown as they are.
        wide: whether it holds sentences, which a narrow page must not squeeze.
    """

    name: str
    meaning: str = ""
    digits: int | None = None
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of numbers, words and None, under columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class HeatMap:
    """A value for each pair of two settings' values; darker is better.

    Attributes:
        cells: by (row, column): the value, None where there is none, and what is written there.
    """

    title: str
    row_name: str
    column_name: str
    row_values: Sequence[str]
    column_values: Sequence[str]
    cells: Mapping[tuple[int, int], tuple[float | None, str]]
    lower_is_better: bool


@dataclass(frozen=True)
class Scatter:
    """A loss against throughput.

    Attributes:
        loss: what it is, with its unit.
        points: (tokens/s, loss, number in the ranking).
        front: those of the Pareto front, with their names, fastest first.
        undecided: likewise those that may be on it.
        ranges: (lowest, highest tokens/s, lowest, highest loss) over the seeds, by number, of points with several.
    """

    title: str
    loss: str
    points: Sequence[tuple[float, float, int]]
    front: Sequence[tuple[float, float, int, str]]
    undecided: Sequence[tuple[float, float, int, str]] = ()
    ranges: Mapping[int, tuple[float, float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Curves:
    """A loss over epochs.

    Attributes:
        loss: what it is, with its unit.
        lines: the name of a point, and for each of its seeds the (epochs done, loss) pairs; nameless ones are drawn
            faintly.
    """

    title: str
    loss: str
    lines: Sequence[tuple[str, Sequence[Sequence[tuple[float, float]]]]]


@dataclass(frozen=True)
class Bars:
    """Seconds of each run, by what they were spent on.

    Attributes:
        bars: the run's name and its seconds, one for each of `parts`.
    """

    title: str
    parts: Sequence[str]
    bars: Sequence[tuple[str, Sequence[float]]]


Plot = HeatMap | Scatter | Curves | Bars


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in this order.

    Attributes:
        level: of the heading, 2 or 3.
        choices: a title and a sentence each.
        notes: paragraphs.
        logs: a title and the text each.
    """

    heading: str
    level: int = 3
    choices: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    logs: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    summary: str
    sections: Sequence[Section]


def figure(value: float | None, digits: int) -> str:
    """A number for people, ``-`` for none."""
    return "-" if value is None else written(value, digits)
