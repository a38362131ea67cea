"""Sweep files by their names: ``quick`` for ``benchmarks/quick.yaml``."""

from __future__ import annotations

import os
from pathlib import Path

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.sweep_file import SHIPPED, shipped_sweep

_QUICK = "quick"
_ENDINGS = (".yaml", ".yml")


def find_sweep(given: Path | None) -> Path:
    """The sweep file for a command-line argument: a path, or a name in the current folder or among the suite's own.

    Args:
        given: ``mine.yaml``, ``mine``, ``quick`` or ``cpu/learning-rate``; None: ``quick``.

    Raises:
        UserError: there is no such file.
    """
    if given is None:
        return shipped_sweep(_QUICK)
    for path in (given, *(Path(f"{given}{ending}") for ending in _ENDINGS), *_own(given)):
        if os.path.isfile(path):
            return path
    if given.suffix in _ENDINGS or os.path.exists(given):
        return given  # reading it says what is wrong
    hint = did_you_mean(str(given), sweep_names()) or "; name one such as benchmarks/quick.yaml"
    raise UserError(f"there is no sweep file {quoted(str(given))}{hint}")


def is_sweep(name: Path) -> bool:
    """Whether `name` is a sweep file in the current folder or among the suite's own."""
    return name.suffix in _ENDINGS or name.as_posix() in sweep_names()


def sweep_names() -> list[str]:
    """The sweep files in the current folder, and the names of the suite's own."""
    here = [path.name for ending in _ENDINGS for path in sorted(Path().glob(f"*{ending}"))]
    for folder in SHIPPED:
        if own := sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")):
            return [*here, *own]
    return here


def _own(name: Path) -> list[Path]:
    """The suite's sweep files that `name` may refer to, with or without folder and ending."""
    if name.is_absolute() or ".." in name.parts:
        return []
    bare = name.with_suffix("") if name.suffix in _ENDINGS else name
    paths = [place / f"{bare}.yaml" for folder in SHIPPED for place in (folder, folder.parent)]
    return [path for path in paths if os.path.isfile(path)]
