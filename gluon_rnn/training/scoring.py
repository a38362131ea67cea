"""Scoring: loss, accuracy and predictions of a model on batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mxnet as mx
import numpy as np

from gluon_rnn.data.batches import Batch, Shard
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.progress import Confusion, LossTotal, Prediction
from gluon_rnn.training.decoder import LOGITS_IN_A_BLOCK, log_probabilities
from gluon_rnn.training.objectives import Objective

#: Of a confusion matrix, which has a row and a column for each.
MOST_LABELS = 100


def initial_state(model: SequenceModel, shard: Shard) -> States:
    """The state before the first step of `shard`: zeros, on its device."""
    return model.begin_state(shard.inputs.shape[1], shard.inputs.context)


@dataclass(frozen=True)
class Score:
    """A model's loss and predictions on batches.

    Attributes:
        loss: over all targets that count.
        labels: those targets, where predictions were asked for.
        predictions: the most probable class for each of them.
    """

    loss: LossTotal
    labels: np.ndarray[Any, Any] | None = None
    predictions: np.ndarray[Any, Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """The fraction of targets that were predicted correctly."""
        return None if self.labels is None else float(np.mean(self.labels == self.predictions))


class Scorer(Protocol):
    """Scores the labels of a batch that the network has read. Batches arrive in order."""

    def __call__(
        self, units: mx.nd.NDArray, labels: mx.nd.NDArray, state: States
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray | None]:
        """Score `labels`.

        Args:
            units: what the network has read for each label, (rows, columns, units).
            labels: ids, (rows, columns).
            state: of the network after the batch.

        Returns:
            The nats of each label, (rows * columns,), and the predicted classes, or None.
        """


class SoftmaxScorer:
    """The softmax of the model's decoder.

    All blocks are decoded into one array. With an array for each, Python, which runs ahead of the device, had MXNet
    1.9.1 hold those of a whole batch: 600 MB more at 5,600 targets and 33,278 classes.

    Args:
        model: whose decoder is used.
        predicts: whether to find the most probable class for each label, too.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
    """

    def __init__(
        self, model: SequenceModel, *, predicts: bool = False, logits_in_a_block: int = LOGITS_IN_A_BLOCK
    ) -> None:
        self._weight, self._bias = model.decoder[0].weight, model.decoder[0].bias
        self._predicts = predicts
        self._block_size = max(1, logits_in_a_block // self._weight.shape[0])
        self._decoded: mx.nd.NDArray | None = None

    def __call__(
        self, units: mx.nd.NDArray, labels: mx.nd.NDArray, state: States
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray | None]:
        """See `Scorer`."""
        context, rows, flat_labels = units.context, units.reshape((-3, 0)), labels.reshape((-1,))
        weight, bias = self._weight.data(context), self._bias.data(context)
        size = min(self._block_size, len(rows))
        if self._decoded is None or len(self._decoded) < size:
            self._decoded = mx.nd.empty((size, weight.shape[0]), ctx=context)
        nats: list[mx.nd.NDArray] = []
        predictions: list[mx.nd.NDArray] = []
        for block in (slice(first, first + size) for first in range(0, len(rows), size)):
            block_units = rows[block]
            scores = log_probabilities(block_units, weight, bias, out=self._decoded[: len(block_units)])
            nats.append(-mx.nd.pick(scores, flat_labels[block]))
            if self._predicts:
                predictions.append(scores.argmax(axis=1))
        return mx.nd.concat(*nats, dim=0), mx.nd.concat(*predictions, dim=0) if self._predicts else None


def evaluate(
    model: SequenceModel, batches: Sequence[Batch], *, carries_state: bool = True, scorer: Scorer | None = None
) -> Score:
    """Score every target of `batches` once; only the end waits for the device.

    Args:
        batches: each on one device.
        carries_state: as in `train_epoch`.
        scorer: None: the softmax of the decoder, without predictions.
    """
    scored = list(_scored(model, batches, carries_state=carries_state, scorer=scorer or SoftmaxScorer(model)))
    # A sum of 200,000 losses in float32 would lose digits.
    nats = float(mx.nd.concat(*(nats for nats, _ in scored), dim=0).asnumpy().sum(dtype=np.float64))
    total = LossTotal(nats, sum(batch.targets for batch in batches))
    if any(predictions is None for _, predictions in scored):
        return Score(total)
    counted = np.concatenate([target_mask(shard).ravel() for batch in batches for shard in batch.shards])
    labels = np.concatenate([shard.targets.asnumpy().ravel() for batch in batches for shard in batch.shards])
    found = mx.nd.concat(*(predictions for _, predictions in scored), dim=0).asnumpy().astype(np.int32)
    return Score(total, labels[counted], found[counted])


def _scored(
    model: SequenceModel, batches: Sequence[Batch], *, carries_state: bool, scorer: Scorer
) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray | None]]:
    """What `scorer` says of each batch; targets that do not count have no nats."""
    state: States = []
    for batch in batches:
        (shard,) = batch.shards
        if not state or not carries_state:
            state = initial_state(model, shard)
        units, _, state = model.read(shard, state)
        nats, predictions = scorer(units, shard.targets, state)
        yield (nats if shard.weights is None else nats * shard.weights.reshape((-1,))), predictions


def target_mask(shard: Shard) -> np.ndarray[Any, Any]:
    """Which targets count, as `Shard.targets` is laid out."""
    if shard.weights is None:
        return np.ones(shard.targets.shape, dtype=bool)
    weights: np.ndarray[Any, Any] = shard.weights.asnumpy()
    return weights > 0


def unigram_loss(training: Sequence[Batch], scored: Sequence[Batch], classes: int) -> float:
    """Nats a target of `scored` under the unigram model of the targets of `training`.

    The unigram model knows the frequency of each of the `classes` and ignores the input. It is estimated by maximum
    likelihood with one added to every count: a target has the probability (its count in `training` + 1) / (their number
    + `classes`). Padding is not counted.
    """
    train_counts, scored_counts = (_target_counts(batches, classes) for batches in (training, scored))
    return float(scored_counts @ -np.log((train_counts + 1) / (train_counts.sum() + classes)) / scored_counts.sum())


def _target_counts(batches: Sequence[Batch], classes: int) -> np.ndarray[Any, Any]:
    """How often each of the `classes` is a target that counts, (classes,)."""
    shards = [shard for batch in batches for shard in batch.shards]
    targets = [shard.targets.asnumpy()[target_mask(shard)] for shard in shards]
    return np.bincount(np.concatenate(targets), minlength=classes)


def predict(model: SequenceModel, objective: Objective, *, joined_by: str) -> tuple[Prediction, ...]:
    """The predictions of `model` for an objective's examples, beside the true labels.

    Args:
        joined_by: what stands between two tokens: a blank between words, nothing between characters.
    """
    scorer = SoftmaxScorer(model, predicts=True)
    scored = _scored(model, objective.examples, carries_state=objective.carries_state, scorer=scorer)
    # A text's batches go on from one another; other examples are all in one.
    columns: list[tuple[list[str], list[str], list[str]]] = []
    for batch, (_, predictions) in zip(objective.examples, scored, strict=True):
        (shard,) = batch.shards
        assert predictions is not None
        columns = columns or [([], [], []) for _ in range(shard.inputs.shape[1])]
        inputs, targets, counted = shard.inputs.asnumpy(), shard.targets.asnumpy(), target_mask(shard)
        found = predictions.asnumpy().astype(int).reshape(targets.shape)
        read = _input_mask(shard)
        for place, (text, labels, predicted) in enumerate(columns):
            text += [objective.tokens[item] for item in inputs[read[:, place], place]]
            labels += [objective.classes[item] for item in targets[counted[:, place], place]]
            predicted += [objective.classes[item] for item in found[counted[:, place], place]]
    between = " " if objective.labelled else joined_by
    return tuple(
        Prediction(text=joined_by.join(text), truth=between.join(labels), predicted=between.join(predicted))
        for text, labels, predicted in columns
    )


def _input_mask(shard: Shard) -> np.ndarray[Any, Any]:
    """Which inputs are not padding, as `Shard.inputs` is laid out."""
    if shard.lengths is not None:
        mask: np.ndarray[Any, Any] = np.arange(len(shard.inputs))[:, None] < shard.lengths.asnumpy()
        return mask
    if shard.weights is not None:
        return target_mask(shard)
    return np.ones(shard.inputs.shape, dtype=bool)


def confusion(score: Score, labels: Sequence[str]) -> Confusion | None:
    """The confusion matrix of `score`; None where there are more than `MOST_LABELS` labels."""
    if score.labels is None or score.predictions is None or len(labels) > MOST_LABELS:
        return None
    pairs = np.bincount(score.labels.astype(int) * len(labels) + score.predictions, minlength=len(labels) ** 2)
    return Confusion(tuple(labels), tuple(map(tuple, pairs.reshape(len(labels), -1).tolist())))
