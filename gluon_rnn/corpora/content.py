"""What a corpus is before anything is trained on it: the bytes of three splits, measured without MXNet or GluonNLP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gluon_rnn.errors import UserError

SPLITS = ("train", "valid", "test")
UNKNOWN, EOS = "<unk>", "<eos>"  # GluonNLP's names; its Vocab holds both whether or not the text does


@dataclass(frozen=True)
class CorpusFiles:
    """A corpus found and measured; its numbers are those of the loaded corpus, one ``<eos>`` a line included."""

    dataset: str
    """What tables show: ``wikitext-2``, ``synthetic`` or a folder's own name; never a path."""
    folder: Path | None
    """The absolute folder of the three files; None for the built-in corpus."""
    sha1: str
    """Identity of the content, whatever its files are called: see `content_sha1`."""
    train_tokens: int
    valid_tokens: int
    test_tokens: int
    vocab_size: int
    """Distinct words of the train split, ``<unk>`` and ``<eos>`` included."""


def sha1_of(content: bytes) -> str:
    """Return the SHA-1 of ``content`` in hexadecimal. It recognises files; it is no defence against forgery."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def content_sha1(split_sha1s: Iterable[str]) -> str:
    """Return the SHA-1 of three lines: the hexadecimal SHA-1s of train, valid and test, each ended by a newline."""
    return sha1_of("".join(f"{sha1}\n" for sha1 in split_sha1s).encode())


def describe(dataset: str, folder: Path | None, contents: Mapping[str, bytes]) -> CorpusFiles:
    """Measure the splits, which must be UTF-8 text: 0.4 s for WikiText-2.

    Raises `UserError` if the folder's path is no UTF-8, since the worker gets it in a file of JSON.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of the folder {folder} is no UTF-8; rename it") from None
    texts = {split: contents[split].decode() for split in SPLITS}
    return CorpusFiles(
        dataset=dataset,
        folder=folder,
        sha1=content_sha1(sha1_of(contents[split]) for split in SPLITS),
        train_tokens=_count_tokens(texts["train"]),
        valid_tokens=_count_tokens(texts["valid"]),
        test_tokens=_count_tokens(texts["test"]),
        vocab_size=len({UNKNOWN, EOS, *texts["train"].split()}),
    )


def _count_tokens(text: str) -> int:
    # GluonNLP's CorpusDataset cuts lines with str.splitlines (also at form feeds and U+2028) and words with str.split.
    # Each of those line ends is white space to str.split, so the words need not be counted line by line.
    return len(text.split()) + len(text.splitlines())
