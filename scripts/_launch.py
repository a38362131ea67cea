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
    except ImportError as error:
        _start_over(error)
    os.environ.pop(_TRIED, None)
    sys.exit(main([command, *sys.argv[1:]]))


def _start_over(error: ImportError) -> NoReturn:
    checkout = Path(__file__).resolve().parent.parent
    python = checkout / ".venv" / "bin" / "python"
    if python.is_file() and _TRIED not in os.environ:
        os.environ[_TRIED] = sys.executable
        sys.stdout.flush()
        os.execv(python, [str(python), *sys.argv])
    print(
        f"gluon_rnn is not installed for this Python ({error}); run 'make install' in {checkout}, then use {python}",
        file=sys.stderr,
    )
    sys.exit(2)
