"""The tables of a sweep's folder, ``runs.csv`` and ``epochs.csv``, and ``sweep.json``, the points that were planned.

The tables are views of the runs' records, rebuilt from them after every run and never edited.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from gluon_rnn.common.errors import UserError, did_you_mean, is_limit
from gluon_rnn.common.files import read_whole, set_aside, write_atomically
from gluon_rnn.common.plain_text import decode
from gluon_rnn.config.run import RunConfig, varying_fields
from gluon_rnn.runs.epochs import ATTRIBUTES, EPOCH_COLUMNS, csv_text, epoch_rows
from gluon_rnn.runs.evaluations import EVALUATION_FIELDS, EVALUATIONS
from gluon_rnn.runs.job import FAILED, FINISHED, RUN_ID
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.runs.records import COLUMNS, FIELDS, RunRecord

if TYPE_CHECKING:
    import pandas as pd


def read_points(directory: Path) -> list[dict[str, str]]:
    """The ``run_id`` and ``label`` of each point that was last planned in a sweep's `directory`.

    Raises:
        UserError: it is not a sweep's folder. OSError: this process cannot open more files.
    """
    try:
        content = json.loads(read_whole(directory / "sweep.json"))
        points = [{name: str(point[name]) for name in ("run_id", "label")} for point in content["points"]]
        if not all(RUN_ID.fullmatch(point["run_id"]) for point in points):
            raise ValueError("a run_id that no folder has")
        return points
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and is_limit(error):
            raise
        if isinstance(error, FileNotFoundError) and (directory / "runs.csv").exists():
            raise UserError(
                f"{directory} has results, but not the points that were planned (sweep.json is not committed); see "
                "runs.csv, or start the sweep again"
            ) from None
        raise UserError(f"{directory} is not a sweep's folder; name one such as results/quick") from None


def planned_points(directory: Path) -> int:
    """How many points a sweep's `directory` will have: those of `read_points`, or all that a search will propose.

    Raises:
        UserError: it is not a sweep's folder.
    """
    points = read_points(directory)
    search = json.loads(read_whole(directory / "sweep.json")).get("search")
    trials = search.get("trials") if isinstance(search, dict) else None
    return max(trials, len(points)) if isinstance(trials, int) else len(points)


def write_tables(sweep_directory: Path, records: Iterable[RunRecord]) -> None:
    """``runs.csv`` and ``epochs.csv`` of `records`, ordered by what varies in a sweep, then by run_id."""
    for name, text in _tables(records).items():
        write_atomically(sweep_directory / name, text)


def set_aside_damaged_tables(sweep_directory: Path, records: Sequence[RunRecord]) -> list[Path]:
    """Rename each table that disagrees with `records`, and return the new names.

    A table may be older than the records, because a sweep can be killed before it writes one, and it may hold the
    previous row of a run that will be re-run. One that an earlier version wrote, with fewer columns, will be rebuilt.
    """
    finished = {record.run_id for record in records if record.status in FINISHED}
    finished -= _unfinished(sweep_directory / "runs.csv")
    aside = []
    for name, text in _tables(records).items():
        path = sweep_directory / name
        lines = read_whole(path).removeprefix(codecs.BOM_UTF8).splitlines() if path.exists() else []
        known = set(text.encode().splitlines())
        if lines and _is_of_before(lines[0], text.encode().partition(b"\n")[0]):
            continue
        for line in lines:
            run_id = line.partition(b",")[0].decode(errors="replace")
            if line not in known and (run_id in finished or not (sweep_directory / "runs" / run_id).is_dir()):
                aside.append(set_aside(path))
                break
    return aside


def _unfinished(table: Path) -> set[str]:
    """The runs that had a result to be replaced when `table` was written, as failed and pruned ones have."""
    if not table.exists():
        return set()
    rows = csv.reader(read_whole(table).decode("utf-8-sig", errors="replace").splitlines())
    try:
        head = next(rows, [])
        run_id, status = head.index("run_id"), head.index("status")
        return {row[run_id] for row in rows if row[status] in (*FAILED, "pruned")}
    except (ValueError, IndexError, csv.Error):
        return set()


def _is_of_before(head: bytes, head_now: bytes) -> bool:
    """Whether a table's header comes from an earlier version: some of today's columns, in the same order."""
    now = iter(head_now.split(b","))
    return head != head_now and all(name in now for name in head.split(b","))


def _tables(records: Iterable[RunRecord]) -> dict[str, str]:
    """The text of both tables, by name."""
    order = ("dataset", "model", "cell", "hidden_size", "bptt", "learning_rate", "seed")
    records = sorted(records, key=lambda r: (*(getattr(r.config, name) for name in order), r.run_id))
    runs, epochs = zip(*map(_lines, records), strict=True) if records else ((), ())
    return {"runs.csv": csv_text([COLUMNS]) + "".join(runs), "epochs.csv": csv_text([EPOCH_COLUMNS]) + "".join(epochs)}


# Tables are written after every run, and only one record is new by then.
@lru_cache(maxsize=1 << 16)
def _lines(record: RunRecord) -> tuple[str, str]:
    """The record's line of ``runs.csv``, and its lines of ``epochs.csv``."""
    return csv_text([record.row.values()]), csv_text(epoch_rows(record.run_id, record.history))


def load_results(path: Path | str) -> pd.DataFrame:
    """A sweep's ``runs.csv`` with the right dtypes: nullable integers, floats, booleans and strings.

    Args:
        path: the sweep's folder, or the file.

    Raises:
        UserError: there is no such table, or it is not UTF-8 text.
    """
    return _with_words(_load(path, "runs.csv", _run_dtypes(), needed=("run_id", "status")))


