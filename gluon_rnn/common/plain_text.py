"""How users' text files are read: their encoding, line ends and word separators.

All files are read in the same way, as an editor shows them. `str.splitlines` and `str.split` also split at characters
that an editor does not treat as line ends or blanks, such as a form feed, U+2028 or a no-break space.
"""

from __future__ import annotations

import codecs
import re

from gluon_rnn.common.errors import UserError

#: UTF-32 first, since one of its marks begins with one of UTF-16's.
_OTHER_MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
#: Where earlier versions cut text as well: at all other characters that Python takes for line ends or white space.
_FORMER_SEPARATOR = re.compile(
    r"[\x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
)


def decode(content: bytes, name: str) -> str:
    """Return the text of a file, without a byte-order mark at its beginning.

    Raises `UserError` if it is not UTF-8 or has a NUL character; ``name`` is what its message calls the file.
    """
    if encoding := marked_encoding(content):
        raise UserError(
            f"{name} is not UTF-8 text: its byte-order mark is that of {encoding}; convert it, for instance with "
            f"iconv -f {encoding} -t UTF-8"
        )
    if (place := content.find(b"\0")) >= 0:
        raise UserError(
            f"{name} is not UTF-8 text: line {_line_number(content, place)} has a NUL character, as UTF-16 and binary "
            "files do; convert it, for instance with iconv -f UTF-16 -t UTF-8, or remove the character"
        )
    try:
        return without_mark(content.decode())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 text: byte 0x{content[error.start]:02x} in line "
            f"{_line_number(content, error.start)}, at offset {error.start}; convert it, for instance with "
            "iconv -t UTF-8"
        ) from None


def marked_encoding(content: bytes) -> str | None:
    """Return ``UTF-16`` or ``UTF-32`` where the byte-order mark of one of these begins the file, else None."""
    return next((name for name, marks in _OTHER_MARKS.items() if content.startswith(marks)), None)


def without_mark(text: str) -> str:
    """Return ``text`` without a byte-order mark at its beginning."""
    return text.removeprefix("\ufeff")


def lines(text: str) -> list[str]:
    r"""Return the lines of ``text`` without their ends, which are ``\n``, ``\r\n`` and ``\r``; the last needs none."""
    *ended, rest = between_line_ends(text)
    return [*ended, rest] if rest else ended


def between_line_ends(text: str) -> list[str]:
    """Return the pieces of ``text`` before, between and after its line ends: one more than there are line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def words(line: str) -> list[str]:
    """Return the words of ``line``, which spaces and tabs separate."""
    return list(filter(None, line.replace("\t", " ").split(" ")))


def was_read_otherwise(text: str) -> bool:
    """Return whether versions before this module found other lines or words in ``text``, which has no mark."""
    return _FORMER_SEPARATOR.search(text) is not None


def _line_number(content: bytes, place: int) -> int:
    """Return the number of the line, from 1, in which the byte at ``place`` is."""
    return content[:place].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
