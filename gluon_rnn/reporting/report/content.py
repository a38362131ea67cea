"""The content of a report as plain data, independent of HTML, Markdown and matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gluon_rnn.runs.metrics import written


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        meaning: for readers.
        digits: after the point, of numbers; None: a setting or words, shown as they are.
        wide: whether it holds sentences, which a narrow page must not squeeze.
        whole: whether a cell must stay on one line.
    """

    name: str
    meaning: str = ""
    digits: int | None = None
    wide: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of numbers, words and None, under columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class HeatMap:
    """A heat map: a value for each pair of values of two settings; darker is better.

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
class Spot:
    """A point in a `Scatter`.

    Attributes:
        speed: tokens/s.
        loss: as the axis has it.
        number: in the ranking.
        name: its other settings' values, which tell it from the others of its kind.
        kind: its cell, which decides its colour and its mark.
        front: ``yes``, ``undecided`` or ``no``: whether it is on the Pareto front.
        ranges: lowest and highest speed, lowest and highest loss over its repeats; empty of a lone run.
    """

    speed: float
    loss: float
    number: int
    name: str
    kind: str
    front: str
    ranges: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scatter:
    """A plot of a loss against throughput.

    Attributes:
        loss: what it is, with its unit.
        spots: its points.
        key: the settings whose values name a point, in words.
    """

    title: str
    loss: str
    spots: Sequence[Spot]
    key: str = ""

    def having(self, front: str) -> list[Spot]:
        """The spots with this place on the Pareto front, fastest first."""
        return sorted((spot for spot in self.spots if spot.front == front), key=lambda spot: (-spot.speed, spot.loss))


@dataclass(frozen=True)
class Line:
    """A line in `Lines`.

    Attributes:
        kind: its cell, which decides colour and mark; empty of one that is drawn faintly, without a name.
        name: what else tells it from others; decides its dashes.
        points: (x, value, lowest, highest over the seeds).
        best: the place of its best point; None of one that is not the best of its kind.
    """

    kind: str
    name: str
    points: Sequence[tuple[float, float, float, float]]
    best: int | None = None


@dataclass(frozen=True)
class Lines:
    """A plot of a measure over the values of a setting.

    Attributes:
        axis: the setting.
        measure: what it is, with its unit.
        joined: whether lines join the points; not where these differ in more than the setting.
        logarithmic: whether the setting has a logarithmic axis; None: as its values suggest.
        whole: what this is a part of, and shares scales and colours with; None of what stands alone.
    """

    title: str
    axis: str
    measure: str
    lines: Sequence[Line]
    joined: bool = True
    logarithmic: bool | None = None
    whole: Lines | None = None


@dataclass(frozen=True)
class Curves:
    """A plot of a loss over epochs.

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
    """Bars of each run's seconds, divided by what they were spent on.

    Attributes:
        bars: the run's name and its seconds, one for each of `parts`.
    """

    title: str
    parts: Sequence[str]
    bars: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Trials:
    """The losses of a search's runs in the order of their trials, and the best of them so far.

    Attributes:
        loss: what it is, with its unit.
        complete: the (trial, loss) of runs that ended by themselves.
        pruned: the same of runs that were ended early.
        best: the lowest loss after each trial from the first that has one.
    """

    title: str
    loss: str
    complete: Sequence[tuple[int, float]]
    pruned: Sequence[tuple[int, float]]
    best: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Shares:
    """Horizontal bars: the share of each name in a whole.

    Attributes:
        axis: what the shares are of.
        bars: name, share, and what chance reaches, the shares in 0 .. 1.
    """

    title: str
    axis: str
    bars: Sequence[tuple[str, float, float]]


Plot = HeatMap | Scatter | Lines | Curves | Bars | Trials | Shares


@dataclass(frozen=True)
class Section:
    """A heading and the content below it, in order.

    Attributes:
        level: of the heading, 2 or 3.
        choices: a title and a sentence each.
        notes: paragraphs.
        logs: a title and text that stands as it is, such as a log or a command, each.
        folded: whether its tables are shown on demand only.
    """

    heading: str
    level: int = 3
    choices: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    logs: Sequence[tuple[str, str]] = ()
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    summary: str
    sections: Sequence[Section]


def figure(value: float | None, digits: int) -> str:
    """A formatted number; ``-`` for None."""
    return "-" if value is None else written(value, digits)


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plain(value: Any) -> str:
    """A setting's value without superfluous digits: ``20`` for 20.0, ``none`` for None."""
    return "none" if value is None else str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def shown(value: Any, column: Column) -> str:
    """The text of a table's cell."""
    if column.digits is None:
        return plain(value) or "-"
    return figure(value, column.digits)
