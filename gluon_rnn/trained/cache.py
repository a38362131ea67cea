"""Scoring with a neural cache (Grave, Joulin and Usunier, arXiv 1612.04426).

A cache stores the decoder's input h_i at each of the last tokens, and the token x_{i+1} that followed. The next token's
probability is (1 - lambda) p_model + lambda p_cache, where p_cache(w) is the sum of exp(theta h_t . h_i) over the
places i with x_{i+1} = w, divided by that over all places of the window.

GluonNLP 0.10's ``CacheCell`` computes the same, with four differences: it waits until more than `window` tokens lie
behind, where this one uses as many as there are; of a later batch it has kept just `window`, and so uses no cache at
the first token; its script divides the nats by one token more than it scores; and it writes the window out as one-hot
rows, 266 MB at a window of 2,000 and 33,278 words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.data.batches import Batch
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.progress import LossTotal
from gluon_rnn.training.scoring import SoftmaxScorer, evaluate, target_mask

Array = np.ndarray[Any, Any]

#: What a search tries.
THETAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.662, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
LAMBDAS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.1279, *(n / 50 for n in range(7, 26)))
#: Queries that are looked up at once: a block's scores, 0.5 MB at a window of 2,000, then stay in a core's cache.
_BLOCK = 64


@dataclass(frozen=True)
class CacheScores:
    """The result of one pass with several caches.

    Attributes:
        plain: without any.
        nats: total for each theta and lambda, float64, (thetas, lambdas).
    """

    plain: LossTotal
    nats: Array


def score_with_caches(
    model: SequenceModel, batches: Sequence[Batch], *, window: int, thetas: Sequence[float], lambdas: Sequence[float]
) -> CacheScores:
    """Score every target of `batches` with a cache of each theta and lambda, in one pass of the model.

    The products h_t . h_i depend on neither, and p_cache not on lambda, so that a grid costs little more than a point.

    Args:
        model: a language model.
        batches: of one text, each on one device; the state is carried. Each column has a cache of its own.
        window: tokens that a cache remembers, at least 1.
        thetas: above 0.
        lambdas: from 0 to 1.
    """
    scorer = _Scorer(model, window, np.asarray(thetas, dtype=np.float32))
    plain = evaluate(model, batches, scorer=scorer).loss
    counted = np.concatenate([target_mask(shard).ravel() for batch in batches for shard in batch.shards])
    of_model, of_caches = (np.concatenate(parts, axis=-1)[..., counted] for parts in (scorer.model, scorer.caches))
    nats = np.empty((len(thetas), len(lambdas)))
    # A cache alone gives unseen words the probability 0, hence infinitely many nats.
    with np.errstate(divide="ignore"):
        for row, of_cache in zip(nats, of_caches, strict=True):
            row[:] = [-np.log((1 - share) * of_model + share * of_cache).sum() for share in lambdas]
    return CacheScores(plain, nats)


class _Scorer:
    """Scores by the decoder's softmax and records the caches' probabilities: a `gluon_rnn.training.scoring.Scorer`.

    Attributes:
        model: the model's probabilities of the targets of each batch, float64, (rows * columns,).
        caches: those of the cache with each theta, (thetas, rows * columns).
    """

    def __init__(self, model: SequenceModel, window: int, thetas: Array) -> None:
        self._softmax = SoftmaxScorer(model)
        self._window = window
        self._thetas = thetas
        self._columns: list[_Column] = []
        self.model: list[Array] = []
        self.caches: list[Array] = []

    def __call__(self, units: mx.nd.NDArray, labels: mx.nd.NDArray, state: States) -> tuple[mx.nd.NDArray, None]:
        """See `gluon_rnn.training.scoring.Scorer`."""
        nats, _ = self._softmax(units, labels, state)
        probabilities = np.exp(-nats.asnumpy().astype(np.float64)).reshape(labels.shape)
        read, words = units.asnumpy(), labels.asnumpy()
        self._columns = self._columns or [_Column(self._window, read.shape[2]) for _ in range(words.shape[1])]
        found = [
            column.look_up(read[:, place], words[:, place], self._thetas, probabilities[:, place])
            for place, column in enumerate(self._columns)
        ]
        self.model.append(probabilities.ravel())
        self.caches.append(np.stack(found, axis=-1).reshape(len(self._thetas), -1))
        return nats, None


class _Column:
    """The cache of one text: the recent tokens' hidden states, and the tokens that followed."""

    def __init__(self, window: int, units: int) -> None:
        self._window = window
        self._keys = np.empty((0, units), dtype=np.float32)
        self._words = np.empty(0, dtype=np.int32)

    def look_up(self, units: Array, words: Array, thetas: Array, otherwise: Array) -> Array:
        """The cache's probability of each of `words` just before that word; then all are remembered.

        Args:
            units: what is read before each word, (words, units).
            words: ids, (words,).
            thetas: float32, (thetas,).
            otherwise: what to say while the cache is empty, (words,).

        Returns:
            float64, (thetas, words).
        """
        keys, known = np.concatenate([self._keys, units]), np.concatenate([self._words, words])
        found = np.empty((len(thetas), len(words)))
        for first in range(0, len(words), _BLOCK):
            block = slice(first, min(first + _BLOCK, len(words)))
            # The places of the block's words and of all that any of them remembers.
            queries = np.arange(block.start, block.stop)[:, None] + len(self._keys)
            places = np.arange(max(0, queries[0, 0] - self._window), queries[-1, 0] + 1)
            remembered = (places < queries) & (places >= queries - self._window)
            scores = np.where(remembered, units[block] @ keys[places[0] : places[-1] + 1].T, -np.inf)
            # An empty cache has no largest score.
            largest = scores.max(axis=1, keepdims=True, initial=np.finfo(np.float32).min)
            scores -= largest
            rows, hits = np.nonzero((known[places] == words[block, None]) & remembered)
            for theta, row in zip(thetas, found, strict=True):
                weights = np.exp(theta * scores)
                of_words = np.bincount(rows, weights[rows, hits], minlength=len(weights))
                total = weights.sum(axis=1)
                row[block] = np.divide(of_words, total, out=otherwise[block].copy(), where=total > 0)
        self._keys, self._words = keys[-self._window :], known[-self._window :]
        return found
