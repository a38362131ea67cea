"""The output of commands: printing, exit statuses when output fails, and signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from gluon_rnn.common import streams
from gluon_rnn.common.errors import UserError, reason
from gluon_rnn.common.printable import printable
from gluon_rnn.reporting.regression.verdicts import NARROW
from gluon_rnn.reporting.terminal.console import make_console


def say(line: str) -> None:
    """Print a line."""
    print(printable(line))


def narrow() -> dict[str, int]:
    """The ``width`` of text on a terminal, at most `NARROW`; unlimited elsewhere."""
    console = make_console()
    return {"width": min(NARROW, console.width)} if console.is_terminal else {}


def status_of_output(status: int = 0) -> int:
    """The exit status of a command that only prints: `status`, or 1 if its reader has gone.

    Raises:
        UserError: the output cannot be written.
    """
    why = streams.failure(sys.stdout)
    if why is None:
        return status
    if isinstance(why, BrokenPipeError):
        return status or 1
    raise UserError(f"cannot write to standard output: {reason(why)}")


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP end a command as Ctrl-C does.

    So does SIGINT where it is ignored, as in a command that a script has started with ``&``. Under ``nohup`` SIGHUP
    stays ignored.
    """
    signs = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signs.append(signal.SIGHUP)
    before = {sign: signal.signal(sign, _interrupt) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
