"""Dynamic evaluation against the rules as plain loops over NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from gluon_rnn.data.batches import Batch, columns
from gluon_rnn.networks.models import SequenceModel, build_model, trained_parameters
from gluon_rnn.runs.evaluations import DynamicSettings
from gluon_rnn.trained.dynamic_evaluation import root_mean_squares, score_dynamically, search_grid
from tests import device as on
from tests.conftest import AWD, small_config
from tests.trained.test_cache import same_without_awd

pytestmark = pytest.mark.numerical

WORDS = 11
#: Each of whose networks has dropouts, which must be off.
NETWORKS = [
    {"cell": "lstm"},
    {"cell": "custom_gru", "tie_weights": False, "embed_size": 5},
    {"cell": "rnn_tanh", "train_embedding": False, "tie_weights": False},
]


def make_model(**settings: object) -> SequenceModel:
    model = build_model(small_config(dropout=0.5, **settings), WORDS, on.DEVICE)
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
    return model


def segments(count: int, *, bptt: int, batch_size: int = 1) -> list[Batch]:
    ids = np.random.RandomState(count).randint(0, WORDS, count)
    return columns(ids, bptt=bptt, batch_size=batch_size, contexts=[on.DEVICE])


def reference_gradients(
    model: SequenceModel, batch: Batch, state: Any
) -> tuple[float, list[np.ndarray[Any, Any]], Any]:
    """The mean loss of a batch, its gradients by autograd alone, and the state after it."""
    (shard,) = batch.shards
    with autograd.record(train_mode=False):
        logits, after = model(shard.inputs, state)
        nats = SoftmaxCrossEntropyLoss()(logits.reshape((-3, 0)), shard.targets.reshape((-1,)))
        if shard.weights is not None:
            nats = nats * shard.weights.reshape((-1,))
        loss = nats.sum() / batch.targets
    loss.backward(train_mode=False)
    gradients = [parameter.grad().asnumpy().astype(np.float64) for parameter in trained_parameters(model)]
    return float(loss.asscalar()), gradients, [[array.detach() for array in layer] for layer in after]


def reference_score(
    model: SequenceModel, batches: Sequence[Batch], settings: DynamicSettings, statistics: Any = None
) -> float:
    """Nats of all batches; the model keeps what it has learned."""
    parameters = trained_parameters(model)
    start = [parameter.data().asnumpy().astype(np.float64) for parameter in parameters]
    now, state, total = [array.copy() for array in start], model.begin_state(1, on.DEVICE), 0.0
    for batch in batches:
        loss, gradients, state = reference_gradients(model, batch, state)
        total += loss * batch.targets
        for place, gradient in enumerate(gradients):
            pull, rate = settings.lambda_, settings.eta
            if settings.rule == "rms":
                root = statistics[place]
                relative = root / np.mean([each.mean() for each in statistics])
                pull = settings.lambda_ * np.minimum(relative, 1 / settings.lambda_)
                rate = settings.eta / (root + settings.epsilon)
            now[place] += pull * (start[place] - now[place]) - rate * gradient
            parameters[place].set_data(mx.nd.array(now[place]))
    return total


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["cell"])
def test_statistics_are_the_root_mean_square_over_batches(network: dict[str, object]) -> None:
    model, batches = make_model(**network), segments(200, bptt=5, batch_size=7)
    assert any(shard.weights is not None for batch in batches for shard in batch.shards), "a padded tail is meant"
    squares: Any = 0
    state = model.begin_state(7, on.DEVICE)
    for batch in batches:
        _, gradients, state = reference_gradients(model, batch, state)
        squares = squares + np.array([gradient**2 for gradient in gradients], dtype=object)
    found = root_mean_squares(model, batches, notice=print)
    assert len(found) == len(trained_parameters(model))
    for ours, total in zip(found, squares, strict=True):
        on.assert_close(ours.asnumpy(), np.sqrt(total / len(batches)), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["cell"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "rms", "eta": 0.003, "lambda": 0.02, "epsilon": 1e-3},
        {"rule": "rms", "eta": 0.003, "lambda": 0.9, "epsilon": 1e-3},
        {"rule": "sgd", "eta": 0.5, "lambda": 0.0},
        {"rule": "sgd", "eta": 0.5, "lambda": 0.1},
    ],
    ids=lambda settings: f"{settings['rule']} {settings['lambda']}",
)
def test_dynamic_evaluation_is_the_rule_as_a_plain_loop(network: dict[str, Any], settings: dict[str, Any]) -> None:
    chosen = DynamicSettings.model_validate(settings | {"bptt": 4})
    model = make_model(**network)
    statistics = root_mean_squares(model, segments(150, bptt=4, batch_size=3), notice=print)
    relative = [each.asnumpy() / np.mean([s.asnumpy().mean() for s in statistics]) for each in statistics]
    if chosen.lambda_ == 0.9:
        assert max(each.max() for each in relative) > 1 / 0.9, "a pull beyond the trained parameters is meant"
    batches, before = segments(83, bptt=4), [parameter.data().copy() for parameter in trained_parameters(model)]
    plain = reference_score(model, batches, DynamicSettings(rule="sgd", bptt=4, eta=0))
    ours = score_dynamically(model, batches, chosen, statistics, notice=print)
    for parameter, array in zip(trained_parameters(model), before, strict=True):
        assert (parameter.data() == array).asnumpy().all(), "the trained parameters are put back"
    expected = reference_score(model, batches, chosen, [each.asnumpy() for each in statistics])
    assert ours.tokens == 82
    assert ours.nats == pytest.approx(expected, rel=1e-5)
    # Far more than the tolerance above.
    assert abs(expected - plain) > 5e-5 * plain, "learning is meant to matter"


@pytest.mark.parametrize("rule", ["rms", "sgd"])
def test_dropouts_are_off_and_penalties_have_no_part_in_the_gradients(rule: str) -> None:
    """As in Krause's code, which evaluates, and trains on the loss alone."""
    model = make_model(**AWD)
    model.encoder.pack(for_scoring=True)
    assert model.encoder.packed(on.DEVICE)
    settings = DynamicSettings.model_validate({"rule": rule, "bptt": 12, "eta": {"rms": 0.003, "sgd": 0.5}[rule]})
    training, text = segments(150, bptt=12, batch_size=3), segments(83, bptt=12)
    scores, roots = [], []
    for network in (model, same_without_awd(model)):
        roots.append(root_mean_squares(network, training, notice=print))
        scores.append(score_dynamically(network, text, settings, roots[-1], notice=print))
    for mine, plain in zip(*roots, strict=True):
        np.testing.assert_allclose(mine.asnumpy(), plain.asnumpy(), rtol=1e-5, atol=1e-8)
    assert scores[0].nats == pytest.approx(scores[1].nats, rel=1e-6)


