"""Results as tables and lines: points, averaged over seeds, best first."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group
from rich.table import Table

from gluon_rnn.common.printable import counted, printable
from gluon_rnn.config.run import unnumbered
from gluon_rnn.data.corpora.synthetic import NAME as SYNTHETIC
from gluon_rnn.reporting.report.points import Point, points_of, ranked
from gluon_rnn.reporting.report.reading import Run
from gluon_rnn.reporting.report.targets import Arrival, arrival, first_at
from gluon_rnn.reporting.terminal.console import Fitting, make_table
from gluon_rnn.runs.contents import Names, label
from gluon_rnn.runs.evaluations import settings_of
from gluon_rnn.runs.job import FAILED
from gluon_rnn.runs.metrics import (
    MEMORY,
    SECONDS,
    SPEED,
    STEP,
    Measure,
    Measures,
    measures_of,
    outcome,
    scored_on,
    written,
)
from gluon_rnn.runs.records import RunRecord

#: Settings that say where a run takes place; the machine chooses them, unless a sweep varies them.
PLACE = ("device", "threads")
#: Of the column ``status`` in a narrow terminal, which "worse than unigram" needs on two lines.
_STATUS_WIDTH = 10
#: What a narrow terminal has no room for, in the order in which it goes; ``None`` is the column ``status``.
_LEAST_WANTED = (MEMORY, SECONDS, None, STEP)


def summary(record: RunRecord, targets: Sequence[float] = ()) -> str:
    """A record in one line, with the time to those of the perplexities `targets` that it reached."""
    if record.status in FAILED:
        return f"{record.status} ({record.reason})"
    parts = [f"{record.status} ({record.reason})" if record.reason else outcome(record)]
    for measure in measures_of([record.valid_accuracy]).all:
        if (value := getattr(record, measure.column)) is not None:
            parts.append(f"{measure.words} {measure.written(value)}")
    if record.tokens_per_second is not None:
        parts.append(f"{written(record.tokens_per_second, 0)} tokens/s")
    for target in _descending(targets):
        if found := first_at(record, target):
            spent = f"{written(found.seconds, 0)} s and {written(found.tokens, 0)} tokens"
            parts.append(f"perplexity {target:g} after {spent}")
    return ", ".join(parts)


@dataclass(frozen=True)
class _Comparable:
    """Points whose losses compare, best first.

    Attributes:
        points: each with a run for each seed.
        columns: the settings that tell them apart.
        measures: what they are read by.
        names: of corpora, vectors and own cells.
    """

    points: Sequence[Point]
    columns: Sequence[str]
    measures: Measures
    names: Names

    @property
    def records(self) -> list[RunRecord]:
        return [record for point in self.points for record in point.records]

    def settings(self, point: Point) -> dict[str, str]:
        row = point.records[0].row
        return {name: printable(str(self.names.shown(row, name))) for name in self.columns}

    def figure(self, point: Point, measure: Measure, *, spread: bool = True) -> str:
        """The mean over the seeds, with `spread` and the standard deviation if it was scored; of speeds the median."""
        value = point.average(measure.column)
        if value is None:
            return ""
        text = written(measure.figure(value), measure.digits)
        values = point.values(measure.column)
        if spread and measure in self.measures.all and len(values) > 1 and all(map(math.isfinite, values)):
            text += f" ± {written(measure.figure(statistics.stdev(values)), measure.digits)}"
        return text


def _comparable(records: Sequence[RunRecord], columns: Sequence[str]) -> list[_Comparable]:
    """`records` grouped so that losses compare, as points that `columns` distinguish."""
    names = Names(record.row for record in records)
    # The seeds of a point are averaged.
    shown = [name for name in columns if name != "seed"] or ["cell", "bptt", "hidden_size"]
    groups: dict[object, list[Run]] = {}
    for record in records:
        groups.setdefault(scored_on(record), []).append(Run("", record))
    found = []
    for runs in groups.values():
        measures = measures_of(run.record.valid_accuracy for run in runs)
        # A report has columns for each place where a point ran; here a place that the sweep varies makes a point.
        places: dict[object, list[Run]] = {}
        for run in runs:
            place = (unnumbered(str(run.record.row[name])) for name in PLACE if name in columns)
            places.setdefault(tuple(place), []).append(run)
        points = ranked((p for here in places.values() for p in points_of(here, names)), measures.loss.column)
        found.append(_Comparable(points, shown, measures, names))
    return found


def results_tables(records: Sequence[RunRecord], columns: Sequence[str], targets: Sequence[float] = ()) -> Group:
    """The points of `records`, best first, with the `columns` that vary before the results.

    A table for each corpus, or what else their losses are of: only within one do these compare. Corpora, vectors and
    own cells of one name have the first digits of their digests behind it. With `targets`, a table of the times to
    these perplexities follows.
    """
    parts: list[Any] = []
    for group in _comparable(records, columns):
        parts += [Fitting(_tables(group)), _caption(group)]
        if len(group.points) > 1 and (best := _best(group)):
            parts.append(f"best: {best}")
        parts += _times_to(group, _descending(targets)) if targets else []
        parts.append("")
    return Group(*parts[:-1])


@dataclass(frozen=True)
class Best:
    """The best point among results that compare.

    Attributes:
        label: what tells it from the others.
        figure: its result, with the spread over its seeds.
        measure: what that is.
        records: its runs.
        seeds: how many seeds the result is of.
    """

    label: str
    figure: str
    measure: Measure
    records: Sequence[RunRecord]
    seeds: int

    def __str__(self) -> str:
        result = f"{self.figure} tokens/s" if self.measure is SPEED else f"{self.measure.words} {self.figure}"
        return f"{self.label}: {result}" + (f", {counted(self.seeds, 'seed')}" if self.seeds > 1 else "")


def best_of(records: Sequence[RunRecord], columns: Sequence[str]) -> list[Best]:
    """The best point of each group of `records` whose losses compare; empty if no run ended well."""
    return [best for group in _comparable(records, columns) if (best := _best(group))]


class BestSoFar:
    """Keeps track of the best points while runs end, at a constant cost for each run.

    Args:
        records: of runs that have ended.
        columns: what varies between them.

    Attributes:
        lines: what is best so far, a line for each corpus or what else losses are of.
    """

    def __init__(self, records: Iterable[RunRecord], columns: Sequence[str]) -> None:
        self._columns = columns
        self._points: dict[object, list[RunRecord]] = {}
        for record in records:
            self._points.setdefault(_point(record), []).append(record)
        self._choose(itertools.chain.from_iterable(self._points.values()))

    def add(self, record: RunRecord) -> None:
        """Take a run that has ended into account."""
        point = self._points.setdefault(_point(record), [])
        was_best = bool(point) and any(point[0] is leader for best in self._best for leader in best.records)
        point.append(record)
        if was_best:
            # Its mean has changed, so that any other may be the best now.
            self._choose(itertools.chain.from_iterable(self._points.values()))
        else:
            self._choose([*itertools.chain.from_iterable(best.records for best in self._best), *point])

    def _choose(self, records: Iterable[RunRecord]) -> None:
        self._best = best_of(list(records), self._columns)
        self.lines = [f"best so far: {best}" for best in self._best]


def _point(record: RunRecord) -> object:
    """The settings that a run shares with the other seeds of its point."""
    return scored_on(record), record.config.model_copy(update={"seed": 0})


def _best(group: _Comparable) -> Best | None:
    point = group.points[0]
    if "ok" not in map(outcome, point.records):
        return None
    measure = group.measures.loss if point.values(group.measures.loss.column) else SPEED
    figure = group.figure(point, measure)
    return Best(label(group.settings(point)), figure, measure, point.records, len(point.seeds))


def _tables(group: _Comparable) -> Iterator[Table]:
    """Tables of the group, each narrower than the one before."""
    everything = (*group.measures.all, SPEED, STEP, MEMORY, SECONDS)
    measures = [measure for measure in everything if any(point.values(measure.column) for point in group.points)]
    all_ok = all(point.status == "ok" for point in group.points)
    yield _table(group, _Layout(measures))
    yield _table(group, _Layout(measures, breaks=True))
    layout = _Layout(measures, breaks=True, test_spread=False)
    yield _table(group, layout)
    for dropped in _LEAST_WANTED:
        kept = [measure for measure in layout.measures if measure != dropped]
        layout = replace(layout, measures=kept, status=layout.status and not (dropped is None and all_ok))
        yield _table(group, layout)
    valid = [measure for measure in measures if measure in (*group.measures.valid, SPEED)]
    yield _table(group, replace(layout, measures=valid))
    yield _table(group, replace(layout, measures=valid, label_only=True))


def _descending(targets: Sequence[float]) -> list[float]:
    """The perplexities `targets` in descending order, as a run reaches them."""
    return sorted(set(targets), reverse=True)


def _times_to(group: _Comparable, targets: Sequence[float]) -> list[Any]:
    """What to print on when the points reached the perplexities `targets`: a table, and those no run reached."""
    if group.measures.loss.column != "valid_perplexity":
        return [f"no time to a perplexity: these results are read by {group.measures.loss.name}"]
    rows = [(point, [arrival(point, target) for target in targets]) for point in group.points]
    missed = [f"{target:g}" for place, target in enumerate(targets) if not any(found[place] for _, found in rows)]
    none = [f"no run reached perplexity {', '.join(missed)}"] if missed else []
    targets = targets[: len(targets) - len(missed)]
    rows = [(point, found[: len(targets)]) for point, found in rows if any(found)]
    if not rows:
        return none

    def tables() -> Iterator[Table]:
        for tokens, breaks, label_only in ((1, False, False), (1, True, False), (0, True, False), (0, True, True)):
            titles = [
                title for target in targets for title in (f"s to {target:g}", f"tokens to {target:g}")[: 1 + tokens]
            ]
            table = make_table(["settings"] if label_only else group.columns, titles, breaks=breaks)
            for point, found in rows:
                settings = group.settings(point)
                cells = [cell for item in found for cell in _arrived(item)[: 1 + tokens]]
                table.add_row(*([label(settings)] if label_only else settings.values()), *cells)
            yield table

    what = "seconds of training and scoring, and training tokens, until validation was first at or below a perplexity"
    return [Fitting(tables()), what, *none]


def _arrived(found: Arrival | None) -> tuple[str, str]:
    """Seconds and tokens, with the number of runs behind the median unless all reached it."""
    if found is None:
        return "-", "-"
    seconds = "" if found.seconds is None else written(found.seconds, 0)
    return seconds + found.share, written(found.tokens, 0)


@dataclass(frozen=True)
class _Layout:
    """The layout of a table of results.

    Attributes:
        measures: its columns of numbers.
        status: whether a column says how the runs ended.
        breaks: whether headings go over two lines.
        test_spread: whether test has its spread, too; validation always has.
        label_only: whether all settings share one column.
    """

    measures: Sequence[Measure]
    status: bool = True
    breaks: bool = False
    test_spread: bool = True
    label_only: bool = False


def _table(group: _Comparable, layout: _Layout) -> Table:
    words = ["settings"] if layout.label_only else group.columns
    table = make_table(words, [measure.title for measure in layout.measures], breaks=layout.breaks)
    if layout.status:
        table.add_column("status", max_width=_STATUS_WIDTH if layout.breaks else None)
    for point in group.points:
        settings = group.settings(point)
        table.add_row(
            *([label(settings)] if layout.label_only else settings.values()),
            *(
                group.figure(point, measure, spread=layout.test_spread or measure in group.measures.valid)
                for measure in layout.measures
            ),
            *([point.status] if layout.status else []),
        )
    return table


def _caption(group: _Comparable) -> str:
    """The caption: the corpus, how much was trained on, and the number of threads."""
    records = group.records
    corpora = dict.fromkeys(str(group.names.shown(record.row, "dataset")) for record in records)
    parts = [printable(", ".join(corpora))]
    if SYNTHETIC in corpora:
        parts[0] += " (generated text that is built in, not a published corpus)"
    tokens = [record.train_tokens for record in records if record.train_tokens]
    of_tokens = f" of {_span(tokens)} tokens" if tokens else ""
    if epochs := [record.epochs_run for record in records if record.epochs_run]:
        parts.append(f"{_span(epochs)} {'epoch' if max(epochs) == 1 else 'epochs'}{of_tokens}")
    if steps := [record.config.max_steps for record in records if record.config.max_steps]:
        parts.append(f"{_span(steps)} timed steps, nothing evaluated")
    if threads := [record.config.threads for record in records if record.config.threads]:
        parts.append(f"{_span(threads)} {'thread' if max(threads) == 1 else 'threads'}")
    parts.append(", ".join(dict.fromkeys(str(record.row["device"]) for record in records)))
    if (most := max(len(point.seeds) for point in group.points)) > 1:
        scored = any(record.valid_loss is not None for record in records)
        what = "mean ± standard deviation" if scored else "median"
        parts.append(f"{what} of {'up to ' if _differ(group) else ''}{counted(most, 'seed')}")
    return "; ".join(parts)


def _differ(group: _Comparable) -> bool:
    return len({len(point.seeds) for point in group.points}) > 1


def _span(values: Collection[int]) -> str:
    """A number or a range: ``3`` or ``1 to 3``."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def evaluations_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The table that ``evaluate`` prints for rows of ``evaluations.csv``."""
    table = make_table(
        ("split", "method", "settings"), ("tokens", "loss", "ppl", "plain ppl", "acc. %", "seconds", "peak MB")
    )
    for row in rows:
        figures = [
            (row["tokens_scored"], 0),
            (row["loss"], 4),
            (row["perplexity"], 2),
            (row["plain_perplexity"], 2),
            (None if row["accuracy"] is None else 100 * row["accuracy"], 2),
            (row["seconds"], 0),
            (row["peak_rss_mb"], 0),
        ]
        table.add_row(
            row["split"],
            f"{row['method']}, searched" if row["searched"] else row["method"],
            label(settings_of(row)),
            *("" if value is None else written(value, digits) for value, digits in figures),
        )
    return table
