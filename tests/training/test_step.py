"""One step, against MXNet's own autograd, clipping and updates."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_rnn.data.batches import Shard, training_windows
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.networks.models import Backbone, RNNLanguageModel, build_model
from gluon_rnn.training.step import (
    adding_gradients,
    backpropagate,
    clip_and_update,
    norm_in_one,
    norm_of_dots,
    update_in_one,
    update_on,
)
from tests import device as on
from tests.conftest import small_config

pytestmark = pytest.mark.numerical

#: A gradient here adds up some dozens of products of magnitude up to one, each rounded to float32.
SUMS = 32 * 2.0**-24


@pytest.fixture(scope="module")
def small(small_corpus: CorpusFiles) -> Corpus:
    return load_corpus(small_corpus)


def randomise(*models: RNNLanguageModel) -> None:
    """Give all of them the same random parameters."""
    for parameters in zip(*(model.collect_params().values() for model in models), strict=True):
        values = on.uniform(-0.5, 0.5, parameters[0].shape)
        for parameter in parameters:
            parameter.set_data(values)


def gradients(model: RNNLanguageModel) -> dict[str, np.ndarray[Any, Any]]:
    return {p.name.partition("_")[2]: p.grad().asnumpy() for p in model.collect_params().values()}


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu", "custom_lstm", "custom_gru", "custom_rnn"])
def test_backpropagation_by_hand_equals_autograd(small: Corpus, cell: str, tie: bool) -> None:
    config = small_config(cell=cell, tie_weights=tie, dropout=0, hidden_size=12)
    model, plain = (build_model(config, len(small.vocab), on.DEVICE) for _ in range(2))
    randomise(model, plain)
    state = [[on.normal(shape=array.shape) for array in layer] for layer in model.begin_state(4, on.DEVICE)]
    windows = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])
    # Twenty tokens in one block, in seven of three but the last, and one by one.
    for window, tokens in zip(windows, (20, 3, 1), strict=False):
        (shard,) = window.shards
        inputs, targets = shard.inputs, shard.targets
        block = tokens * len(small.vocab) + 1
        loss, after = backpropagate(model, shard, state, targets=window.targets, logits_in_a_block=block)
        with autograd.record():
            logits, expected_after = plain(inputs, state)
            expected = gluon.loss.SoftmaxCrossEntropyLoss()(logits.reshape((-3, 0)), targets.reshape((-1,))).mean()
        expected.backward()
        assert loss.shape == (1,)
        assert loss.asscalar() == pytest.approx(expected.asscalar(), rel=1e-6)
        found = gradients(model)
        for name, gradient in gradients(plain).items():
            assert np.abs(gradient).max() > 1e-4, name
            on.assert_close(found[name], gradient, atol=SUMS, err_msg=name)
        for layer, expected_layer in zip(after, expected_after, strict=True):
            for mine, theirs in zip(layer, expected_layer, strict=True):
                on.assert_close(mine.asnumpy(), theirs.asnumpy(), atol=1e-6)


class Penalised(Backbone):
    """With activation regularization, and temporal activation regularization (Merity et al., 2017)."""

    def hybrid_forward(self, F: Any, *arguments: Any) -> Any:
        units, _, states = super().hybrid_forward(F, *arguments)
        steps = F.slice_axis(units, axis=0, begin=1, end=None) - F.slice_axis(units, axis=0, begin=0, end=-1)
        return units, [2 * F.mean(units * units), F.mean(steps * steps)], states


@pytest.mark.parametrize("hybridize", [True, False])
def test_penalties_are_backpropagated_and_left_out_of_the_loss(small: Corpus, hybridize: bool) -> None:
    """Each of two shards has half the mean loss and half its own penalty."""
    model = build_model(small_config(dropout=0, hidden_size=12), len(small.vocab), on.DEVICE)
    randomise(model)
    batch = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE, mx.cpu(1)])[0]
    shards = [Shard(*(array.as_in_context(on.DEVICE) for array in shard[:2])) for shard in batch.shards]
    state = model.begin_state(2, on.DEVICE)
    plain = [backpropagate(model, shard, state, targets=batch.targets, shards=2)[0].asscalar() for shard in shards]
    # The class alone makes the difference, and has not been called yet.
    model.backbone.__class__ = Penalised
    model.hybridize(hybridize)
    for shard, loss in zip(shards, plain, strict=True):
        assert backpropagate(model, shard, state, targets=batch.targets, shards=2)[0].asscalar() == loss
        found = gradients(model)
        with autograd.record():
            units, penalty, _ = model.read(shard, state)
            logits, labels = model.decoder(units).reshape((-3, 0)), shard.targets.reshape((-1,))
            total = (gluon.loss.SoftmaxCrossEntropyLoss()(logits, labels).mean() + penalty) / 2
        total.backward()
        assert penalty.shape == (1,)
        assert total.asscalar() > loss + 0.01
        for name, gradient in gradients(model).items():
            on.assert_close(found[name], gradient, atol=SUMS, err_msg=name)


def test_a_step_leaves_a_tied_gradient_its_array_and_plain_autograd_its_meaning(small: Corpus) -> None:
    model = build_model(small_config(dropout=0, hidden_size=12), len(small.vocab), on.DEVICE)
    weight = model.decoder[0].weight
    gradient = weight.grad()
    (shard,) = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])[0].shards
    state = model.begin_state(4, on.DEVICE)
    backpropagate(model, shard, state, targets=20)
    np.testing.assert_array_equal(gradient.asnumpy(), weight.grad().asnumpy())
    assert gradient.asnumpy().any()
    plain = []
    for _ in range(2):
        with autograd.record():
            loss = model(shard.inputs, state)[0].mean()
        loss.backward()
        plain.append(gradient.asnumpy())
    np.testing.assert_array_equal(*plain)


@pytest.mark.parametrize(
    "settings",
    [{"cell": "lstm"}, {"cell": "custom_gru", "tie_weights": False}, {"cell": "lstm", "weight_drop": 0.5}],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_gradients_are_added_up_while_asked_for_and_replaced_afterwards(
    small: Corpus, settings: dict[str, Any]
) -> None:
    """Those of several batches, in as many blocks, and into the arrays that there are."""
    model = build_model(small_config(dropout=0, hidden_size=12, **settings), len(small.vocab), on.DEVICE)
    randomise(model)
    state, block = model.begin_state(4, on.DEVICE), 7 * len(small.vocab)
    shards = [
        window.shards[0] for window in training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])[:3]
    ]

    def step(shard: Shard, *, adds: bool) -> dict[str, np.ndarray[Any, Any]]:
        backpropagate(model, shard, state, targets=20, logits_in_a_block=block, training=False, adds=adds)
        return gradients(model)

    apart, arrays = [step(shard, adds=False) for shard in shards], [p.grad() for p in model.collect_params().values()]
    with adding_gradients(model, on.DEVICE):
        for shard in shards:
            together = step(shard, adds=True)
    for name, found in together.items():
        assert np.abs(found).max() > 1e-4, name
        np.testing.assert_allclose(found, sum(each[name] for each in apart), atol=3 * SUMS, err_msg=name)
    again = step(shards[0], adds=False)
    for name, found in again.items():
        np.testing.assert_array_equal(found, apart[0][name], err_msg=name)
    for array, found in zip(arrays, again.values(), strict=True):
        np.testing.assert_array_equal(array.asnumpy(), found)


#: Argument: how many steps to queue before waiting for the device. Prints the most memory that the process has had, in
#: MiB. What comes out of the backbone, and its gradient, take 2.2 MiB.
STEPS = """
import sys
import mxnet as mx
from gluon_rnn.data.batches import Shard
from gluon_rnn.config.run import configure
from gluon_rnn.networks.models import build_model
from gluon_rnn.training.step import backpropagate
model = build_model(configure({"cell": "rnn_tanh", "hidden_size": 256, "num_layers": 1}), 40, mx.cpu())
shard = Shard(mx.nd.ones((35, 64), dtype="int32"), mx.nd.ones((35, 64), dtype="int32"))
state = model.begin_state(64, mx.cpu())
for step in range(int(sys.argv[1])):
    _, state = backpropagate(model, shard, state, targets=35 * 64)
    if step == 0:
        mx.nd.waitall()
