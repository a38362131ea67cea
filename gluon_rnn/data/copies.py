"""Copies of a corpus or of vectors for another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors

Found = TypeVar("Found", CorpusFiles, FoundVectors)


def read_files(found: CorpusFiles | FoundVectors) -> dict[str, bytes]:
    """The bytes of each file by name, without files that every machine makes for itself.

    Raises:
        UserError: they have changed or gone since they were found.
    """
    try:
        return {path.name: path.read_bytes() for path in found.verified()}
    except RuntimeError as error:
        raise UserError(f"{error}; start the sweep again") from error


def bring(found: Found, place: Path, fetch: Callable[[], Mapping[str, bytes]]) -> Found:
    """The found files on this machine: at their original path if that is shared, otherwise written to `place`.

    Loading verifies the copies.

    Args:
        found: on the other machine.
        place: a folder that is made if it is needed.
        fetch: gives the bytes of each file by its name.
    """
    try:
        found.verified()
    except RuntimeError:
        place.mkdir()
        for name, content in fetch().items():
            (place / name).write_bytes(content)
        return found.at(place)
    return found
