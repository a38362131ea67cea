"""Pre-trained word vectors, first half: find and measure them. Neither MXNet nor GluonNLP is imported here.

`find_vectors` is for the process that plans; `gluon_rnn.data.vectors.loading.load_vectors` is for the one that trains.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.common.printable import Notice, quoted
from gluon_rnn.data.places import check_name, expand, given_folder

__all__ = ["MADE_HERE", "FoundVectors", "find_vectors"]

#: The embeddings that no file holds.
MADE_HERE = ("random", "one_hot")


@dataclass(frozen=True)
class FoundVectors:
    """A file of vectors, found and measured."""

    name: str
    """What tables show: the file's bare name or GluonNLP's, such as ``glove:glove.6B.300d``; never a path."""
    path: Path
    """The absolute path of the text file, or of GluonNLP's archive."""
    sha1: str
    """Of the file's content."""
    size: int
    """Numbers of each vector."""

    def verified(self) -> list[Path]:
        """The file. Raises `RuntimeError` if it has changed or gone since it was found."""
        try:
            sha1 = sha1_of_file(self.path)
        except OSError as error:
            raise RuntimeError(f"{self.path} was found earlier and cannot be read now: {error.strerror}") from error
        if sha1 != self.sha1:
            raise RuntimeError(
                f"the vectors in {self.path} are not those that were found: SHA-1 {sha1}, not {self.sha1}"
            )
        return [self.path]

    def at(self, folder: Path) -> FoundVectors:
        """The same file in another folder."""
        return replace(self, path=folder / self.path.name)


def find_vectors(embedding: str, *, data_dir: Path | None = None, notice: Notice = print) -> FoundVectors | None:
    """Find, if need be download, verify and measure the vectors of an embedding; None if it is of `MADE_HERE`.

    Any other ``embedding`` is the path of a file in GloVe's or word2vec's text format, looked for in ``data_dir``
    (default: the folder that the variable GLUON_RNN_DATA names, if any) where it is not there itself, or GluonNLP's
    name of vectors, which are looked for in GluonNLP's cache and then downloaded into it. Either way the whole file is
    read: 4 s for one of 1 GB.

    ``notice`` receives messages for the user. Raises `UserError` if the file is missing, incomplete or in another
    format.
    """
    if embedding in MADE_HERE:
        return None
    # Imported here because they need NumPy, which a sweep without vectors need not wait for.
    from gluon_rnn.data.vectors import published, text

    if path := _existing(embedding, data_dir):
        size, sha1 = text.measure(path)
        return FoundVectors(path.name, path, sha1, size)
    kind, _, source = embedding.partition(":")
    known = published.sources()
    name = f"{kind.lower()}:{source}"
    if name in known:
        path = published.fetch(known[name], notice=notice)
        return FoundVectors(name, path, known[name].sha1, published.measure(path))
    raise UserError(
        f"embedding {quoted(embedding)} is neither a file nor a name{did_you_mean(embedding, [*MADE_HERE, *known])}; "
        f"there are {', '.join(MADE_HERE)}, the path of a file in GloVe's or word2vec's text format, and GluonNLP's "
        "names such as glove:glove.6B.300d"
    )


def _existing(embedding: str, data_dir: Path | None) -> Path | None:
    _, folder = given_folder(data_dir)
    # A path that is absolute stays itself when it is joined to a folder.
    places = [expand(embedding), *([expand(expand(folder) / embedding)] if folder else [])]
    path = next(filter(os.path.exists, places), None)
    if path is None:
        return None
    if not path.is_file():
        raise UserError(f"embedding {quoted(embedding)} is not a file; name one of vectors, as text")
    if path.suffix == ".npz":
        # GluonNLP's own hold a pickle, and only those whose SHA-1 it pins are to be trusted.
        raise UserError(f"embedding {quoted(embedding)} is an archive; name a file of vectors as text")
    check_name(path, "file")
    return path
