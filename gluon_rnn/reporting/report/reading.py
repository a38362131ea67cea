"""Reads the runs in folders of results, even if some files are missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import counted, printable
from gluon_rnn.config.search_space import SearchSettings
from gluon_rnn.reporting.report.cut import after
from gluon_rnn.runs.evaluations import EVALUATIONS
from gluon_rnn.runs.job import RUN_ID
from gluon_rnn.runs.metrics import outcome
from gluon_rnn.runs.notes import read_notes
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.runs.records import FIELDS, RunRecord, read_records, without_paths
from gluon_rnn.runs.tables import (
    evaluation_rows,
    histories_of,
    load_epochs,
    load_evaluations,
    load_results,
    table_rows,
)
from gluon_rnn.sweeps.search import Proposal, read_proposals, read_settings

#: The `outcome` of runs that did what they were to do.
ENDED_WELL = ("ok", "pruned")
_LOG_TAIL_LINES = 15
#: Enough for them, however long the log.
_LOG_TAIL_BYTES = 16_384
_LOG_LINE_CHARACTERS = 300
#: Colours of a terminal, and whatever else is not text.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Run:
    """A run and the folder it was found in.

    Attributes:
        folder: of results, as a short name that tells it from the others.
        record: what came of it; a column that its table lacks is at its default, or empty.
        log: the last lines of its log, where it went wrong and the log is still there.
        speeds_count: whether its speed may be compared with others.
    """

    folder: str
    record: RunRecord
    log: str = ""
    speeds_count: bool = True


@dataclass(frozen=True)
class Searched:
    """The search that produced a folder of results.

    Attributes:
        folder: its short name.
        settings: the space, and how it is searched.
        proposals: its points so far, in order.
    """

    folder: str
    settings: SearchSettings
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True)
class Findings:
    """The content of some folders.

    Attributes:
        folders: their short names.
        runs: all of them.
        notes: what readers should know of them, most of it from ``notes.yaml``.
        evaluations: the rows of their ``evaluations.csv``.
        timed: the runs whose speeds and memory stand for those of `runs` of the same network; None: each run has its
            own.
        untimed: why some speeds do not count; a note each.
        searches: of those folders that ``sweep.json`` says are a search's.
    """

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())
    evaluations: tuple[dict[str, Any], ...] = field(default=())
    timed: tuple[Run, ...] | None = None
    untimed: tuple[str, ...] = ()
    searches: tuple[Searched, ...] = ()


def read_folders(directories: Sequence[Path], *, speeds: Sequence[Path] = (), epochs: int | None = None) -> Findings:
    """Read the runs of `directories`, in that order and then by run_id.

    Records come from ``runs/`` and, where that has none, from ``runs.csv``. A run that stands in several folders counts
    once.

    Args:
        directories: folders of results.
        speeds: folders whose runs were timed for those of `directories`, whose own speeds then do not count.
        epochs: reads longer runs as they were after so many epochs; None: each to its end.

    Raises:
        UserError: a folder is not there or holds no runs, its ``notes.yaml`` is wrong, or a run cannot be cut.
    """
    found = _read(directories)
    runs, notes = list(found.runs), list(found.notes)
    if epochs is not None:
        if longer := sum(run.record.epochs_run > epochs for run in runs):
            notes.append(f"{counted(longer, 'run')} trained for longer: shown as after epoch {epochs}.")
        runs = [replace(run, record=after(run.record, epochs)) for run in runs]
    if not speeds:
        return replace(found, runs=tuple(runs), notes=(*notes, *found.untimed))
    timed = _read(speeds)
    notes.append(
        f"Speeds and memory come from {' and '.join(timed.folders)}: runs of the same network with the same windows "
        "and batches, timed by themselves."
    )
    runs = [replace(run, speeds_count=False) for run in runs]
    counting = tuple(run for run in timed.runs if run.speeds_count)
    return replace(found, runs=tuple(runs), notes=(*notes, *timed.untimed), timed=counting)


def _read(directories: Sequence[Path]) -> Findings:
    directories = list({os.path.realpath(path): path for path in directories}.values())
    names = _short_names(directories)
    runs: list[Run] = []
    notes: list[str] = []
    untimed: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    evaluations: list[dict[str, Any]] = []
    searches: list[Searched] = []
    twice = 0
    for directory, name in zip(directories, names, strict=True):
        records, damaged = _records(directory, notes)
        said = read_notes(directory)
        if said.text:
            notes.append(f"{name}: {said.text}" if len(names) > 1 else said.text)
        if not said.speeds_count:
            untimed.append(f"The speeds and times in {name} do not count, as its notes.yaml says; none are shown.")
        notes += [line.replace(f"{directory}{os.sep}", f"{name}/") for line in damaged.values()]
        evaluations += _evaluations(directory, notes)
        searches += _searches(directory, name, notes)
        for record in sorted(records, key=lambda record: record.run_id):
            identity = (record.run_id, record.origin.machine_id, record.started_at, record.wall_seconds)
            twice += identity in seen
            if identity not in seen:
                seen.add(identity)
                log = "" if outcome(record) in ENDED_WELL else _log_tail(directory, record.run_id)
                runs.append(Run(name, record, log, said.speeds_count))
    if twice:
        notes.append(f"{counted(twice, 'run')} in several of the folders; each counts once.")
    beside = crowded([run.record for run in runs if run.speeds_count])
    if beside:
        untimed.append(
            f"The speeds and times of {counted(len(beside), 'run')} do not count: another of these runs had the same "
            "machine's processor at the time."
        )
        runs = [replace(run, speeds_count=run.speeds_count and id(run.record) not in beside) for run in runs]
    return Findings(
        tuple(names),
        tuple(runs),
        tuple(notes),
        tuple(evaluations),
        untimed=tuple(untimed),
        searches=tuple(searches),
    )


def crowded(records: Sequence[RunRecord]) -> set[int]:
    """The ids of the `records` whose runs shared their machine's processor with others for most of their time.

    Only runs on a CPU that were never resumed: of others it is not known when they ran.
    """
    spans: dict[tuple[str, str], list[tuple[float, float, RunRecord]]] = {}
    for record in records:
        if not record.config.device.startswith("cpu") or record.times_resumed or not record.wall_seconds:
            continue
        try:
            start = datetime.fromisoformat(record.started_at).timestamp()
        except (ValueError, OverflowError):  # not a time, or one that no clock counts
            continue
        origin = record.origin
        spans.setdefault((origin.host, origin.machine_id), []).append((start, start + record.wall_seconds, record))
    found: set[int] = set()
    for several in spans.values():
        several.sort(key=lambda span: span[:2])
        for place, (_, end, record) in enumerate(several):
            for start, other_end, other in several[place + 1 :]:
                if start >= end:
                    break
                shared = min(end, other_end) - start
                for one in (record, other):
                    if shared > _MOST_SHARED * (one.wall_seconds or 0):
                        found.add(id(one))
    return found


#: Of a run's time. Times of starting are to the second, and a process ends a little after its run.
_MOST_SHARED = 0.25


def _short_names(directories: Sequence[Path]) -> list[str]:
    """The distinguishing parts of the folders' paths, because committed reports must not name the rest."""
    paths = [Path(os.path.realpath(path)) for path in directories]
    if len(paths) == 1:
        return [printable(paths[0].name)]
    common = os.path.commonpath(paths)
    short = (path.name if str(path) == common else path.relative_to(common).as_posix() for path in paths)
    return [printable(name) for name in short]


