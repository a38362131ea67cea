"""Labelled corpora as three splits of plain text, and how these are read: a user's own, and whatever is made into such.

* ``classification``: a sequence a line, ``label<TAB>words``;
* ``tagging``: a token a line, ``word tag``, and a blank line between sequences.

Blanks are spaces and tabs; lines end where `gluon_rnn.common.plain_text.lines` ends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora.content import SPLITS, CorpusFiles, content_sha1, sha1_of

# Part of every labelled corpus's identity: another way of reading makes other runs. The former one is that of a corpus
# in which it found what the present one finds.
_READING, _FORMER_READING = 2, 1


class Sequence(NamedTuple):
    """Words, and one label for all of them (classification) or one for each (tagging)."""

    words: list[str]
    labels: list[str]


def labelled_sha1(contents: Mapping[str, bytes], objective: str) -> str:
    """Return the identity of three splits read for ``objective``. A byte-order mark is no part of it."""
    texts = [plain_text.decode(contents[split], split) for split in SPLITS]
    reading = _READING if any(map(plain_text.was_read_otherwise, texts)) else _FORMER_READING
    return content_sha1([*(sha1_of(text.encode()) for text in texts), f"{objective} {reading}"])


def describe_labelled(
    dataset: str, folder: Path | None, contents: Mapping[str, bytes], *, files: Mapping[str, str], objective: str
) -> CorpusFiles:
    """Measure three splits, which must be UTF-8 and in the objective's form.

    Raises:
        UserError: a line that is not, or a class in valid or test that train has not; with file and line.
    """
    counts: dict[str, int] = {}
    known: set[str] = set()
    for split in SPLITS:
        place = str(folder / files[split]) if folder else f"{dataset}'s {split}"
        sequences = parse(contents[split], objective, place)
        labels = {label for sequence in sequences for label in sequence.labels}
        if split == "train":
            known = labels
            if len(known) < 2:
                raise UserError(f"{place} has one label only, {next(iter(known))}: there is nothing to tell apart")
        elif objective == "classification" and (strange := labels - known):
            raise UserError(f"{place} has the label {min(strange)}, which the training text has not: add it there")
        counts[split] = sum(len(sequence.words) for sequence in sequences)
    return CorpusFiles(
        dataset=dataset,
        folder=folder,
        sha1=labelled_sha1(contents, objective),
        train_tokens=counts["train"],
        valid_tokens=counts["valid"],
        test_tokens=counts["test"],
        files={name: sha1_of(contents[split]) for split, name in files.items()},
    )


def parse(content: bytes, objective: str, place: str) -> list[Sequence]:
    """Return the sequences of a split, of which there is at least one.

    Raises:
        UserError: it is not UTF-8 text, or a line is not in the objective's form; ``place`` is what its file is called.
    """
    lines = plain_text.lines(plain_text.decode(content, place))
    sequences = (_classified if objective == "classification" else _tagged)(lines, place)
    if not sequences:
        raise UserError(f"{place} holds no sequences: each of the three files needs some")
    return sequences


def write(sequences: Iterable[Sequence], objective: str) -> bytes:
    """Return what `parse` reads back."""
    if objective == "classification":
        return "".join(f"{labels[0]}\t{' '.join(words)}\n" for words, labels in sequences).encode()
    return "\n".join(
        "".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)) for words, tags in sequences
    ).encode()


def _classified(lines: list[str], place: str) -> list[Sequence]:
    sequences = []
    for number, line in enumerate(lines, 1):
        label, _, text = line.partition("\t")
        label, words = label.strip(" "), plain_text.words(text)
        if label and words:
            sequences.append(Sequence(words, [label]))
        elif plain_text.words(line):
            raise UserError(f"line {number} of {place} is no label, tab and words, as objective=classification needs")
    return sequences


def _tagged(lines: list[str], place: str) -> list[Sequence]:
    sequences = [Sequence([], [])]
    for number, line in enumerate(lines, 1):
        columns = plain_text.words(line)
        if not columns:
            sequences.append(Sequence([], []))
        elif len(columns) == 2:
            sequences[-1].words.append(columns[0])
            sequences[-1].labels.append(columns[1])
        else:
            raise UserError(f"line {number} of {place} is no word, blank and tag, as objective=tagging needs")
    return [sequence for sequence in sequences if sequence.words]
