"""The softmax over a sample of the classes, against the one over all."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import SequenceModel, build_model, trained_parameters
from gluon_rnn.training import sampled_softmax
from gluon_rnn.training.sampled_softmax import ClassSample, ClassSampler, inclusion_probabilities
from gluon_rnn.training.step import backpropagate
from tests import device as on
from tests.conftest import small_config

pytestmark = pytest.mark.numerical

CLASSES = 40


def gradients(model: SequenceModel) -> list[np.ndarray[Any, Any]]:
    return [parameter.grad(on.DEVICE).asnumpy() for parameter in trained_parameters(model)]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> SequenceModel:
    built = build_model(small_config(dropout=0, tie_weights=request.param), CLASSES, on.DEVICE)
    for parameter in trained_parameters(built):
        parameter.set_data(on.uniform(-0.5, 0.5, parameter.shape))
    return built


def shard(rows: int = 5, columns: int = 4) -> Shard:
    ids = np.random.RandomState(0).randint(0, CLASSES, (2, rows, columns))
    mask = np.ones((rows, columns))
    mask[-1, 1:] = 0
    return Shard(*(on.array(each, dtype="int32") for each in ids), on.array(mask))


#: All, so that no batch leaves a target out.
ALL = np.arange(CLASSES)


@pytest.fixture(autouse=True)
def exact_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are not rounded up, which would fill the few classes of these tests."""
    monkeypatch.setattr(sampled_softmax, "_MULTIPLE", 1)


def sample_of(classes: list[int], chances: list[float]) -> ClassSample:
    places = np.zeros(CLASSES)
    places[classes] = range(len(classes))
    return ClassSample(
        mx.nd.array(classes, ctx=mx.cpu(), dtype="int32"),
        mx.nd.array(np.log(chances), ctx=mx.cpu()),
        mx.nd.array(places, ctx=mx.cpu(), dtype="int32"),
    )


