"""Starts a command of ``gluon_rnn`` from a checkout, with whichever Python the script was started by."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

#: Holds the interpreter that was tried already, so that a broken environment ends in a message and not in a loop.
_TRIED = "GLUON_RNN_LAUNCHED_BY"
_SCRIPTS = Path(__file__).resolve().parent
_CHECKOUT = _SCRIPTS.parent


def launch(command: str) -> NoReturn:
    """Run ``gluon-rnn COMMAND`` with this script's arguments and exit with its status.

    Where this interpreter lacks `gluon_rnn` or something it needs, the checkout's ``.venv`` takes over; without one the
    exit status is 2.
    """
    # A user's own cell is not looked for among the scripts, and a module in the current folder replaces no other.
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != str(_SCRIPTS)]
    sys.path.sort(key=lambda entry: os.path.realpath(entry) == os.path.realpath(""))
    try:
        main = importlib.import_module("gluon_rnn.cli").main
    except Exception as error:  # a library of another version may raise anything
        _start_over(error)
    os.environ.pop(_TRIED, None)
    sys.exit(main([command, *sys.argv[1:]]))


def _start_over(error: Exception) -> NoReturn:
    python = _CHECKOUT / ".venv" / "bin" / "python"
    if python.is_file() and _TRIED not in os.environ:
        os.environ[_TRIED] = sys.executable
        # It is for another Python: with it .venv's would look for its own library there.
        os.environ.pop("PYTHONHOME", None)
        os.execv(python, [str(python), *sys.argv])
    fix = f"run 'make install' in {_CHECKOUT}, then use {python}"
    if isinstance(error, ModuleNotFoundError):
        problem = f"is not installed for this Python ({error})"
    else:
        # Of NumPy's page of advice, the last line says what is wrong.
        empty = "out of memory" if isinstance(error, MemoryError) else type(error).__name__
        problem = f"cannot be loaded ({(str(error).strip().splitlines() or [empty])[-1]})"
        fix = f"raise this process's limits (ulimit -a), or {fix}"
    if path := os.environ.get("PYTHONPATH"):
        fix = f"unset PYTHONPATH, which puts {path} before what is installed; else {fix}"
    print(f"gluon_rnn {problem}; {fix}", file=sys.stderr)
    sys.exit(2)
