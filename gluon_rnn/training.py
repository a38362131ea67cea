"""Training and evaluation: epochs of steps, and what is reported of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_rnn.batches import EvaluationColumns, Window, evaluation_columns, training_windows
from gluon_rnn.cells import Tensors
from gluon_rnn.checkpoints import CheckpointDirectory
from gluon_rnn.config import RunConfig
from gluon_rnn.corpora.encoded import Corpus
from gluon_rnn.metrics import EpochResult, LossTotal, Progress, Stopwatch, tokens_per_second
from gluon_rnn.models import RNNLanguageModel, build_model, count_parameters
from gluon_rnn.precisions import PRECISIONS, Precision
from gluon_rnn.step import backpropagate, clip_and_update, log_probabilities


class Diverged(Exception):
    """A loss was not finite; the text says where."""


def train_epoch(
    model: RNNLanguageModel,
    windows: Iterable[Window],
    trainer: gluon.Trainer,
    *,
    clip: float | None,
    states: Sequence[Tensors],
    precision: Precision = PRECISIONS["float32"],
    synchronise_at: Callable[[int], bool],
    on_losses: Callable[[np.ndarray[Any, Any]], None],
) -> None:
    """Truncated backpropagation through time over consecutive windows.

    A window's loss is the mean over its tokens; the state is carried from window to window, and gradients stop at its
    edge. Where several devices share the batch, MXNet's KVStore adds up their gradients, and every replica of the
    parameters takes the same step.

    Args:
        windows: see `gluon_rnn.batches.training_windows`.
        clip: global norm; None leaves the gradients alone.
        states: of each device, before the first window.
        precision: of the decoder's matrix products.
        synchronise_at: whether to wait for the device and report after this step, counted from 1; nothing else in the
            loop waits.
        on_losses: given the mean losses, in nats a token, of the steps since the last report.

    Raises:
        Diverged: a reported loss is not finite; whatever `on_losses` raises.
    """
    parameters, states, devices = list(model.collect_params().values()), list(states), len(states)
    losses: list[mx.nd.NDArray] = []
    step = 0
    for step, window in enumerate(windows, 1):
        for device, (inputs, targets) in enumerate(window):
            loss, states[device] = backpropagate(
                model, inputs, targets, states[device], devices=devices, precision=precision
            )
            losses.append(loss)
        trainer.allreduce_grads()
        clip_and_update(trainer, parameters, clip)
        if synchronise_at(step):
            on_losses(_finite(losses, devices, step))
            losses = []
    if losses:
        on_losses(_finite(losses, devices, step))


def _finite(losses: Sequence[mx.nd.NDArray], devices: int, last_step: int) -> np.ndarray[Any, Any]:
    """Each step's mean loss, of the losses of its devices."""
    gathered = mx.nd.concat(*(loss.as_in_context(losses[0].context) for loss in losses), dim=0)
    values: np.ndarray[Any, Any] = gathered.asnumpy().astype(np.float64).reshape(-1, devices).mean(axis=1)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise Diverged(f"the loss was {values[wrong[0]]} at step {last_step - len(values) + wrong[0] + 1}")
    return values


def evaluate(model: RNNLanguageModel, columns: EvaluationColumns) -> LossTotal:
    """Score every target of `columns` once, the state carried down each column; only the end waits for the device."""
    inputs = columns.windows[0][0]
    state = model.begin_state(inputs.shape[1], inputs.context)
    weight, bias = (parameter.data(inputs.context) for parameter in (model.decoder[0].weight, model.decoder[0].bias))
    nats: list[mx.nd.NDArray] = []
    for inputs, targets, weights in columns.windows:
        outputs, state = model.body(inputs, state)
        scores = log_probabilities(outputs.reshape((-3, 0)), weight, bias)
        nats.append(-mx.nd.pick(scores, targets.reshape((-1,))) * weights.reshape((-1,)))
    # A sum of 200,000 losses in float32 would lose digits.
    return LossTotal(float(mx.nd.concat(*nats, dim=0).asnumpy().sum(dtype=np.float64)), columns.targets)


