"""A neural cache against a loop over all pairs of tokens, and against GluonNLP's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.data.batches import columns
from gluon_rnn.networks.models import SequenceModel, build_model
from gluon_rnn.trained.cache import score_with_caches
from tests import device as on
from tests.conftest import AWD, small_config

pytestmark = pytest.mark.numerical

WORDS = 9
THETAS, LAMBDAS = (0.3, 2.0), (0.0, 0.25, 1.0)


def make_model(**settings: object) -> SequenceModel:
    """With parameters so wide that contexts differ, and dropouts that must be off."""
    model = build_model(small_config(dropout=0.5, **settings), WORDS, on.DEVICE)
    model.initialize(mx.init.Uniform(1.0), ctx=on.DEVICE, force_reinit=True)
    return model


def same_without_awd(model: SequenceModel) -> SequenceModel:
    """The network of `model`, whose settings are `AWD`, without any dropout or penalty."""
    plain = build_model(small_config(dropout=0), model.decoder[0].weight.shape[0], on.DEVICE)
    for mine, theirs in zip(plain.collect_params().values(), model.collect_params().values(), strict=True):
        mine.set_data(theirs.data())
    return plain


def make_ids(count: int) -> np.ndarray[Any, Any]:
    return np.random.RandomState(count).randint(0, WORDS, count).astype(np.int32)


def read(model: SequenceModel, ids: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the decoder reads at each of `ids`, and the probabilities of what follows."""
    inputs = on.array(ids, dtype="int32").reshape((-1, 1))
    units, _, _ = model.backbone(inputs, model.begin_state(1, on.DEVICE))
    logits = model.decoder(units).asnumpy()[:, 0].astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return units.asnumpy()[:, 0].astype(np.float64), weights / weights.sum(axis=1, keepdims=True)


def brute_force(model: SequenceModel, ids: np.ndarray[Any, Any], window: int, theta: float, share: float) -> float:
    """The nats of all of `ids` but the first, a pair of tokens at a time."""
    units, probabilities = read(model, ids[:-1])
    nats = 0.0
    for now in range(len(ids) - 1):
        probability = probabilities[now, ids[now + 1]]
        weights = {then: math.exp(theta * units[now] @ units[then]) for then in range(max(0, now - window), now)}
        if weights:
            of_cache = sum(weight for then, weight in weights.items() if ids[then + 1] == ids[now + 1])
            probability = (1 - share) * probability + share * of_cache / sum(weights.values())
        nats -= math.log(probability) if probability else -math.inf
    return nats


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "custom_gru"])
@pytest.mark.parametrize("window", [1, 5, 100, 1000])
@pytest.mark.parametrize("bptt", [7, 1000])
def test_a_cache_is_what_a_loop_over_pairs_finds(cell: str, window: int, bptt: int) -> None:
    model, ids = make_model(cell=cell), make_ids(180)
    batches = columns(ids, bptt=bptt, batch_size=1, contexts=[on.DEVICE])
    scores = score_with_caches(model, batches, window=window, thetas=THETAS, lambdas=LAMBDAS)
    expected = [[brute_force(model, ids, window, theta, share) for share in LAMBDAS] for theta in THETAS]
    on.assert_close(scores.nats, expected, rtol=1e-5)
    assert scores.plain.tokens == len(ids) - 1
    assert scores.plain.nats == pytest.approx(expected[0][0], rel=1e-5)
    assert scores.nats[0, 1] != pytest.approx(expected[0][0], rel=1e-4), "the cache is meant to matter"


def test_dropouts_are_off() -> None:
    model, batches = make_model(**AWD), columns(make_ids(72), bptt=10, batch_size=1, contexts=[on.DEVICE])
    found, plain = (
        score_with_caches(network, batches, window=6, thetas=(0.5,), lambdas=(0.4,))
        for network in (model, same_without_awd(model))
    )
    assert found.nats[0, 0] == pytest.approx(plain.nats[0, 0], rel=1e-6)
    assert found.plain.nats == pytest.approx(plain.plain.nats, rel=1e-6)


def test_each_column_has_a_cache_of_its_own_and_padding_counts_nowhere() -> None:
    model, ids = make_model(), make_ids(72)
    batches = columns(ids, bptt=10, batch_size=3, contexts=[on.DEVICE])
    assert any(shard.weights is not None for batch in batches for shard in batch.shards), "a padded tail is meant"
    scores = score_with_caches(model, batches, window=6, thetas=(0.5,), lambdas=(0.4,))
    parts = (ids[0:25], ids[24:49], ids[48:])
    assert scores.nats[0, 0] == pytest.approx(sum(brute_force(model, part, 6, 0.5, 0.4) for part in parts), rel=1e-5)
    assert scores.plain.tokens == 71


def test_a_cache_alone_gives_what_it_has_not_seen_no_probability() -> None:
    model = make_model()
    batches = columns(np.array([1, 2, 3, 4]), bptt=3, batch_size=1, contexts=[on.DEVICE])
    scores = score_with_caches(model, batches, window=5, thetas=(0.5,), lambdas=(0.5, 1.0))
    assert np.isfinite(scores.nats[0, 0])
    assert scores.nats[0, 1] == math.inf


def test_a_full_cache_is_gluonnlps(tmp_path: Path) -> None:
    """Its ``CacheCell`` begins when the window is full, so that what is compared begins there, too."""
    window, theta, share = 12, 0.8, 0.3
    model, ids = make_model(), make_ids(60)
    model.save_parameters(str(tmp_path / "parameters"))
    theirs = gluonnlp.model.StandardRNN("lstm", WORDS, 8, 8, 2, dropout=0.5, tie_weights=True)
    cell = gluonnlp.model.train.CacheCell(theirs, WORDS, window, theta, share)
    cell.load_parameters(str(tmp_path / "parameters"), ctx=on.DEVICE)
    inputs, targets = (on.array(part.reshape(-1, 1)) for part in (ids[:-1], ids[1:]))
    probabilities, *_ = cell(
        inputs, targets, None, None, cell.begin_state(func=mx.nd.zeros, batch_size=1, ctx=on.DEVICE)
    )
    expected = -np.log(probabilities.asnumpy().ravel()[window + 1 :].astype(np.float64)).sum()

    def score(ids: np.ndarray[Any, Any]) -> float:
        batches = columns(ids, bptt=1000, batch_size=1, contexts=[on.DEVICE])
        return float(score_with_caches(model, batches, window=window, thetas=[theta], lambdas=[share]).nats[0, 0])

    assert score(ids) - score(ids[: window + 2]) == pytest.approx(expected, rel=1e-5)
