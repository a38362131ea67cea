"""Runs in a sweep's folder that are not, or no longer, results: listing, deleting and archiving them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import move_beside
from gluon_rnn.common.printable import Notice, printable
from gluon_rnn.config.run import varying_fields
from gluon_rnn.runs.contents import DIGESTS, Names
from gluon_rnn.runs.job import FAILED, RUN_ID
from gluon_rnn.runs.live import read_progress
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.runs.tables import read_points, write_tables
from gluon_rnn.sweeps.locking import is_locked, locked_sweep
from gluon_rnn.sweeps.planning import Plan


def list_stale(directory: Path) -> dict[str, str]:
    """The runs in a sweep's `directory` that are not results, or no longer, each with the reason.

    They are runs that failed, timed out or ran out of memory; folders without a record or with a damaged one; and
    finished runs with a version of a user's cell, of word vectors or of a corpus that has since been replaced, that is,
    another version with the same configuration is among the points planned last.

    Raises:
        UserError: it is not a sweep's folder, or a sweep is at work there.
    """
    if not (directory / "runs").is_dir():
        raise UserError(f"{directory} is not a sweep's folder; name one such as results/quick")
    if is_locked(directory):
        raise UserError(f"a sweep is running in {directory}; wait until it has ended")
    return _stale(directory)


def _stale(directory: Path) -> dict[str, str]:
    runs = directory / "runs"
    records, damaged = read_records(directory)
    known = {record.run_id: record for record in records}
    reasons = _superseded(known, _planned(directory))
    reasons |= {name: _described(record, known) for name, record in known.items() if record.status in FAILED}
    for path in sorted(path for path in runs.iterdir() if path.is_dir() and RUN_ID.fullmatch(path.name)):
        if runs / path.name / "record.json" in damaged:
            reasons[path.name] = "its record is damaged"
        elif path.name not in known:
            live = read_progress(path)
            reasons[path.name] = f"no record; it was at: {live.doing}" if live else "no record"
    return {name: printable(reason) for name, reason in reasons.items()}


def remove_runs(directory: Path, stale: Mapping[str, str], notice: Notice) -> int:
    """Delete runs from a sweep's `directory`, after removing them from its tables; returns how many.

    Args:
        stale: the runs, from `list_stale`; those that are no longer stale for the same reason are kept.
        notice: called with one-line messages, as about these.

    Raises:
        UserError: a sweep is at work there.
        OSError: one cannot be deleted.
    """
    with locked_sweep(directory, notice):
        now = _stale(directory)
        names = {name for name, why in stale.items() if now.get(name) == why}
        for name in sorted({*stale} - names):
            notice(f"kept {name}: it has changed since it was listed")
        records, _ = read_records(directory)
        write_tables(directory, [record for record in records if record.run_id not in names])
        for name in sorted(names):
            shutil.rmtree(directory / "runs" / name)
        return len(names)


def _planned(directory: Path) -> set[str]:
    """The run_ids planned last; empty if unknown, as in a clone."""
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
    """The settings of a run; the contents behind names are in the columns of `DIGESTS`."""
    return tuple(str(value) for name, value in record.config if name not in ("device", "threads"))


def _described(record: RunRecord, known: Mapping[str, RunRecord]) -> str:
    """A run's label, and how it ended."""
    names = Names(each.row for each in known.values())
    varying = varying_fields([dict(each.config) for each in known.values()])
    of_versions = [name for name in DIGESTS if names.suffix(record.row, name)]
    shown = dict.fromkeys([*varying, *of_versions])
    return f"{names.label(record.row, shown)}: {record.status}"


#: Where the runs go that a sweep no longer contains, beside ``runs``.
SUPERSEDED = "runs.superseded"


def check_pruning(plan: Plan) -> None:
    """Refuse to move out the runs that are not of `plan` if it is a search whose earlier points are not known.

    Raises:
        UserError: that is so, and there are runs.
    """
    if plan.search and not plan.jobs and any((plan.directory / "runs").glob("*/record.json")):
        raise UserError(
            f"--prune would move every run out of {plan.directory}, because nothing there says which of them the "
            "search proposed; leave it out"
        )


def superseded(plan: Plan, records: Iterable[RunRecord]) -> dict[str, str]:
    """The runs in the plan's folder that are not points of it, such as those with an older version of a cell.

    Args:
        records: of the folder.

    Returns:
        By run_id, what distinguishes each from the plan's points, and how it ended.
    """
    known = {record.run_id: record for record in records}
    names = Names([*(job.contents for job in plan.jobs), *(record.row for record in known.values())])

    def described(record: RunRecord | None) -> str:
        if record is None:
            return "without a record"
        return printable(f"{names.label(record.row, plan.varying)}: {record.status}")

    directories = [path.name for path in (plan.directory / "runs").glob("*") if path.is_dir()]
    return {name: described(known.get(name)) for name in sorted({*directories} - {job.run_id for job in plan.jobs})}


def move_out(plan: Plan, moving: Mapping[str, str], records: dict[str, RunRecord], notice: Notice) -> None:
    """Move runs from `records` and the tables to the folder `SUPERSEDED`; nothing is deleted.

    Args:
        moving: the reason, by run_id.
    """
    for name in moving:
        records.pop(name, None)
    # The tables come first: missing rows are restored from the records, but rows without a record would look like
    # damage.
    write_tables(plan.directory, records.values())
    runs, archive = plan.directory / "runs", plan.directory / SUPERSEDED
    for name, label in moving.items():
        archive.mkdir(exist_ok=True)
        to = move_beside(runs / name, archive / name)
        notice(f"moved run {name} ({label}) to {to}")
    if moving:
        notice(f"to restore them, move them back to {runs} and run the sweep without --prune or --rerun")
