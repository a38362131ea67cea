"""``notes.yaml``: notes for the readers of a folder of results.

A sweep whose file has ``notes`` or ``speeds_count`` writes it. It may also be written by hand, as when a machine turns
out to have had other work to do. It is a sweep file with nothing else in it, and is committed with the tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from gluon_rnn.common.files import expand, write_atomically
from gluon_rnn.config.sweep_file import load_sweep

if TYPE_CHECKING:
    import pandas as pd

NOTES = "notes.yaml"


class Notes(NamedTuple):
    """The content of a folder's ``notes.yaml``.

    Attributes:
        text: for readers; empty where there is none.
        speeds_count: whether the speeds of its runs may be compared.
    """

    text: str = ""
    speeds_count: bool = True


def read_notes(directory: Path) -> Notes:
    """The notes of a folder of results; the defaults where it has none.

    Raises:
        UserError: the file cannot be read or is not such a file.
    """
    path = directory / NOTES
    if not path.exists():
        return Notes()
    sweep = load_sweep(path)
    return Notes(sweep.notes, sweep.speeds_count)


def speeds_count(table: Path | str | pd.DataFrame) -> bool:
    """Whether the speeds of a table of results may be compared, which the ``notes.yaml`` of its folder can deny.

    Args:
        table: a sweep's folder, its ``runs.csv``, or a frame, which has no notes.

    Raises:
        UserError: see `read_notes`.
    """
    if not isinstance(table, Path | str):
        return True
    folder = expand(table)
    return read_notes(folder if folder.is_dir() else folder.parent).speeds_count


def write_notes(directory: Path, notes: Notes) -> None:
    """Write `notes` to a folder of results. Empty notes are not written, so that existing ones stay."""
    if notes != Notes():
        content = {"notes": notes.text, "speeds_count": notes.speeds_count}
        write_atomically(directory / NOTES, yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=100))
