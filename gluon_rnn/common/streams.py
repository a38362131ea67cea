"""Standard streams that are closed, that cannot be written any longer, or that nobody reads any longer."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import IO, Any

_STANDARD_ERROR = 2  # the last of the three descriptors that a process is started with
_ERRORS = "backslashreplace"  # for a name that the terminal's encoding lacks


class _Output(io.FileIO):
    """A stream's descriptor that falls silent at the first write that fails.

    Failures end here, below Python's buffers, so that whatever prints (rich, a library, the interpreter on its way out)
    has none to handle.

    Attributes:
        failure: of that write.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while self.failure is None:
                written: int | None = super().write(data)
                if written is not None:
                    return written
                # Another process that shares the stream has made it non-blocking.
                select.select([], [self], [])
        except OSError as error:
            self.failure = error
        return len(data)


def guard() -> None:
    """Put the standard streams in order, so that no output stops this process; a second call changes nothing.

    A stream that is closed leads to the null device. One that cannot be written falls silent: see `failure`.
    """
    # Else the next file to be opened would become standard output, and get what is printed.
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
            os.set_inheritable(number, True)
        os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
        elif mode == "w" and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _guarded(stream))
        # A program that has replaced the stream knows what it can encode, but not which names will be printed.
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _guarded(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=_ERRORS,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def failure(stream: IO[str]) -> OSError | None:
    """Why a standard stream has fallen silent, once everything was written to it; None: it has not."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Output) else None
