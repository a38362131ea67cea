"""The inputs of a run's name: its configuration, and the content of the files it refers to.

A user's own cell, ``module:Class``, is identified by its sources. They are found and read without importing them, since
that would import MXNet.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.common.processes import python_path
from gluon_rnn.config.run import RunConfig, unnumbered

_THIS_PACKAGE = __name__.partition(".")[0]
#: Fields that change what is printed or where a run happens, never what it computes.
_NOT_IDENTITY = frozenset({"dataset", "device", "embedding", "log_interval"})
#: The default rate of every cell and optimizer before `default_learning_rate`: what records without one had.
FORMER_LEARNING_RATE = 20.0
#: Defaults that have changed since the first runs were named. `run_id` still leaves these values out, so that a run
#: keeps its name.
_IDENTITY_DEFAULTS = {"learning_rate": FORMER_LEARNING_RATE}


def run_id(config: RunConfig, *, content: Mapping[str, str]) -> str:
    """Name a run by what decides its result: 12 hexadecimal digits.

    Args:
        config: the configuration, its `device` no longer ``auto``.
        content: SHA-1s of what the configuration only points at: ``corpus``, and ``cell`` for a user's own class.

    Fields at their defaults (for the learning rate: 20) are left out, so that adding a setting changes no name. Paths,
    device numbers and the log interval are left out because they do not affect the result; `threads` counts if it was
    set.
    """
    fields = type(config).model_fields
    decisive = {
        name: value
        for name, value in config.model_dump().items()
        if name not in _NOT_IDENTITY and value != _IDENTITY_DEFAULTS.get(name, fields[name].default)
    }
    text = json.dumps({**decisive, "device": unnumbered(config.device), "content": dict(content)}, sort_keys=True)
    return sha1_of(text.encode())[:12]


def is_own(cell: str) -> bool:
    """Whether a `RunConfig`'s `cell` is the user's own class."""
    return ":" in cell


def source_file(cell: str) -> Path:
    """The file that defines `cell`.

    Raises:
        UserError: it is neither in the current folder nor on Python's path.
    """
    *_, spec = _specs(cell)
    if spec.origin is None:  # a folder without an __init__.py
        raise _missing(cell)
    return Path(spec.origin)


def source_files(cell: str) -> dict[str, bytes]:
    """The sources of `cell`, sorted by path relative to Python's path: they identify it, and clusters are sent them.

    These are the module or package that defines it and, recursively, the modules and packages in the same folder that
    those import. This package and the standard library are left out, and so is everything but the cell's own module or
    package in a folder of installed packages. Not found: imports by a computed name, modules in other folders of
    Python's path, a package's compiled extensions, and data files.

    Raises:
        UserError: the module is neither in the current folder nor on Python's path, or a file cannot be read.
    """
    source_file(cell)
    first, *_ = _specs(cell)
    folders = [] if _is_of_installed(first) else _folders(first)
    found: dict[str, bytes] = {}
    seen, waiting = {first.name}, [first]
    while waiting:
        for name, path in _files(waiting.pop()):
            try:
                found[name] = path.read_bytes()
            except OSError as error:
                raise UserError(f"cell {cell}: cannot read {path}: {error.strerror}; fix that first") from None
            for module in _imported(found[name]) - seen:
                seen.add(module)
                # As Python looks: a folder without an __init__.py gives way to a package of its name anywhere.
                beside = PathFinder.find_spec(module, python_path())
                if beside and set(_folders(beside)) & set(folders):
                    waiting.append(beside)
    return dict(sorted(found.items()))


def source_sha1(cell: str) -> str:
    """The SHA-1 of a cell's `source_files`; if there is only one, that of its bytes, whatever its name.

    Raises:
        UserError: see `source_files`.
    """
    files = source_files(cell)
    if len(files) == 1:
        return sha1_of(*files.values())
    return sha1_of("".join(f"{sha1_of(content)}  {name}\n" for name, content in files.items()).encode())


def _specs(cell: str) -> list[ModuleSpec]:
    """The specs of ``a``, ``a.b`` and ``a.b.c``, for a cell in ``a.b.c``."""
    parts = cell.partition(":")[0].split(".")
    if parts[0] in sys.stdlib_module_names:
        raise UserError(f"cell {cell}: Python's own module {parts[0]} comes before yours; rename yours")
    found: list[ModuleSpec] = []
    path = python_path()
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            raise _missing(cell)
        path = list(spec.submodule_search_locations or ())
        found.append(spec)
    return found


def _missing(cell: str) -> UserError:
    module = cell.partition(":")[0]
    return UserError(f"cell {cell}: no module {module} in this folder or on Python's path; set PYTHONPATH")


def _folders(spec: ModuleSpec) -> list[str]:
    """The folders of a module or package; a package without __init__.py may have several."""
    places = list(spec.submodule_search_locations or [str(spec.origin)])
    return [str(Path(place).parent) for place in places]


def _is_of_installed(spec: ModuleSpec) -> bool:
    """Whether it was installed by pip: then each node of a cluster has its own copy, with what that needs."""
    return any(any(Path(folder).glob("*.dist-info")) for folder in _folders(spec))


def _files(spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    """The file of a module, or every importable file of a package (no backup copies, no dangling links)."""
    if not spec.submodule_search_locations:
        path = Path(str(spec.origin))
        yield path.name, path
        return
    for folder in spec.submodule_search_locations:
        for path in Path(folder).rglob("*.py"):
            name = path.relative_to(Path(folder).parent)
            if path.is_file() and all(part.isidentifier() for part in name.with_suffix("").parts):
                yield str(name), path


def _imported(source: bytes) -> set[str]:
    """The top-level names of the third-party modules that `source` imports; empty if it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):  # the run will say so
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names} - {_THIS_PACKAGE, *sys.stdlib_module_names}
