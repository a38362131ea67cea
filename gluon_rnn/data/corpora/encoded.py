"""A corpus as ids, kept for the next run: reading, counting and looking up WikiText-2 takes 2.6 s, this 0.1 s."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gluonnlp
import numpy as np

from gluon_rnn.common.files import cache_directory, locked, sha256_of, write_atomically
from gluon_rnn.data.corpora.content import SPLITS, CorpusFiles

# A file of another format has another name, and is not read. This one is a SHA-256 and the NumPy archive it is of.
_FORMAT = 3
_DIGEST_BYTES = 32

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sequences:
    """Labelled sequences one after the other, all int32."""

    tokens: Ids
    """Ids of the words of all sequences, flat."""
    lengths: Ids
    """(sequences,): how many of them are each sequence's, in this order; at least 1."""
    labels: Ids
    """Ids of the labels: (sequences,) for classification, flat like ``tokens`` for tagging."""

    @property
    def tagged(self) -> bool:
        """Whether each token has a label, or each sequence is one token, and both are the same."""
        return len(self.labels) == len(self.tokens)


@dataclass(frozen=True)
class Corpus:
    """The splits as ids, and what these mean; a text's are int32, flat, in the order of the text."""

    vocab: gluonnlp.Vocab
    """Of the whole train split: see `corpora.loading.load_corpus`. What it lacks has the id of ``<unk>``."""
    train: Ids | Sequences
    valid: Ids | Sequences | None
    """None where one text is all train: see `gluon_rnn.data.corpora.content.cut`."""
    test: Ids | Sequences | None
    labels: gluonnlp.Vocab | None = None
    """Of a labelled corpus: the classes alone, or the tags and ``<unk>``; None: the targets are the text's tokens."""


class Reading(NamedTuple):
    """How a corpus is read; together with its content this names a kept corpus."""

    objective: str
    level: str
    lower: bool
    min_freq: int
    padding: bool


def shortened(split: Any, most_tokens: int | None) -> Any:
    """The first tokens of a split; of labelled data whole sequences, at least one. None: everything."""
    if split is None or most_tokens is None:
        return split
    if not isinstance(split, Sequences):
        return split[:most_tokens]
    ends = np.cumsum(split.lengths)
    count = max(1, int(np.searchsorted(ends, most_tokens, side="right")))
    end = int(ends[count - 1])
    return Sequences(split.tokens[:end], split.lengths[:count], split.labels[: end if split.tagged else count])


def restore(files: CorpusFiles, reading: Reading) -> Corpus | None:
    """The kept corpus of this content and way of reading, if there is one; a damaged one is reported and ignored."""
    path = _path(files, reading)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, archive = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    # Checked before it is parsed: what damage does to an archive's own structure raises nearly anything.
    if digest != _digest(archive):
        print(f"{path} is damaged: the text is read again", flush=True)
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as members:
        vocab, labels = (
            gluonnlp.Vocab.from_json(members[name].tobytes().decode()) if name in members else None
            for name in ("vocab", "labels")
        )
        train, valid, test = (_split_of(members, split) for split in SPLITS)
        return Corpus(vocab, train, valid, test, labels)


def keep(files: CorpusFiles, reading: Reading, corpus: Corpus) -> None:
    """Keep `corpus` for the next run. If it cannot be written, the next run reads the text again."""
    path = _path(files, reading)
    if path is None:
        return
    archive = io.BytesIO()
    vocabs = {"vocab": corpus.vocab, "labels": corpus.labels}
    members = {name: np.frombuffer(vocab.to_json().encode(), dtype=np.uint8) for name, vocab in vocabs.items() if vocab}
    for split in SPLITS:
        members |= _members_of(split, getattr(corpus, split))
    np.savez(archive, **members)
    try:
        with locked(path.parent):
            write_atomically(path, _digest(archive.getvalue()) + archive.getvalue())
    except OSError as error:
        print(f"the encoded corpus cannot be kept for the next run: {error}", flush=True)


def _members_of(name: str, split: Ids | Sequences | None) -> dict[str, Ids]:
    if isinstance(split, Sequences):
        return {name: split.tokens, f"{name}_lengths": split.lengths, f"{name}_labels": split.labels}
    return {} if split is None else {name: split}


def _split_of(members: Mapping[str, Ids], name: str) -> Any:
    """A split's ids or `Sequences`; None if there is no such split."""
    if name not in members:
        return None
    if f"{name}_lengths" not in members:
        return members[name]
    return Sequences(members[name], members[f"{name}_lengths"], members[f"{name}_labels"])


def _digest(archive: bytes) -> bytes:
    return bytes.fromhex(sha256_of(archive))


def _path(files: CorpusFiles, reading: Reading) -> Path | None:
    """The path of the kept corpus; None if the user has no cache."""
    folder = cache_directory()
    if folder is None:
        return None
    how = [reading.objective, reading.level, *(["lower"] if reading.lower else []), str(reading.min_freq)]
    name = "-".join(["corpus", files.sha1, *how, *(["pad"] if reading.padding else []), str(_FORMAT)])
    return folder / f"{name}.npz"
