"""Vectors on another machine than the one where they were found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.data.vectors import FoundVectors


def is_here(found: FoundVectors) -> bool:
    """Whether the file is there, and still the one that was found."""
    with suppress(OSError):
        return sha1_of_file(found.path) == found.sha1
    return False


def read_file(found: FoundVectors | None) -> bytes:
    """The file's bytes; none where an embedding needs no file.

    Raises:
        UserError: it has changed or gone since it was found.
    """
    if found is None:
        return b""
    if not is_here(found):
        raise UserError(f"{found.path} is not the file that was found there; start the sweep again")
    return found.path.read_bytes()


def bring_file(found: FoundVectors | None, place: Path, fetch: Callable[[], bytes]) -> FoundVectors | None:
    """The vectors as they are on this machine: at their path where that is shared, else in a file in `place`.

    Args:
        found: on the other machine.
        place: a folder that is made if it is needed.
        fetch: gives the file's bytes.
    """
    if found is None or is_here(found):
        return found
    place.mkdir()
    path = place / found.path.name
    path.write_bytes(fetch())
    return replace(found, path=path)
