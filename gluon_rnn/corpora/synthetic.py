"""A built-in corpus: text of an invented language, the same bytes on every machine.

It stands in where no real text can be had, and keeps tests and demonstrations offline. Its statistics bring out the
usual order of models within a minute of training:

* word frequencies fall off like Zipf's law, so a unigram model beats guessing;
* every clause follows a fixed order of word classes, so a bigram model beats a unigram model by far;
* each line keeps to one topic, and each sentence ends with the particle that its first word asks for. Words common to
  all topics stand between the words of a topic, so a bigram model loses the thread where a recurrent one can hold it.

All chance comes from numpy's ``RandomState(seed).random_sample()``, whose stream numpy froze for good (NEP 19,
"Random Number Generator Policy"). The rest is integers, sums, products and quotients: no platform's ``pow`` or
``exp`` can change a word.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate, islice

from gluon_rnn.corpora.content import UNKNOWN

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

Draw = Callable[[], str]


def generate() -> dict[str, bytes]:
    """Return the UTF-8 text of the splits ``train``, ``valid`` and ``test``; the same at every call (about 0.2 s)."""
    from numpy.random import RandomState

    language = _Language(RandomState(SEED).random_sample)
    return {split: language.text(least).encode() for split, least in MIN_TOKENS.items()}


class _Language:
    """Words and grammar. ``uniform`` gives the next random number in [0, 1)."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        self._uniform = uniform
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
        self._topics = [
            [self._zipf(take(count, long_words), UNKNOWN_RATE) for count in (NOUNS, VERBS, ADJECTIVES)]
            for _ in range(TOPICS)
        ]

    def _zipf(self, words: list[str], unknown_rate: float = 0.0) -> Draw:
        """Return a function that draws one of ``words``, each as likely as 1 / its rank, or now and then ``<unk>``."""
        *inner, total = accumulate(1 / rank for rank in range(1, len(words) + 1))

        def draw() -> str:
            if unknown_rate and self._uniform() < unknown_rate:
                return UNKNOWN
            return words[bisect(inner, self._uniform() * total)]

        return draw

    def _sentence(self, noun: Draw, verb: Draw, adjective: Draw) -> list[str]:
        def noun_phrase() -> list[str]:
            described = [adjective()] if self._uniform() < 0.25 else []
            return [self._determiner(), *described, noun()]

        opener = self._opener()
        words = [opener, *noun_phrase(), self._auxiliary(), verb(), *noun_phrase()]
        while self._uniform() < 0.4:
            words += [self._preposition(), *noun_phrase()]
        return [*words, self._closer[opener], "."]

    def _line(self) -> list[str]:
        if self._uniform() < BLANK_RATE:
            return []
        topic = self._topics[int(self._uniform() * TOPICS)]
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
            lines.append(" ".join(words) + "\n")
        return "".join(lines)
