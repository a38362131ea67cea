"""Where a user's own cell, ``module:Class``, is written: found without importing it, which would import MXNet."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from gluon_rnn.errors import UserError


def is_own(cell: str) -> bool:
    """Whether `cell`, a `RunConfig`'s, is a user's own."""
    return ":" in cell


def source_file(cell: str) -> Path:
    """The file that defines `cell`.

    Raises:
        UserError: there is none in this folder or on Python's path.
    """
    *_, spec = _specs(cell)
    if spec.origin is None:  # a folder without an __init__.py
        raise _missing(cell)
    return Path(spec.origin)


def source_files(cell: str) -> dict[str, bytes]:
    """The files of the module or the whole package that defines `cell`, by path relative to Python's.

    Raises:
        UserError: there is none in this folder or on Python's path.
    """
    spec, *_ = _specs(cell)
    if not spec.submodule_search_locations:
        path = Path(str(spec.origin))
        return {path.name: path.read_bytes()}
    return {
        str(path.relative_to(Path(folder).parent)): path.read_bytes()
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder).rglob("*.py"))
    }


def _specs(cell: str) -> list[ModuleSpec]:
    """Those of ``a``, ``a.b`` and ``a.b.c``, of a cell in ``a.b.c``."""
    parts = cell.partition(":")[0].split(".")
    found: list[ModuleSpec] = []
    path = [os.getcwd(), *sys.path]
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            raise _missing(cell)
        path = list(spec.submodule_search_locations or ())
        found.append(spec)
    return found


def _missing(cell: str) -> UserError:
    module = cell.partition(":")[0]
    return UserError(f"cell {cell}: there is no module {module} in this folder or on Python's path; set PYTHONPATH")
