"""The recipe against a plain loop on GluonNLP's own model, and its bits."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import gluonnlp
import mxnet as mx
import numpy as np
import pytest
from gluonnlp.data.batchify import CorpusBPTTBatchify
from mxnet import autograd, gluon

from gluon_rnn.common.files import seal, unseal
from gluon_rnn.config.run import Optimizer, RunConfig
from gluon_rnn.data.batches import Batch, Shard, columns, training_windows
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.networks.models import SequenceModel, build_model, trained_parameters
from gluon_rnn.runs.progress import EpochResult, Progress, tokens_per_second
from gluon_rnn.runs.records import make_record
from gluon_rnn.training import loop, sampled_softmax
from gluon_rnn.training.averaging import Average
from gluon_rnn.training.checkpoints import CheckpointDirectory
from gluon_rnn.training.loop import Diverged, Interval, fit, train_epoch
from gluon_rnn.training.objectives import build_objective
from gluon_rnn.training.optimizers import build_trainer
from gluon_rnn.training.schedules import averages_from, learning_rate_after, momentum_at, schedule_factor
from gluon_rnn.training.scoring import evaluate
from gluon_rnn.training.step import backpropagate, clip_and_update
from tests import device as on
from tests.conftest import small_config
from tests.runs.test_records import make_job


@pytest.fixture(scope="session")
def synthetic() -> Corpus:
    return load_corpus(find_corpus("synthetic"))


@pytest.fixture(scope="session")
def small(small_corpus: CorpusFiles) -> Corpus:
    return load_corpus(small_corpus)


def plain_losses(
    corpus: Corpus,
    parameters: Path,
    cell: str,
    *,
    tie: bool,
    rate: float,
    steps: int,
    hidden: int,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip: float = 0.25,
) -> list[float]:
    """The notebook's loop as one would write it from its description, with nothing of this suite in it."""
    model = gluonnlp.model.train.StandardRNN(cell, len(corpus.vocab), hidden, hidden, 2, 0.0, tie)
    model.load_parameters(str(parameters), ctx=on.DEVICE)
    settings = {"learning_rate": rate, "wd": weight_decay} | ({"momentum": momentum} if momentum else {})
    trainer = gluon.Trainer(model.collect_params(), optimizer, settings)
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    windows = CorpusBPTTBatchify(corpus.vocab, 35, 20, last_batch="discard")(
        corpus.vocab.to_tokens(corpus.train.tolist())
    )
    state = model.begin_state(batch_size=20, func=mx.nd.zeros, ctx=on.DEVICE)
    losses = []
    for window in list(windows)[:steps]:
        inputs, targets = (part.as_in_context(on.DEVICE) for part in window)
        state = [part.detach() for part in state]
        with autograd.record():
            output, state, _, _ = model(inputs, state)
            loss = cross_entropy(output.reshape(-3, -1), targets.reshape(-1)).mean()
        loss.backward()
        gluon.utils.clip_global_norm([p.grad() for p in model.collect_params().values()], clip)
        trainer.step(1)
        losses.append(float(loss.asscalar()))
    return losses


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize(
    ("cell", "tie", "rate", "steps", "tolerance"),
    [
        *((cell, tie, 1.0, 50, 1e-5) for cell in ("lstm", "gru", "rnn_tanh") for tie in (True, False)),
        *(("rnn_relu", tie, 1.0, 50, 1e-4) for tie in (True, False)),
        ("lstm", True, 20.0, 10, 1e-4),
    ],
)
def test_losses_equal_the_plain_loop_on_gluonnlps_model(
    synthetic: Corpus, tmp_path: Path, cell: str, tie: bool, rate: float, steps: int, tolerance: float
) -> None:
    hidden = 50
    config = RunConfig(
        cell=cell,
        hidden_size=hidden,
        tie_weights=tie,
        dropout=0,
        learning_rate=rate,
        max_steps=steps,
        warmup_steps=0,
        log_interval=7,
        # By Xavier's recurrent weights, which nothing bounds here, gradients grow within a window by a factor that
        # rounding grows by, too.
        initializer="uniform" if cell == "rnn_relu" else "xavier",
    )
    initial = build_model(config, len(synthetic.vocab), on.DEVICE)
    initial.save_parameters(str(tmp_path / "initial"))
    expected = plain_losses(synthetic, tmp_path / "initial", cell, tie=tie, rate=rate, steps=steps, hidden=hidden)
    found: list[float] = []
    fit(
        config.model_copy(update={"log_interval": 1}),
        synthetic,
        contexts=[on.DEVICE],
        progress=Progress(),
        on_interval=lambda interval: found.append(interval.loss),
    )
    assert len(found) == steps
    # Starts near ln(vocabulary) and learns: the comparison is of real losses.
    assert expected[0] == pytest.approx(math.log(len(synthetic.vocab)), rel=0.02)
    assert expected[-1] < expected[0] - (0.05 if rate == 1 else 0.3)
    on.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.numerical
