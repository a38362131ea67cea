"""One run on several devices: the same training as on one, within float32's rounding.

MXNet's CPU contexts are distinct devices to it, each with its own replica, gradients and queue of work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.batches import training_windows
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.networks.models import RNNLanguageModel, build_model
from gluon_rnn.runs.progress import EpochResult, Progress
from gluon_rnn.training import loop as training
from gluon_rnn.training.checkpoints import CheckpointDirectory
from gluon_rnn.training.loop import Diverged, fit, train_epoch
from gluon_rnn.training.step import backpropagate, clip_and_update
from tests.conftest import AWD, small_config
from tests.training.test_step import Penalised

pytestmark = [pytest.mark.numerical, pytest.mark.several_contexts]

#: Ten times what was seen, which is one unit in the last place of a float32 loss between 4 and 8 nats.
TOLERANCE = 5e-6


def cpus(*numbers: int) -> list[mx.Context]:
    return [mx.cpu(number) for number in numbers]


@pytest.fixture(scope="module")
def small(small_corpus: CorpusFiles) -> Corpus:
    return load_corpus(small_corpus)


@pytest.fixture(scope="module")
def synthetic() -> Corpus:
    """Enough of it that a few epochs learn something."""
    whole = load_corpus(find_corpus("synthetic"))
    return replace(whole, train=whole.train[:1500], valid=whole.valid[:500], test=whole.test[:500])


class Stopped(Exception):
    """Thrown into a run to stop it, as a kill would."""


def run(
    config: RunConfig,
    corpus: Corpus,
    contexts: Sequence[mx.Context],
    directory: Path | None = None,
    stop_after: int | None = None,
) -> tuple[list[float], list[tuple[float, float]]]:
    """The loss of each step, and of validation and test after each epoch, of all that was trained so far."""
    steps: list[float] = []
    progress = Progress()

    def on_epoch(result: EpochResult) -> None:
        if result.epoch == stop_after:
            raise Stopped

    with contextlib.suppress(Stopped):
        fit(
            config,
            corpus,
            contexts=contexts,
            progress=progress,
            checkpoint=CheckpointDirectory(directory) if directory else None,
            on_interval=lambda interval: steps.append(interval.loss),
            on_epoch=on_epoch,
        )
    return steps, [(epoch.valid_loss, epoch.test_loss or 0.0) for epoch in progress.history]


def replicas_differ(model: RNNLanguageModel) -> float:
    """By how much at most."""
    return max(
        float(np.abs(replica.asnumpy() - parameter.list_data()[0].asnumpy()).max())
        for parameter in model.collect_params().values()
        for replica in parameter.list_data()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm", "learning_rate": 5},
        {"cell": "gru", "tie_weights": False, "weight_decay": 1e-4, "learning_rate": 3},
        {"cell": "custom_lstm", "momentum": 0.9, "learning_rate": 0.5},
        {"cell": "custom_gru", "tie_weights": False, "optimizer": "adam", "learning_rate": 0.01},
        {"cell": "rnn_tanh", "clip": None, "learning_rate": 0.5},
        {"alpha": 2, "beta": 1, "random_bptt": True, "learning_rate": 5},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_several_devices_have_the_losses_of_one(
    synthetic: Corpus, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[RNNLanguageModel] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        built.append(build_model(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(training, "build_model", spy)
    config = small_config(
        **{"dropout": 0, "hidden_size": 16, "bptt": 10, "batch_size": 12, "clip": 0.2, "epochs": 3, **settings},
        log_interval=1,
        warmup_steps=0,
    )
    steps, scored = run(config, synthetic, cpus(0))
    assert len(steps) == 36 or config.random_bptt
    assert steps[-1] < steps[0] - 0.2
    for contexts in (cpus(0, 1), cpus(2, 0, 1)):
        found = run(config, synthetic, contexts)
        np.testing.assert_allclose(found[0], steps, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found[1], scored, rtol=0, atol=TOLERANCE)
        assert next(iter(built[-1].collect_params().values())).list_ctx() == contexts
        assert replicas_differ(built[-1]) == 0


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("cell", ["lstm", "custom_gru"])
def test_gradients_of_the_devices_add_up_to_those_of_the_batch(
    small: Corpus, cell: str, tie: bool, devices: int
) -> None:
    config = small_config(cell=cell, tie_weights=tie, dropout=0, hidden_size=12, batch_size=8)
    found, after = {}, {}
    state: list[list[np.ndarray[Any, Any]]] = []
    for contexts in (cpus(0), cpus(*range(devices))):
        model = build_model(config, len(small.vocab), *contexts)
        for parameter in model.collect_params().values():
            mx.random.seed(sum(map(ord, parameter.name.partition("_")[2])))
            parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
        trainer = gluon.Trainer(model.collect_params(), "sgd", kvstore="device", update_on_kvstore=False)
        zeros = model.begin_state(8, cpus(0)[0])
        state = state or [[mx.nd.random.normal(shape=part.shape).asnumpy() for part in layer] for layer in zeros]
        states = [
            [[mx.nd.array(np.split(part, len(contexts), axis=1)[n], ctx=c) for part in layer] for layer in state]
            for n, c in enumerate(contexts)
        ]
        # The second window's gradients replace the first's.
        for window in training_windows(small.train, bptt=5, batch_size=8, contexts=contexts)[:2]:
            for device, shard in enumerate(window.shards):
                _, states[device] = backpropagate(model, shard, states[device], targets=window.targets)
            trainer.allreduce_grads()
        for number in range(len(contexts)):
            found[len(contexts), number] = [p.list_grad()[number].asnumpy() for p in model.collect_params().values()]
        after[len(contexts)] = [
            np.concatenate([device[layer][part].asnumpy() for device in states], 1)
            for layer, parts in enumerate(state)
            for part in range(len(parts))
        ]
    assert all(np.abs(gradient).max() > 1e-4 for gradient in found[1, 0])
    for number in range(devices):
        for gradient, whole, first in zip(found[devices, number], found[1, 0], found[devices, 0], strict=True):
            np.testing.assert_allclose(gradient, whole, atol=1e-7)
            np.testing.assert_array_equal(gradient, first)
    for mine, whole in zip(after[devices], after[1], strict=True):
        np.testing.assert_allclose(mine, whole, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "nag"])
def test_the_norm_is_clipped_over_the_sum_of_the_gradients(small: Corpus, optimizer: str) -> None:
    """NAG without momentum is SGD by MXNet's own operators."""
    model = build_model(small_config(dropout=0), len(small.vocab), *cpus(0, 1))
    before = [p.list_data()[0].asnumpy() for p in model.collect_params().values()]
    trainer = gluon.Trainer(
        model.collect_params(), optimizer, {"learning_rate": 2.0}, kvstore="device", update_on_kvstore=False
    )
    train_epoch(
        model,
        training_windows(small.train, bptt=5, batch_size=8, contexts=cpus(0, 1))[:1],
        trainer,
        clip=0.01,
        carries_state=True,
        synchronise_at=lambda step: True,
        on_losses=lambda values, batches: None,
    )
    moved = [p.list_data()[0].asnumpy() - old for p, old in zip(model.collect_params().values(), before, strict=True)]
    assert np.sqrt(sum((step**2).sum() for step in moved)) == pytest.approx(2 * 0.01, rel=1e-3)
    assert replicas_differ(model) == 0


