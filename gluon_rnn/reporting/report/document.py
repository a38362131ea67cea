"""What a report says of rows, section by section."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from gluon_rnn.config.run import unnumbered
from gluon_rnn.reporting.report.answers import confusion_tables, prediction_table
from gluon_rnn.reporting.report.chances import Front, front_of, rivals_of
from gluon_rnn.reporting.report.content import Bars, Column, Curves, Document, HeatMap, Scatter, Section, Table, figure
from gluon_rnn.reporting.report.points import (
    CONFIDENCE,
    Place,
    Point,
    axes,
    comparable,
    compromise,
    fastest_within,
    pareto_front,
    places_of,
    points_of,
    quantity,
    ranked,
    varying,
    within,
)
from gluon_rnn.reporting.report.published import PUBLISHED, PUBLISHED_OF
from gluon_rnn.reporting.report.reading import Findings, Row
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.metrics import (
    WORSE_THAN_UNIGRAM,
    Measure,
    learned_nothing,
    loss_to_beat,
    measures_of,
    outcome,
    scored_on,
)
from gluon_rnn.runs.progress import perplexity
from gluon_rnn.runs.records import RunRecord, describe

#: How much worse a loss may be for the sake of speed: about what a seed changes.
TOLERANCE = 0.05
#: What everything is read by, whatever its loss is.
_SPEED = Measure("tokens_per_second", "speed", "tokens/s", "at", 0)
_STEP = Measure("step_ms_p50", "time of a step", "ms/step", "at", 1)
_MEMORY = Measure("peak_mb", "memory", "peak MB", "at", 0)
_SECONDS = Measure("wall_seconds", "time", "seconds", "in", 0)
#: Curves and bars that can still be told apart.
_NAMED_CURVES = 8
_BARS = 30


def compose(findings: Findings) -> Document:
    """The report of `findings`: a part for each group of runs whose losses compare, and one on machines.

    Within a group runs of different machines, devices or thread counts are ranked in one table, which names the place
    of each; they are never averaged, and speeds are set against each other within a place only.
    """
    places = places_of(findings.rows)
    names = Names(row.record.row for row in findings.rows)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in findings.rows:
        groups.setdefault(scored_on(row.record), []).append(row)
    sections: list[Section] = []
    for key in sorted(groups, key=lambda key: tuple(map(str, key))):
        sections += _Group(groups[key], places, names).sections()
    notes = list(findings.notes)
    if names:
        notes.append(
            "Some corpora, word vectors or cells have one name and different contents: the first digits of their SHA-1 "
            "stand behind it."
        )
    if len(groups) > 1:
        notes.append(
            "There are several corpora, parts of one, ways to take its text apart, or objectives: a loss, or a "
            "perplexity, compares within one only."
        )
    if len(places) > 1:
        notes.append(
            f"The runs come from {len(places)} places: a machine, device or number of threads each, lettered "
            f"{places[0].letter} to {places[-1].letter} and described at the end. Speed and memory compare within one."
        )
    sections.append(_machines(findings.rows, places))
    if notes:
        sections.insert(0, Section("Before you compare", level=2, notes=notes))
    return Document(" and ".join(findings.folders), _summary(findings.rows), sections)


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(outcome(row.record) for row in rows)
    said = ", ".join(f"{count} {status or 'of unknown status'}" for status, count in sorted(counts.items()))
    times = sorted(row.record.started_at for row in rows if row.record.started_at)
    when = f"; started {times[0]}" + (f" to {times[-1]}" if times[-1] != times[0] else "") if times else ""
    return f"{_count(len(rows), 'run')} ({said}){when}."


class _Group:
    """The part of a report on rows whose losses are of one and the same."""

    def __init__(self, rows: Sequence[Row], places: Sequence[Place], names: Names) -> None:
        self.record = rows[0].record
        self.corpus = names.shown(self.record.row, "dataset")
        self.measures = measures_of(row.record.valid_accuracy for row in rows)
        self.loss = self.measures.loss
        self.points = ranked(points_of(rows, places, names), self.loss.column)
        self.names = varying(self.points)
        letters = {point.place.letter for point in self.points}
        self.places = [place for place in places if place.letter in letters]
        self.axes = axes(self.points, self.names)
        self.numbers = {id(point): number for number, point in enumerate(self.points, 1)}
        self.scored = any(point.average(self.loss.column) is not None for point in self.points)
        self.seeded = any(len(point.rows) > 1 for point in self.points)

    def sections(self) -> list[Section]:
        """All of them that have something to say."""
        found = [self._choice(), self._ranking(), self._trade(), *self._maps(), self._curves(), self._seeds()]
        found += [self._confusion(), self._predictions(), self._time(), self._failures(), self._published()]
        return [section for section in found if section]

    def label(self, point: Point) -> str:
        """A point's name in a sentence or a plot."""
        return point.label(self.names) + self.on(point.place)

    def on(self, place: Place) -> str:
        """`` on A`` where there are several places."""
        return f" on {place.letter}" if len(self.places) > 1 else ""

    def settings(self, point: Point, names: Sequence[str] | None = None) -> list[Any]:
        """Its cells under `setting_columns` of the same `names`."""
        where = [point.place.letter] if len(self.places) > 1 else []
        return [*where, *(point.settings[name] for name in names or self.names)]

    def setting_columns(self, names: Sequence[str] | None = None) -> list[Column]:
        """What tells points apart; `names` are all that vary unless given."""
        where = [Column("place", "machine, device and threads; see the end")] if len(self.places) > 1 else []
        return [*where, *(Column(name, _meaning(name)) for name in names or self.names)]

    @property
    def axis(self) -> str:
        """What stands at an axis of losses."""
        return f"validation {self.loss.name}" + (f" ({self.loss.unit})" if self.loss.unit else "")

    def measured(self, measures: Iterable[Measure]) -> list[Measure]:
        """Those of `measures` that any point has."""
        return [item for item in measures if any(point.average(item.column) is not None for point in self.points)]

    def _choice(self) -> Section:
        record = self.record
        heading = f"Corpus {self.corpus or 'unknown'}, {_taken_as(record)}"
        notes = [self._training()]
        if record.config.max_eval_tokens:
            notes.append(f"Scored on the first {record.config.max_eval_tokens:,} tokens of validation and test only.")
        good = [point for point in self.points if point.ok]
        if not good:
            whose = "No point ended well" + " and learned something" * any(
                WORSE_THAN_UNIGRAM in p.status for p in self.points
            )
            notes.insert(0, f"{whose}, so there is nothing to choose from; the reasons are below.")
            return Section(heading, level=2, notes=notes)
        choices = []
        best = good[0]
        if best.average(self.loss.column) is not None:
            choices.append((f"Best {self.loss.name}", f"{self._costs(best)}.{self._certainty(best)}"))
        for place in self.places:
            here = [point for point in good if point.place is place]
            on = self.on(place)
            front = front_of(here, self.loss.column)
            if front.sure or front.undecided:
                choices.append((f"Pareto front{on}", self._front(front, len(here))))
                if middle := compromise(pareto_front(here, self.loss.column), self.loss.column):
                    doubt = " Whether it is on the front is undecided." * (middle not in front.sure)
                    choices.append((f"Best compromise on the front{on}", f"{self._costs(middle)}.{doubt}"))
            fastest = fastest_within(here, TOLERANCE, self.loss.column)
            if fastest:
                text = f"The point of the best {self.loss.name}" if fastest is best else self._costs(fastest)
                text += f".{self._as_fast(fastest, within(here, TOLERANCE, self.loss.column))}"
                choices.append((f"Fastest within {TOLERANCE:.0%} of the best{on}", text))
            elif here and not self.scored:
                fastest = max(here, key=lambda point: point.average("tokens_per_second") or 0.0)
                text = f"{self._costs(fastest)}. Nothing was evaluated.{self._as_fast(fastest, here)}"
                choices.append((f"Fastest{on}", text))
        return Section(heading, level=2, choices=choices, notes=notes)

    def _front(self, front: Front, count: int) -> str:
        """Who is on it, and of whom that is not known."""

        def named(points: Sequence[Point]) -> str:
            return "; ".join(f"{point.label(self.names)} (no. {self.numbers[id(point)]})" for point in points) + "."

        among = f"of {_count(count, 'point')}"
        known = f"no other is better in both {self.loss.name} and speed"
        parts = [f"By value alone, since no point has several seeds: {known}: "] * (not front.spread_known)
        parts += [f"Beyond chance {known}: "] * (front.spread_known and bool(front.sure))
        if front.sure:
            parts.append(f"{len(front.sure)} {among}, fastest first: {named(front.sure)}")
        if front.undecided:
            parts.append(
                " " * bool(front.sure) + f"Undecided: {len(front.undecided)} {among}: {named(front.undecided)}"
            )
        return "".join(parts)

    def _as_fast(self, fastest: Point, others: Sequence[Point]) -> str:
        """Which of `others`, among them `fastest`, chance may have kept from being as fast."""
        rivals = rivals_of(fastest, others, _SPEED.column)
        return f" Undecided: by chance {self._listed(rivals)} may be as fast." if rivals else ""

    def _listed(self, points: Sequence[Point]) -> str:
        """``no. 2, 3 and 4``."""
        return f"no. {_listed([str(self.numbers[id(point)]) for point in points])}"

    def _costs(self, point: Point) -> str:
        """``cell=gru: validation perplexity 100.00, test 90.00, at 1,000 tokens/s, 500 MB and 30 s a run``."""
        results = [
            f"{measure.words} {measure.written(value)}"
            for measure in self.measures.all
            if (value := point.average(measure.column)) is not None
        ]
        costs = [
            f"{figure(value, 0)} {unit}"
            for unit, name in (("tokens/s", "tokens_per_second"), ("MB", "peak_mb"), ("s a run", "wall_seconds"))
            if (value := point.average(name)) is not None
        ]
        parts = [", ".join(results)] * bool(results) + ["at " + _listed(costs)] * bool(costs)
        return f"{self.label(point)}: {', '.join(parts)}"

    def _certainty(self, best: Point) -> str:
        found = best.spread(self.loss.column)
        if found is None or found.low is None or found.high is None:
            said = (
                f" Based on one seed: seeds alone move a {self.loss.name} by several per cent, so small differences "
                "decide nothing."
            )
        else:
            said = (
                f" The {CONFIDENCE:.0%} interval of its mean over {found.count} seeds is "
                f"{self.loss.written(found.low)} to {self.loss.written(found.high)}."
            )
        rivals = rivals_of(best, [point for point in self.points if point.ok], self.loss.column)
        if rivals:
            return f"{said} Undecided: by chance {self._listed(rivals)} may be as good."
        return said if rivals is None else f"{said} All other points are worse beyond chance."

    def _training(self) -> str:
        """How long and on how much all were trained, or that they differ in it."""
        records = [row.record for point in self.points for row in point.rows]
        good = [record for record in records if record.status == "ok"]
        whose = "Every run" if len(good) in (0, len(records)) else "Every run that ended well"
        records = good or records
        known = {(self._epochs(record), record.config.max_train_tokens, record.config.max_steps) for record in records}
        if len(known) > 1:
            return (
                "The runs differ in epochs finished, max_train_tokens or max_steps, as the ranking's columns say; "
                "compare results between rows that agree in them."
            )
        return f"{whose}: {self._amount(records[0])}."

    @staticmethod
    def _amount(record: RunRecord) -> str:
        if record.config.max_steps:
            return f"a throughput run of {record.config.max_steps:,} timed steps, nothing evaluated"
        text = (
            "the first " + f"{record.config.max_train_tokens:,} tokens"
            if record.config.max_train_tokens
            else "the whole text"
        )
        return f"{_Group._epochs(record)} of {text}"

    @staticmethod
    def _epochs(record: RunRecord) -> str:
        config = record.config
        if config.early_stopping is None:
            return _count(record.epochs_run, "epoch")
        return f"up to {_count(config.epochs, 'epoch')}, ended by {config.early_stopping} without a new best,"

    def _ranking(self) -> Section:
        amounts = [
            name
            for name in ("epochs_run", "max_train_tokens", "max_steps")
            if name not in self.names and len({row.record.row[name] for point in self.points for row in point.rows}) > 1
        ]
        shown = self.measured((*self.measures.all, _SPEED, _STEP, _MEMORY, _SECONDS))
        ranged = [measure for measure in (self.loss, _SPEED) if self.seeded and measure in shown]
        columns = [
            Column("no.", "place in the ranking", 0),
            *self.setting_columns(),
            *(Column(name, _meaning(name)) for name in amounts),
            *(Column(measure.title, _meaning(measure.column), measure.digits) for measure in shown),
            *(Column(f"{m.title} range", f"lowest to highest {m.title} of the seeds") for m in ranged),
            *([Column("seeds", "runs that the figures are averages of", 0)] if self.seeded else []),
            Column("status", _meaning("status")),
        ]

        def cells(point: Point) -> list[Any]:
            ran = [_listed(sorted({str(row.record.row[name]) for row in point.rows})) for name in amounts]
            seeds = [len(point.counted)] if self.seeded else []
            averages = [_average(point, measure) for measure in shown]
            ranges = [range_of(point, measure.column, measure.digits) for measure in ranged]
            return [self.numbers[id(point)], *self.settings(point), *ran, *averages, *ranges, *seeds, point.status]

        by = f"validation {self.loss.name}" if self.scored else "tokens/s"
        notes = [f"Best first, by {by}."]
        if self.seeded:
            notes.append(
                "Speeds and times are medians over seeds, since whatever else a machine did only slowed a run; other "
                "figures are means. Ranges are from the lowest to the highest seed."
            )
        if any(not point.ok for point in self.points):
            notes.append("Points of which a run went wrong come last, with what their good runs, or else all, came to.")
        if any(WORSE_THAN_UNIGRAM in point.status for point in self.points):
            notes.append(
                f"A run is {WORSE_THAN_UNIGRAM} if its validation loss is not below that of a model that knows only "
                "how frequent each target is in training. Such a run learned nothing, whatever its status."
            )
        # Speeds of two places do not compare, so they cannot be ranked in one table.
        groups = [self.points] if self.scored else [[p for p in self.points if p.place is q] for q in self.places]
        tables = [Table(columns, [cells(point) for point in group]) for group in groups]
        return Section("Ranking", notes=notes, tables=tables)

    def _trade(self) -> Section | None:
        title = f"{self.loss.name.capitalize()} against throughput"
        plots, rows = [], []
        for place in self.places:
            here = {self.numbers[id(point)]: point for point in self.points if point.place is place}
            plot = trade_off(title + self.on(place), self.axis, here, loss=self.loss.column, names=self.names)
            if len(plot.points) < 2:
                continue
            plots.append(plot)
            for word, spots in (("yes", plot.front), ("undecided", plot.undecided)):
                for speed, loss, number, _ in spots:
                    figures = [loss, speed, here[number].average("peak_mb")]
                    rows.append([number, *self.settings(here[number]), *figures, word])
        if not plots:
            return None
        columns = [Column("no.", "place in the ranking", 0), *self.setting_columns()]
        columns += [Column(measure.title, digits=measure.digits) for measure in (self.loss, _SPEED, _MEMORY)]
        columns.append(Column("on the front"))
        notes = [
            f"On the line: the Pareto front, the points that no other beats in {self.loss.name} without being slower."
        ]
        if any(plot.ranges for plot in plots):
            notes.append(
                "Bars are ranges over seeds. A point is on the front where, by t-tests of the logarithms, no other is "
                f"at least as good in both with a probability above {1 - CONFIDENCE:.0%}, and beaten where one is with "
                f"{CONFIDENCE:.0%}. What lies between is undecided; more seeds decide it."
            )
        return Section(title, notes=notes, plots=plots, tables=[Table(columns, rows)])

    def _maps(self) -> list[Section]:
        """One for each pair of axes."""
        return [self._pair(first, second) for first, second in combinations(self.axes, 2)]

    def _pair(self, first: str, second: str) -> Section:
        others = [name for name in self.names if name not in (first, second)]
        titles = {m: f"Validation {m.name}" + f", {m.unit}" * bool(m.unit) for m in self.measures.valid}
        titles |= {_SPEED: "Tokens/s", _MEMORY: "Peak MB"}
        shown = self.measured(titles)
        plots: list[HeatMap] = []
        rows: list[list[Any]] = []
        for place in self.places:
            here = [point for point in self.points if point.place is place]
            down, across = (_ordered({point.settings[name] for point in here}) for name in (first, second))
            # The ranking's order makes the first that fits the best one.
            best: dict[tuple[int, int], Point] = {}
            for point in here:
                best.setdefault((down.index(point.settings[first]), across.index(point.settings[second])), point)
            on = self.on(place)
            for measure in shown:
                cells: dict[tuple[int, int], tuple[float | None, str]] = {
                    spot: (value, figure(value, measure.digits)) if p.ok and value is not None else (None, p.status)
                    for spot, p in best.items()
                    for value in [_average(p, measure)]
                }
                title, lower_is_better = titles[measure] + on, measure in (self.loss, _MEMORY)
                plots.append(
                    HeatMap(title, first, second, [*map(str, down)], [*map(str, across)], cells, lower_is_better)
                )
            for _, point in sorted(best.items(), key=lambda item: item[0]):
                averages = [_average(point, measure) for measure in shown]
                rows.append([*self.settings(point, (first, second)), *averages, point.label(others)])
        columns = self.setting_columns((first, second))
        columns += [Column(titles[measure], _meaning(measure.column), measure.digits) for measure in shown]
        notes = []
        if others:
            columns.append(Column("with", "the other settings of the point shown"))
            if free := [name for name in others if name in self.axes]:
                notes.append(f"Each cell is the best-ranked point with these two settings, over all {_listed(free)}.")
        else:
            rows = [row[:-1] for row in rows]
        return Section(f"{first} and {second}", notes=notes, plots=plots, tables=[Table(columns, rows)])

    def _curves(self) -> Section | None:
        lines = [(point, [c for row in point.rows if len(c := self.curve(row.record)) > 1]) for point in self.points]
        lines = [(point, curves) for point, curves in lines if curves]
        if not lines:
            return None
        named = [
            (self.label(point) if number < _NAMED_CURVES else "", curves)
            for number, (point, curves) in enumerate(lines)
        ]
        notes = [f"Validation {self.loss.name} after each epoch" + (", a line for each seed." if self.seeded else ".")]
        if len(lines) > _NAMED_CURVES:
            notes.append(f"The {_NAMED_CURVES} best-ranked points are named, the others are faint.")
        return Section("Learning curves", notes=notes, plots=[Curves("Learning curves", self.axis, named)])

    def curve(self, record: RunRecord) -> tuple[tuple[int, float], ...]:
        """(epoch, validation loss) after each epoch that has one."""
        found = ((epoch.epoch, getattr(epoch, self.loss.column)) for epoch in record.history)
        return tuple(sorted((n, value) for n, value in found if None not in (n, value) and math.isfinite(value)))

    def _seeds(self) -> Section | None:
        if not self.seeded:
            return None
        measures = (*self.measures.all, _SPEED)
        columns = [*self.setting_columns(), Column("seeds", "runs that ended well", 0)]
        for measure in measures:
            title, digits = measure.title, measure.digits
            columns.append(Column(f"{title} mean", _meaning(measure.column), digits))
            columns.append(Column("sd", f"standard deviation (n - 1) of {title}", digits))
            columns.append(Column(f"{CONFIDENCE:.0%} low", f"of the mean of {title}", digits))
            columns.append(Column(f"{CONFIDENCE:.0%} high", f"of the mean of {title}", digits))
        rows = []
        for point in self.points:
            good = [row for row in point.rows if outcome(row.record) == "ok"]
            if len(good) < 2:
                continue
            cells: list[Any] = [*self.settings(point), len(good)]
            for measure in measures:
                s = point.spread(measure.column)
                found = (s.mean, s.deviation, s.low, s.high) if s else (None,) * 4
                cells += [None if value is None else measure.figure(value) for value in found]
            rows.append(cells)
        if not rows:
            return None
        note = (
            "Mean, standard deviation (n - 1) and Student's two-sided confidence interval of the mean, over the seeds "
            "that ended well; of a perplexity that of the loss, of a speed that of its logarithm. Two points whose "
            "intervals overlap widely are not told apart by these runs."
        )
        return Section("Over seeds", notes=[note], tables=[Table(columns, rows)])

    def _confusion(self) -> Section | None:
        for record, whose in self.answers():
            if record.confusion:
                notes, tables = confusion_tables(record.confusion)
                return Section("What was taken for what", notes=[whose, *notes], tables=tables)
        return None

    def _predictions(self) -> Section | None:
        for record, whose in self.answers():
            if record.predictions:
                notes, table = prediction_table(record.predictions)
                return Section("Predictions beside the truth", notes=[whose, *notes], tables=[table])
        return None

    def answers(self) -> Iterator[tuple[RunRecord, str]]:
        """The best-ranked point's runs, by seed, and a sentence on whose answers those of one are."""
        best = self.points[0]
        for record in best.counted:
            split = "validation" if record.test_loss is None else "test"
            seed = f", seed {record.config.seed}" if len(best.rows) > 1 else ""
            yield record, f"Of no. 1 in the ranking ({self.label(best)}{seed}), on {split}."

    def _time(self) -> Section | None:
        runs, resumed = [], False
        for point in self.points:
            for row in point.rows:
                train, evaluation, wall = (
                    quantity(row.record, name) for name in ("train_seconds", "evaluation_seconds", "wall_seconds")
                )
                # Earlier versions gave the whole of a resumed run's last process, but the parts of all: it has no rest.
                rest = None if wall is None or train is None else wall - train - (evaluation or 0.0)
                resumed = resumed or (rest is not None and rest < 0)
                runs.append(
                    (
                        point,
                        row.record.config.seed,
                        (train, evaluation, None if rest is None or rest < 0 else rest, wall),
                    )
                )
        if all(wall is None for _, _, (*_, wall) in runs):
            return None
        columns = [Column("no.", "place in the ranking", 0), *self.setting_columns(), Column("seed", _meaning("seed"))]
        columns += [
            Column("training s", _meaning("train_seconds"), 1),
            Column("evaluation s", _meaning("evaluation_seconds"), 1),
            Column("rest s", "start, corpus, building and compiling the network, checkpoints", 1),
            Column("whole s", _meaning("wall_seconds"), 1),
            Column("training %", "of the whole", 0),
        ]
        rows = [
            [self.numbers[id(point)], *self.settings(point), seed, *seconds, _share(seconds)]
            for point, seed, seconds in runs
        ]
        bars = [
            (
                f"{self.numbers[id(point)]}" + (f", seed {seed}" if self.seeded else ""),
                [max(0.0, s or 0.0) for s in seconds[:3]],
            )
            for point, seed, seconds in runs
        ]
        title = "Seconds by run, numbered as in the ranking" + ("" if len(bars) <= _BARS else f" (the first {_BARS})")
        plot = Bars(title, ("training", "evaluation", "the rest"), bars[:_BARS])
        notes = []
        if any(evaluation is None for _, _, (_, evaluation, *_) in runs):
            notes.append("Where evaluation was not timed, it is in the rest.")
        if resumed:
            notes.append("Runs that an earlier version resumed have no rest: their whole is that of the last process.")
        if again := sum(bool(row.record.times_resumed) for point in self.points for row in point.rows):
            notes.append(
                f"{_count(again, 'run')} {'was' if again == 1 else 'were'} resumed: seconds are the sums over all "
                "processes, speeds are those where the last process ran."
            )
        return Section("Where the time went", notes=notes, plots=[plot], tables=[Table(columns, rows)])

    def _failures(self) -> Section | None:
        wrong = [(point, row) for point in self.points for row in point.rows if outcome(row.record) != "ok"]
        if not wrong:
            return None
        columns = [*self.setting_columns(), Column("seed", _meaning("seed")), Column("status", _meaning("status"))]
        columns += [
            Column("reason", _meaning("reason")),
            Column("epochs", _meaning("epochs_run"), 0),
            Column("run_id", _meaning("run_id")),
        ]
        rows = [
            [*self.settings(point), r.config.seed, outcome(r), r.reason or self._unlearned(r), r.epochs_run, r.run_id]
            for point, row in wrong
            for r in [row.record]
        ]
        logs = [
            (f"{self.label(point)} seed={row.record.config.seed}: the end of its log", row.log)
            for point, row in wrong
            if row.log
        ]
        notes = (
            [] if len(logs) == len(wrong) else ["Logs are not kept with the tables; those that are not shown are gone."]
        )
        return Section("What went wrong", notes=notes, tables=[Table(columns, rows)], logs=logs)

    def _unlearned(self, record: RunRecord) -> str:
        """``validation perplexity 43,886.14, the unigram model's 982.97``; nothing of a run that learned."""
        bound = loss_to_beat(record.row)
        if record.valid_loss is None or bound is None or not learned_nothing(record.row):
            return ""
        whose = "uniform" if record.unigram_loss is None else "unigram"
        as_read = float if self.loss.column == "valid_loss" else perplexity
        reached, beaten = (self.loss.written(as_read(loss)) for loss in (record.valid_loss, bound))
        return f"{self.loss.words} {reached}, the {whose} model's {beaten}"

    def _published(self) -> Section | None:
        if not self.scored or any(self.record.row[name] != value for name, value in PUBLISHED_OF.items()):
            return None
        best: dict[tuple[Any, Any], Point] = {}
        for point in self.points:
            if point.ok and point.average("valid_perplexity") is not None:
                best.setdefault((point.settings["cell"], point.settings["hidden_size"]), point)
        if not best:
            return None
        rows: list[list[Any]] = [
            [
                f"{_network(p)} (no. {self.numbers[id(p)]})",
                "measured here",
                self._amount(p.counted[0]),
                p.average("valid_perplexity"),
                p.average("test_perplexity"),
            ]
            for p in best.values()
        ]
        rows += [[model, f"published: {source}", training, *figures] for model, source, training, *figures in PUBLISHED]
        columns = [
            Column("model"),
            Column("whose figure"),
            Column("trained for"),
            Column("valid ppl", digits=2),
            Column("test ppl", digits=2),
        ]
        note = (
            "The published figures are others', of other code, optimizers and numbers of epochs; they say what such "
            "models reach, not what these runs should have reached. Of this suite: the best-ranked point of each cell "
            "and size."
        )
        return Section("Beside published perplexities", notes=[note], tables=[Table(columns, rows)])


