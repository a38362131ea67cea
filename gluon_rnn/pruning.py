"""What a sweep's folder holds beside its results, and how it is removed: `list_stale` and `remove_runs`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from gluon_rnn.config import RunConfig, varying_fields
from gluon_rnn.contents import DIGESTS, Names
from gluon_rnn.errors import UserError
from gluon_rnn.locking import Notice, is_locked, locked_sweep
from gluon_rnn.printable import printable
from gluon_rnn.records import FINISHED, RUN_ID, RunRecord, read_progress, read_records, write_tables
from gluon_rnn.sweep import read_points


def list_stale(directory: Path) -> dict[str, str]:
    """The runs of a sweep's `directory` that are none of its results, or no longer, each with the reason.

    They are runs that failed, ran out of memory or time; folders without a record, or with a damaged one; and finished
    runs of a version of a user's cell, of word vectors or of a corpus that the sweep has since replaced: of the same
    configuration another version is among the points that were planned last.

    Raises:
        UserError: it is not a sweep's folder, or a sweep is at work there.
    """
    runs = directory / "runs"
    if not runs.is_dir():
        raise UserError(f"{directory} is not a sweep's folder; name one such as results/quick")
    if is_locked(directory):
        raise UserError(f"a sweep is at work in {directory}; wait for its end")
    records, damaged = read_records(directory)
    known = {record.run_id: record for record in records}
    reasons = _superseded(known, _planned(directory))
    reasons |= {name: _described(record, known) for name, record in known.items() if record.status not in FINISHED}
    for path in sorted(path for path in runs.iterdir() if path.is_dir() and RUN_ID.fullmatch(path.name)):
        if runs / path.name / "record.json" in damaged:
            reasons[path.name] = "its record is damaged"
        elif path.name not in known:
            live = read_progress(path)
            reasons[path.name] = f"no record; it was at: {live.doing}" if live else "no record"
    return {name: printable(reason) for name, reason in reasons.items()}


def remove_runs(directory: Path, names: Iterable[str], notice: Notice) -> None:
    """Delete runs of a sweep's `directory`, and take them out of its tables first.

    Raises:
        UserError: a sweep is at work there.
        OSError: one cannot be deleted.
    """
    with locked_sweep(directory, notice):
        names = list(names)
        records, _ = read_records(directory)
        write_tables(directory, [record for record in records if record.run_id not in names])
        for name in names:
            shutil.rmtree(directory / "runs" / name)


def _planned(directory: Path) -> set[str]:
    """The run_ids that were planned last; none where that is not known, as in a clone."""
    try:
        return {point["run_id"] for point in read_points(directory)}
    except UserError:
        return set()


def _superseded(known: Mapping[str, RunRecord], planned: set[str]) -> dict[str, str]:
    current = {_configuration(record) for name, record in known.items() if name in planned}
    return {
        name: f"{_described(record, known)}; the sweep now has another version"
        for name, record in known.items()
        if name not in planned and _configuration(record) in current
    }


def _configuration(record: RunRecord) -> tuple[object, ...]:
    """The settings of a run, without what their names stand for: that is in the columns of `DIGESTS`."""
    return tuple(str(getattr(record, name)) for name in RunConfig.model_fields if name not in ("device", "threads"))


def _described(record: RunRecord, known: Mapping[str, RunRecord]) -> str:
    """What tells a run from the others, and how it ended."""
    names = Names(map(vars, known.values()))
    varying = varying_fields(
        [{name: getattr(each, name) for name in RunConfig.model_fields} for each in known.values()]
    )
    of_versions = [name for name in DIGESTS if names.suffix(vars(record), name)]
    shown = dict.fromkeys([*varying, *of_versions])
    return f"{names.label(vars(record), shown)}: {record.status}"