def test_losses_equal_the_plain_loop_on_gluonnlps_awd_model(synthetic: Corpus, tmp_path: Path) -> None:
    """Its model and its losses for training, written down from their description."""
    vocab, steps = synthetic.vocab, 30
    config = RunConfig(
        **{
            "embed_size": 20,
            "hidden_size": 30,
            "num_layers": 3,
            "dropout": 0,
            "dropout_input": 0,
            "alpha": 2,
            "beta": 1,
        },
        **{"learning_rate": 1.0, "max_steps": steps, "warmup_steps": 0, "log_interval": 1},
    )
    build_model(config, len(vocab), on.DEVICE).save_parameters(str(tmp_path / "initial"))
    model = gluonnlp.model.train.AWDRNN("lstm", len(vocab), 20, 30, 3, True, 0, 0, 0, 0, 0)
    model.load_parameters(str(tmp_path / "initial"), ctx=on.DEVICE)
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0})
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    regularization = gluonnlp.loss.ActivationRegularizationLoss(2)
    temporal = gluonnlp.loss.TemporalActivationRegularizationLoss(1)
    windows = CorpusBPTTBatchify(vocab, 35, 20, last_batch="discard")(vocab.to_tokens(synthetic.train.tolist()))
    state, expected, penalties = model.begin_state(batch_size=20, func=mx.nd.zeros, ctx=on.DEVICE), [], []
    for window in list(windows)[:steps]:
        inputs, targets = (part.as_in_context(on.DEVICE) for part in window)
        state = [[part.detach() for part in layer] for layer in state]
        with autograd.record():
            output, state, raw, dropped = model(inputs, state)
            loss = cross_entropy(output.reshape(-3, -1), targets.reshape(-1))
            penalty = regularization(*dropped) + temporal(*raw)
            total = (loss + penalty).mean()
        total.backward()
        gluon.utils.clip_global_norm([p.grad() for p in model.collect_params().values()], 0.25)
        trainer.step(1)
        expected.append(float(loss.mean().asscalar()))
        penalties.append(float(penalty.asscalar()))
    found, without = [], []
    for settings, into in (({}, found), ({"alpha": 0.0, "beta": 0.0}, without)):
        fit(
            config.model_copy(update=settings),
            synthetic,
            contexts=[on.DEVICE],
            progress=Progress(),
            on_interval=lambda interval, into=into: into.append(interval.loss),
        )
    assert len(found) == steps
    assert max(penalties) > 1e-3
    on.assert_close(found, expected, rtol=0, atol=1e-5)
    assert np.abs(np.subtract(without, expected)).max() > 5e-5