@dataclass(frozen=True)
class Interval:
    """What `fit` reports at each log interval.

    Attributes:
        epoch: counted from 1.
        step: training steps done of the epoch.
        steps: of the whole epoch.
        loss: mean nats a token since the last report.
        tokens_per_second: since the last report; None while warming up.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    tokens_per_second: float | None


class _Meter:
    """Counts and times the steps of one epoch as their losses arrive."""

    def __init__(
        self,
        progress: Progress,
        stopwatch: Stopwatch,
        *,
        epoch: int,
        steps: int,
        tokens_a_step: int,
        log_interval: int,
        warmup_steps: int,
        on_interval: Callable[[Interval], None],
    ) -> None:
        self._progress = progress
        self._stopwatch = stopwatch
        self._epoch = epoch
        self._steps = steps
        self._tokens_a_step = tokens_a_step
        self._log_interval = log_interval
        self._warmup_steps = warmup_steps
        self._on_interval = on_interval
        self._step = 0
        self._since_report = LossTotal()
        self.first_lap = len(stopwatch.laps)
        progress.last_epoch = LossTotal()

    def due(self, step: int) -> bool:
        """Whether to look at the device after this step."""
        return step % self._log_interval == 0 or step == self._warmup_steps

    def count(self, losses: np.ndarray[Any, Any]) -> None:
        """Take in the mean losses of the steps since the last call."""
        tokens = len(losses) * self._tokens_a_step
        nats = float(losses.sum()) * self._tokens_a_step
        self._step += len(losses)
        self._progress.steps += len(losses)
        self._progress.last_epoch.add(nats, tokens)
        self._since_report.add(nats, tokens)
        speed = None
        if self._step <= self._warmup_steps:
            self._stopwatch.restart()
        else:
            speed = tokens_per_second([self._stopwatch.lap(steps=len(losses), tokens=tokens)])
        if self._step % self._log_interval == 0:
            self._on_interval(Interval(self._epoch, self._step, self._steps, self._since_report.mean, speed))
            self._since_report = LossTotal()


def learning_rate_after(history: Sequence[EpochResult], config: RunConfig) -> float:
    """The rate of the epoch that follows `history`.

    Multiplied by `lr_decay` whenever more than `lr_patience` epochs in a row brought no new best validation loss.
    """
    rate, best, stale = config.learning_rate, math.inf, 0
    for epoch in history:
        if epoch.valid_loss < best:
            best, stale = epoch.valid_loss, 0
            continue
        stale += 1
        if stale > config.lr_patience:
            rate, stale = rate * config.lr_decay, 0
    return rate


def is_finished(progress: Progress, config: RunConfig) -> bool:
    """Whether all epochs are done, or `early_stopping` of them in a row brought no new best."""
    done = len(progress.history)
    stale = done - progress.best.epoch if progress.best else 0
    return done >= config.epochs or (config.early_stopping is not None and stale >= config.early_stopping)


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed MXNet for one epoch, so that a resumed run draws the dropout masks of one that was never stopped.

    Each device draws its own masks: MXNet 1.9.1 adds a GPU's number to its seed, and CPU contexts draw from one
    generator, in the order in which they are told to.
    """
    mx.random.seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1))


