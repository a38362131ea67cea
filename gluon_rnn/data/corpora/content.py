"""What a corpus is before anything is trained on it: the bytes of its splits, measured without MXNet or GluonNLP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import LABELLED, Objective

SPLITS = ("train", "valid", "test")
#: The only part of a corpus that is one text, which `cut` divides.
TEXT = "text"
UNKNOWN, EOS = "<unk>", "<eos>"  # GluonNLP's names; its Vocab of words holds both whether or not the text does

#: The objectives whose targets are the text's own tokens.
TEXT_OBJECTIVES = tuple(objective for objective in get_args(Objective) if objective not in LABELLED)

# Part of the identity of what earlier versions read otherwise: another way of reading makes other runs.
_READING = 2


@dataclass(frozen=True)
class CorpusFiles:
    """A corpus found and measured; its numbers are those of the loaded corpus at the level and objective asked for.

    Words of a text are counted with one ``<eos>`` a line, characters with the line ends that are there.
    """

    dataset: str
    """What tables show: a published or built-in corpus's name or a folder's own; never a path."""
    folder: Path | None
    """The absolute folder of the files; None for a built-in corpus."""
    sha1: str
    """Identity of the content as it is read, whatever its files are called: see `content_sha1`."""
    train_tokens: int
    valid_tokens: int
    """0 where there is no such split: see `cut`."""
    test_tokens: int
    files: dict[str, str] = field(default_factory=dict)
    """SHA-1 of each file of the folder, by its name there."""


def sha1_of(content: bytes) -> str:
    """Return the SHA-1 of ``content`` in hexadecimal. It recognises files; it is no defence against forgery."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def content_sha1(sha1s: Iterable[str]) -> str:
    """Return the SHA-1 of lines, each ended by a newline: the hexadecimal SHA-1s of train, valid and test, or of the
    one text; for a labelled corpus also what its form is called, and how it is read where that has changed.
    """
    return sha1_of("".join(f"{sha1}\n" for sha1 in sha1s).encode())


def text_sha1(contents: Mapping[str, bytes], level: str) -> str:
    """Return the identity of a text read at ``level``. A byte-order mark is no part of it."""
    parts = [plain_text.decode(contents[part], part) for part in ((TEXT,) if TEXT in contents else SPLITS)]
    changed = level == "word" and any(map(plain_text.was_read_otherwise, parts))
    return content_sha1([*(sha1_of(part.encode()) for part in parts), *([f"{level} {_READING}"] if changed else [])])


def describe(
    dataset: str,
    folder: Path | None,
    contents: Mapping[str, bytes],
    *,
    files: Mapping[str, str],
    objective: str,
    level: str,
) -> CorpusFiles:
    """Measure a text, which must be UTF-8, of three splits or one part: 0.4 s for WikiText-2.

    ``files`` gives the name of each part's file.
    """
    texts = {part: plain_text.decode(content, f"{dataset}'s {part}") for part, content in contents.items()}
    sizes = {part: count_tokens(text, level) for part, text in texts.items()}
    train, valid, test = cut(sizes[TEXT], objective) if TEXT in sizes else (sizes[split] for split in SPLITS)
    return CorpusFiles(
        dataset=dataset,
        folder=folder,
        sha1=text_sha1(contents, level),
        train_tokens=train,
        valid_tokens=valid,
        test_tokens=test,
        files={name: sha1_of(contents[part]) for part, name in files.items()},
    )


def tokenize(text: str, level: str) -> list[str]:
    """Return what the level ``character`` or ``word`` makes of ``text``: a line's words are followed by ``<eos>``.

    GluonNLP 0.10's ``CorpusDataset`` is not used for it: whatever splitters it is given, it takes more than spaces and
    tabs from both ends of each line (``str.strip`` in its ``_read``), such as the U+3000 that indents Chinese text.
    """
    if level == "character":
        return list(text)
    return [token for line in plain_text.lines(text) for token in (*plain_text.words(line), EOS)]


def count_tokens(text: str, level: str) -> int:
    """Return how many tokens `tokenize` would return, without holding them all at once."""
    if level == "character":
        return len(text)
    return sum(len(plain_text.words(line)) + 1 for line in plain_text.lines(text))


def cut(tokens: int, objective: str) -> tuple[int, int, int]:
    """Return how many of one text's tokens are train, valid and test, in this order: 80, 10 and 10 %.

    For ``next_token`` all are train: that objective holds out random windows of it.
    """
    if objective == "next_token":
        return tokens, 0, 0
    valid, test = tokens * 8 // 10, tokens * 9 // 10
    return valid, test - valid, tokens - test


def check_place(folder: Path) -> None:
    """Raise `UserError` if the folder's path is no UTF-8, since the worker gets it in a file of JSON."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of the folder {folder} is no UTF-8; rename it") from None
