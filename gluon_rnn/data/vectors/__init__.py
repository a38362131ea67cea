"""Pre-trained word vectors, first half: find and measure them. Neither MXNet nor GluonNLP is imported here.

`find_vectors` is for the process that plans; `gluon_rnn.data.vectors.loading.load_vectors` is for the one that trains.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.data.corpora import DATA_VARIABLE
from gluon_rnn.data.corpora.folder import expand

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


def find_vectors(
    embedding: str, *, data_dir: Path | None = None, notice: Callable[[str], None] = print
) -> FoundVectors | None:
    """Find, if need be download, verify and measure the vectors of an embedding; None if it is of `MADE_HERE`.

    Any other ``embedding`` is the path of a file in GloVe's or word2vec's text format, looked for in ``data_dir``
    (default: the folder that the variable GLUON_RNN_DATA names, if any) where it is not there itself, or GluonNLP's
    name of vectors, which are looked for in GluonNLP's cache and then downloaded into it. Either way the whole file is
    read: 4 s for one of 1 GB.

    ``notice`` receives lines for people to read. Raises `UserError` if the file is not there, not whole or not such.
    """
    if embedding in MADE_HERE:
        return None
    # They read with NumPy, which a sweep that needs no vectors does not wait for.
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
        f"embedding {quoted(embedding)} is no file and no name{did_you_mean(embedding, [*MADE_HERE, *known])}; there "
        f"are {', '.join(MADE_HERE)}, the path of a file in GloVe's or word2vec's text format, and GluonNLP's names "
        "such as glove:glove.6B.300d"
    )


def _existing(embedding: str, data_dir: Path | None) -> Path | None:
    data_dir = data_dir or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    # A path that is absolute stays itself when it is joined to a folder.
    for path in (expand(embedding), *([expand(expand(data_dir) / embedding)] if data_dir else [])):
        if not os.path.exists(path):
            continue
        if not path.is_file():
            raise UserError(f"embedding {quoted(embedding)} is no file; name one of vectors, as text")
        if path.suffix == ".npz":
            # GluonNLP's own hold a pickle, and only those whose SHA-1 it pins are to be trusted.
            raise UserError(f"embedding {quoted(embedding)} is an archive; name a file of vectors as text")
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UserError(f"the name of the file {quoted(str(path))} is no UTF-8; rename it") from None
        return path
    return None