def fit(
    config: RunConfig,
    corpus: Corpus,
    *,
    contexts: Sequence[mx.Context],
    progress: Progress,
    checkpoint: CheckpointDirectory | None = None,
    on_interval: Callable[[Interval], None] = lambda interval: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> None:
    """Train and evaluate as `config` says.

    Args:
        contexts: the devices, of one kind. Several share each batch, and the first evaluates.
        progress: filled in as training goes, so that a run cut short keeps what it had.
        checkpoint: resumed from where it holds an epoch, and written after every epoch.
        on_interval: called at each log interval.
        on_epoch: called with each finished epoch, after its checkpoint was written; test was measured if validation
            improved.

    Raises:
        Diverged: a training loss was not finite, or an epoch's validation perplexity.
        ValueError: the corpus does not fill one window, or the batch cannot be shared equally.
    """
    windows = training_windows(corpus.train, bptt=config.bptt, batch_size=config.batch_size, contexts=contexts)
    model = build_model(config, len(corpus.vocab), *contexts)
    settings = {"learning_rate": config.learning_rate, "wd": config.weight_decay}
    if config.momentum:
        settings["momentum"] = config.momentum
    # One device makes no store of it.
    trainer = gluon.Trainer(
        model.collect_params(), config.optimizer, settings, kvstore="device", update_on_kvstore=False
    )
    tokens_a_step = config.bptt * config.batch_size
    progress.train_tokens = len(windows) * tokens_a_step
    progress.parameters = count_parameters(model)
    warmup_steps = config.warmup_steps

    def train(windows: Iterable[Window], epoch: int, steps: int) -> _Meter:
        stopwatch = Stopwatch(mx.nd.waitall, laps=progress.laps)
        meter = _Meter(
            progress,
            stopwatch,
            epoch=epoch,
            steps=steps,
            tokens_a_step=tokens_a_step,
            log_interval=config.log_interval,
            warmup_steps=warmup_steps,
            on_interval=on_interval,
        )
        stopwatch.restart()
        started = stopwatch.clock()
        seed_epoch(config.seed, epoch)
        try:
            train_epoch(
                model,
                windows,
                trainer,
                clip=config.clip,
                states=[model.begin_state(config.batch_size // len(contexts), context) for context in contexts],
                precision=PRECISIONS[config.precision],
                synchronise_at=meter.due,
                on_losses=meter.count,
            )
        except Diverged as error:
            progress.last_epoch = LossTotal(math.inf, max(1, progress.last_epoch.tokens))
            raise Diverged(f"{error} of epoch {epoch}") from None
        finally:
            progress.train_seconds += stopwatch.clock() - started
        return meter

    if config.max_steps is not None:
        steps = config.warmup_steps + config.max_steps
        train(islice(cycle(windows), steps), 1, steps)
        return

    if checkpoint and (restored := checkpoint.restore(model, trainer)):
        progress.__dict__.update(restored.__dict__)
    valid, test = (
        evaluation_columns(split, bptt=config.eval_bptt, batch_size=config.eval_batch_size, context=contexts[0])
        for split in (corpus.valid, corpus.test)
    )

    def score(columns: EvaluationColumns) -> LossTotal:
        started = time.perf_counter()
        total = evaluate(model, columns)
        progress.evaluation_seconds += time.perf_counter() - started
        return total

    while not is_finished(progress, config):
        epoch = len(progress.history) + 1
        trainer.set_learning_rate(learning_rate_after(progress.history, config))
        before = progress.train_seconds
        meter = train(windows, epoch, len(windows))
        warmup_steps = 0
        valid_total = score(valid)
        if not math.isfinite(valid_total.perplexity):
            # A training loss may come back from 1e8 nats; an epoch that ends there has led nowhere.
            raise Diverged(f"the validation loss was {valid_total.mean:g} after epoch {epoch}")
        progress.valid_tokens_scored = valid_total.tokens
        improved = progress.best is None or valid_total.mean < progress.best.valid_loss
        test_total = score(test) if improved else None
        if test_total:
            progress.test_tokens_scored = test_total.tokens
        result = EpochResult(
            epoch=epoch,
            learning_rate=trainer.learning_rate,
            train_loss=progress.last_epoch.mean,
            valid_loss=valid_total.mean,
            valid_perplexity=valid_total.perplexity,
            test_loss=test_total.mean if test_total else None,
            test_perplexity=test_total.perplexity if test_total else None,
            tokens_per_second=tokens_per_second(progress.laps[meter.first_lap :]),
            seconds=progress.train_seconds - before,
        )
        progress.history.append(result)
        if checkpoint:
            checkpoint.save(model, trainer, progress)
        on_epoch(result)
