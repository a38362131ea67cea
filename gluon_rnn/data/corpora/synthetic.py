"""A built-in corpus: text of an invented language, the same bytes on every machine.

It is used when no real text is available, and for tests and demonstrations without a network. Its statistics separate
the usual models within a minute of training:

* word frequencies fall off like Zipf's law, so a unigram model beats guessing;
* every clause follows a fixed order of word classes, so a bigram model beats a unigram model by far;
* each line keeps to one topic, and each sentence ends with the particle that its first word asks for. Words common to
  all topics stand between the words of a topic, so a bigram model loses the thread where a recurrent one can hold it.

For classification and tagging it is a language of the same grammar with fewer words, which mean different things: any
may be a noun, a verb or an adjective, so that a tag is told by what stands around a word, but not always; and the
topics have all of them, each with other favourites, so that a sentence's topic can be made out, but not always.

All chance comes from numpy's ``RandomState(seed).random_sample()``, whose stream numpy froze for good (NEP 19,
"Random Number Generator Policy"). The rest is integers, sums, products and quotients: no platform's ``pow`` or
``exp`` can change a word.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate, islice

from gluon_rnn.data.corpora.content import UNKNOWN
from gluon_rnn.data.corpora.labelled import Sequence, write

NAME = "synthetic"
SEED = 2016
# The least number of tokens in each split, one <eos> a line included; a split ends with the line that reaches it.
MIN_TOKENS = {"train": 100_000, "valid": 10_000, "test": 10_000}

TOPICS = 8
NOUNS, VERBS, ADJECTIVES = 70, 30, 30  # of each topic
DETERMINERS, AUXILIARIES, PREPOSITIONS = 6, 6, 8  # of the whole language
MOODS = 6  # an opening word and a closing particle for each
UNKNOWN_RATE = 0.02  # of the words of a topic
BLANK_RATE = 0.1  # of the lines

SEQUENCES = {"train": 2_000, "valid": 400, "test": 400}  # of a labelled corpus
LABELLED_TOPICS = 3
LABELLED_WORDS = 60  # any of which may be a noun, a verb or an adjective of any topic

Draw = Callable[[], str]
Tagged = tuple[str, str]
"""A word and its class."""


def generate(objective: str = "language_model") -> dict[str, bytes]:
    """Return the UTF-8 text of the splits ``train``, ``valid`` and ``test``; the same at every call (about 0.2 s).

    For ``classification`` and ``tagging`` it is a sentence a sequence, in the form of `corpora.labelled`; the
    labels are topics and word classes.
    """
    from numpy.random import RandomState

    uniform = RandomState(SEED).random_sample
    if objective in ("classification", "tagging"):
        labelled = _Language(uniform, topics=LABELLED_TOPICS, shared=LABELLED_WORDS)
        return {
            split: write([labelled.labelled(objective) for _ in range(count)], objective)
            for split, count in SEQUENCES.items()
        }
    language = _Language(uniform)
    return {split: language.text(least).encode() for split, least in MIN_TOKENS.items()}


class _Language:
    """Words and grammar. ``uniform`` gives the next random number in [0, 1).

    ``shared`` is how many words the topics and classes have in common; None: none. If they have any, half of what
    describes a noun is another noun, which nothing around it tells from an adjective.
    """

    def __init__(self, uniform: Callable[[], float], *, topics: int = TOPICS, shared: int | None = None) -> None:
        self._uniform = uniform
        self._compounds = 0.5 if shared else 0.0
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        short_words = iter(sorted(syllables, key=lambda _: uniform()))
        long_words = iter(sorted((a + b for a in syllables for b in syllables), key=lambda _: uniform()))

        def take(count: int, words: Iterator[str]) -> list[str]:
            return list(islice(words, count))

        self._determiner = self._zipf(take(DETERMINERS, short_words))
        self._auxiliary = self._zipf(take(AUXILIARIES, short_words))
        self._preposition = self._zipf(take(PREPOSITIONS, short_words))
        openers, closers = take(MOODS, short_words), take(MOODS, short_words)
        self._opener = self._zipf(openers)
        self._closer = dict(zip(openers, closers, strict=True))
        common = take(shared or 0, long_words)

        def content_words(count: int) -> list[str]:
            return sorted(common, key=lambda _: uniform()) if shared else take(count, long_words)

        self._topics = [
            [self._zipf(content_words(count), UNKNOWN_RATE) for count in (NOUNS, VERBS, ADJECTIVES)]
            for _ in range(topics)
        ]

    def _zipf(self, words: list[str], unknown_rate: float = 0.0) -> Draw:
        """Return a function that draws one of ``words``, each as likely as 1 / its rank, or now and then ``<unk>``."""
        *inner, total = accumulate(1 / rank for rank in range(1, len(words) + 1))

        def draw() -> str:
            if unknown_rate and self._uniform() < unknown_rate:
                return UNKNOWN
            return words[bisect(inner, self._uniform() * total)]

        return draw

    def _sentence(self, noun: Draw, verb: Draw, adjective: Draw) -> list[Tagged]:
        def attribute() -> Tagged:
            if self._compounds and self._uniform() < self._compounds:
                return noun(), "noun"
            return adjective(), "adjective"

        def noun_phrase() -> list[Tagged]:
            described = [attribute()] if self._uniform() < 0.25 else []
            return [(self._determiner(), "determiner"), *described, (noun(), "noun")]

        opener = self._opener()
        words = [(opener, "opener"), *noun_phrase(), (self._auxiliary(), "auxiliary"), (verb(), "verb"), *noun_phrase()]
        while self._uniform() < 0.4:
            words += [(self._preposition(), "preposition"), *noun_phrase()]
        return [*words, (self._closer[opener], "closer"), (".", "stop")]

    def _line(self) -> list[Tagged]:
        if self._uniform() < BLANK_RATE:
            return []
        topic = self._topics[int(self._uniform() * len(self._topics))]
        words = self._sentence(*topic)
        while self._uniform() < 0.7:
            words += self._sentence(*topic)
        return words

    def text(self, least: int) -> str:
        """Return whole lines with ``least`` tokens or a few more, counting one <eos> a line."""
        lines: list[str] = []
        tokens = 0
        while tokens < least:
            words = self._line()
            tokens += len(words) + 1
            lines.append(" ".join(word for word, _ in words) + "\n")
        return "".join(lines)

    def labelled(self, objective: str) -> Sequence:
        """Return a sentence with its topic or with the classes of its words."""
        topic = int(self._uniform() * len(self._topics))
        words, tags = map(list, zip(*self._sentence(*self._topics[topic]), strict=True))
        return Sequence(words, [f"topic-{topic + 1}"] if objective == "classification" else tags)