mx.nd.waitall()
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_steps_that_python_is_ahead_take_no_memory() -> None:
    """The gradients of 60 more steps would take 131 MiB."""
    # With a heap for each thread, as much as 50 MiB depend on which thread frees what.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    few, many = (
        float(
            subprocess.run(
                [sys.executable, "-I", "-c", STEPS, str(steps)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for steps in (40, 100)
    )
    # It was -7 to 43, depending on how many steps MXNet works at, and 128 to 147 with those gradients.
    assert many < few + 85


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3], ids=["unclipped", "far below the norm", "far above the norm"])
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [("sgd", {}), ("sgd", {"wd": 0.01}), ("sgd", {"momentum": 0.9}), ("adam", {})],
    ids=["sgd", "weight decay", "momentum", "adam"],
)
def test_clip_and_update_is_what_mxnet_does_in_two_passes(
    small: Corpus, optimizer: str, settings: dict[str, float], clip: float | None
) -> None:
    config = small_config(tie_weights=False, dropout=0, hidden_size=12)
    model, plain = (build_model(config, len(small.vocab), on.DEVICE) for _ in range(2))
    randomise(model, plain)
    rate = {"learning_rate": 0.5, **settings}
    trainers = [gluon.Trainer(m.collect_params(), optimizer, dict(rate), kvstore=None) for m in (model, plain)]
    for one in (model, plain):
        one.encoder.collect_params(".*h2h_weight").setattr("lr_mult", 0.5)
        one.decoder.collect_params(".*bias").setattr("wd_mult", 0.0)
    state = model.begin_state(4, on.DEVICE)
    before = plain.decoder[0].weight.data().asnumpy()
    for window in training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])[:2]:
        for one in (model, plain):
            backpropagate(one, window.shards[0], state, targets=window.targets)
        clip_and_update(trainers[0], list(model.collect_params().values()), clip)
        if clip is not None:
            gluon.utils.clip_global_norm([p.grad() for p in plain.collect_params().values()], clip)
        trainers[1].step(1)
    assert np.abs(plain.decoder[0].weight.data().asnumpy() - before).max() > 1e-5
    for mine, theirs in zip(model.collect_params().values(), plain.collect_params().values(), strict=True):
        on.assert_close(mine.data().asnumpy(), theirs.data().asnumpy(), rtol=1e-6, atol=1e-7)


