"""Runs a planned sweep: starts workers, watches them and collects their records."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gluon_rnn.common.errors import UserError, fix, is_limit, reason, refusal
from gluon_rnn.common.files import remove_leftovers, set_aside, write_atomically
from gluon_rnn.common.printable import Notice, warn
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.runs.epochs import write_epochs
from gluon_rnn.runs.job import FAILED, FINISHED, Job
from gluon_rnn.runs.live import read_so_far
from gluon_rnn.runs.notes import write_notes
from gluon_rnn.runs.records import RunRecord, make_record, read_record, read_records, tidy, write_record
from gluon_rnn.runs.tables import set_aside_damaged_tables, write_tables
from gluon_rnn.sweeps.continuation import take_over_checkpoints
from gluon_rnn.sweeps.executors import Ended, Executor, LocalExecutor
from gluon_rnn.sweeps.executors.base import prune_nothing
from gluon_rnn.sweeps.locking import locked_sweep
from gluon_rnn.sweeps.own_cells import check_own_cells
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from gluon_rnn.sweeps.pruning import check_pruning, move_out, superseded
from gluon_rnn.sweeps.search import EARLIER, read_search

#: Enough for a traceback through the model's blocks.
_LOG_TAIL_LINES = 40


class Display:
    """Shows the progress of a sweep; this one shows nothing."""

    def started(self, plan: Plan) -> None:
        """The sweep begins."""

    def running(self, jobs: Sequence[Job]) -> None:
        """These jobs are running; called several times a second."""

    def ended(self, job: Job, record: RunRecord) -> None:
        """A job has ended."""

    def stopped(self) -> None:
        """The sweep is over, or was interrupted."""


def run_sweep(
    plan: Plan,
    *,
    executor: Executor | None = None,
    fail_fast: bool = False,
    prune: bool = False,
    display: Display | None = None,
    notice: Notice = print,
) -> list[RunRecord]:
    """Run the missing points of `plan`; the tables are up to date after every run.

    Args:
        executor: a `LocalExecutor` unless given.
        fail_fast: stop the sweep at the first run that fails.
        prune: first move the `superseded` runs from the tables to the folder `SUPERSEDED`.
        display: shows the progress.
        notice: called with one-line messages for the user.

    Returns:
        The records of the plan's points, in its order. Points that were not reached are missing or as before.

    Raises:
        UserError: another sweep is running in this folder, it cannot be written, a user's own cell cannot take a step,
            or the operating system refuses something that a sweep needs. The workers are stopped, and all finished runs
            are in the tables.
        KeyboardInterrupt: likewise.
    """
    if executor:
        slots, _ = executor.place(plan.samples, plan.slots)
        plan = replace(plan, slots=slots)
    executor = executor or LocalExecutor()
    check_own_cells(plan.likely)
    try:
        (plan.directory / "runs").mkdir(parents=True, exist_ok=True)
        with locked_sweep(plan.directory, notice):
            records = _run_missing(
                plan, executor, fail_fast=fail_fast, prune=prune, display=display or Display(), notice=notice
            )
    except OSError as error:
        raise UserError(_what_stopped(error, plan.directory)) from error
    wanted = plan.search.run_ids if plan.search else [job.run_id for job in plan.jobs]
    return [records[name] for name in wanted if name in records]


def _what_stopped(error: OSError, directory: Path) -> str:
    """A message on the error that stopped a sweep in `directory`."""
    if is_limit(error) or not isinstance(error.filename, str | bytes | os.PathLike):
        return refusal(error)
    folder, file = (Path(os.path.abspath(os.fsdecode(name))) for name in (directory, error.filename))
    # The folder that cannot be created may be a parent of it.
    if not (file.is_relative_to(folder) or folder.is_relative_to(file)):
        return refusal(error)
    what = fix(error, "fix that or give --results another folder")
    return f"cannot write to {directory}: {reason(error)} ({os.fsdecode(error.filename)}); {what}"


def _run_missing(
    plan: Plan, executor: Executor, *, fail_fast: bool, prune: bool, display: Display, notice: Notice
) -> dict[str, RunRecord]:
    """Run the missing points of `plan`, whose folder is locked; returns all records in it."""
    runs = plan.directory / "runs"
    if prune:
        check_pruning(plan)
    _write_points(plan)
    write_notes(plan.directory, plan.notes)
    records = _take_stock(plan, notice)
    if prune:
        move_out(plan, superseded(plan, records.values()), records, notice)
    if again := dict.fromkeys(sorted(plan.again & {*records}), "to be re-run"):
        move_out(plan, again, records, notice)
    # Another sweep may have finished some of them since this one was planned.
    finished = {name for name, record in records.items() if record.status in FINISHED}
    plan = replace(plan, missing=tuple(job for job in plan.missing if job.run_id not in finished))
    for job, shorter in take_over_checkpoints(plan.missing, records, runs):
        notice(f"{plan.label(job)} continues run {shorter.run_id} after epoch {shorter.epochs_run}")
    write_tables(plan.directory, records.values())
    display.started(plan)
    jobs, gives_up = _jobs_and_pruning(plan, records)
    events = executor.run(jobs, runs, slots=plan.slots, watch=display.running, prune=gives_up)
    try:
        for ended in events:
            record = _collect(ended, runs / ended.job.run_id)
            records[record.run_id] = record
            if plan.search:
                plan.search.tell(record)
            write_tables(plan.directory, records.values())
            display.ended(ended.job, record)
            if fail_fast and record.status in FAILED:
                break
    finally:
        # A generator's clean-up stops the workers.
        events.close()  # type: ignore[attr-defined]
        display.stopped()
    return records


def _write_points(plan: Plan) -> None:
    """``sweep.json``: the points of a plan, or those that its search has proposed so far.

    What an earlier search in the folder has proposed stays there, beside the points of a plan that is none.
    """
    content: dict[str, Any] = {"name": plan.name}
    if plan.search:
        settings = {**plan.search.settings.written, "trials": plan.total}
        content |= {"search": settings, "points": plan.search.points}
    else:
        content["points"] = [{"run_id": job.run_id, "label": plan.label(job)} for job in plan.jobs]
        if earlier := read_search(plan.directory):
            content[EARLIER] = earlier
    write_atomically(plan.directory / "sweep.json", json.dumps(content, indent=1) + "\n")


def _jobs_and_pruning(
    plan: Plan, records: dict[str, RunRecord]
) -> tuple[Iterable[Job], Callable[[Sequence[Job]], Mapping[str, str]]]:
    """The jobs and the pruner; a search first learns from the `records` of its earlier proposals."""
    search = plan.search
    if search is None:
        return plan.missing, prune_nothing
    waiting = {job.run_id for job in plan.missing}
    for job in plan.jobs:
        if job.run_id in records and job.run_id not in waiting:
            search.tell(records[job.run_id])
    proposed = search.jobs(records, lambda: _write_points(plan))
    runs = plan.directory / "runs"
    return itertools.chain(plan.missing, proposed), lambda jobs: search.prunable(jobs, runs)


def _take_stock(plan: Plan, notice: Notice) -> dict[str, RunRecord]:
    """The existing records, by run_id, after cleaning up what earlier sweeps left unfinished or damaged."""
    records, damaged = read_records(plan.directory)
    wanted = {job.run_id for job in plan.missing}
    for path in damaged:
        # Any other point does not belong to this sweep.
        if path.parent.name in wanted:
            notice(f"{path} is kept as {set_aside(path).name}, and its point is re-run")
    for path in set_aside_damaged_tables(plan.directory, records):
        notice(f"{path.with_suffix('')} did not agree with the runs' records; it is kept as {path.name} and rebuilt")
    known = {record.run_id: record for record in records}
    remove_leftovers(plan.directory)
    for directory in (plan.directory / "runs").iterdir():
        if directory.is_dir():
            tidy(directory, known.get(directory.name))
    return known


def train(
    config: RunConfig,
    *,
    data_dir: Path | str | None = None,
    directory: Path | str | None = None,
    display: Display | None = None,
) -> RunRecord:
    """`gluon_rnn.reporting.watched.train`, which chooses a `display`."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="gluon-rnn-") as temporary:
            return train(config, data_dir=data_dir, directory=temporary, display=display)
    settings = config.model_dump(exclude_unset=True)
    plan = plan_sweep(
        Sweep("train", settings=settings), results=directory, data_dir=data_dir, rerun_failed=True, notice=warn
    )
    (record,) = run_sweep(plan, display=display, notice=warn)
    if record.status not in FINISHED:
        log = (plan.directory / "runs" / record.run_id / "log.txt").read_text(errors="replace").splitlines()
        raise RuntimeError("\n".join([f"{record.status}: {record.reason}", *log[-_LOG_TAIL_LINES:]]))
    return record


def _collect(ended: Ended, directory: Path) -> RunRecord:
    """The worker's record or, if there is none, one made from the files it left."""
    if ended.status is None:
        try:
            if record := read_record(directory):
                return record
            reason = "its record has vanished"
        except ValueError as error:
            reason = str(error)
        ended = replace(ended, status="failed", reason=reason)
    assert ended.status is not None
    progress = read_so_far(directory)
    started = datetime.fromtimestamp(datetime.now(timezone.utc).timestamp() - ended.seconds, timezone.utc)
    record = make_record(
        ended.job,
        progress,
        status=ended.status,
        reason=ended.reason,
        started_at=started.isoformat(timespec="seconds"),
        wall_seconds=ended.seconds,
    )
    write_epochs(directory, record.run_id, progress.history)
    write_record(directory, record)
    tidy(directory, record)
    return record
