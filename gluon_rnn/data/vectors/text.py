"""GloVe's and word2vec's text formats: a word and its numbers a line, between single blanks.

word2vec's has a line before them with the number of vectors and their size; fastText's ``.vec`` files are such.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.plain_text import marked_encoding
from gluon_rnn.common.printable import quoted

_HEADER = re.compile(rb"(\d{1,10}) ([1-9]\d{0,4})")
#: The characters of finite numbers, and the blanks between them.
_OF_NUMBERS = b"0123456789+-.eE "
#: Bytes: a vector of 16,384 numbers, more than a run may ask for, has a quarter of it.
_LONGEST_LINE = 2**20
_WANTED = "a file of vectors has a word and its numbers in each line, between single blanks"
_WRONG_HEADER = "get it again, or remove its first line if only that is wrong"

Vector = np.ndarray[Any, Any]  # float32, (size,)


class _WrongCountError(ValueError):
    """A line has more or fewer numbers than its file's vectors."""


def measure(path: Path) -> tuple[int, str]:
    """The dimension of the vectors in a file and its SHA-1 (`sha1_of_file`); checks every line.

    Raises:
        UserError: it cannot be read, or a line is not as it should be. Numbers are looked at by their characters, which
            passes what `rows` refuses (``1-2``): reading them all would take ten times as long.
    """
    promised, size, vectors = None, 0, 0
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        for number, line in _lines(path):
            digest.update(line)
            try:
                line = _checked(line)
                if number == 1 and (header := _HEADER.fullmatch(line)):
                    promised, size = int(header[1]), int(header[2])
                elif line:
                    size = size or len(_numbers(line.split(b" ")[1:]))
                    numbers = _split(line, size)[1]
                    if numbers.translate(None, _OF_NUMBERS):
                        _numbers(numbers.split(b" "))
                    vectors += 1
            except ValueError as error:
                # Of the first vector it may be the header's size that is wrong; later ones differ from the first.
                by_header = isinstance(error, _WrongCountError) and promised is not None and not vectors
                fix = f"its first line says so: {_WRONG_HEADER}" if by_header else _WANTED
                raise UserError(f"{path}, line {number}: {error}; {fix}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): fix that or name another file") from None
    if not vectors:
        raise UserError(f"{path} holds no vectors: {_WANTED}")
    if promised not in (None, vectors):
        raise UserError(f"{path} holds {vectors:,} vectors, and its first line says {promised:,}: {_WRONG_HEADER}")
    return size, digest.hexdigest()


def rows(path: Path, size: int, words: Iterable[str]) -> dict[str, Vector]:
    """The vectors of the ``words`` that a measured file contains; of repeated words the first.

    GluonNLP 0.10's ``TokenEmbedding.from_file`` reads these formats, too, with equal results. It is not used since it
    keeps every number of the file as an object (32 bytes: 3.8 GB for 400,000 words of 300), refuses a word with blanks
    (GloVe 840B has some), takes nan for a number, spreads a lone number over all of ``<unk>``, and passes over lines
    that are not UTF-8: read in its ``_load_embedding_txt``, and seen.

    Raises:
        ValueError: what should be a number is not one; the message names the line of the file.
    """
    missing = {word.encode(): word for word in words}
    found: dict[str, Vector] = {}
    for number, line in _lines(path):
        line = line.rstrip()
        if not line or (number == 1 and _HEADER.fullmatch(line)):
            continue
        try:
            word, numbers = _split(line, size)
            # The numbers of other words, which are most of them, need not be read.
            if word in missing:
                found[missing.pop(word)] = _numbers(numbers.split(b" "))
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from None
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their ends and their numbers from 1; of a line that is too long, its beginning.

    A UTF-8 byte-order mark is left out.
    """
    # As Latin-1, any bytes are text, whose lines Python ends where `gluon_rnn.common.plain_text.lines` does.
    with path.open(encoding="latin-1", newline="") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), start=1):
            content = line.encode("latin-1")
            yield number, content.removeprefix(codecs.BOM_UTF8) if number == 1 else content


def _checked(line: bytes) -> bytes:
    """`line` without its end."""
    if len(line) == _LONGEST_LINE:
        raise ValueError(f"it is longer than {_LONGEST_LINE:,} bytes")
    try:
        line.decode()
    except UnicodeDecodeError:
        if encoding := marked_encoding(line):
            fix = f"convert the file, for instance with iconv -f {encoding} -t UTF-8"
            raise ValueError(f"its byte-order mark is that of {encoding}: {fix}") from None
        raise ValueError("it is not UTF-8 text: unpack or convert the file") from None
    if b"\0" in line:
        raise ValueError("it has a NUL character, as UTF-16 and binary files do: unpack or convert the file")
    return line.rstrip()


def _split(line: bytes, size: int) -> tuple[bytes, bytes]:
    """The word of a line, and its numbers."""
    word, _, numbers = line.partition(b" ")
    if size and numbers.count(b" ") == size - 1:
        return word, numbers
    parts = line.split(b" ")
    # A word may hold blanks, such as GloVe 840B's ". . ."; one that ends with a number is a line with too many.
    if not size or len(parts) <= size or not parts[-size - 1] or np.isfinite(_number(parts[-size - 1])):
        raise _WrongCountError(f"it has {len(parts) - 1} numbers where {size or 'some'} are needed")
    return b" ".join(parts[:-size]), b" ".join(parts[-size:])


def _numbers(fields: Sequence[bytes]) -> Vector:
    with np.errstate(over="ignore"):
        vector = np.array([_number(field) for field in fields], dtype=np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        raise ValueError(f"{quoted(fields[int(finite.argmin())].decode())} is not a number that can be computed with")
    return vector


def _number(field: bytes) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")
