"""The progress of sweeps: one of them point by point, or all below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich import box
from rich.table import Table

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import counted, printable
from gluon_rnn.config.run import varying_fields
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.reporting.terminal.console import Fitting
from gluon_rnn.reporting.terminal.results import PLACE, best_of, summary
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.job import FAILED, Status
from gluon_rnn.runs.live import read_progress
from gluon_rnn.runs.metrics import outcome, rank
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.runs.tables import planned_points, read_points
from gluon_rnn.sweeps.locking import is_locked

_TABLES = ("sweep.json", "runs.csv")


@dataclass(frozen=True)
class Standing:
    """The progress of a sweep.

    Attributes:
        directory: of the sweep.
        points: that were planned, or that a search has proposed so far, with their ``run_id`` and ``label``; of
            committed results, which have no plan, those that were run.
        total: how many there will be.
        records: of the points that have ended.
        varying: the fields in which they differ.
        active: whether a sweep is running there; None: that cannot be told.
        planned: whether the points are those of a plan.
        damaged: a line for each record that cannot be read.
    """

    directory: Path
    points: Sequence[dict[str, str]]
    total: int
    records: Sequence[RunRecord]
    varying: Sequence[str]
    active: bool | None
    planned: bool
    damaged: Sequence[str] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many points ended in each way."""
        ways = {status: sum(record.status == status for record in self.records) for status in get_args(Status)}
        return {status: count for status, count in ways.items() if count}

    @property
    def state(self) -> str:
        """The state: ``running``, ``done``, ``stopped``, or ``results`` where there is no plan."""
        if self.active:
            return "running"
        if not self.planned:
            return "results"
        return "done" if len(self.records) >= self.total else "stopped"


def read_standing(directory: Path) -> Standing:
    """Read the progress of the sweep in `directory`.

    Raises:
        UserError: it is not a sweep's folder.
    """
    records, damaged = read_records(directory)
    planned = os.path.lexists(directory / "sweep.json")
    if planned or not (directory / "runs.csv").exists():
        points, total = read_points(directory), planned_points(directory)
        known = {point["run_id"] for point in points}
        records = [record for record in records if record.run_id in known]
    else:
        records = [run.record for run in read_folders([directory]).runs]
        records.sort(key=lambda record: rank({outcome(record)}, record.valid_loss, record.tokens_per_second))
        points, total = _points(records), len(records)
    named = {part.partition("=")[0] for point in points for part in point["label"].split()}
    varying = (*(_varying(records) if records else ()), *(name for name in PLACE if name in named))
    lines = list(damaged.values())
    return Standing(directory, points, total, records, varying, is_locked(directory), planned, lines)


def _varying(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The settings in which points differ, without those that depend on the machine."""
    chosen = {*PLACE, "log_interval"}
    return varying_fields([record.config.model_dump(exclude=chosen) for record in records])


def _points(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """The points of results that have no plan."""
    names, varying = Names(record.row for record in records), _varying(records)
    return [{"run_id": record.run_id, "label": names.label(record.row, varying)} for record in records]


def status_lines(standing: Standing, targets: Sequence[float] = ()) -> list[str]:
    """The lines of ``status`` on a sweep, with the times to those of the perplexities `targets` that were reached."""
    ends = ", ".join(f"{count:,} {status}" for status, count in standing.counts.items()) or "none ended"
    if standing.planned:
        first = (
            f"{len(standing.records):,} of {counted(standing.total, 'point')} ended ({ends}); "
            + {
                True: "a sweep is running",
                False: "no sweep is running",
                None: "whether a sweep is running is not known",
            }[standing.active]
        )
    else:
        first = f"{counted(standing.total, 'run')} ({ends}); the plan is not committed with results"
    lines = [f"{standing.directory}: {first}"]
    known = {record.run_id: record for record in standing.records}
    for point in standing.points:
        if record := known.get(point["run_id"]):
            lines.append(f"  {point['label']}: {summary(record, targets)}")
            continue
        state = read_progress(standing.directory / "runs" / point["run_id"])
        # Without a sweep nothing runs, whatever a killed worker's last words were.
        now = "waiting" if not state else "interrupted" if standing.active is False else state.in_words
        lines.append(f"  {point['label']}: {now}")
    best = [f"best so far: {best}" for best in best_of(standing.records, standing.varying)]
    return [*lines, *best, *standing.damaged]


def find_sweeps(directory: Path) -> list[Path]:
    """The sweeps' folders in `directory` and below it, sorted by name.

    Raises:
        UserError: there are none.
    """
    found = []
    for name, folders, files in os.walk(directory):
        if any(table in files for table in _TABLES):
            found.append(Path(name))
            folders.clear()  # a sweep holds no other, and may hold thousands of runs
    if not found:
        raise UserError(f"{directory} has no sweeps; run one with gluon-rnn sweep, or name another folder")
    return sorted(found)


def is_sweep(directory: Path) -> bool:
    """Whether `directory` is a sweep's own folder."""
    return any((directory / table).exists() for table in _TABLES)


def sweeps_table(directory: Path, standings: Sequence[Standing]) -> Fitting:
    """A table of the sweeps below `directory`, one per row."""
    rows = []
    for standing in standings:
        best = best_of(standing.records, standing.varying)
        failed = sum(record.status in FAILED for record in standing.records)
        points = f"{len(standing.records):,}/{standing.total:,}" if standing.planned else f"{standing.total:,}"
        rows.append(
            {
                "sweep": printable(os.path.relpath(standing.directory, directory)),
                "state": f"{standing.state}, {failed:,} failed" if failed else standing.state,
                "points": points,
                "best": "\n".join(found.figure for found in best),
                "measure": "\n".join(found.measure.title for found in best),
                "settings": "\n".join(found.label for found in best),
            }
        )
    return Fitting(_sweeps_tables(rows))


def _sweeps_tables(rows: Sequence[dict[str, str]]) -> Iterator[Table]:
    columns = ("sweep", "state", "points", "best", "measure", "settings")
    # The settings of the best point fold to what is left of the line, or go where that is little.
    for width in (80, 60, 40, 0):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        shown = columns if width else columns[:-1]
        for name in shown:
            number = name in ("points", "best")
            table.add_column(
                name,
                justify="right" if number else "left",
                no_wrap=number or name == "state",
                overflow="fold",
                max_width=width if name == "settings" else None,
            )
        for row in rows:
            table.add_row(*(row[name] for name in shown))
        yield table
