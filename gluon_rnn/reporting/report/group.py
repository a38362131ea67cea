"""A group of runs whose losses compare: the points, names and columns that its sections share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gluon_rnn.common.printable import counted
from gluon_rnn.reporting.report.content import Column, figure, listed
from gluon_rnn.reporting.report.points import Place, Point, axes, points_of, ranked, varying
from gluon_rnn.reporting.report.reading import Run
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.metrics import SPEED, Measure, measures_of
from gluon_rnn.runs.records import RunRecord, describe

#: Characters of a point's name.
_SHORT = 60
#: Settings that leave room for what a table is about.
_FEW = 6

#: The first column of most tables.
NUMBER = Column("no.", "place in the ranking", 0)


class Group:
    """The data that a report's sections on `runs`, whose losses compare, have in common.

    Args:
        runs: of the group.
        places: of all runs of the report.
        names: of whatever is shown in the report.
        timed: runs whose speeds and memory stand for those of `runs`; None: each has its own.
        where: the letter of the place that tells the group from another; empty where there is none.

    Attributes:
        record: one of its runs.
        corpus: its name.
        measures: what its results are read by.
        loss: the first of them, by which points are ranked.
        points: best first.
        names: the settings in which they differ.
        places: where speeds and memory were measured.
        axes: those of `names` that were swept.
        scored: whether any point was evaluated.
        seeded: whether any point has several seeds.
        timed: whether any speed counts.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        places: Sequence[Place],
        names: Names,
        timed: Sequence[Run] | None = None,
        where: str = "",
    ) -> None:
        self.where = where
        self.record = runs[0].record
        self.corpus = names.shown(self.record.row, "dataset")
        self.measures = measures_of(run.record.valid_accuracy for run in runs)
        self.loss = self.measures.loss
        self.points = ranked(points_of(runs, names, timed=timed), self.loss.column)
        self.names = varying(self.points)
        here = {place for point in self.points for place in point.places}
        self.places = [place for place in places if place._replace(letter="") in here]
        self.axes = axes(self.points, self.names)
        self.scored = any(point.average(self.loss.column) is not None for point in self.points)
        self.seeded = any(len(point.seeds) > 1 for point in self.points)
        self._at = {
            place: [point.at(place) for point in self.points if place._replace(letter="") in point.places]
            for place in self.places
        }
        self.timed = any(point.values(SPEED.column) for points in self._at.values() for point in points)

    def numbers(self, points: Sequence[Point]) -> str:
        """``no. 2, 3 and 4``."""
        return f"no. {listed([str(point.number) for point in points])}"

    def at(self, place: Place) -> list[Point]:
        """The points of `place`, best first, with its speeds and memory."""
        return self._at[place]

    def at_each_place(self, point: Point) -> list[Point]:
        """`point` at each place where its costs were measured."""
        return [here for points in self._at.values() for here in points if here.number == point.number]

    def label(self, point: Point) -> str:
        """A point's name in a sentence or a plot: its settings or, if these are many, its number and the swept ones."""
        whole = point.label(self.names)
        return whole if len(whole) <= _SHORT else f"no. {point.number}: {point.label(self.axes or self.names)}"

    @property
    def brief(self) -> Sequence[str]:
        """Settings for a table whose rows have ranking numbers: all where they are few, else the swept ones."""
        return self.names if len(self.names) <= _FEW else self.axes or self.names

    def on(self, place: Place) -> str:
        """`` on A`` if there are several places, else nothing."""
        return f" on {place.letter}" if len(self.places) > 1 else ""

    def settings(self, point: Point, names: Sequence[str] | None = None) -> list[Any]:
        """The point's cells under `setting_columns` with the same `names`."""
        return [point.settings[name] for name in names or self.names]

    def setting_columns(self, names: Sequence[str] | None = None) -> list[Column]:
        """The columns of settings that distinguish points; `names` defaults to all that vary."""
        return [Column(name, meaning(name)) for name in names or self.names]

    @property
    def axis(self) -> str:
        """The label of an axis of losses."""
        return f"validation {self.loss.name}" + (f" ({self.loss.unit})" if self.loss.unit else "")

    def measured(self, measures: Iterable[Measure]) -> list[Measure]:
        """The `measures` that at least one point has."""
        return [item for item in measures if any(point.average(item.column) is not None for point in self.points)]


def average(point: Point, measure: Measure) -> float | None:
    """The average over seeds, formatted."""
    value = point.average(measure.column)
    return None if value is None else measure.figure(value)


def range_of(point: Point, column: str, digits: int) -> str:
    """The lowest and the highest value of several seeds, such as ``97.03 to 106.97``; ``-`` for one seed."""
    values = point.values(column)
    return f"{figure(min(values), digits)} to {figure(max(values), digits)}" if len(values) > 1 else "-"


def meaning(name: str) -> str:
    """The meaning of a column in tables of points."""
    if name == "peak_mb":
        return "peak_gpu_mb on a GPU, else peak_rss_mb: 2**20 bytes"
    extra = {"version": "of runs alike in all but their run_id"}
    return extra.get(name) or describe(name)


def amount_trained(record: RunRecord) -> str:
    """How much the runs were trained, such as ``3 epochs of the whole text``."""
    config = record.config
    if config.max_steps:
        return f"a throughput run of {config.max_steps:,} timed steps, nothing evaluated"
    text = f"the first {config.max_train_tokens:,} tokens" if config.max_train_tokens else "the whole text"
    return f"{epochs_trained(record)} of {text}"


def epochs_trained(record: RunRecord) -> str:
    """The number of epochs, such as ``3 epochs``; the maximum where runs could stop early."""
    config = record.config
    if config.early_stopping is None:
        return counted(record.epochs_run, "epoch")
    return f"up to {counted(config.epochs, 'epoch')}, ended by {config.early_stopping} without a new best,"
