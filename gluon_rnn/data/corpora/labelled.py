"""Labelled corpora as three splits of plain text, and how these are read: a user's own, and whatever is made into such.

* ``classification``: a sequence a line, ``label<TAB>words``;
* ``tagging``: a token a line, ``word tag``, and a blank line between sequences.

Blanks are spaces and tabs; lines end where `gluon_rnn.common.plain_text.lines` ends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError


class Sequence(NamedTuple):
    """Words, and one label for all of them (classification) or one for each (tagging)."""

    words: list[str]
    labels: list[str]


def measure(texts: Mapping[str, str], objective: str) -> list[int]:
    """Return how many words train, valid and test hold, whose texts are given in this order by what people call them.

    Raises:
        UserError: a line is not in the objective's form, or train lacks a class of valid or test; with file and line.
    """
    sizes: list[int] = []
    known: set[str] = set()
    for place, text in texts.items():
        sequences = parse(text, objective, place)
        labels = {label for sequence in sequences for label in sequence.labels}
        if not sizes:
            known = labels
            if len(known) < 2:
                raise UserError(f"{place} has one label only, {next(iter(known))}: there is nothing to tell apart")
        elif objective == "classification" and (strange := labels - known):
            raise UserError(f"{place} has the label {min(strange)}, which the training text has not: add it there")
        sizes.append(sum(len(sequence.words) for sequence in sequences))
    return sizes


def parse(text: str, objective: str, place: str) -> list[Sequence]:
    """Return the sequences of a split.

    Raises:
        UserError: a line is not in the objective's form; ``place`` is what its file is called.
    """
    return (_classified if objective == "classification" else _tagged)(plain_text.lines(text), place)


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
            raise UserError(f"line {number} of {place} is not label, tab and words, as objective=classification needs")
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
            raise UserError(f"line {number} of {place} is not word, blank and tag, as objective=tagging needs")
    return [sequence for sequence in sequences if sequence.words]
