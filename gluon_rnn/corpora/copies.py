"""A corpus on another machine than the one where it was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gluon_rnn.corpora import folder, wikitext2
from gluon_rnn.corpora.content import SPLITS, CorpusFiles, content_sha1, sha1_of
from gluon_rnn.errors import UserError


def read_splits(files: CorpusFiles) -> dict[str, bytes]:
    """The bytes of each split; of the built-in corpus nothing, which every machine makes for itself.

    Raises:
        UserError: they have changed or gone since the corpus was found.
    """
    if files.folder is None:
        return {}
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
        fetch: gives the bytes of each split.
    """
    if files.folder is None or _read(files) is not None:
        return files
    place.mkdir()
    for split, content in fetch().items():
        (place / _names(files)[split]).write_bytes(content)
    return replace(files, folder=place)


def _read(files: CorpusFiles) -> dict[str, bytes] | None:
    """None where the folder does not hold this very text."""
    assert files.folder is not None
    try:
        contents = {split: (files.folder / _names(files)[split]).read_bytes() for split in SPLITS}
    except OSError:
        return None
    return contents if content_sha1(sha1_of(content) for content in contents.values()) == files.sha1 else None


def _names(files: CorpusFiles) -> Mapping[str, str]:
    return wikitext2.FILES if files.dataset == wikitext2.NAME else folder.FILES
