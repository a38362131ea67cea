"""A vocabulary, and the labels of a corpus that has some, as JSON: ``vocabulary.json`` of a run."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import gluonnlp

from gluon_rnn.common.files import seal, unseal


class Words(NamedTuple):
    """What a model reads and, if those are labels, what it predicts.

    Attributes:
        vocabulary: the tokens.
        labels: in the order of their ids; None: what is predicted are tokens, or the file of an earlier version did not
            keep them.
    """

    vocabulary: gluonnlp.Vocab
    labels: tuple[str, ...] | None = None


def as_json(words: Words) -> str:
    """Sealed JSON: GluonNLP's own of the vocabulary, whose ``idx_to_token`` lists the tokens by id, and ``labels``."""
    content: dict[str, Any] = {"vocabulary": json.loads(words.vocabulary.to_json())}
    if words.labels is not None:
        content["labels"] = words.labels
    return seal(content)


def parse(text: bytes) -> Words:
    """What `as_json` was given.

    Raises:
        ValueError, KeyError: `text` is not what it wrote.
    """
    content = unseal(text)
    vocabulary = content["vocabulary"]
    if not isinstance(vocabulary, str):  # as the first versions had it: JSON inside JSON
        vocabulary = json.dumps(vocabulary)
    labels = content.get("labels")
    return Words(gluonnlp.Vocab.from_json(vocabulary), None if labels is None else tuple(labels))
