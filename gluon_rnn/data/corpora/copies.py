"""A corpus on another machine than the one where it was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora.content import CorpusFiles, sha1_of


def read_files(files: CorpusFiles) -> dict[str, bytes]:
    """The bytes of each file by its name; of a built-in corpus nothing, which every machine makes for itself.

    Raises:
        UserError: they have changed or gone since the corpus was found.
    """
    contents = _read(files)
    if contents is None:
        raise UserError(f"the text in {files.folder} is not the one that was found there; start the sweep again")
    return contents


def bring(files: CorpusFiles, place: Path, fetch: Callable[[], Mapping[str, bytes]]) -> CorpusFiles:
    """The corpus as it is on this machine: in its folder where that is shared, else written to `place`.

    `load_corpus` verifies what was written, and keeps it encoded in this machine's cache.

    Args:
        files: as found on the other machine.
        place: a folder that is made if it is needed.
        fetch: gives the bytes of each file by its name.
    """
    if _read(files) is not None:
        return files
    place.mkdir()
    for name, content in fetch().items():
        (place / name).write_bytes(content)
    return replace(files, folder=place)


def _read(files: CorpusFiles) -> dict[str, bytes] | None:
    """None where the folder does not hold these very files."""
    if files.folder is None:
        return {}
    try:
        contents = {name: (files.folder / name).read_bytes() for name in files.files}
    except OSError:
        return None
    return contents if {name: sha1_of(content) for name, content in contents.items()} == files.files else None
