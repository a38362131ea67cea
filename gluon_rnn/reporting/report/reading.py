"""Folders of results to runs, whatever of them is there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from gluon_rnn.common.errors import UserError
from gluon_rnn.runs.evaluations import EVALUATIONS
from gluon_rnn.runs.job import RUN_ID
from gluon_rnn.runs.metrics import outcome
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

_LOG_TAIL_LINES = 15
#: Enough for them, however long the log.
_LOG_TAIL_BYTES = 16_384
_LOG_LINE_CHARACTERS = 300
#: Colours of a terminal, and whatever else is not text.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Run:
    """A run and where it was found.

    Attributes:
        folder: of results, as a short name that tells it from the others.
        record: what came of it; a column that its table lacks is at its default, or empty.
        log: the last lines of its log, where it went wrong and the log is still there.
    """

    folder: str
    record: RunRecord
    log: str = ""


@dataclass(frozen=True)
class Findings:
    """All runs of some folders, the rows of their ``evaluations.csv``, and what is to be said of reading them."""

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())
    evaluations: tuple[dict[str, Any], ...] = field(default=())


def read_folders(directories: Sequence[Path]) -> Findings:
    """The runs of `directories`, in their order, then by run_id.

    Records come from ``runs/`` and, where that has none, from ``runs.csv``. A run that stands in several folders counts
    once.

    Raises:
        UserError: a folder is not there or holds no runs.
    """
    directories = list({os.path.realpath(path): path for path in directories}.values())
    names = _short_names(directories)
    runs: list[Run] = []
    notes: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    evaluations: list[dict[str, Any]] = []
    twice = 0
    for directory, name in zip(directories, names, strict=True):
        records, damaged = _records(directory, notes)
        notes += [line.replace(f"{directory}{os.sep}", f"{name}/") for line in damaged.values()]
        evaluations += _evaluations(directory, notes)
        for record in sorted(records, key=lambda record: record.run_id):
            identity = (record.run_id, record.origin.machine_id, record.started_at, record.wall_seconds)
            twice += identity in seen
            if identity not in seen:
                seen.add(identity)
                log = "" if outcome(record) == "ok" else _log_tail(directory, record.run_id)
                runs.append(Run(name, record, log))
    if twice:
        notes.append(f"{twice} of the runs stand in several of the folders and count once.")
    return Findings(tuple(names), tuple(runs), tuple(notes), tuple(evaluations))


def _short_names(directories: Sequence[Path]) -> list[str]:
    """What tells folders apart, without what they share: reports are meant to be committed."""
    paths = [Path(os.path.realpath(path)) for path in directories]
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath(paths)
    return [path.name if str(path) == common else path.relative_to(common).as_posix() for path in paths]


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
    """The rows of ``runs.csv``; of an older one's, whose columns are fewer, too."""
    histories = _histories(directory, notes)
    words = {name for name, info in FIELDS.items() if str in (info.annotation, *map(type, get_args(info.annotation)))}
    for row in table_rows(load_results(directory)):
        known = row | {name: "" for name in words if row[name] is None}
        yield RunRecord.from_row(known | {"history": histories.get(row["run_id"], ())})


def _histories(directory: Path, notes: list[str]) -> dict[str, tuple[EpochResult, ...]]:
    """Epochs by run_id, from the sweep's ``epochs.csv`` or, without one, from the runs' own."""
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