def trade_off(title: str, axis: str, points: Mapping[int, Point], *, loss: str, names: Sequence[str]) -> Scatter:
    """The `comparable` points of one place and their Pareto front.

    Args:
        axis: what stands at the axis of losses.
        points: by their number in the ranking.
        loss: the column that is read.
        names: the settings that the front's points are called by.
    """

    def spot(point: Point) -> tuple[float, float, int]:
        return point.average("tokens_per_second") or 0.0, point.average(loss) or 0.0, numbers[id(point)]

    numbers = {id(point): number for number, point in points.items()}
    front = front_of(points.values(), loss)
    sure, undecided = ([(*spot(p), p.label(names)) for p in found] for found in (front.sure, front.undecided))
    shown = comparable(points.values(), loss)
    measured = {numbers[id(point)]: (point.values("tokens_per_second"), point.values(loss)) for point in shown}
    ranges = {
        number: (min(speeds), max(speeds), min(losses), max(losses))
        for number, (speeds, losses) in measured.items()
        if max(len(speeds), len(losses)) > 1
    }
    return Scatter(title, axis, [spot(point) for point in shown], sure, undecided, ranges)


def _machines(rows: Sequence[Row], places: Sequence[Place]) -> Section:
    machine = ("device_name", "machine_id", "device", "threads")
    software = ("blas", "environment", "mxnet_version", "gluonnlp_version", "numpy_version", "git_commit", "git_dirty")
    names = machine + software
    letters = {(p.machine_id, p.device, p.device_name, p.threads): p.letter for p in places}
    counts: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        r = row.record.row
        letter = letters[r["machine_id"], unnumbered(r["device"]), r["device_name"], r["threads"]]
        key = (letter, *(r[name] for name in names))
        counts[key] += 1
    columns = [Column("place"), Column("runs", digits=0), *(Column(name, _meaning(name)) for name in names)]
    found = [
        [key[0], count, *key[1:]] for key, count in sorted(counts.items(), key=lambda item: tuple(map(str, item[0])))
    ]
    notes = []
    differ = [
        name for name in software if len({value for row in rows if (value := row.record.row[name]) is not None}) > 1
    ]
    if differ:
        notes.append(f"The runs differ in {_listed(differ)}, which can move speeds and the last bits of a result.")
    return Section("Machines and versions", level=2, notes=notes, tables=[Table(columns, found)])