def _records(directory: Path, notes: list[str]) -> tuple[list[RunRecord], dict[Path, str]]:
    if not os.path.isdir(directory):
        raise UserError(f"{directory} is not a folder of results; name one such as results/quick")
    records, damaged = read_records(directory)
    if not records and (directory / "runs.csv").exists():
        records = list(_tabulated(directory, notes))
    if not records:
        raise UserError(f"there are no runs in {directory}; run a sweep first, or name a folder such as results/quick")
    return records, damaged


def _tabulated(directory: Path, notes: list[str]) -> Iterator[RunRecord]:
    """The rows of ``runs.csv``, which has fewer columns if an older version wrote it."""
    histories = _histories(directory, notes)
    words = {name for name, info in FIELDS.items() if str in (info.annotation, *map(type, get_args(info.annotation)))}
    for row in table_rows(load_results(directory)):
        known = row | {name: "" for name in words if row[name] is None}
        yield RunRecord.from_row(known | {"history": histories.get(row["run_id"], ())})


def _histories(directory: Path, notes: list[str]) -> dict[str, tuple[EpochResult, ...]]:
    """Epochs by run_id, from the sweep's ``epochs.csv`` or, without that, from the runs' own."""
    whole = directory / "epochs.csv"
    histories: dict[str, tuple[EpochResult, ...]] = {}
    for path in [whole] if whole.exists() else sorted(directory.glob("runs/*/epochs.csv")):
        try:
            histories |= histories_of(load_epochs(path))
        except UserError as error:
            notes.append(f"no learning curves of {path.relative_to(directory)}: {without_paths(str(error))}")
    return histories


def _evaluations(directory: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not (directory / EVALUATIONS).exists():
        return []
    try:
        return evaluation_rows(load_evaluations(directory))
    except UserError as error:
        notes.append(f"no evaluations: {without_paths(str(error))}")
        return []


def _searches(directory: Path, name: str, notes: list[str]) -> list[Searched]:
    try:
        settings = read_settings(directory)
    except UserError:
        notes.append(
            f"{name}: nothing on its search, which an earlier version recorded; run it again to record it anew."
        )
        return []
    return [Searched(name, settings, tuple(read_proposals(directory)))] if settings else []


def _log_tail(directory: Path, run_id: str) -> str:
    path = directory / "runs" / run_id / "log.txt"
    expected = Path(os.path.realpath(directory), "runs", run_id, "log.txt")
    try:
        # Of a folder that someone else made: neither a name nor a link may fetch what lies elsewhere into a report.
        if not RUN_ID.fullmatch(run_id) or os.path.realpath(path) != str(expected) or not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:  # logs are not committed
        return ""
    lines = [without_paths(_CONTROL.sub("", line))[:_LOG_LINE_CHARACTERS].rstrip() for line in text.split("\n")]
    return "\n".join("\n".join(lines).strip("\n").split("\n")[-_LOG_TAIL_LINES:])
