"""A corpus before training: the bytes of its splits, measured without MXNet or GluonNLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.config.run import LABELLED, Objective
from gluon_rnn.data.corpora import labelled

SPLITS = ("train", "valid", "test")
#: The only part of a corpus that is one text, which `cut` divides.
TEXT = "text"
UNKNOWN, EOS = "<unk>", "<eos>"  # GluonNLP's names; its Vocab of words holds both whether or not the text does

#: The objectives whose targets are the text's own tokens.
TEXT_OBJECTIVES = tuple(objective for objective in get_args(Objective) if objective not in LABELLED)

# Part of the identity of what earlier versions read otherwise, and of every labelled corpus: another way of reading
# makes other runs. The former one is that of a corpus in which it found what the present one finds.
_READING, _FORMER_READING = 2, 1


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
    """Identity of the content as it is read, whatever its files are called: see `identity`."""
    train_tokens: int
    valid_tokens: int
    """0 where there is no such split: see `cut`."""
    test_tokens: int
    files: dict[str, str] = field(default_factory=dict)
    """SHA-1 of each file of the folder, by its name there."""

    def verified(self) -> list[Path]:
        """The files, none of a built-in corpus. Raises `RuntimeError` if they have changed or gone since found."""
        paths = [self.folder / name for name in self.files] if self.folder else []
        try:
            found = {path.name: sha1_of(path.read_bytes()) for path in paths}
        except OSError as error:
            raise RuntimeError(
                f"{error.filename} was found earlier and cannot be read now: {error.strerror}"
            ) from error
        if wrong := [
            f"{n} has SHA-1 {sha1}, not {self.files[n]}" for n, sha1 in found.items() if sha1 != self.files[n]
        ]:
            raise RuntimeError(f"the text in {self.folder} is not the one that was found: {', '.join(wrong)}")
        return paths

    def at(self, folder: Path) -> CorpusFiles:
        """The same corpus in another folder."""
        return replace(self, folder=folder)


def identity(texts: Mapping[str, str], objective: str, level: str) -> str:
    """Return the SHA-1 of a corpus of these parts, as it is read at ``level`` for ``objective``.

    It is that of lines, each ended by a newline: the hexadecimal SHA-1s of train, valid and test, or of the one text;
    then how it is read, where it is labelled or that has changed. A byte-order mark is not part of a text.
    """
    parts = [texts[part] for part in ((TEXT,) if TEXT in texts else SPLITS)]
    lines = [sha1_of(text.encode()) for text in parts]
    changed = level == "word" and any(map(plain_text.was_read_otherwise, parts))
    if objective in LABELLED:
        lines.append(f"{objective} {_READING if changed else _FORMER_READING}")
    elif changed:
        lines.append(f"{level} {_READING}")
    return sha1_of("".join(f"{line}\n" for line in lines).encode())


def describe(
    dataset: str,
    folder: Path | None,
    contents: Mapping[str, bytes],
    *,
    files: Mapping[str, str],
    objective: str,
    level: str,
) -> CorpusFiles:
    """Measure a corpus of three splits or one part: 0.3 s for WikiText-2.

    ``files`` gives the name of each part's file. Raises `UserError` if a part is not UTF-8, holds no words or is not in
    the objective's form, with its file and line.
    """
    places = {part: str(folder / files[part]) if folder else f"{dataset}'s {part}" for part in contents}
    texts = {part: plain_text.decode(content, places[part]) for part, content in contents.items()}
    for part, text in texts.items():
        if not text or text.isspace():
            raise UserError(f"{places[part]} holds no words: each of the three files needs some text")
    if objective in LABELLED:
        train, valid, test = labelled.measure({places[split]: texts[split] for split in SPLITS}, objective)
    elif TEXT in texts:
        train, valid, test = cut(count_tokens(texts[TEXT], level), objective)
    else:
        train, valid, test = (count_tokens(texts[split], level) for split in SPLITS)
    sha1s = {name: sha1_of(contents[part]) for part, name in files.items()}
    return CorpusFiles(dataset, folder, identity(texts, objective, level), train, valid, test, sha1s)


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