def test_a_sample_of_all_classes_is_the_whole_softmax(model: SequenceModel) -> None:
    batch, state = shard(), model.begin_state(4, on.DEVICE)
    expected, after = backpropagate(model, batch, state, targets=17)
    whole = gradients(model)
    sample = ClassSampler(np.ones(CLASSES), CLASSES).draw(ALL[:3])
    found, after_too = backpropagate(model, batch, state, targets=17, sample=sample)
    assert found.shape == (1,)
    assert found.asscalar() == pytest.approx(expected.asscalar(), rel=1e-6)
    assert len(whole) == len(gradients(model))
    for mine, theirs in zip(gradients(model), whole, strict=True):
        assert np.abs(theirs).max() > 1e-4
        on.assert_close(mine, theirs, atol=1e-6)
    np.testing.assert_array_equal(after[0][0].asnumpy(), after_too[0][0].asnumpy())
    # The marks of autograd are as they were.
    backpropagate(model, batch, state, targets=17)
    for mine, theirs in zip(gradients(model), whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_loss_is_of_the_target_and_the_others_by_their_chance(model: SequenceModel) -> None:
    """By hand: log(the sum of exp(logit) / chance over the sample) - the target's logit."""
    inputs, target, classes, chances = on.array([[2]], dtype="int32"), 5, [3, 5, 7, 11], [0.5, 1.0, 0.25, 1.0]
    state = model.begin_state(1, on.DEVICE)
    batch = Shard(inputs, on.array([[target]], dtype="int32"))
    logits = model(inputs, state)[0].asnumpy().ravel().astype(np.float64)
    expected = np.log((np.exp(logits[classes]) / chances).sum()) - logits[target]
    found, _ = backpropagate(model, batch, state, targets=1, sample=sample_of(classes, chances))
    assert found.asscalar() == pytest.approx(expected, rel=1e-5)
    bias = model.decoder[0].bias.grad(on.DEVICE).asnumpy()
    shares = np.exp(logits[classes] - logits[target] - expected) / chances
    assert shares.sum() == pytest.approx(1)
    on.assert_close(bias[classes], shares - np.equal(classes, target), atol=1e-6)
    assert not np.delete(bias, classes).any()


def test_the_normalizer_is_right_on_average(model: SequenceModel) -> None:
    """The exponential of the loss is the normalizer times what is fixed; 200 samples are off by a fifth of 15 %."""
    inputs, targets = on.array([[2]], dtype="int32"), np.array([[30]])
    state = model.begin_state(1, on.DEVICE)
    batch = Shard(inputs, on.array(targets, dtype="int32"))
    whole = backpropagate(model, batch, state, targets=1)[0].asscalar()
    sampler = ClassSampler(np.arange(CLASSES), 12)
    np.random.seed(0)
    losses = [
        backpropagate(model, batch, state, targets=1, sample=sampler.draw(targets))[0].asscalar() for _ in range(200)
    ]
    ratios = np.exp(np.array(losses) - whole)
    assert 0.02 < ratios.std() < 1
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(200)


def test_chances_grow_with_weights_up_to_certainty_and_add_up_to_the_size() -> None:
    weights, nothing = np.array([1000.0, 800, 8, 8, 1, 1]), np.zeros(6, dtype=bool)
    on.assert_close(inclusion_probabilities(weights, nothing, 3), [1, 1, 8 / 18, 8 / 18, 1 / 18, 1 / 18], rtol=1e-12)
    on.assert_close(inclusion_probabilities(weights, nothing, 6), np.ones(6), rtol=1e-12)
    # One that is certain by itself leaves as many for the others.
    certain = np.arange(6) == 4
    on.assert_close(inclusion_probabilities(weights, certain, 4), [1, 1, 8 / 17, 8 / 17, 1, 1 / 17], rtol=1e-12)


def test_targets_are_in_every_sample_and_others_as_often_as_their_chances_say() -> None:
    counts, targets = np.arange(60) ** 4, np.array([[3, 50], [3, 0]])
    sampler = ClassSampler(counts, 17)
    chances = inclusion_probabilities(np.maximum(counts, 1.0) ** 0.75, np.isin(np.arange(60), targets), 20)
    assert (chances == 1).sum() > 3
    assert chances[targets].min() == 1
    np.random.seed(0)
    drawn = np.zeros(60)
    for _ in range(2000):
        sample = sampler.draw(targets)
        classes, places = sample.classes.asnumpy(), sample.places.asnumpy()
        assert classes.tolist() == sorted({*classes})
        assert len(classes) == 20
        np.testing.assert_array_equal(places[classes], np.arange(20))
        drawn[classes] += 1
    on.assert_close(sample.log_chances.asnumpy(), np.log(chances[classes]), rtol=1e-6, atol=1e-12)
    deviation = np.sqrt(chances * (1 - chances) / 2000)
    assert (np.abs(drawn / 2000 - chances) <= 4 * deviation).all()


def test_classes_are_drawn_independently_of_their_neighbours() -> None:
    """Of a systematic draw in a fixed order, neighbours would never be together."""
    sampler = ClassSampler(np.ones(60), 12)
    np.random.seed(0)
    together = np.zeros((60, 60))
    for _ in range(500):
        classes = sampler.draw(np.array([0])).classes.asnumpy()
        together[np.ix_(classes, classes)] += 1
    neighbours = np.diagonal(together, offset=1)[1:].mean() / 500
    assert neighbours == pytest.approx(12 / 59 * 11 / 58, rel=0.1)


@pytest.mark.parametrize(("classes", "size"), [(1000, 512), (300, 300)])
def test_samples_have_few_sizes(monkeypatch: pytest.MonkeyPatch, classes: int, size: int) -> None:
    monkeypatch.undo()
    sampler = ClassSampler(np.ones(classes), 250)
    assert {len(sampler.draw(np.arange(targets)).classes) for targets in (7, 100, 262)} == {size}


def test_devices_share_a_batch_with_one_sample(model: SequenceModel) -> None:
    """The gradients of two halves add up to those of the whole."""
    whole, state = shard(), model.begin_state(4, on.DEVICE)
    sample = ClassSampler(np.ones(CLASSES), 3).draw(whole.targets.asnumpy())
    assert len(sample.classes) < CLASSES
    expected = backpropagate(model, whole, state, targets=17, sample=sample)[0].asscalar()
    together = gradients(model)
    halves = [Shard(*(array[:, half] for array in whole[:3])) for half in (slice(0, 2), slice(2, 4))]
    losses, parts = [], []
    for half in halves:
        state = model.begin_state(2, on.DEVICE)
        losses.append(backpropagate(model, half, state, targets=17, sample=sample)[0].asscalar())
        parts.append(gradients(model))
    assert sum(losses) == pytest.approx(expected, rel=1e-5)
    for one, other, all_of_it in zip(*parts, together, strict=True):
        on.assert_close(one + other, all_of_it, atol=1e-6)
