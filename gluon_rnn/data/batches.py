"""Batches of ids for training and scoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np
from gluonnlp.data.batchify import CorpusBPTTBatchify

from gluon_rnn.data.corpora.encoded import Ids, Sequences

#: See `random_windows`: the share of windows of the whole length, the deviation, and the fewest steps.
_WHOLE, _DEVIATION, _SHORTEST = 0.95, 5, 5


class _Encoded:
    """Stands in for a ``Vocab`` where the text is ids already."""

    def __getitem__(self, ids: Ids) -> Ids:
        return ids


class Shard(NamedTuple):
    """One device's columns of a batch.

    Attributes:
        inputs: ids, int32, (steps, columns).
        targets: ids, int32, (rows, columns); a row a step, or a single row.
        weights: of the targets, float32, 0 or 1, (rows, columns); None: all count.
        lengths: steps that are not padding, float32, (columns,); None: there is no padding.
    """

    inputs: mx.nd.NDArray
    targets: mx.nd.NDArray
    weights: mx.nd.NDArray | None = None
    lengths: mx.nd.NDArray | None = None


@dataclass(frozen=True)
class Batch:
    """The data of one training or scoring step.

    Attributes:
        shards: a device's each.
        tokens: inputs that are not padding.
        targets: those that count, on all devices.
        labels: the targets on the host, int32, (rows, columns of all devices), for what must not wait for a device;
            None where no step is trained on them.
    """

    shards: Sequence[Shard]
    tokens: int
    targets: int
    labels: Ids | None = None


def training_windows(
    ids: Ids | Sequence[int], *, bptt: int, batch_size: int, contexts: Sequence[mx.Context]
) -> list[Batch]:
    """GluonNLP's ``CorpusBPTTBatchify(vocab, bptt, batch_size, last_batch='discard')``, moved to the devices once.

    Args:
        ids: the flat text.
        contexts: the devices; each gets as many neighbouring columns of the batch.

    Returns:
        Windows of (bptt, batch_size); the state runs on from window to window. Tokens that do not fill a whole window
        are left out, as in GluonNLP. All windows are views of one array on the device, so the training loop makes no
        copies.

    Raises:
        ValueError: the text does not fill one window, or the batch cannot be shared equally.
    """
    _check_divisible(batch_size, contexts)
    windows = CorpusBPTTBatchify(_Encoded(), bptt, batch_size, last_batch="discard")(np.asarray(ids))
    if not len(windows):
        raise ValueError(f"{len(ids)} tokens do not fill one window of {bptt} steps x {batch_size} sequences")
    # (windows, 2, bptt, batch)
    pairs = np.array([(inputs.asnumpy(), targets.asnumpy()) for inputs, targets in windows], dtype=np.int32)
    shards = np.split(pairs, len(contexts), axis=-1)
    resident = [mx.nd.array(shard, ctx=context, dtype="int32") for shard, context in zip(shards, contexts, strict=True)]
    count = bptt * batch_size
    return [
        Batch([Shard(*shard) for shard in window], count, count, labels)
        for *window, labels in zip(*resident, pairs[:, 1], strict=True)
    ]


def random_windows(
    ids: Ids | Sequence[int], *, bptt: int, batch_size: int, contexts: Sequence[mx.Context]
) -> Callable[[], list[Batch]]:
    """As `training_windows`, but of random lengths, as AWD-LSTM's: at each call others are drawn from ``np.random``.

    A length is the whole part of a draw from a normal distribution, whose deviation is 5 and whose mean is `bptt`, or
    half of that for one window in twenty; it is at least `_SHORTEST`. A remainder that is too short for a window is
    added to the last one. (GluonNLP 0.10's script lets that be as short as two steps, and leaves out a lone one.)

    Raises:
        ValueError: see `training_windows`.
    """
    _check_divisible(batch_size, contexts)
    steps = len(ids) // batch_size - 1
    if steps < 1:
        raise ValueError(f"{len(ids)} tokens do not fill one window of a step x {batch_size} sequences")
    # (steps + 1, batch): each column is read from its beginning to its end.
    text = np.asarray(ids, dtype=np.int32)[: (steps + 1) * batch_size].reshape(batch_size, steps + 1).T
    shards = np.split(text, len(contexts), axis=1)
    resident = [mx.nd.array(shard, ctx=context, dtype="int32") for shard, context in zip(shards, contexts, strict=True)]

    def draw() -> list[Batch]:
        batches, first = [], 0
        while first < steps:
            mean = bptt if np.random.random() < _WHOLE else bptt / 2
            last = first + max(_SHORTEST, int(np.random.normal(mean, _DEVIATION)))
            last = steps if steps - last < _SHORTEST else last
            count = (last - first) * batch_size
            window = [Shard(part[first:last], part[first + 1 : last + 1]) for part in resident]
            batches.append(Batch(window, count, count, text[first + 1 : last + 1]))
            first = last
        return batches

    return draw


def columns(ids: Ids | Sequence[int], *, bptt: int, batch_size: int, contexts: Sequence[mx.Context]) -> list[Batch]:
    """A text of N `ids` laid out in columns such that every token but the first is a target exactly once.

    The N - 1 targets are dealt to `batch_size` columns of equal length, in order; neighbouring columns overlap by the
    one token that is the last target of one and the first input of the next. Places that stay empty in the last column
    or window have weight 0. So what is scored depends neither on the batch size nor on the window's length
    (``CorpusBPTTBatchify`` would drop a tail that depends on both, or pad it into the loss).

    Returns:
        Windows of (bptt, batch_size), without weights where all targets count; the state runs on from one to the next.

    Raises:
        ValueError: there are fewer than two tokens, so that nothing could be scored, or the batch cannot be shared.
    """
    _check_divisible(batch_size, contexts)
    ids = np.asarray(ids, dtype=np.int32)
    targets = len(ids) - 1
    if targets < 1:
        raise ValueError("a text to score needs at least two tokens")
    per_column = math.ceil(targets / batch_size)
    bptt = min(bptt, per_column)
    steps = math.ceil(per_column / bptt) * bptt
    # (batch, steps): where in `ids` each input stands; its target is the next.
    step = np.arange(steps)
    place = np.arange(batch_size)[:, None] * per_column + step
    counts = (step < per_column) & (place < targets)
    place = np.where(counts, place, 0)

    def windows(table: Ids, dtype: str) -> list[list[mx.nd.NDArray]]:
        # (batch, windows x bptt) -> (windows, bptt, batch), shared by the devices and moved there once
        cut = table.T.reshape(steps // bptt, bptt, batch_size)
        parts = np.split(cut, len(contexts), axis=-1)
        moved = [
            mx.nd.array(np.ascontiguousarray(part), ctx=context, dtype=dtype)
            for part, context in zip(parts, contexts, strict=True)
        ]
        return [list(window) for window in zip(*moved, strict=True)]

    table = np.where(counts, ids[place + 1], 0)
    inputs = windows(np.where(counts, ids[place], 0), "int32")
    targets_there = windows(table, "int32")
    weights = windows(counts, "float32")
    labels = table.T.reshape(steps // bptt, bptt, batch_size)
    counted = counts.T.reshape(steps // bptt, -1).sum(axis=1)
    whole = bptt * batch_size
    return [
        Batch(
            [Shard(i, t, None if count == whole else w) for i, t, w in zip(*window, strict=True)],
            int(count),
            int(count),
            there,
        )
        for *window, there, count in zip(inputs, targets_there, weights, labels, counted, strict=True)
        if count
    ]


def token_windows(ids: Ids, starts: Ids, *, steps: int, batch_size: int, contexts: Sequence[mx.Context]) -> list[Batch]:
    """Windows of `steps` tokens that begin at `starts`, in that order; the target of each is the token after it."""
    places = np.asarray(starts)[:, None] + np.arange(steps)
    inputs, targets = ids[places], ids[places[:, -1] + 1]
    return [
        _sharded(inputs[group].T, targets[group][None], contexts=contexts) for group in _groups(len(places), batch_size)
    ]


def sequence_batches(
    sequences: Sequences, order: Iterable[Sequence[int]], *, contexts: Sequence[mx.Context]
) -> list[Batch]:
    """Labelled sequences side by side, each batch as long as its longest sequence; padding never counts.

    Args:
        sequences: with a label each, or a label for each token.
        order: which of them are in each batch.
    """
    ends = np.cumsum(sequences.lengths)
    batches = []
    for group in order:
        lengths = sequences.lengths[np.asarray(group)]
        steps = np.arange(lengths.max())[:, None]
        inside = steps < lengths  # (steps, columns)
        places = np.where(inside, (ends[np.asarray(group)] - lengths) + steps, 0)
        inputs = np.where(inside, sequences.tokens[places], 0)
        if sequences.tagged:
            labels = np.where(inside, sequences.labels[places], 0)
            batches.append(_sharded(inputs, labels, inside, lengths, contexts=contexts))
        else:
            labels = sequences.labels[np.asarray(group)][None]
            batches.append(_sharded(inputs, labels, None, lengths, contexts=contexts))
    return batches


def _groups(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _check_divisible(batch_size: int, contexts: Sequence[mx.Context]) -> None:
    if batch_size % len(contexts):
        raise ValueError(f"{batch_size} sequences cannot be shared equally by {len(contexts)} devices")


def _sharded(
    inputs: Ids,
    targets: Ids,
    weights: Ids | None = None,
    lengths: Ids | None = None,
    *,
    contexts: Sequence[mx.Context],
) -> Batch:
    """A batch, its columns shared equally by the devices; columns of weight 0 make them a multiple."""
    columns = inputs.shape[1]
    tokens = int(inputs.size if lengths is None else lengths.sum())
    counted = int(targets.size if weights is None else weights.sum())
    missing = -columns % len(contexts)
    if missing:
        weights = np.ones(targets.shape) if weights is None else weights
        weights = np.pad(weights, ((0, 0), (0, missing)))
        inputs, targets = (np.pad(array, ((0, 0), (0, missing)), mode="edge") for array in (inputs, targets))
        lengths = None if lengths is None else np.pad(lengths, (0, missing), mode="edge")

    def split(array: Ids | None, dtype: str) -> list[Any]:
        if array is None:
            return [None] * len(contexts)
        parts = np.split(array, len(contexts), axis=-1)
        return [mx.nd.array(part, ctx=context, dtype=dtype) for part, context in zip(parts, contexts, strict=True)]

    arrays = (split(inputs, "int32"), split(targets, "int32"), split(weights, "float32"), split(lengths, "float32"))
    return Batch([Shard(*parts) for parts in zip(*arrays, strict=True)], tokens, counted, targets)