def frame_of(records: Iterable[RunRecord]) -> pd.DataFrame:
    """What `load_results` would load of a table of `records`, in their order."""
    text = csv_text([COLUMNS]) + "".join(_lines(record)[0] for record in records)
    return _with_words(_parsed(text, _run_dtypes()))


def _run_dtypes() -> dict[str, str]:
    return {name: _dtype(FIELDS[name].annotation) for name in COLUMNS}


def _with_words(frame: pd.DataFrame) -> pd.DataFrame:
    # An empty string is a value here, not a missing one.
    words = {name: "" for name, info in FIELDS.items() if info.default == "" and name in frame}
    frame.fillna(words, inplace=True)
    return frame


def table_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `load_results`, an empty cell as None. Columns that an older table lacks have their defaults.

    Raises:
        UserError: an integer that every run has is missing.
    """
    for name in sorted({name for name, info in FIELDS.items() if info.annotation in (bool, int)} & {*frame}):
        missing = frame[name].isna()
        if missing.any():
            raise UserError(f"run {frame['run_id'][missing].iloc[0]} has no {name}: its table is damaged")
    defaults = {name: None if info.is_required() else info.default for name, info in FIELDS.items()}
    return [defaults | row for row in _cells(frame)]


def _cells(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `frame`, an empty cell as None."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def load_epochs(path: Path | str, *, settings: bool | Iterable[str] = False) -> pd.DataFrame:
    """A sweep's ``epochs.csv``, as `load_results`.

    Args:
        path: the sweep's folder, or the file.
        settings: columns of ``runs.csv``, which lies beside it, to add to each epoch of a run, behind its run_id; True:
            the settings that differ between the runs. What is a column of epochs, too, gets the suffix ``_run``, such
            as ``learning_rate_run``.

    Raises:
        UserError: as `load_results`; or there is no such column.
    """
    types = get_type_hints(EpochResult)
    dtypes = {"run_id": "string", **{column: _dtype(types[name]) for column, name in ATTRIBUTES.items()}}
    frame = _load(path, "epochs.csv", dtypes, needed=("run_id",))
    if settings is False:
        return frame
    runs = load_results(path if os.path.isdir(path) else Path(path).with_name("runs.csv"))
    if settings is True:
        points = [{name: row[name] for name in RunConfig.model_fields} for row in table_rows(runs)]
        settings = varying_fields(points) if points else ()
    names = list(settings)
    for name in names:
        if name not in runs:
            raise UserError(f"there is no column {name!r} in runs.csv{did_you_mean(name, map(str, runs.columns))}")
    renamed = {name: f"{name}_run" for name in names if name in frame}
    of_runs = runs[["run_id", *names]].rename(columns=renamed)
    return frame[["run_id"]].merge(of_runs, on="run_id", how="left").join(frame.drop(columns="run_id"))


def load_evaluations(path: Path | str) -> pd.DataFrame:
    """A sweep's ``evaluations.csv``, as `load_results`."""
    dtypes = {column: _dtype(info.annotation) for column, info in EVALUATION_FIELDS.items()}
    return _load(path, EVALUATIONS, dtypes, needed=("run_id", "split", "method"))


def evaluation_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `load_evaluations`, an empty cell as None, as is what an older table has no column for."""
    return [dict.fromkeys(EVALUATION_FIELDS) | row for row in _cells(frame)]


def histories_of(frame: pd.DataFrame) -> dict[str, tuple[EpochResult, ...]]:
    """The epochs of `load_epochs` by run_id, an empty cell as None.

    Raises:
        UserError: a column is missing that every version has written.
    """
    for field in fields(EpochResult):
        if field.default is MISSING and field.name not in frame:
            raise UserError(f"it has no column {field.name}")
    histories: dict[str, list[EpochResult]] = {}
    for row in _cells(frame):
        values = {name: row[column] for column, name in ATTRIBUTES.items() if column in row}
        histories.setdefault(str(row["run_id"]), []).append(EpochResult(**values))
    return {run_id: tuple(history) for run_id, history in histories.items()}


def _parsed(text: str, dtypes: dict[str, str]) -> pd.DataFrame:
    """The table in `text`."""
    import pandas as pd

    types: Any = dtypes  # pandas-stubs wants a mapping from Hashable, which one from str is not
    # pandas is otherwise content with a neighbour of the float that was written.
    frame: pd.DataFrame = pd.read_csv(
        io.StringIO(text, newline=""), dtype=types, keep_default_na=False, na_values=[""], float_precision="round_trip"
    )
    return frame


def _load(path: Path | str, name: str, dtypes: dict[str, str], *, needed: Sequence[str]) -> pd.DataFrame:
    file = Path(path) / name if os.path.isdir(path) else Path(path)
    try:
        frame = _parsed(decode(read_whole(file), f"cannot read {file}: it"), dtypes)
        for column in needed:
            if column not in frame:
                raise ValueError(f"it has no column {column}")
        return frame
    except (OSError, ValueError, TypeError, OverflowError) as error:  # the latter of pandas, where a number is none
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"cannot read {file}: {reason}; it must be a folder of results or its {name}") from None


def _dtype(annotation: Any) -> str:
    """The pandas dtype of a field: ``int | None`` is Int64, and so on."""
    kinds = {kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)}
    inner = {arg for kind in kinds for arg in ([kind] if isinstance(kind, type) else get_args(kind)[:1])}
    for kind, dtype in ((bool, "boolean"), (int, "Int64"), (float, "float64")):
        if kind in inner:
            return dtype
    return "string"