def test_a_token_is_scored_before_it_is_learned_from() -> None:
    """A rate at which a segment that was learned from would be known by heart."""
    model, batches = make_model(), segments(7, bptt=6)
    plain = reference_score(model, batches, DynamicSettings(rule="sgd", eta=0))
    once = score_dynamically(model, batches, DynamicSettings(rule="sgd", eta=5), None, notice=print)
    assert once.nats == pytest.approx(plain, rel=1e-5)
    ids = np.tile(batches[0].shards[0].inputs.asnumpy().ravel(), 2)
    twice = columns(ids, bptt=6, batch_size=1, contexts=[on.DEVICE])
    again = score_dynamically(model, twice, DynamicSettings(rule="sgd", eta=5), None, notice=print)
    assert again.nats < 1.8 * plain


def test_defaults_grow_with_bptt_and_a_search_keeps_what_is_given() -> None:
    assert (DynamicSettings(bptt=20).eta, DynamicSettings(bptt=20).lambda_) == pytest.approx((2e-4, 8e-3))
    whole = search_grid(DynamicSettings())
    assert sorted({each.eta for each in whole}) == pytest.approx([3e-5, 4e-5, 5e-5, 6e-5, 7e-5, 1e-4])
    assert sorted({each.lambda_ for each in whole}) == pytest.approx([1e-3, 2e-3, 3e-3, 5e-3])
    assert len(whole) == 24
    fixed = search_grid(DynamicSettings.model_validate({"lambda": "0.5", "bptt": "10"}))
    assert [each.lambda_ for each in fixed] == [0.5] * 6
    assert sorted(each.eta for each in fixed) == pytest.approx([6e-5, 8e-5, 1e-4, 1.2e-4, 1.4e-4, 2e-4])
