"""The corpora that are known by name."""

from __future__ import annotations

from collections.abc import Callable

from gluon_rnn.data.corpora import airline_tweets, conll2000, nietzsche, synthetic, wikitext2
from gluon_rnn.data.corpora.content import SPLITS, TEXT_OBJECTIVES
from gluon_rnn.data.corpora.facts import Published

PUBLISHED: dict[str, Published] = {
    module.CORPUS.name: module.CORPUS for module in (wikitext2, nietzsche, airline_tweets, conll2000)
}
#: Which of them ``auto`` means.
OWN = {
    "language_model": wikitext2.CORPUS,
    "next_token": nietzsche.CORPUS,
    "classification": airline_tweets.CORPUS,
    "tagging": conll2000.CORPUS,
}
HIHELLO = "hihello"
#: What makes their splits for an objective.
BUILT_IN: dict[str, Callable[[str], dict[str, bytes]]] = {
    # What a first network learns to spell: "hihell" is to be followed by "ihello".
    HIHELLO: lambda objective: dict.fromkeys(SPLITS, b"hihello"),
    synthetic.NAME: synthetic.generate,
}
NAMES = (*PUBLISHED, *BUILT_IN, "auto")
#: Of whose characters each has an id, wherever in the text it stands; and those among them that are padded as well.
ALPHABETS, PADDED = (nietzsche.NAME, HIHELLO), (nietzsche.NAME,)


def objectives(name: str) -> tuple[str, ...]:
    """Return the objectives of a corpus that is known by name."""
    if name in PUBLISHED:
        return PUBLISHED[name].objectives
    return TEXT_OBJECTIVES if name == HIHELLO else tuple(OWN)
