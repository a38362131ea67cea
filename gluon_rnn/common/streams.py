"""Standard streams that are closed, can no longer be written, or have lost their reader."""

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
    """A stream's descriptor that discards all output after the first failed write.

    Failures end here, below Python's buffers, so code that prints (rich, a library, the interpreter at exit) need not
    handle them.

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
    """Set up the standard streams so that a failed write never stops this process; a second call does nothing.

    A closed stream is replaced by the null device. A stream that cannot be written is silenced: see `failure`.
    """
    # Otherwise, the next file to be opened would become standard output and receive what is printed.
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
    """Why a standard stream was silenced, after flushing it; None if it was not."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Output) else None