def test_the_penalties_of_the_devices_are_averaged(small: Corpus) -> None:
    """Of activations that every device squares and averages over its own columns."""
    moved = []
    for contexts in (cpus(0), cpus(0, 1)):
        model = build_model(small_config(dropout=0), len(small.vocab), *contexts)
        model.backbone.__class__ = Penalised
        before = model.encoder.collect_params(".*l?h2h_weight").values()
        values = [parameter.list_data()[0].asnumpy() for parameter in before]
        trainer = gluon.Trainer(
            model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore="device", update_on_kvstore=False
        )
        train_epoch(
            model,
            training_windows(small.train, bptt=5, batch_size=8, contexts=contexts)[:1],
            trainer,
            clip=None,
            carries_state=True,
            synchronise_at=lambda step: True,
            on_losses=lambda values, batches: None,
        )
        moved.append([p.list_data()[0].asnumpy() - old for p, old in zip(before, values, strict=True)])
    for one, two in zip(*moved, strict=True):
        assert np.abs(one).max() > 1e-6
        np.testing.assert_allclose(two, one, atol=1e-3 * np.abs(one).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({"dropout": 0.5}, (0, 1), (0, 1)),
        ({**AWD, "random_bptt": True, "averaging": "step 30"}, (0, 1), (0, 1)),
        ({"momentum": 0.9, "learning_rate": 0.5, "dropout": 0.2}, (0, 1), (2, 3)),
        ({"optimizer": "adam", "learning_rate": 0.05, "batch_size": 6, "cell": "custom_gru"}, (0, 1, 2), (0, 1, 2)),
        ({"optimizer": "adam", "learning_rate": 0.05, "dropout": 0.2}, (1,), (1,)),
        ({"optimizer": "adam", "learning_rate": 0.05, "dropout": 0.2}, (0,), (1,)),
    ],
    ids=lambda value: "-".join(map(str, value.values() if isinstance(value, dict) else value)),
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    small: Corpus, tmp_path: Path, settings: dict[str, Any], before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """On the devices that it had, or on as many others of their kind."""
    config = small_config(**{"batch_size": 8, "epochs": 3, "lr_decay": 0.5, **settings})
    whole = run(config, small, cpus(*before))[1]
    assert run(config, small, cpus(*before), tmp_path, stop_after=1)[1] == whole[:1]
    assert run(config, small, cpus(*after), tmp_path)[1] == whole


