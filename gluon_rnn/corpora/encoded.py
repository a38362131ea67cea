"""A corpus as ids, kept for the next run: reading, counting and looking up WikiText-2 takes 2.6 s, this 0.1 s."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gluonnlp
import numpy as np
import platformdirs

from gluon_rnn.corpora.content import SPLITS, CorpusFiles
from gluon_rnn.files import write_atomically

# A file of another format has another name, and is not read.
_FORMAT = 1


@dataclass(frozen=True)
class Corpus:
    """Ids of words, int32, one ``<eos>`` at the end of each line, and the vocabulary of the whole train split.

    The vocabulary holds ``<unk>`` and ``<eos>`` but no padding; a word that it lacks has the id of ``<unk>``.
    """

    vocab: gluonnlp.Vocab
    train: np.ndarray[Any, Any]
    valid: np.ndarray[Any, Any]
    test: np.ndarray[Any, Any]


def cache_directory() -> Path:
    """Where encoded corpora are kept: ``gluon_rnn`` in the user's cache (on Linux in ``XDG_CACHE_HOME`` or
    ``~/.cache``), 11 MB for WikiText-2. It may be deleted at any time.
    """
    return platformdirs.user_cache_path("gluon_rnn")


def restore(files: CorpusFiles) -> Corpus | None:
    """The corpus of this content, if it was kept and is whole; a damaged or foreign file counts as none."""
    try:
        # The archive holds a checksum of each member, which reading it compares.
        with _path(files).open("rb") as file, np.load(file, allow_pickle=False) as members:
            splits = {split: members[split] for split in SPLITS}
            vocab = gluonnlp.Vocab.from_json(members["vocab"].tobytes().decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    expected = (files.train_tokens, files.valid_tokens, files.test_tokens)
    whole = len(vocab) == files.vocab_size and all(
        ids.dtype == np.int32 and ids.shape == (length,) for ids, length in zip(splits.values(), expected, strict=True)
    )
    return Corpus(vocab, **splits) if whole else None


def keep(files: CorpusFiles, corpus: Corpus) -> None:
    """Keep `corpus` for the next run; where that cannot be written, the next run reads the text again."""
    content = io.BytesIO()
    vocab = np.frombuffer(corpus.vocab.to_json().encode(), dtype=np.uint8)
    np.savez(content, vocab=vocab, **{split: getattr(corpus, split) for split in SPLITS})
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        write_atomically(_path(files), content.getvalue())
    except OSError as error:
        print(f"the encoded corpus cannot be kept for the next run: {error}")


def _path(files: CorpusFiles) -> Path:
    return cache_directory() / f"corpus-{files.sha1}-{_FORMAT}.npz"
