"""Text from a file or a command line in a form that is safe to show: one line, without control characters, of limited
length.
"""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Callable

_LONGEST = 80
#: Characters that control a terminal: control characters except tabs and line feeds, and marks that change the writing
#: direction.
_COMMAND = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with unprintable characters escaped, so that it cannot end a line, move the cursor or fail to be encoded.

    Among those are a terminal's commands, marks that turn the direction of writing, and the surrogates by which Python
    stands for the bytes of a file's name that are not UTF-8.
    """
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def for_terminal(text: str) -> str:
    """`text` as it is, lines, tabs and unusual blanks included, but with a terminal's commands as their escapes."""
    return _COMMAND.sub(lambda command: _escape(command[0]), text)


def warn(line: str) -> None:
    """Print a line to standard error, at once."""
    print(printable(line), file=sys.stderr, flush=True)


def quoted(value: object) -> str:
    """The ``repr`` of `value`, up to 80 characters. The full ``repr`` is never built."""
    text = printable(_BRIEFLY.repr(value))
    return text if len(text) < _LONGEST else f"{text[: _LONGEST - 3]}..."


def counted(number: int, noun: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


class _Repr(reprlib.Repr):
    """Only the beginnings of nested or long values: a few YAML aliases can expand to more than fits in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 2 * _LONGEST

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write integers of more than 4,300 digits.
        return repr(x) if x.bit_length() < 4 * _LONGEST else f"an integer of {x.bit_length():,} bits"


_BRIEFLY = _Repr()


Notice = Callable[[str], None]