def _taken_as(record: RunRecord) -> str:
    """``characters, next_token``: what a text was taken apart into, and what was asked of it."""
    config = record.config
    parts = [f"{config.level}s", *["lower case"] * bool(config.lower)]
    parts += [f"seen {config.min_freq:,} times or more"] * (config.min_freq > 1)
    return ", ".join([*parts, config.objective])


def _average(point: Point, measure: Measure) -> float | None:
    """Over seeds, as people read it."""
    value = point.average(measure.column)
    return None if value is None else measure.figure(value)


def range_of(point: Point, column: str, digits: int) -> str:
    """``97.03 to 106.97``: the lowest and the highest of several seeds; ``-`` of one."""
    values = point.values(column)
    return f"{figure(min(values), digits)} to {figure(max(values), digits)}" if len(values) > 1 else "-"


def _network(point: Point) -> str:
    s = point.settings
    tied = "tied" if s["tie_weights"] else "untied"
    return f"{s['cell']} {s['hidden_size']}, {tied}, dropout {s['dropout']}"


def _meaning(name: str) -> str:
    if name == "peak_mb":
        return "peak_gpu_mb on a GPU, else peak_rss_mb: 2**20 bytes"
    extra = {"results": "the folder", "version": "of runs alike in all but their run_id"}
    return extra.get(name) or describe(name)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers by size, then words, None first."""
    return sorted(values, key=lambda v: (v is not None, isinstance(v, str), v if v is not None else 0))


def _share(seconds: Sequence[float | None]) -> float | None:
    """Training's, of training, evaluation and the rest, in per cent."""
    train, _, rest, whole = seconds
    return 100 * train / whole if train is not None and rest is not None and whole else None
