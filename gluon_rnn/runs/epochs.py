"""A run's own ``epochs.csv``: a line an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from gluon_rnn.common.files import read_whole, write_atomically
from gluon_rnn.runs.progress import EpochResult

_HINTS = get_type_hints(EpochResult, include_extras=True)
#: The field of an `EpochResult` behind each column of ``epochs.csv`` but the first, in order.
ATTRIBUTES = {hint.__metadata__[0].alias or name: name for name, hint in _HINTS.items()}
#: The columns of ``epochs.csv``, in order.
EPOCH_COLUMNS = ("run_id", *ATTRIBUTES)
_EPOCHS = TypeAdapter(list[EpochResult])


def describe_epoch(column: str) -> str:
    """The meaning of a column of ``epochs.csv``, with its unit."""
    if column == "run_id":
        return "the run, as in runs.csv"
    description: str = _HINTS[ATTRIBUTES[column]].__metadata__[0].description
    return description


def write_epochs(directory: Path, run_id: str, history: Iterable[EpochResult]) -> None:
    """Write a run's own ``epochs.csv``."""
    write_atomically(directory / "epochs.csv", csv_text([EPOCH_COLUMNS, *epoch_rows(run_id, history)]))


def read_epochs(directory: Path) -> list[EpochResult]:
    """The epochs of a run's own ``epochs.csv``, bit-identical; empty if there is none.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        file = io.StringIO(read_whole(directory / "epochs.csv").decode(), newline="")
        rows = [{name: text or None for name, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise ValueError(f"{directory / 'epochs.csv'} is damaged: {error}") from None
    return _EPOCHS.validate_python(rows)


def epoch_rows(run_id: str, history: Iterable[EpochResult]) -> Iterator[list[Any]]:
    """The cells of each epoch's row, as `EPOCH_COLUMNS` has them."""
    return ([run_id, *(getattr(epoch, name) for name in ATTRIBUTES.values())] for epoch in history)


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """CSV whose floats read back to the same bits; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
