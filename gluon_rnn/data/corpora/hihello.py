"""The word that a first network learns to spell: seven characters, of which "hihell" is to be followed by "ihello"."""

from __future__ import annotations

from gluon_rnn.data.corpora.content import SPLITS

NAME = "hihello"


def generate() -> dict[str, bytes]:
    """Return the same seven characters for train, valid and test."""
    return dict.fromkeys(SPLITS, b"hihello")
