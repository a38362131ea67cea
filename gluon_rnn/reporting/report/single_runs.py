"""Single runs of a group: the answers of the best, where time was spent, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gluon_rnn.common.printable import counted
from gluon_rnn.reporting.report.answers import confusion_tables, prediction_table
from gluon_rnn.reporting.report.content import Bars, Column, Section, Table
from gluon_rnn.reporting.report.group import NUMBER, Group, meaning
from gluon_rnn.reporting.report.points import quantity
from gluon_rnn.reporting.report.reading import ENDED_WELL
from gluon_rnn.runs.metrics import learned_nothing, loss_to_beat, outcome
from gluon_rnn.runs.progress import perplexity
from gluon_rnn.runs.records import RunRecord

#: Bars that can still be told apart.
_BARS = 30


def confusions(group: Group) -> Section | None:
    """The labels that the best point confused."""
    for record, whose in _answers(group):
        if record.confusion:
            notes, tables = confusion_tables(record.confusion)
            heading = "Confusion matrix" if len(tables) == 1 else "Most frequent confusions"
            return Section(heading, notes=[whose, *notes], tables=tables)
    return None


def predictions(group: Group) -> Section | None:
    """Some predictions of the best point."""
    for record, whose in _answers(group):
        if record.predictions:
            notes, table = prediction_table(record.predictions)
            return Section("Predictions and truth", notes=[whose, *notes], tables=[table])
    return None


def _answers(group: Group) -> Iterator[tuple[RunRecord, str]]:
    """The runs of the best-ranked point by seed, and a sentence that says whose answers are shown."""
    best = group.points[0]
    for record in best.counted:
        split = "validation" if record.test_loss is None else "test"
        seed = f", seed {record.config.seed}" if len(best.records) > 1 else ""
        yield record, f"Of no. 1 in the ranking ({best.label(group.brief)}{seed}), on {split}."


def time_spent(group: Group) -> Section | None:
    """The seconds of each run, divided into training, evaluation and the rest."""
    runs = [(p, run.record, _seconds(run.record)) for p in group.points for run in p.runs if run.speeds_count]
    if all(whole is None for _, _, (*_, whole) in runs):
        return None
    columns = [
        *(NUMBER, *group.setting_columns(group.brief), Column("seed", meaning("seed"))),
        Column("training s", meaning("train_seconds"), 1),
        Column("evaluation s", meaning("evaluation_seconds"), 1),
        Column("rest s", "start, corpus, building and compiling the network, checkpoints", 1),
        Column("whole s", meaning("wall_seconds"), 1),
        Column("training %", "of the whole", 0),
    ]
    rows = [
        [point.number, *group.settings(point, group.brief), record.config.seed, *seconds, _share(*seconds)]
        for point, record, seconds in runs
    ]
    bars = [
        (
            f"no. {point.number}" + (f", seed {record.config.seed}" if group.seeded else ""),
            [max(0.0, part or 0.0) for part in seconds[:3]],
        )
        for point, record, seconds in runs
    ]
    title = "Seconds by run, numbered as in the ranking" + ("" if len(bars) <= _BARS else f" (the first {_BARS})")
    plot = Bars(title, ("training", "evaluation", "the rest"), bars[:_BARS])
    notes = []
    if any(evaluation is None for _, _, (_, evaluation, *_) in runs):
        notes.append("The rest includes evaluation where that was not timed.")
    if any(rest is None and None not in (train, whole) for _, _, (train, _, rest, whole) in runs):
        notes.append("Runs that an earlier version resumed have no rest: their whole time is that of the last process.")
    if resumed := sum(bool(record.times_resumed) for _, record, _ in runs):
        notes.append(
            f"{counted(resumed, 'run')} {'was' if resumed == 1 else 'were'} resumed: seconds are the sums over all "
            "processes, speeds are those where the last process ran."
        )
    return Section(
        "Where the time went", notes=notes, plots=[plot], tables=[Table(columns, rows)], folded=len(rows) > _BARS
    )


def _seconds(record: RunRecord) -> tuple[float | None, float | None, float | None, float | None]:
    """Seconds in training, in evaluation, in the rest, and in total."""
    train, evaluation, whole = (
        quantity(record, name) for name in ("train_seconds", "evaluation_seconds", "wall_seconds")
    )
    rest = None if whole is None or train is None else whole - train - (evaluation or 0.0)
    # Earlier versions gave the whole of a resumed run's last process, but the parts of all: it has no rest.
    return train, evaluation, None if rest is not None and rest < 0 else rest, whole


def _share(train: float | None, _: float | None, rest: float | None, whole: float | None) -> float | None:
    """The share of training in the whole time, in per cent."""
    return 100 * train / whole if train is not None and rest is not None and whole else None


def failures(group: Group) -> Section | None:
    """The runs that failed or learned nothing, with the ends of their logs, without those a search pruned."""
    wrong = [(point, run) for point in group.points for run in point.runs if outcome(run.record) not in ENDED_WELL]
    if not wrong:
        return None
    columns = [
        *group.setting_columns(),
        *(Column(name, meaning(name), wide=name == "reason") for name in ("seed", "status", "reason")),
    ]
    columns += [Column("epochs", meaning("epochs_run"), 0), Column("run_id", meaning("run_id"))]
    rows: list[list[Any]] = [
        [*group.settings(point), r.config.seed, outcome(r), r.reason or _unlearned(group, r), r.epochs_run, r.run_id]
        for point, run in wrong
        for r in [run.record]
    ]
    logs = [
        (f"{group.label(point)} seed={run.record.config.seed}: the end of its log", run.log)
        for point, run in wrong
        if run.log
    ]
    notes = ["Logs are not committed, so those that are not shown are gone."] * (len(logs) < len(wrong))
    return Section("Failed runs", notes=notes, tables=[Table(columns, rows)], logs=logs)


def _unlearned(group: Group, record: RunRecord) -> str:
    """The perplexity of a run that learned nothing beside the unigram model's; empty for other runs."""
    bound = loss_to_beat(record.row)
    if record.valid_loss is None or bound is None or not learned_nothing(record.row):
        return ""
    whose = "uniform" if record.unigram_loss is None else "unigram"
    as_read = float if group.loss.column == "valid_loss" else perplexity
    reached, beaten = (group.loss.written(as_read(loss)) for loss in (record.valid_loss, bound))
    return f"{group.loss.words} {reached}, the {whose} model's {beaten}"


def runs(group: Group) -> Section:
    """Every run: its seed, its run_id and its origin."""
    several = len({run.folder for point in group.points for run in point.runs}) > 1
    names = ("run_id", "seed", "started_at", "git_commit", "epochs_run")
    columns = [NUMBER, *group.setting_columns(group.brief)]
    columns += [Column(name, meaning(name)) for name in names]
    columns += [*[Column("folder", "where the run's results are")] * several, Column("status", meaning("status"))]
    rows = []
    for point in group.points:
        for run in point.runs:
            row, origin = run.record.row, run.record.origin
            cells = [run.record.run_id, row["seed"], to_the_minute(row["started_at"]), (origin.git_commit or "")[:12]]
            folder = [run.folder] * several
            settings = group.settings(point, group.brief)
            rows.append([point.number, *settings, *cells, row["epochs_run"], *folder, outcome(run.record)])
    return Section("Runs", tables=[Table(columns, rows)], folded=len(rows) > _FEW_RUNS)


#: More are shown on demand only.
_FEW_RUNS = 12


def to_the_minute(started_at: str) -> str:
    """An ISO 8601 time as ``2026-11-22 17:34``; any other text unchanged."""
    found = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)", started_at)
    return f"{found[1]} {found[2]}" if found else started_at
