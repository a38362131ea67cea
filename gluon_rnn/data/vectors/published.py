"""The vectors that GluonNLP knows by name: their list, their cache and download, and the content of their files.

A file is an archive of NumPy's, as ``gluonnlp.embedding.TokenEmbedding.serialize`` writes it. Its words are a pickle:
only files whose SHA-1 GluonNLP pins are read, and of their pickle nothing but an array.
"""

from __future__ import annotations

import ast
import codecs
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import Unpickler
from typing import IO, Any, ClassVar

import numpy as np

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import locked, sha1_of_file
from gluon_rnn.common.printable import Notice
from gluon_rnn.data.corpora.downloads import reason
from gluon_rnn.data.places import gluon_repository, mxnet_home
from gluon_rnn.data.vectors.text import Vector

#: What `gluonnlp.embedding.create` calls the kinds, and the tables of their sources in gluonnlp/_constants.py.
_TABLES = {"glove": "GLOVE_NPZ_SHA1", "word2vec": "WORD2VEC_NPZ_SHA1", "fasttext": "FAST_TEXT_NPZ_SHA1"}
#: Seconds for a connection and without data. There is no limit in total, because the largest file has several GB.
_TIMEOUTS = (10, 30)


@dataclass(frozen=True)
class Source:
    """One of GluonNLP's files."""

    kind: str
    file: str
    sha1: str

    @property
    def folder(self) -> Path | None:
        """Where GluonNLP keeps it: ``embedding/<kind>`` in `mxnet_home`, if there is one."""
        home = mxnet_home()
        return home / "embedding" / self.kind if home else None

    @property
    def url(self) -> str:
        """Where GluonNLP 0.10 fetches it."""
        return f"{gluon_repository()}/gluon/embeddings/{self.kind}/{self.file}"


def sources() -> dict[str, Source]:
    """Every source by its name, such as ``glove:glove.6B.300d``.

    GluonNLP 0.10 has its tables in a module that imports MXNet (a second, and half a GB), as does
    ``gluonnlp.embedding.list_sources``. So they are read as the literals that they are in its source: 20 ms.
    """
    spec = find_spec("gluonnlp")
    if spec is None or spec.origin is None:
        return {}
    module = ast.parse(Path(spec.origin).with_name("_constants.py").read_bytes())
    tables = {
        node.targets[0].id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return {
        f"{kind}:{source}": Source(kind, file, sha1)
        for kind, table in _TABLES.items()
        for source, (file, sha1) in ast.literal_eval(tables[table]).items()
    }


def fetch(source: Source, *, notice: Notice = print) -> Path:
    """The absolute path of a source's verified file in GluonNLP's cache, downloaded if it is not there.

    Of several processes that want it at once, one downloads and the others wait for its lock.

    Raises:
        UserError: it is not there and cannot be fetched, or the cache cannot be written.
    """
    import pooch

    def download(*arguments: Any) -> None:
        notice(f"downloading {source.url}")
        pooch.HTTPDownloader(timeout=_TIMEOUTS)(*arguments)

    folder = source.folder
    if folder is None:
        raise UserError(
            f"{source.file} cannot be fetched, as this user has no home folder to keep it in: set MXNET_HOME to a "
            "folder that can be written, or name a file of vectors as text"
        )
    path = folder / source.file
    pooch.get_logger().setLevel("WARNING")  # the notice says it
    try:
        # Without the lock, since the cache may be one that cannot be written.
        if path.exists() and sha1_of_file(path) == source.sha1:
            return path
        with locked(folder):
            pooch.retrieve(source.url, f"sha1:{source.sha1}", fname=source.file, path=folder, downloader=download)
        return path
    except Exception as error:  # whatever a server or a file system does wrong
        raise UserError(
            f"{source.file} is not in {folder} and could not be fetched ({source.url}: {reason(error)}): "
            "put it there, or name a file of vectors as text"
        ) from None


def measure(path: Path) -> int:
    """The dimension of the vectors in a verified file."""
    with _matrix(path) as (_, size):
        return size


def rows(path: Path, words: Iterable[str]) -> dict[str, Vector]:
    """The vectors of the ``words`` that a verified file contains.

    GluonNLP 0.10's ``TokenEmbedding.deserialize`` gives the same ones, and holds all of the file twice meanwhile (7 GB
    for word2vec's 3,000,000 words of 300), which would be the run's peak memory. Where a source has no vector for
    unknown words, GluonNLP has put zeros there: such rows are not used as its vector.
    """
    wanted = set(words)
    with np.load(path, allow_pickle=False) as archive:
        unknown = str(archive["unknown_token"])
    with zipfile.ZipFile(path) as archive, archive.open("idx_to_token.npy") as file:
        _header(file)
        there = _Words(file).load().tolist()
    found: dict[str, Vector] = {}
    with _matrix(path) as (file, size):
        for word in there:
            vector = np.frombuffer(file.read(4 * size), dtype=np.float32)
            if word in wanted and (word != unknown or vector.any()):
                found[word] = vector
    return found


class _Words(Unpickler):
    """Reads an array of words, which GluonNLP's archives hold as a pickle, and nothing else that a pickle can do."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.core.multiarray._reconstruct,  # type: ignore[attr-defined]
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # Of bytes, in the protocol that NumPy wrote before 1.17.
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """One of the names that an array needs."""
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise ValueError(f"words that ask for {module}.{name}") from None


def _header(file: IO[bytes]) -> Any:
    """Shape, whether it lies by columns, and kind of the array that follows in `file`."""
    np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    return np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]


@contextmanager
def _matrix(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The float32 numbers of all vectors, one after the other, and how many there are in each."""
    with zipfile.ZipFile(path) as archive, archive.open("idx_to_vec.npy") as file:
        (_, size), by_columns, kind = _header(file)
        if by_columns or kind != np.float32:
            raise ValueError(f"{path.name} holds no rows of float32 numbers")
        yield file, size