#: Columns that the clock decides.
TIMED = {
    *("tokens_per_second", "sequences_per_second", "step_ms_p50", "step_ms_p95"),
    *("train_seconds", "evaluation_seconds"),
}


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "learning_rate": 0.002},
        {"momentum": 0.9, "learning_rate": 0.5},
        {"weight_decay": 0.03, "learning_rate": 1.0},
        {"clip": 0.02, "learning_rate": 20.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_setting_of_a_step_reaches_it(synthetic: Corpus, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Each changes the plain loop's losses, and the run's likewise."""
    sizes = {"hidden_size": 20, "tie_weights": False, "dropout": 0, "warmup_steps": 0, "max_steps": 15}
    config = RunConfig(log_interval=1, **sizes, **settings)
    build_model(config, len(synthetic.vocab), on.DEVICE).save_parameters(str(tmp_path / "initial"))
    rate = settings["learning_rate"]

    def expected(**options: Any) -> list[float]:
        return plain_losses(
            synthetic, tmp_path / "initial", "lstm", tie=False, rate=rate, steps=15, hidden=20, **options
        )

    found: list[float] = []
    fit(
        config,
        synthetic,
        contexts=[on.DEVICE],
        progress=Progress(),
        on_interval=lambda interval: found.append(interval.loss),
    )
    told = {name: value for name, value in settings.items() if name != "learning_rate"}
    on.assert_close(found, expected(**told), rtol=0, atol=1e-4)
    assert np.abs(np.subtract(found, expected())).max() > 1e-2


class Stopped(Exception):
    """Thrown into a run to stop it, as a kill would."""


def run(
    config: RunConfig,
    corpus: Corpus,
    directory: Path | None = None,
    stop_after: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Progress:
    progress = Progress()

    def on_epoch(result: EpochResult) -> None:
        if result.epoch == stop_after:
            raise Stopped

    checkpoint = CheckpointDirectory(directory) if directory else None
    with contextlib.suppress(Stopped):
        fit(
            config,
            corpus,
            contexts=[on.DEVICE],
            progress=progress,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            clock=clock,
        )
    return progress


class CountingClock:
    """A second passes each time it is read, and as much as `advance` is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def losses(progress: Progress) -> list[tuple[float, ...]]:
    return [(e.learning_rate, e.train_loss, e.valid_loss, e.test_loss or 0.0) for e in progress.history]


@pytest.mark.numerical
def test_the_same_seed_gives_the_same_bits_and_another_does_not(small: Corpus) -> None:
    config = small_config(dropout=0.5)
    first, again = run(config, small), run(config, small)
    assert losses(first) == losses(again)
    assert losses(first) != losses(run(small_config(dropout=0.5, seed=1), small))
    assert first.steps == 2 * len(training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE]))


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.5},
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.5},
        {"optimizer": "nag", "momentum": 0.9, "learning_rate": 0.5},
        {"optimizer": "adam", "learning_rate": 0.05, "dropout": 0.2},
        {"optimizer": "adagrad", "learning_rate": 0.5},
        {"optimizer": "adadelta", "learning_rate": 1},
        {"optimizer": "rmsprop", "learning_rate": 0.01},
        {"cell": "custom_gru", "dropout": 0.2},
        {"random_bptt": True, "dropout_embedding": 0.2, "weight_drop": 0.3, "beta": 1},
        {"lr_schedule": "one_cycle", "random_bptt": True},
        {"averaging": "2", "optimizer": "adam", "learning_rate": 0.02},
        {"lr_schedule": "one_cycle", "optimizer": "sgd", "momentum": 0.9, "min_momentum": 0.5, "averaging": "step 30"},
        {"lr_schedule": "one_cycle", "optimizer": "adam", "min_momentum": 0.5, "learning_rate": 0.02},
        {"sampled_softmax": 9, "random_bptt": True},
        {"sampled_softmax": 9, "last_batch": "keep"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_a_run_stopped_after_any_epoch_resumes_to_the_same_bits(
    small: Corpus, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = small_config(epochs=4, lr_decay=0.5, **settings)
    whole = run(config, small)
    assert len(whole.history) == 4
    for stop in (1, 2):
        stopped = run(config, small, tmp_path, stop_after=stop)
        assert losses(stopped) == losses(whole)[:stop]
    resumed = run(config, small, tmp_path)
    assert losses(resumed) == losses(whole)
    assert resumed.steps == whole.steps


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_a_rate_that_has_decayed_to_nothing_ends_no_run(small: Corpus, optimizer: str) -> None:
    momentum = {"momentum": 0.9} if optimizer == "nag" else {}
    config = small_config(epochs=3, optimizer=optimizer, learning_rate=0.01, lr_steps="2:1e-39", **momentum)
    rates = [epoch.learning_rate for epoch in run(config, small).history]
    assert (rates[:2], len(rates)) == ([0.01, 1e-39], 3)


def test_a_run_says_when_it_has_read_its_checkpoint(small: Corpus, tmp_path: Path) -> None:
    config = small_config(epochs=3)
    run(config, small, tmp_path, stop_after=2)
    progress, seen = Progress(), []
    fit(
        config,
        small,
        contexts=[on.DEVICE],
        progress=progress,
        checkpoint=CheckpointDirectory(tmp_path),
        on_start=lambda: seen.append([each.epoch for each in progress.history]),
        on_epoch=lambda result: seen.append([result.epoch]),
    )
    assert seen == [[1, 2], [3]]


@pytest.mark.numerical
def test_a_sampled_softmax_trains_and_the_whole_one_scores(
    small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all classes the sample gives the same run, but for rounding; of a few, scores are still over all of them."""
    monkeypatch.setattr(sampled_softmax, "_MULTIPLE", 1)
    classes = len(small.vocab)
    whole, with_targets_all, few = (
        run(small_config(sampled_softmax=size, epochs=4), small, tmp_path if size == classes // 4 else None)
        for size in (None, classes - 1, classes // 4)
    )
    expected = [epoch.valid_loss for epoch in whole.history]
    on.assert_close([epoch.valid_loss for epoch in with_targets_all.history], expected, rtol=1e-5)
    assert np.abs(np.subtract([epoch.valid_loss for epoch in few.history], expected)).max() > 1e-4
    # What is trained with a quarter of the classes learns as much, which its training loss, an estimate, does not show.
    on.assert_close([epoch.valid_loss for epoch in few.history], expected, rtol=0.02)
    config = small_config()
    model = build_model(config, classes, on.DEVICE)
    CheckpointDirectory(tmp_path).load_best(model)
    valid = build_objective(config, small, [on.DEVICE]).valid
    assert few.best
    assert evaluate(model, valid, carries_state=True).loss.mean == few.best.valid_loss


@pytest.mark.numerical
@pytest.mark.parametrize("averaging", ["none", "2"])
def test_test_is_scored_once_with_the_best_epochs_parameters(small: Corpus, tmp_path: Path, averaging: str) -> None:
    settings: dict[str, Any] = {"epochs": 4, "lr_steps": "3:100", "averaging": averaging}
    each = run(small_config(**settings), small)
    told: list[EpochResult] = []
    assert each.best
    assert each.best.epoch <= 3  # the last epoch's parameters give something else
    fit(
        small_config(test_once=True, **settings),
        small,
        contexts=[on.DEVICE],
        progress=(once := Progress()),
        checkpoint=CheckpointDirectory(tmp_path),
        on_epoch=told.append,
    )
    assert [epoch.test_loss for epoch in once.history] == [
        each.best.test_loss if epoch.epoch == each.best.epoch else None for epoch in once.history
    ]
    assert once.best
    assert (once.best.valid_loss, once.best.test_perplexity) == (each.best.valid_loss, each.best.test_perplexity)
    assert once.test_tokens_scored == each.test_tokens_scored
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4, each.best.epoch]
    assert [epoch.test_loss for epoch in told[:4]] == [None] * 4


@pytest.mark.numerical
def test_a_run_killed_before_its_one_test_scores_it_when_it_resumes(small: Corpus, tmp_path: Path) -> None:
    config = small_config(test_once=True)
    stopped = run(config, small, tmp_path, stop_after=2)
    assert [epoch.test_loss for epoch in stopped.history] == [None, None]
    resumed = run(config, small, tmp_path)
    assert resumed.best
    whole = run(small_config(), small)
    assert whole.best
    assert resumed.best.test_loss == whole.best.test_loss


def test_a_run_that_diverges_scores_its_one_test_with_the_best_epoch_before(small: Corpus, tmp_path: Path) -> None:
    config = small_config(epochs=3, lr_steps="3:1e30", test_once=True)
    progress = Progress()
    with pytest.raises(Diverged):
        fit(config, small, contexts=[on.DEVICE], progress=progress, checkpoint=CheckpointDirectory(tmp_path))
    each = run(small_config(epochs=2), small)
    assert progress.best
    assert each.best
    assert progress.best.test_loss == each.best.test_loss
    assert progress.test_tokens_scored == each.test_tokens_scored


def test_the_one_test_of_a_run_needs_the_best_epochs_parameters(small: Corpus) -> None:
    progress = Progress()
    with pytest.raises(ValueError, match="needs a checkpoint, which keeps the best epoch's parameters"):
        fit(small_config(test_once=True, epochs=1), small, contexts=[on.DEVICE], progress=progress)
    assert not progress.history  # it is known before anything is trained


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_a_word_that_no_batch_has_had_keeps_its_embedding(small: Corpus, optimizer: str) -> None:
    rate = {} if optimizer == "adadelta" else {"learning_rate": 0.001}
    model = build_model(small_config(optimizer=optimizer, tie_weights=False, **rate), 50, on.DEVICE)
    trainer = build_trainer(small_config(optimizer=optimizer, tie_weights=False, **rate), model)
    embedding = next(p for p in trained_parameters(model) if p.shape[0] == 50 and "embedding" in p.name)
    before = embedding.data(on.DEVICE).asnumpy()
    shard = Shard(*(mx.nd.ones((5, 4), ctx=on.DEVICE, dtype="int32") for _ in range(2)))
    for _ in range(3):
        backpropagate(model, shard, model.begin_state(4, on.DEVICE), targets=20)
        clip_and_update(trainer, trained_parameters(model), None)
    after = embedding.data(on.DEVICE).asnumpy()
    assert (after[1] != before[1]).any()
    # FTRL makes weights without a gradient 0.
    np.testing.assert_allclose(after[2:], 0 * before[2:] if optimizer == "ftrl" else before[2:], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adamax", 0.05), ("ftml", 0.01), ("ftrl", 0.5), ("signum", 0.01), ("lamb", 0.05)]
)
def test_the_other_optimizers_learn_and_resume_to_the_same_bits(
    small: Corpus, tmp_path: Path, optimizer: str, rate: float
) -> None:
    config = small_config(epochs=2, optimizer=optimizer, learning_rate=rate, hidden_size=8)
    whole = run(config, small)
    run(config, small, tmp_path, stop_after=1)
    assert losses(run(config, small, tmp_path)) == losses(whole)
    assert whole.history[1].train_loss < whole.history[0].train_loss


def test_a_checkpoint_of_an_earlier_version_goes_on_and_lends_no_speed(small: Corpus, tmp_path: Path) -> None:
    """It says neither who trained an epoch, nor where a lap was timed."""
    config = small_config(epochs=3)
    whole = run(config, small)
    before = run(config, small, tmp_path, stop_after=1)
    state = tmp_path / "checkpoint" / "state.json"
    content = unseal(state.read_bytes())
    del content["progress"]["sittings"]
    for entry in (*content["progress"]["laps"], *content["progress"]["history"]):
        del entry["sitting"]
        entry.pop("threads", None)
    state.write_text(seal(content))
    resumed = run(config, small, tmp_path)
    assert losses(resumed) == losses(whole)
    assert [epoch.session for epoch in resumed.history] == [None, 2, 2]
    assert resumed.sessions[0].seconds == before.train_seconds + before.evaluation_seconds
    assert [lap.session for lap in resumed.laps] == [None] * len(before.laps) + [2] * len(resumed.comparable_laps)


def test_a_checkpoint_pickles_nothing_and_keeps_one_epoch_and_the_best_parameters(
    small: Corpus, tmp_path: Path
) -> None:
    config = small_config(epochs=3, optimizer="adam", learning_rate=0.01)
    progress = run(config, small, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "epoch-3.params",
        "epoch-3.states",
        "state.json",
    ]
    assert not any(path.read_bytes().startswith(b"\x80") for path in tmp_path.rglob("*") if path.is_file())
    best = progress.best
    assert best is not None
    model = build_model(config, len(small.vocab), on.DEVICE)
    model.load_parameters(str(tmp_path / "best.params"), ctx=on.DEVICE)
    windows = columns(small.test, bptt=7, batch_size=3, contexts=[on.DEVICE])
    assert evaluate(model, windows).loss.mean == pytest.approx(best.test_loss, rel=1e-6)


@pytest.fixture(scope="module")
def stopped(small: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Progress, Path]:
    """A run, what it comes to undisturbed, and its directory where it was stopped after two of its three epochs."""
    config, directory = small_config(epochs=3, optimizer="adam", learning_rate=0.01), tmp_path_factory.mktemp("stopped")
    run(config, small, directory, stop_after=2)
    return config, run(config, small), directory


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state.json", "epoch-2.params", "epoch-2.states"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-2], lambda content: content[:50] + b"7" + content[51:], None]
)
def test_a_damaged_checkpoint_is_named_and_set_aside_and_training_starts_over(
    small: Corpus,
    stopped: tuple[RunConfig, Progress, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[bytes], bytes] | None,
) -> None:
    config, whole, directory = stopped
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoint" / name
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    resumed = run(config, small, tmp_path)
    assert losses(resumed) == losses(whole)
    assert resumed.steps == whole.steps
    if name == "state.json" and not damage:
        return  # there is no checkpoint without it
    said = capsys.readouterr().out
    assert f"{tmp_path / 'checkpoint'} is damaged: " in said
    assert "kept as checkpoint.damaged, and training starts over" in said
    assert (tmp_path / "checkpoint.damaged" / "state.json").exists()
    assert (tmp_path / "checkpoint" / "epoch-3.params").exists()


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(epochs=4, optimizer="adam", learning_rate=0.01)
    whole = run(config, small)
    replace, renamed = os.replace, 0

    def full(source: str, target: Path) -> None:
        nonlocal renamed
        renamed += 1
        if renamed == broken:
            raise OSError(28, "No space left on device")
        replace(source, target)

    # The first epoch renames parameters, best parameters, states and state.json; the second brings no new best.
    assert whole.history[1].test_loss is None
    for broken in (5, 6, 7):
        directory = tmp_path / str(broken)
        directory.mkdir()
        renamed = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(OSError, match="No space left"):
                run(config, small, directory)
        assert json.loads((directory / "checkpoint" / "state.json").read_text())["stem"] == "epoch-1"
        assert losses(run(config, small, directory)) == losses(whole)
        assert not list(directory.rglob("*.tmp"))


@pytest.mark.numerical
def test_the_best_parameters_are_not_the_last(small: Corpus, tmp_path: Path) -> None:
    config = small_config(epochs=4, learning_rate=200.0, lr_decay=1.0, clip=5.0)
    progress = run(config, small, tmp_path)
    best = progress.best
    assert best is not None
    assert best.epoch < 4, "the rate is meant to be too high to go on improving"
    assert all(
        (epoch.test_loss is None) == (epoch.valid_loss > min(e.valid_loss for e in progress.history[: epoch.epoch]))
        for epoch in progress.history
    )
    model = build_model(config, len(small.vocab), on.DEVICE)
    model.load_parameters(str(tmp_path / "best.params"), ctx=on.DEVICE)
    windows = columns(small.valid, bptt=7, batch_size=3, contexts=[on.DEVICE])
    assert evaluate(model, windows).loss.mean == pytest.approx(best.valid_loss, rel=1e-6)


def parameters_of(config: RunConfig, corpus: Corpus, path: Path) -> list[np.ndarray[Any, Any]]:
    model = build_model(config, len(corpus.vocab), on.DEVICE)
    model.load_parameters(str(path), ctx=on.DEVICE)
    return [parameter.data().asnumpy() for parameter in model.collect_params().values()]


@pytest.mark.slow
@pytest.mark.numerical
def test_averages_are_what_is_scored_and_kept_and_training_goes_on_from_the_parameters(
    small: Corpus, tmp_path: Path
) -> None:
    """Beside the same run without averaging, with the parameters of its every step."""
    config = small_config(epochs=3, averaging="2", learning_rate=20.0, lr_decay=1.0)
    plain = config.model_copy(update={"averaging": "none"})
    seen: list[list[np.ndarray[Any, Any]]] = []

    class Keeping(Average):
        def update(self, model: SequenceModel) -> None:
            seen.append([parameter.data().asnumpy() for parameter in model.collect_params().values()])
            super().update(model)

    for name in ("plain", "averaged", "kept"):
        (tmp_path / name).mkdir()
    whole, averaged = run(plain, small, tmp_path / "plain"), run(config, small, tmp_path / "averaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Average", Keeping)
        run(config, small, tmp_path / "kept")
    steps = whole.steps // 3
    assert len(seen) == 2 * steps + 1
    # The first are those that averaging begins with; none is twice.
    for mine, other in zip(
        seen[-1], parameters_of(plain, small, tmp_path / "plain/checkpoint/epoch-3.params"), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    assert [e.train_loss for e in averaged.history] == [e.train_loss for e in whole.history]
    assert averaged.history[0].valid_loss == whole.history[0].valid_loss
    best = averaged.best
    assert best is not None
    assert best.epoch > 1
    expected = [np.mean(each, axis=0) for each in zip(*seen[: 1 + (best.epoch - 1) * steps], strict=True)]
    found = parameters_of(config, small, tmp_path / "averaged/best.params")
    for mine, other in zip(found, expected, strict=True):
        on.assert_close(mine, other, atol=1e-6)
    model = build_model(config, len(small.vocab), on.DEVICE)
    model.load_parameters(str(tmp_path / "averaged/best.params"), ctx=on.DEVICE)
    windows = columns(small.valid, bptt=7, batch_size=3, contexts=[on.DEVICE])
    assert evaluate(model, windows).loss.mean == pytest.approx(best.valid_loss, rel=1e-6)
    raw = parameters_of(config, small, tmp_path / "averaged/checkpoint/epoch-3.params")
    for mine, other in zip(raw, seen[-1], strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.slow
@pytest.mark.numerical
def test_ntasgd_begins_when_validation_stalls_and_resumes_in_each_phase(small: Corpus, tmp_path: Path) -> None:
    # It learns the training text by heart, so that validation stalls whatever the rounding.
    overfitting = {"optimizer": "adam", "learning_rate": 0.02, "lr_decay": 1.0, "dropout": 0.0, "hidden_size": 32}
    config = small_config(epochs=14, averaging="ntasgd", **overfitting)
    whole = run(config, small)
    begins = averages_from(whole.history, config)
    assert begins is not None
    assert 8 <= begins <= 13
    plain = run(config.model_copy(update={"averaging": "none"}), small)
    differs = [a.valid_loss != b.valid_loss for a, b in zip(whole.history, plain.history, strict=True)]
    assert differs == [epoch >= begins for epoch in range(1, 15)]
    for stop in (begins - 2, begins - 1, begins):
        run(config, small, tmp_path, stop_after=stop)
        assert (tmp_path / f"checkpoint/epoch-{stop}.average").exists() == (stop >= begins)
    assert losses(run(config, small, tmp_path)) == losses(whole)


@pytest.mark.numerical
@pytest.mark.parametrize("start", ["first", "last of an epoch", "between"])
def test_averaging_begins_after_a_step(small: Corpus, start: str) -> None:
    seen: list[int] = []
    updates: list[int] = []

    class Counting(Average):
        def update(self, model: SequenceModel) -> None:
            updates.append(len(seen))
            super().update(model)

    def update(trainer: gluon.Trainer, *arguments: Any, **options: Any) -> None:
        seen.append(1)
        clip_and_update(trainer, *arguments, **options)

    steps = len(training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE]))
    number = {"first": 1, "last of an epoch": steps, "between": steps + 3}[start]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Average", Counting)
        patch.setattr(loop, "clip_and_update", update)
        progress = run(small_config(epochs=2, averaging=f"step {number}"), small)
    assert progress.steps == len(seen) == 2 * steps
    # Of the parameters after that step and each later one.
    assert updates == [*range(number, 2 * steps + 1)]


@pytest.mark.numerical
@pytest.mark.parametrize(("optimizer", "attribute"), [("sgd", "momentum"), ("nag", "momentum"), ("adam", "beta1")])
def test_the_momentum_of_a_step_follows_the_schedule(small: Corpus, optimizer: str, attribute: str) -> None:
    cycle = {"optimizer": optimizer, "learning_rate": 0.02, "momentum": 0.95, "min_momentum": 0.85}
    config, taken = small_config(epochs=2, lr_schedule="one_cycle", **cycle), []

    def update(trainer: gluon.Trainer, *arguments: Any, **options: Any) -> None:
        taken.append(getattr(trainer.optimizer, attribute))
        clip_and_update(trainer, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "clip_and_update", update)
        whole = run(config, small)
    assert taken == pytest.approx([momentum_at(config, n / len(taken)) for n in range(len(taken))])
    assert taken[0] == 0.95
    assert min(taken) == pytest.approx(0.85, abs=1e-3)
    assert losses(run(config.model_copy(update={"min_momentum": None}), small)) != losses(whole)


def rates_of(config: RunConfig, corpus: Corpus) -> list[tuple[int, float]]:
    """The length of each step's window, and the step's rate."""
    taken: list[tuple[int, float]] = []
    shards: list[int] = []

    def read(model: Any, shard: Any, *arguments: Any, **options: Any) -> Any:
        shards.append(len(shard.inputs))
        return backpropagate(model, shard, *arguments, **options)

    def update(trainer: gluon.Trainer, *arguments: Any, **options: Any) -> None:
        taken.append((shards[-1], trainer.learning_rate))
        clip_and_update(trainer, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "backpropagate", read)
        patch.setattr(loop, "clip_and_update", update)
        progress = run(config, corpus)
    assert progress.history[1].learning_rate == pytest.approx(
        config.learning_rate * schedule_factor(config, 0.5), rel=1e-12
    )
    return taken


@pytest.mark.numerical
def test_the_rate_of_a_step_follows_the_schedule_and_its_windows_length(small: Corpus) -> None:
    taken = rates_of(small_config(lr_schedule="linear"), small)
    expected = [1 - n / len(taken) for n in range(len(taken))]
    assert [rate for _, rate in taken] == pytest.approx(expected)
    taken = rates_of(small_config(random_bptt=True, bptt=8, learning_rate=2.0), small)
    assert len({steps for steps, _ in taken}) > 3
    assert [rate for _, rate in taken] == pytest.approx([2 * steps / 8 for steps, _ in taken])


def test_a_time_budget_ends_the_run_and_its_schedule_and_a_resumed_run_has_the_same_bits(
    small: Corpus, tmp_path: Path
) -> None:
    def trained(config: RunConfig, directory: Path | None = None, stop_after: int | None = None) -> Progress:
        return run(config, small, directory, stop_after, clock=CountingClock())

    settings = {"lr_schedule": "linear", "learning_rate": 2.0, "warmup_steps": 0}
    # Each reading of the clock takes a second: all epochs take the same time, but for the test of the best ones.
    (first, *_) = trained(small_config(epochs=1, **settings)).history
    config = small_config(epochs=10_000, time_budget=4.1 * first.total_seconds, **settings)
    whole = trained(config)
    assert [epoch.learning_rate for epoch in whole.history] == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert sum(epoch.total_seconds for epoch in whole.history) == whole.train_seconds + whole.evaluation_seconds
    assert whole.evaluation_seconds > 0
    trained(config, tmp_path, stop_after=2)
    assert losses(trained(config, tmp_path)) == losses(whole)


@pytest.mark.numerical
def test_the_state_is_carried_and_gradients_stop_at_the_window(small: Corpus) -> None:
    """One window of ten steps and two of five have the same losses at rate zero, and different gradients."""
    found, gradients = {}, {}
    for bptt in (5, 10):
        config = small_config(bptt=bptt, dropout=0)
        model = build_model(config, len(small.vocab), on.DEVICE)
        trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 0.0}, kvstore=None)
        windows = training_windows(small.train, bptt=bptt, batch_size=4, contexts=[on.DEVICE])[: 20 // bptt]
        seen: list[float] = []
        train_epoch(
            model,
            windows,
            trainer,
            clip=None,
            carries_state=True,
            synchronise_at=lambda step: False,
            on_losses=lambda values, batches, seen=seen: seen.extend(values),
        )
        found[bptt] = seen
        gradients[bptt] = model.encoder.collect_params(".*l?h2h_weight").values()
        gradients[bptt] = [parameter.grad().asnumpy() for parameter in gradients[bptt]]
    assert len(found[5]) == 4
    assert np.reshape(found[5], (2, 2)).mean(axis=1) == pytest.approx(found[10], rel=1e-5)
    assert np.abs(gradients[5][0] - gradients[10][0]).max() > 1e-7


def test_training_waits_for_the_device_at_the_log_interval_only(small: Corpus) -> None:
    config = small_config(hidden_size=8)
    model = build_model(config, len(small.vocab), on.DEVICE)
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
    windows = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])
    batches: list[tuple[int, int]] = []
    taken, waits = 0, []
    # Whatever waits for a device in Python ends in one of these.
    waiting = {function.__code__ for function in (mx.nd.NDArray.asnumpy, mx.nd.NDArray.wait_to_read, mx.nd.waitall)}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in waiting:
            waits.append(taken)

    def draw() -> Iterator[Batch]:
        nonlocal taken
        for window in windows[:11]:
            taken += 1
            yield window

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        train_epoch(
            model,
            draw(),
            trainer,
            clip=0.25,
            carries_state=True,
            synchronise_at=lambda step: step % 4 == 0,
            on_losses=lambda values, since: batches.append((len(values), len(since))),
        )
    finally:
        sys.setprofile(before)
    assert batches == [(4, 4), (4, 4), (3, 3)]
    assert waits == [4, 8, 11]


@pytest.mark.numerical
def test_clipping_bounds_the_step(small: Corpus) -> None:
    config = small_config(dropout=0)
    for clip, expected in ((0.01, 0.01), (None, None)):
        model = build_model(config, len(small.vocab), on.DEVICE)
        before = {name: p.data().asnumpy() for name, p in model.collect_params().items()}
        trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
        windows = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])[:1]
        train_epoch(
            model,
            windows,
            trainer,
            clip=clip,
            carries_state=True,
            synchronise_at=lambda step: True,
            on_losses=lambda values, batches: None,
        )
        moved = math.sqrt(
            sum(float(((p.data().asnumpy() - before[name]) ** 2).sum()) for name, p in model.collect_params().items())
        )
        if expected:
            assert moved == pytest.approx(expected, rel=1e-3)
        else:
            assert moved > 0.1


@pytest.mark.numerical
def test_the_log_interval_decides_no_bit(small: Corpus, small_corpus: CorpusFiles, tmp_path: Path) -> None:
    def everything(log_interval: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        directory = tmp_path / str(log_interval)
        directory.mkdir()
        config = {"dropout": 0.3, "optimizer": "adam", "learning_rate": 0.05, "log_interval": log_interval}
        progress = run(small_config(**config), small, directory)
        record = make_record(
            make_job(small_corpus, **config), progress, status="ok", started_at="now", wall_seconds=1.0
        ).model_dump(exclude=TIMED)
        del record["log_interval"]
        for epoch in record["history"]:
            del epoch["tokens_per_second"], epoch["seconds"], epoch["evaluation_seconds"]
        arrays = [*(directory / "checkpoint").glob("epoch-*"), directory / "best.params"]
        return record, {path.name: path.read_bytes() for path in arrays}

    record, arrays = everything(1)
    assert set(arrays) == {"epoch-2.params", "epoch-2.states", "best.params"}
    for log_interval in (7, 200):
        assert everything(log_interval) == (record, arrays)


@pytest.mark.numerical
def test_intervals_report_the_mean_of_their_own_steps(small: Corpus) -> None:
    def intervals(log_interval: int, warmup: int) -> list[Interval]:
        seen: list[Interval] = []
        config = small_config(log_interval=log_interval, warmup_steps=warmup, epochs=1)
        fit(config, small, contexts=[on.DEVICE], progress=Progress(), on_interval=seen.append)
        return seen

    single, grouped = intervals(1, 0), intervals(4, 3)
    assert [i.step for i in grouped] == [4, 8, 12, 16, 20]
    for group in grouped:
        steps = [i.loss for i in single if group.step - 4 < i.step <= group.step]
        assert group.loss == pytest.approx(np.mean(steps), rel=1e-6)
        assert group.tokens_per_second is not None


def test_an_epochs_loss_is_of_its_targets_not_of_its_windows(small: Corpus) -> None:
    """The last window, masked, has fewer."""
    settings = {"last_batch": "keep", "epochs": 1, "warmup_steps": 0, "dropout": 0}
    steps: list[Interval] = []
    one_by_one = small_config(**settings, log_interval=1)
    fit(one_by_one, small, contexts=[on.DEVICE], progress=Progress(), on_interval=steps.append)
    windows = columns(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])
    targets = [window.targets for window in windows]
    assert targets[-1] < targets[0]
    expected = np.average([interval.loss for interval in steps], weights=targets)
    for log_interval in (1, 1000):
        progress = run(small_config(**settings, log_interval=log_interval), small)
        assert progress.history[0].train_loss == pytest.approx(expected, rel=1e-12)
        assert progress.last_epoch.tokens == sum(targets)


def test_warm_up_is_left_out_of_the_timing(small: Corpus) -> None:
    progress = run(small_config(warmup_steps=6, log_interval=5, epochs=2), small)
    steps = progress.steps // 2
    assert sum(lap.steps for lap in progress.laps) == 2 * steps - 6
    assert sum(lap.tokens for lap in progress.laps) == (2 * steps - 6) * 20
    assert sum(lap.seconds for lap in progress.laps) < progress.train_seconds
    assert progress.history[0].tokens_per_second is not None


@pytest.mark.parametrize(("log_interval", "warmup_steps"), [(1, 0), (5, 6), (5, 5), (6, 4), (200, 3)])
def test_what_the_callbacks_take_is_in_no_timing_of_training(
    small: Corpus, tmp_path: Path, log_interval: int, warmup_steps: int
) -> None:
    progress, clock, called = Progress(), CountingClock(), []

    def slow(report: object = None) -> None:
        called.append(report)
        clock.advance(1000.0)

    fit(
        small_config(log_interval=log_interval, warmup_steps=warmup_steps),
        small,
        contexts=[on.DEVICE],
        progress=progress,
        checkpoint=CheckpointDirectory(tmp_path),
        on_interval=slow,
        before_checkpoint=slow,
        on_epoch=slow,
        clock=clock,
    )
    steps = progress.steps // 2
    assert len(called) == 2 * (steps // log_interval + 2)
    # Between the two readings of a lap there is none.
    assert {lap.seconds for lap in progress.laps} == {1.0}
    for epoch in progress.history:
        laps = math.ceil(steps / log_interval) + (epoch.epoch == 1 and warmup_steps % log_interval > 0)
        # One for each lap, for the epoch's own ends and for the two of the last stretch.
        assert epoch.seconds <= laps + 4
    assert all(
        interval.tokens_per_second in (None, *speeds(progress)) for interval in called if isinstance(interval, Interval)
    )
    assert progress.train_seconds == sum(epoch.seconds for epoch in progress.history)
    assert progress.evaluation_seconds <= 4


def speeds(progress: Progress) -> set[float | None]:
    return {tokens_per_second([lap]) for lap in progress.laps}


def test_a_run_that_is_all_warm_up_has_no_throughput(small: Corpus) -> None:
    progress = run(small_config(warmup_steps=1000, epochs=1), small)
    assert progress.history[0].tokens_per_second is None
    assert progress.laps == []


def test_a_throughput_run_does_its_steps_and_evaluates_nothing(small: Corpus) -> None:
    progress = run(small_config(max_steps=30, warmup_steps=4), small)
    assert progress.steps == 34  # more than the corpus has windows: it starts again
    assert sum(lap.steps for lap in progress.laps) == 30
    assert progress.history == []
    assert progress.valid_tokens_scored is None
    assert progress.last_epoch.tokens == 34 * 20


def test_the_rate_decays_in_a_real_run(small: Corpus) -> None:
    progress = run(small_config(epochs=4, learning_rate=200.0, clip=5.0), small)
    rates = [epoch.learning_rate for epoch in progress.history]
    assert rates == [learning_rate_after(progress.history[:n], small_config(learning_rate=200.0)) for n in range(4)]
    assert rates[-1] < 200


def test_divergence_names_the_first_bad_step_and_keeps_what_there_was(small: Corpus) -> None:
    config = small_config(dropout=0, log_interval=100, warmup_steps=0)
    model = build_model(config, len(small.vocab), on.DEVICE)
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
    windows = training_windows(small.train, bptt=5, batch_size=4, contexts=[on.DEVICE])

    def poisoned() -> Any:
        for number, window in enumerate(windows, 1):
            if number == 4:
                model.decoder[0].bias.set_data(mx.nd.full((len(small.vocab),), math.nan))
            yield window

    with pytest.raises(Diverged, match=r"the loss was nan at step 4$"):
        train_epoch(
            model,
            poisoned(),
            trainer,
            clip=0.25,
            carries_state=True,
            synchronise_at=lambda step: step == 2,
            on_losses=lambda values, batches: None,
        )


@pytest.mark.numerical
def test_a_diverged_run_keeps_its_infinity(small: Corpus) -> None:
    progress = Progress()
    config = small_config(learning_rate=1e30, clip=None, cell="rnn_relu", warmup_steps=0)
    with pytest.raises(Diverged, match=r"the loss was (nan|inf) at step \d+ of epoch 1$"):
        fit(config, small, contexts=[on.DEVICE], progress=progress)
    assert progress.last_epoch.perplexity == math.inf
    assert progress.history == []
    assert progress.train_seconds > 0


@pytest.mark.slow
@pytest.mark.numerical
def test_learning_is_real_and_test_is_measured_at_the_best_epoch(synthetic: Corpus) -> None:
    config = small_config(
        hidden_size=50, bptt=20, batch_size=10, epochs=1, learning_rate=20.0, dropout=0.0, log_interval=100
    )
    short = replace(synthetic, train=synthetic.train[:30000], valid=synthetic.valid[:3000], test=synthetic.test[:3000])
    progress = run(config, short)
    # The vocabulary is 1,075; a unigram model has a perplexity of 132 on this corpus.
    assert progress.history[0].valid_perplexity < 100
    assert progress.valid_tokens_scored == 2999
    assert progress.test_tokens_scored == 2999


@pytest.mark.numerical
def test_an_epoch_that_ends_beyond_any_perplexity_has_diverged(small: Corpus) -> None:
    """After its only step, whose own loss was finite; and so are all numbers, but for that perplexity."""
    progress = Progress()
    config = small_config(bptt=90, learning_rate=1e5, clip=None, dropout=0)
    with pytest.raises(Diverged, match=r"the validation loss was \d[\d.e+]+ after epoch 1$"):
        fit(config, small, contexts=[on.DEVICE], progress=progress)
    assert (progress.steps, progress.history) == (1, [])
    assert progress.last_epoch.mean < 4
