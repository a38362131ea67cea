"""What decides the name of a run: its configuration and the contents that this points at, a user's own cell among them.

A cell, ``module:Class``, is identified by the sources it is made of. They are found and read without importing any,
which would import MXNet.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from gluon_rnn.common.errors import UserError
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

    Fields at their defaults (a learning rate at 20) are left out, so that a knob added later changes no name. Paths,
    devices' numbers and the log interval are left out because they decide nothing; `threads` counts where it was set.
    """
    fields = type(config).model_fields
    decisive = {
        name: value
        for name, value in config.model_dump().items()
        if name not in _NOT_IDENTITY and value != _IDENTITY_DEFAULTS.get(name, fields[name].default)
    }
    text = json.dumps({**decisive, "device": unnumbered(config.device), "content": dict(content)}, sort_keys=True)
    return hashlib.sha1(text.encode()).hexdigest()[:12]


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
    """The sources that make up `cell`, by path relative to Python's, sorted: what identifies it, and what is shipped.

    These are the module or the whole package that defines it and, in turn, each module or package that one of them
    imports and that lies in the same folder. This package and Python's own modules are not among them, and in a folder
    of installed packages nothing beside the cell's own is. Not seen are imports by a computed name, modules in other
    folders of Python's path, compiled extensions of a package, and data files.

    Raises:
        UserError: there is no such module in this folder or on Python's path, or a file cannot be read.
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
                raise UserError(f"cell {cell}: cannot read {path}: {error.strerror}; mend that first") from None
            for module in _imported(found[name]) - seen:
                seen.add(module)
                # As Python looks: a folder without an __init__.py gives way to a package of its name anywhere.
                beside = PathFinder.find_spec(module, python_path())
                if beside and set(_folders(beside)) & set(folders):
                    waiting.append(beside)
    return dict(sorted(found.items()))


def source_sha1(cell: str) -> str:
    """The SHA-1 of all of a cell's `source_files`; of a lone one, whatever its name, that of its bytes.

    Raises:
        UserError: see `source_files`.
    """
    files = source_files(cell)
    if len(files) == 1:
        return _sha1(*files.values())
    return _sha1("".join(f"{_sha1(content)}  {name}\n" for name, content in files.items()).encode())


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _specs(cell: str) -> list[ModuleSpec]:
    """Those of ``a``, ``a.b`` and ``a.b.c``, of a cell in ``a.b.c``."""
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
    """The folders in which a module or package lies; one without an __init__.py may lie in several."""
    places = list(spec.submodule_search_locations or [str(spec.origin)])
    return [str(Path(place).parent) for place in places]


def _is_of_installed(spec: ModuleSpec) -> bool:
    """Whether it lies among packages that pip has installed: of those a node has its own, and their libraries."""
    return any(any(Path(folder).glob("*.dist-info")) for folder in _folders(spec))


def _files(spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    """The file of a module, or each in its package that could be imported: no editor's copy, no link to nowhere."""
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
    """The first names of the modules that `source` imports, those of others; none where it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):  # the run will say so
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names} - {_THIS_PACKAGE, *sys.stdlib_module_names}
