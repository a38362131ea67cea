"""Starts a command of ``gluon_rnn`` from a checkout, with whichever Python the script was started by."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

#: Holds the interpreter that was tried already, so that a broken environment ends in a message and not in a loop.
_TRIED = "GLUON_RNN_LAUNCHED_BY"


def launch(command: str) -> NoReturn:
    """Run ``gluon-rnn COMMAND`` with this script's arguments and exit with its status.

    Where this interpreter lacks `gluon_rnn` or something it needs, the checkout's ``.venv`` takes over; without one the
    exit status is 2.
    """
    try:
        main = importlib.import_module("gluon_rnn.cli").main
    except (ImportError, OSError, MemoryError) as error:
        _start_over(error)
    os.environ.pop(_TRIED, None)
    sys.exit(main([command, *sys.argv[1:]]))


def _start_over(error: Exception) -> NoReturn:
    checkout = Path(__file__).resolve().parent.parent
    python = checkout / ".venv" / "bin" / "python"
    if python.is_file() and _TRIED not in os.environ:
        os.environ[_TRIED] = sys.executable
        os.execv(python, [str(python), *sys.argv])
    if isinstance(error, ModuleNotFoundError):
        text = f"is not installed for this Python ({error}); run 'make install' in {checkout}, then use {python}"
    else:
        # Of NumPy's page of advice, the last line says what is wrong.
        reason = (str(error).strip().splitlines() or ["out of memory"])[-1]
        text = f"cannot be loaded ({reason}); raise this process's limits (ulimit -a), or run 'make install' again"
    print(f"gluon_rnn {text}", file=sys.stderr)
    sys.exit(2)