def test_an_update_takes_arrays_of_any_size() -> None:
    """Sizes that sixteen divides, that are prime, and one of a single number."""
    for size in (160, 22, 37, 97, 1):
        values, slope = on.normal(shape=(size,)), on.normal(shape=(size,))
        parameter = gluon.Parameter("p", shape=(size,))
        parameter.initialize(ctx=on.DEVICE)
        parameter.set_data(values)
        parameter.grad()[:] = slope
        trainer = gluon.Trainer([parameter], "sgd", {"learning_rate": 3.0}, kvstore=None)
        clip_and_update(trainer, [parameter], 0.5)
        expected = values.asnumpy() - 3 * min(1, 0.5 / float(slope.norm().asscalar())) * slope.asnumpy()
        on.assert_close(parameter.data().asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3], ids=["unclipped", "far below the norm", "far above the norm"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_gpus_update_is_what_mxnet_does_in_two_passes(momentum: float, decay: float, clip: float | None) -> None:
    """Of more parameters than its operator takes, with several rates and decays among them."""
    shapes = [(size, 3) for size in range(1, 71)]
    both = []
    for _ in range(2):
        parameters = [gluon.Parameter(f"p{number}", shape=shape) for number, shape in enumerate(shapes)]
        for number, parameter in enumerate(parameters):
            parameter.initialize(ctx=on.DEVICE)
            parameter.set_data(on.array(np.random.RandomState(number).normal(size=parameter.shape)))
        parameters[3].lr_mult, parameters[4].wd_mult = 0.5, 0.0
        settings = {"learning_rate": 0.5, "wd": decay, **({"momentum": momentum} if momentum else {})}
        both.append((parameters, gluon.Trainer(parameters, "sgd", settings, kvstore=None)))
    for step in range(3):
        gradients = [on.array(np.random.RandomState(step).normal(size=shape)) for shape in shapes]
        for parameters, _ in both:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad()[:] = gradient
                parameter.data()._fresh_grad = True
        (ours, trainer), (plain, plain_trainer) = both
        norm = norm_in_one([each.grad() for each in ours])
        assert norm.asscalar() == pytest.approx(norm_of_dots(gradients).asscalar(), rel=1e-6)
        scale = on.ones((1,)) if clip is None else mx.nd.minimum(clip / (norm + 1e-8), 1)
        update_in_one(trainer, ours, [scale])
        for parameter, gradient in zip(ours, gradients, strict=True):
            np.testing.assert_array_equal(parameter.grad().asnumpy(), gradient.asnumpy())
        if clip is not None:
            gluon.utils.clip_global_norm([each.grad() for each in plain], clip)
        plain_trainer.step(1)
    for mine, theirs in zip(ours, plain, strict=True):
        on.assert_close(mine.data().asnumpy(), theirs.data().asnumpy(), rtol=1e-6, atol=1e-6)
    if momentum:
        for number in range(len(shapes)):
            mine, theirs = (each._updaters[0].states[number].asnumpy() for each in (trainer, plain_trainer))
            on.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_a_gpu_updates_sgd_in_one_operator_and_every_other_optimizer_in_mxnets_way() -> None:
    optimizers = {
        ("sgd", 0.0): mx.optimizer.SGD(),
        ("sgd", 0.9): mx.optimizer.SGD(momentum=0.9),
        ("nag", 0.9): mx.optimizer.NAG(momentum=0.9),
        ("adam", 0.0): mx.optimizer.Adam(),
    }
    ways = {
        (device, *key): update_on(device, optimizer)[1].__name__
        for device in ("cpu", "gpu")
        for key, optimizer in optimizers.items()
    }
    assert ways == {
        ("cpu", "sgd", 0.0): "add_in_one",
        ("cpu", "sgd", 0.9): "scale_and_update",
        ("cpu", "nag", 0.9): "scale_and_update",
        ("cpu", "adam", 0.0): "scale_and_update",
        ("gpu", "sgd", 0.0): "update_in_one",
        ("gpu", "sgd", 0.9): "update_in_one",
        ("gpu", "nag", 0.9): "scale_and_update",
        ("gpu", "adam", 0.0): "scale_and_update",
    }
