"""The corpora that are known by name."""

from __future__ import annotations

from gluon_rnn.data.corpora import airline_tweets, conll2000, hihello, nietzsche, synthetic, wikitext2
from gluon_rnn.data.corpora.content import TEXT_OBJECTIVES
from gluon_rnn.data.corpora.published import Published

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
BUILT_IN = (hihello.NAME, synthetic.NAME)
NAMES = (*PUBLISHED, *BUILT_IN, "auto")
#: Of whose characters each has an id, wherever in the text it stands; and those among them that are padded as well.
ALPHABETS, PADDED = (nietzsche.NAME, hihello.NAME), (nietzsche.NAME,)


def generate(name: str, objective: str) -> dict[str, bytes]:
    """Return the splits of a built-in corpus."""
    return synthetic.generate(objective) if name == synthetic.NAME else hihello.generate()


def objectives(name: str) -> tuple[str, ...]:
    """Return what can be learnt from a corpus that is known by name."""
    if name in PUBLISHED:
        return PUBLISHED[name].objectives
    return TEXT_OBJECTIVES if name == hihello.NAME else tuple(OWN)