def test_another_cpu_context_gives_the_same_bits(small: Corpus) -> None:
    config = small_config(dropout=0.5)
    assert run(config, small, cpus(1)) == run(config, small, cpus(0))


@pytest.mark.slow
def test_each_device_draws_its_own_dropout_and_the_seed_decides_it(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two columns are one text, so that only the masks tell the devices apart."""
    twice = replace(small, train=np.concatenate([small.train[:100], small.train[:100]]))
    losses: list[mx.nd.NDArray] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        loss, state = backpropagate(*arguments, **options)
        losses.append(loss)
        return loss, state

    monkeypatch.setattr(training, "backpropagate", spy)

    def by_device(**settings: Any) -> np.ndarray[Any, Any]:
        losses.clear()
        run(small_config(batch_size=2, learning_rate=0.1, **settings), twice, cpus(0, 1))
        return np.reshape([loss.asscalar() for loss in losses], (-1, 2))

    plain, dropped = by_device(dropout=0), by_device(dropout=0.5)
    assert len(plain) == len(dropped) == 2 * 19
    assert (plain[:, 0] == plain[:, 1]).all()
    assert (dropped[:, 0] != dropped[:, 1]).all()
    # Nor does one have in a later step what the other had before.
    assert len(np.unique(dropped)) == dropped.size
    np.testing.assert_array_equal(by_device(dropout=0.5), dropped)
    assert (by_device(dropout=0.5, seed=1) != dropped).all()


def test_several_devices_wait_for_each_other_at_the_log_interval_only(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = cpus(0, 1)
    model = build_model(small_config(), len(small.vocab), *contexts)
    trainer = gluon.Trainer(
        model.collect_params(), "adam", {"learning_rate": 0.01}, kvstore="device", update_on_kvstore=False
    )
    windows = training_windows(small.train, bptt=5, batch_size=4, contexts=contexts)
    waits: list[str] = []
    for name in ("asnumpy", "wait_to_read"):
        original = getattr(mx.nd.NDArray, name)
        monkeypatch.setattr(
            mx.nd.NDArray, name, lambda array, name=name, original=original: waits.append(name) or original(array)
        )
    monkeypatch.setattr(mx.nd, "waitall", lambda: waits.append("waitall"))
    seen: list[int] = []
    train_epoch(
        model,
        windows[:11],
        trainer,
        clip=0.25,
        carries_state=True,
        synchronise_at=lambda step: step % 4 == 0,
        on_losses=lambda values, batches: seen.append(len(values)),
    )
    assert seen == [4, 4, 3]
    assert waits == ["asnumpy"] * 3


def test_a_loss_that_one_device_alone_has_lost_is_a_divergence(small: Corpus) -> None:
    contexts = cpus(0, 1)
    model = build_model(small_config(dropout=0), len(small.vocab), *contexts)
    trainer = gluon.Trainer(
        model.collect_params(), "sgd", {"learning_rate": 0.0}, kvstore="device", update_on_kvstore=False
    )
    windows = training_windows(small.train, bptt=5, batch_size=4, contexts=contexts)

    def poisoned() -> Any:
        for number, window in enumerate(windows, 1):
            if number == 4:
                model.decoder[0].bias.data(contexts[1])[:] = np.nan
            yield window

    with pytest.raises(Diverged, match=r"the loss was nan at step 4$"):
        train_epoch(
            model,
            poisoned(),
            trainer,
            clip=None,
            carries_state=True,
            synchronise_at=lambda step: step == 2,
            on_losses=lambda values, batches: None,
        )


def test_throughput_counts_the_whole_batch(small: Corpus) -> None:
    progress = Progress()
    fit(small_config(max_steps=6, warmup_steps=2), small, contexts=cpus(0, 1), progress=progress)
    assert progress.steps == 8
    assert sum(lap.tokens for lap in progress.laps) == 6 * 5 * 4


def test_a_batch_that_the_devices_cannot_share_is_refused(small: Corpus) -> None:
    with pytest.raises(ValueError, match="4 sequences cannot be shared equally by 3 devices"):
        fit(small_config(), small, contexts=cpus(0, 1, 2), progress=Progress())


@pytest.mark.parametrize("optimizer", ["sgd", "nag"])
def test_one_step_of_one_device_alone_would_show(small: Corpus, optimizer: str) -> None:
    """What the tests above rest on: replicas whose gradients differ do not stay equal by themselves."""
    model = build_model(small_config(dropout=0), len(small.vocab), *cpus(0, 1))
    trainer = gluon.Trainer(model.collect_params(), optimizer, {"learning_rate": 1.0}, kvstore=None)
    window = training_windows(small.train, bptt=5, batch_size=8, contexts=cpus(0, 1))[0]
    for shard in window.shards:
        backpropagate(model, shard, model.begin_state(4, shard.inputs.context), targets=window.targets)
    clip_and_update(trainer, list(model.collect_params().values()), None)
    assert replicas_differ(model) > 1e-4
