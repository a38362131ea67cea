"""The objectives: the batches of a corpus for training and for scoring."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from gluonnlp.data import FixedBucketSampler

from gluon_rnn.config.run import LABELLED, RunConfig
from gluon_rnn.data.batches import Batch, columns, random_windows, sequence_batches, token_windows, training_windows
from gluon_rnn.data.corpora.encoded import Corpus, Ids, Sequences

#: The share of windows held out at random from a corpus without splits, as in fast.ai's lesson on characters (2018,
#: lesson 6).
HELD_OUT = 0.2
#: A fixed seed, so that every run scores the same windows.
_HELD_OUT_SEED = 0
#: What is predicted of these stands beside the truth in a record.
_EXAMPLES = 8
_EXAMPLE_TOKENS = 36


@dataclass(frozen=True)
class Objective:
    """The batches of a corpus for a configuration's objective.

    Attributes:
        training: the batches of one epoch; what is shuffled is drawn from ``np.random``.
        valid: the batches that are scored after each epoch.
        test: and when validation improved; none where the corpus has no test.
        examples: a few sequences of test, or of validation, whose predictions are shown.
        tokens: of inputs, by id.
        classes: of targets, by id.
        labelled: whether the targets are labels, not tokens of the text.
        carries_state: whether a batch goes on where the one before it ended.
        measures_accuracy: whether accuracy is measured; of a language model of words it is not.
        train_tokens: read in one epoch.
        train_sequences: that they are cut into.
    """

    training: Callable[[], Sequence[Batch]]
    valid: Sequence[Batch]
    test: Sequence[Batch]
    examples: Sequence[Batch]
    tokens: Sequence[str]
    classes: Sequence[str]
    labelled: bool
    carries_state: bool
    measures_accuracy: bool
    train_tokens: int
    train_sequences: int


def build_objective(
    config: RunConfig, corpus: Corpus, contexts: Sequence[mx.Context], *, scored: bool = True
) -> Objective:
    """The objective of `config` on `corpus`.

    Args:
        contexts: the devices that share each batch; the first scores.
        scored: whether anything will be scored; False: make only what is trained on.

    Raises:
        ValueError: the corpus does not fill one window, or the batch cannot be shared equally.
    """
    if config.objective in LABELLED:
        return _labelled(config, corpus, contexts, scored)
    if config.objective == "next_token":
        return _next_token(config, corpus, contexts, scored)
    return _language_model(config, corpus, contexts, scored)


def _language_model(config: RunConfig, corpus: Corpus, contexts: Sequence[mx.Context], scored: bool) -> Objective:
    train, valid, test = (_text(split) for split in (corpus.train, corpus.valid, corpus.test))
    sizes: Any = {"bptt": config.bptt, "batch_size": config.batch_size, "contexts": contexts}
    if config.random_bptt:
        training = random_windows(train, **sizes)
        # Of windows around bptt, whichever an epoch draws.
        per_column = len(train) // config.batch_size - 1
        tokens, windows = per_column * config.batch_size, math.ceil(per_column / config.bptt)
    else:
        lay = training_windows if config.last_batch == "discard" else columns
        laid = lay(train, **sizes)
        training = laid.copy
        tokens, windows = sum(window.tokens for window in laid), len(laid)

    def score(ids: Ids, batch_size: int) -> Sequence[Batch]:
        return columns(ids, bptt=config.eval_bptt, batch_size=batch_size, contexts=contexts[:1]) if scored else ()

    return Objective(
        training=training,
        valid=score(valid, config.eval_batch_size),
        test=score(test, config.eval_batch_size),
        examples=score(test[:_EXAMPLE_TOKENS], 1),
        tokens=corpus.vocab.idx_to_token,
        classes=corpus.vocab.idx_to_token,
        labelled=False,
        carries_state=True,
        measures_accuracy=config.level == "character",
        train_tokens=tokens,
        train_sequences=windows * config.batch_size,
    )


def _next_token(config: RunConfig, corpus: Corpus, contexts: Sequence[mx.Context], scored: bool) -> Objective:
    def starts(ids: Ids) -> Ids:
        found = np.arange(0, len(ids) - config.bptt, config.stride)
        if not len(found):
            raise ValueError(f"{len(ids)} tokens hold no window of {config.bptt} and the token after it")
        return found

    def windows(ids: Ids, starts: Ids, batch_size: int, contexts: Sequence[mx.Context]) -> list[Batch]:
        return token_windows(ids, starts, steps=config.bptt, batch_size=batch_size, contexts=contexts)

    train, test = _text(corpus.train), None
    trained = starts(train)
    if corpus.valid is None:
        shuffled = np.random.RandomState(_HELD_OUT_SEED).permutation(trained)
        count = round(HELD_OUT * len(shuffled))
        if not 0 < count < len(shuffled):
            raise ValueError(f"of {len(shuffled)} windows none can be held out for validation")
        valid, trained = (train, np.sort(shuffled[:count])), np.sort(shuffled[count:])
    else:
        valid, test = ((ids, starts(ids)) for ids in (_text(corpus.valid), _text(corpus.test)))

    def score(split: tuple[Ids, Ids] | None, *, first: int | None = None) -> list[Batch]:
        if split is None or not scored:
            return []
        return windows(split[0], split[1][:first], config.eval_batch_size, contexts[:1])

    return Objective(
        training=lambda: windows(train, np.random.permutation(trained), config.batch_size, contexts),
        valid=score(valid),
        test=score(test),
        examples=score(test or valid, first=_EXAMPLES)[:1],
        tokens=corpus.vocab.idx_to_token,
        classes=corpus.vocab.idx_to_token,
        labelled=False,
        carries_state=False,
        measures_accuracy=True,
        train_tokens=len(trained) * config.bptt,
        train_sequences=len(trained),
    )


def _labelled(config: RunConfig, corpus: Corpus, contexts: Sequence[mx.Context], scored: bool) -> Objective:
    train, valid, test = corpus.train, corpus.valid, corpus.test
    assert isinstance(train, Sequences)
    assert isinstance(valid, Sequences)
    assert isinstance(test, Sequences)
    assert corpus.labels is not None

    def batches(split: Sequences, batch_size: int, *, shuffle: bool) -> Sequence[Sequence[int]]:
        # Created for each epoch: a sampler that continues from the previous order would differ in a resumed run.
        with warnings.catch_warnings():
            # Of buckets that no sequence falls into, which GluonNLP leaves out.
            warnings.filterwarnings("ignore", "Some buckets are empty")
            return list(FixedBucketSampler(split.lengths.tolist(), batch_size, shuffle=shuffle))

    def score(split: Sequences) -> list[Batch]:
        if not scored:
            return []
        order = batches(split, config.eval_batch_size, shuffle=False)
        return sequence_batches(split, order, contexts=contexts[:1])

    def training() -> list[Batch]:
        order = batches(train, config.batch_size, shuffle=True)
        return sequence_batches(train, order, contexts=contexts)

    shown = [range(min(_EXAMPLES, len(test.lengths)))]
    return Objective(
        training=training,
        valid=score(valid),
        test=score(test),
        examples=sequence_batches(test, shown, contexts=contexts[:1]) if scored else (),
        tokens=corpus.vocab.idx_to_token,
        classes=corpus.labels.idx_to_token,
        labelled=True,
        carries_state=False,
        measures_accuracy=True,
        train_tokens=int(train.lengths.sum()),
        train_sequences=len(train.lengths),
    )


def _text(split: Ids | Sequences | None) -> Ids:
    assert isinstance(split, np.ndarray)
    return split
