"""Windows rejoin to the text, and evaluation scores every token once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.data.batches import Batch, columns, random_windows, token_windows, training_windows
from tests import device as on


def vocabulary(tokens: list[str]) -> gluonnlp.Vocab:
    return gluonnlp.Vocab(gluonnlp.data.Counter(tokens), padding_token=None, bos_token=None)


@pytest.mark.parametrize(("bptt", "batch_size"), [(5, 4), (7, 3), (1, 1), (20, 2)])
def test_training_windows_rejoin_to_the_text(bptt: int, batch_size: int) -> None:
    tokens = [f"w{(n * n) % 23}" for n in range(101)]
    vocab = vocabulary(tokens)
    windows = training_windows(vocab[tokens], bptt=bptt, batch_size=batch_size, contexts=[on.DEVICE])
    length = len(tokens) // batch_size
    assert len(windows) == (length - 1) // bptt
    for column in range(batch_size):
        text = vocab[tokens[column * length : (column + 1) * length]]
        inputs = np.concatenate([window.shards[0].inputs.asnumpy()[:, column] for window in windows])
        targets = np.concatenate([window.shards[0].targets.asnumpy()[:, column] for window in windows])
        assert inputs.tolist() == text[: len(inputs)]
        assert targets.tolist() == text[1 : len(targets) + 1]
    assert {window.shards[0].inputs.dtype for window in windows} == {np.int32}
    assert windows[0].shards[0].inputs.shape == (bptt, batch_size)
    assert {(window.tokens, window.targets) for window in windows} == {(bptt * batch_size,) * 2}


def test_training_windows_are_gluonnlps() -> None:
    tokens = [f"w{n % 9}" for n in range(200)]
    vocab = vocabulary(tokens)
    theirs = gluonnlp.data.batchify.CorpusBPTTBatchify(vocab, 6, 5, last_batch="discard")(tokens)
    ours = training_windows(vocab[tokens], bptt=6, batch_size=5, contexts=[on.DEVICE])
    assert len(ours) == len(theirs)
    for window, (their_x, their_y) in zip(ours, theirs, strict=True):
        (shard,) = window.shards
        assert (shard.inputs.asnumpy() == their_x.asnumpy()).all()
        assert (shard.targets.asnumpy() == their_y.asnumpy()).all()


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_share_the_columns_of_a_window(devices: int) -> None:
    contexts = [mx.cpu(number) for number in range(devices)]
    whole = training_windows(list(range(101)), bptt=4, batch_size=6, contexts=[on.DEVICE])
    shared = training_windows(list(range(101)), bptt=4, batch_size=6, contexts=contexts)
    assert len(shared) == len(whole) == 3
    for one, window in zip(whole, shared, strict=True):
        shards = window.shards
        assert (window.tokens, window.targets) == (one.tokens, one.targets) == (24, 24)
        assert [(s.inputs.context, s.targets.context) for s in shards] == [(context, context) for context in contexts]
        assert {shard.inputs.shape for shard in shards} == {(4, 6 // devices)}
        for name in ("inputs", "targets"):
            joined = np.concatenate([getattr(shard, name).asnumpy() for shard in shards], axis=1)
            assert (joined == getattr(one.shards[0], name).asnumpy()).all()


@pytest.mark.parametrize("devices", [1, 2])
def test_labels_are_the_targets_of_all_devices(devices: int) -> None:
    ids = np.arange(203)
    shape: dict[str, Any] = {"batch_size": 6, "contexts": [mx.cpu(number) for number in range(devices)]}
    windows = training_windows(ids, bptt=4, **shape)
    random = random_windows(ids, bptt=9, **shape)()
    places = token_windows(ids, np.arange(12), steps=3, **shape)
    assert all([windows, random, places])
    batches = [*windows, *random, *places]
    assert len(batches) > 10
    for batch in batches:
        targets = np.concatenate([shard.targets.asnumpy() for shard in batch.shards], axis=1)
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.labels, targets)


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ValueError, match="6 sequences cannot be shared equally by 4 devices"):
        training_windows(list(range(101)), bptt=4, batch_size=6, contexts=[mx.cpu(number) for number in range(4)])


def test_too_little_text_is_said() -> None:
    with pytest.raises(ValueError, match="10 tokens do not fill one window of 5 steps x 2 sequences"):
        training_windows([1] * 10, bptt=5, batch_size=2, contexts=[on.DEVICE])


@pytest.mark.parametrize("length", [2, 3, 17, 100, 101])
@pytest.mark.parametrize(("bptt", "batch_size"), [(1, 1), (3, 2), (7, 4), (35, 20), (200, 3)])
def test_every_token_but_the_first_is_scored_once(length: int, bptt: int, batch_size: int) -> None:
    ids = np.arange(length) + 1000  # every token is another, so that each can be counted
    windows = columns(ids, bptt=bptt, batch_size=batch_size, contexts=[on.DEVICE])
    scored: Counter[int] = Counter()
    for window in windows:
        (shard,) = window.shards
        x, y = shard.inputs.asnumpy(), shard.targets.asnumpy()
        assert x.shape == y.shape == windows[0].shards[0].inputs.shape
        w = np.ones(x.shape) if shard.weights is None else shard.weights.asnumpy()
        assert set(np.unique(w)) <= {0, 1}
        assert window.tokens == window.targets == w.sum()
        assert (y[w == 1] == x[w == 1] + 1).all()  # a target follows its input in the text
        scored.update(y[w == 1].tolist())
    assert scored == Counter(range(1001, 1000 + length))
    assert sum(window.targets for window in windows) == length - 1


def test_columns_run_on_from_window_to_window() -> None:
    windows = columns(np.arange(100), bptt=7, batch_size=3, contexts=[on.DEVICE])
    for column in range(3):
        inputs = np.concatenate([window.shards[0].inputs.asnumpy()[:, column] for window in windows])
        assert inputs[:33].tolist() == list(range(column * 33, column * 33 + 33))


def test_a_split_without_a_target_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two tokens"):
        columns([1], bptt=5, batch_size=1, contexts=[on.DEVICE])


def lengths_of(windows: list[Batch]) -> list[int]:
    return [len(window.shards[0].inputs) for window in windows]


@pytest.mark.parametrize(("tokens", "bptt", "batch_size"), [(1001, 20, 3), (8, 20, 2), (30, 1, 2), (24, 5, 4)])
def test_random_windows_rejoin_to_the_text(tokens: int, bptt: int, batch_size: int) -> None:
    draw = random_windows(list(range(tokens)), bptt=bptt, batch_size=batch_size, contexts=[on.DEVICE])
    length = tokens // batch_size
    np.random.seed(3)
    for _ in range(5):
        windows = draw()
        for column in range(batch_size):
            text = list(range(column * length, (column + 1) * length))
            inputs = np.concatenate([window.shards[0].inputs.asnumpy()[:, column] for window in windows])
            targets = np.concatenate([window.shards[0].targets.asnumpy()[:, column] for window in windows])
            assert (inputs.tolist(), targets.tolist()) == (text[:-1], text[1:])
        steps = lengths_of(windows)
        assert min(steps) >= min(5, length - 1)
        assert [window.tokens for window in windows] == [n * batch_size for n in steps]


def test_random_windows_are_around_bptt_and_one_in_twenty_around_half_of_it() -> None:
    draw = random_windows(np.arange(280_000), bptt=70, batch_size=1, contexts=[on.DEVICE])
    np.random.seed(1)
    steps = np.array(lengths_of(draw())[:-1])
    short = steps < 52
    assert short.mean() == pytest.approx(0.05, abs=0.011)  # of 4,000: three deviations
    for found, mean in ((steps[~short], 69.5), (steps[short], 34.5)):  # the whole part of a draw
        assert found.mean() == pytest.approx(mean, abs=1.2)
        assert found.std() == pytest.approx(5, abs=0.9)


def test_random_windows_follow_the_seed_and_are_the_same_on_every_device() -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    draw = random_windows(list(range(900)), bptt=9, batch_size=4, contexts=contexts)
    alone = random_windows(list(range(900)), bptt=9, batch_size=4, contexts=[on.DEVICE])
    drawn = []
    for seed, source in ((5, draw), (5, alone), (6, draw)):
        np.random.seed(seed)
        drawn.append(source())
    assert lengths_of(drawn[0]) == lengths_of(drawn[1]) != lengths_of(drawn[2])
    for shared, whole in zip(drawn[0], drawn[1], strict=True):
        assert [shard.inputs.context for shard in shared.shards] == contexts
        for name in ("inputs", "targets"):
            parts = [getattr(shard, name).asnumpy() for shard in shared.shards]
            np.testing.assert_array_equal(np.concatenate(parts, axis=1), getattr(whole.shards[0], name).asnumpy())


def test_a_text_too_short_for_random_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="3 tokens do not fill one window of a step x 2 sequences"):
        random_windows([1, 2, 3], bptt=5, batch_size=2, contexts=[on.DEVICE])
