"""Training and evaluation: epochs of steps, and the reports on them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.batches import Batch
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel, build_model, count_parameters, trained_parameters
from gluon_rnn.runs.progress import EpochResult, Lap, LossTotal, Progress, Session, Stopwatch, tokens_per_second
from gluon_rnn.training.averaging import Average
from gluon_rnn.training.checkpoints import CheckpointDirectory
from gluon_rnn.training.objectives import Objective, build_objective
from gluon_rnn.training.optimizers import build_trainer, set_learning_rate, set_momentum
from gluon_rnn.training.precisions import Precision, precision_on
from gluon_rnn.training.sampled_softmax import ClassSample, ClassSampler
from gluon_rnn.training.schedules import (
    averages_from,
    epochs_expected,
    is_finished,
    learning_rate_after,
    momentum_at,
    schedule_factor,
)
from gluon_rnn.training.scoring import Score, SoftmaxScorer, confusion, evaluate, initial_state, predict, unigram_loss
from gluon_rnn.training.step import backpropagate, clip_and_update


class Diverged(Exception):
    """A loss was not finite; the text says where."""


def train_epoch(
    model: SequenceModel,
    batches: Iterable[Batch],
    trainer: gluon.Trainer,
    *,
    clip: float | None,
    carries_state: bool,
    before_update: Callable[[int, Batch], None] = lambda step, batch: None,
    after_update: Callable[[int], None] = lambda step: None,
    precision: Precision | None = None,
    sampler: ClassSampler | None = None,
    synchronise_at: Callable[[int], bool],
    on_losses: Callable[[np.ndarray[Any, Any], Sequence[Batch]], None],
) -> None:
    """Gradients, clipping and a step for each batch.

    A batch's loss is the mean over its targets. Where several devices share the batch, MXNet's KVStore adds up their
    gradients, and every replica of the parameters takes the same step.

    Args:
        batches: see `gluon_rnn.training.objectives`.
        clip: global norm; None leaves the gradients alone.
        carries_state: whether a batch begins in the state that the one before it ended in (truncated backpropagation
            through time: gradients stop at its edge), not in zeros.
        before_update: called with each step, counted from 1, and its batch.
        after_update: called with each step, whose update may still be queued.
        precision: of the decoder's matrix products; None: float32.
        synchronise_at: whether to wait for the device and report after this step, counted from 1; nothing else in the
            loop waits.
        on_losses: given the mean losses, in nats a target, of the steps since the last report, and their batches.

    Raises:
        Diverged: a reported loss is not finite; whatever `on_losses` raises.
    """
    parameters = trained_parameters(model)
    precision = precision or precision_on(parameters[0].list_ctx()[0].device_type)
    states: list[States] = []
    losses: list[mx.nd.NDArray] = []
    seen: list[Batch] = []
    step = 0
    for step, batch in enumerate(batches, 1):
        if not states or not carries_state:
            states = [initial_state(model, shard) for shard in batch.shards]
        sample = None
        if sampler:
            assert batch.labels is not None
            sample = sampler.draw(batch.labels)
        losses += _backpropagate_batch(model, batch, states, precision, sample)
        trainer.allreduce_grads()
        before_update(step, batch)
        clip_and_update(trainer, parameters, clip, usable=precision.finish_step())
        after_update(step)
        seen.append(batch)
        if synchronise_at(step):
            on_losses(_finite(losses, step, len(seen)), seen)
            losses, seen = [], []
    if seen:
        on_losses(_finite(losses, step, len(seen)), seen)


def _backpropagate_batch(
    model: SequenceModel, batch: Batch, states: list[States], precision: Precision, sample: ClassSample | None
) -> list[mx.nd.NDArray]:
    """`backpropagate` on each device, whose state in `states` is replaced by that after the batch; the losses."""
    losses = []
    for device, shard in enumerate(batch.shards):
        loss, states[device] = backpropagate(
            model,
            shard,
            states[device],
            targets=batch.targets,
            shards=len(batch.shards),
            precision=precision,
            sample=sample,
        )
        losses.append(loss)
    return losses


def _finite(losses: Sequence[mx.nd.NDArray], last_step: int, steps: int) -> np.ndarray[Any, Any]:
    """The mean loss of each of the last `steps` steps, summed over their devices."""
    gathered = mx.nd.concat(*(loss.as_in_context(losses[0].context) for loss in losses), dim=0)
    values: np.ndarray[Any, Any] = gathered.asnumpy().astype(np.float64).reshape(steps, -1).sum(axis=1)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise Diverged(f"the loss was {values[wrong[0]]} at step {last_step - len(values) + wrong[0] + 1}")
    return values


@dataclass(frozen=True)
class Interval:
    """The report of `fit` at each log interval.

    Attributes:
        epoch: counted from 1.
        step: training steps done of the epoch.
        steps: of the whole epoch.
        loss: mean nats a target since the last report.
        tokens_per_second: since the last report; None while warming up.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    tokens_per_second: float | None


@dataclass
class _Meter:
    """Counts and times the steps of one epoch as their losses arrive. The time spent on reports is excluded.

    Attributes:
        progress: of the run.
        stopwatch: of the steps.
        epoch: counted from 1.
        steps: of the whole epoch.
        log_interval: steps from one report to the next.
        warmup_steps: the first steps, which are not timed.
        on_interval: given each report.
    """

    progress: Progress
    stopwatch: Stopwatch
    epoch: int
    steps: int
    log_interval: int
    warmup_steps: int
    on_interval: Callable[[Interval], None]
    _step: int = 0
    _since_report: LossTotal = field(default_factory=LossTotal)

    def start(self) -> None:
        """Begin the epoch."""
        self.progress.first_lap = len(self.progress.laps)
        self.progress.last_epoch = LossTotal()
        self.stopwatch.start()

    def due(self, step: int) -> bool:
        """Whether to look at the device after this step."""
        return step % self.log_interval == 0 or step == self.warmup_steps

    def count(self, losses: np.ndarray[Any, Any], batches: Sequence[Batch]) -> None:
        """Record the mean losses of the steps since the last call, with their batches."""
        seconds = self.stopwatch.stop()
        progress = self.progress
        targets = np.array([batch.targets for batch in batches])
        nats = float(losses @ targets)
        self._step += len(losses)
        progress.steps += len(losses)
        for total in (progress.last_epoch, self._since_report):
            total.add(nats, int(targets.sum()))
        speed = None
        if self._step > self.warmup_steps:
            tokens = sum(batch.tokens for batch in batches)
            progress.laps.append(Lap(len(losses), tokens, seconds, len(progress.sessions)))
            speed = tokens_per_second(progress.laps[-1:])
        if self._step % self.log_interval == 0:
            self.on_interval(Interval(self.epoch, self._step, self.steps, self._since_report.mean, speed))
            self._since_report = LossTotal()
        self.stopwatch.start()


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed MXNet and NumPy for one epoch, so that a resumed run draws the same masks and order as an uninterrupted one.

    Each device draws its own masks: MXNet 1.9.1 adds a GPU's number to its seed, and CPU contexts draw from one
    generator, in the order in which they are told to.
    """
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)
    mx.random.seed(state)
    np.random.seed(state)


def fit(
    config: RunConfig,
    corpus: Corpus,
    *,
    contexts: Sequence[mx.Context],
    progress: Progress,
    vectors: np.ndarray[Any, Any] | None = None,
    checkpoint: CheckpointDirectory | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_interval: Callable[[Interval], None] = lambda interval: None,
    before_checkpoint: Callable[[], None] = lambda: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train and evaluate the model of `config`.

    Args:
        contexts: the devices, of one kind. Several share each batch, and the first evaluates.
        progress: updated during training, so that an interrupted run keeps its results so far. Its last session belongs
            to this process; an empty session is added if there is none.
        vectors: the initial embedding, (vocabulary, embed_size); None: random or one-hot, as `config` says.
        checkpoint: resumed from where it holds an epoch, and written after every epoch.
        on_start: called before the first step, when `progress` has the epochs of the checkpoint.
        on_interval: called at each log interval; no callback counts in the timing of training.
        before_checkpoint: called at the end of each epoch, so that what it adds to `progress` is in the checkpoint.
        on_epoch: called with each finished epoch, after its checkpoint was written; test was measured if validation
            improved. With `test_once` test was not measured, and the best epoch comes once more when it was.
        clock: seconds, monotonic.

    Raises:
        Diverged: a training loss was not finite, or an epoch's validation perplexity.
        ValueError: the corpus fills no window, the batch cannot be shared equally, or `test_once` has no `checkpoint`.
    """
    objective = build_objective(config, corpus, contexts, scored=config.max_steps is None)
    model = build_model(config, len(objective.tokens), *contexts, classes=len(objective.classes), vectors=vectors)
    trainer = build_trainer(config, model)
    _describe(progress, objective, model)
    average = Average()
    precision = precision_on(contexts[0].device_type, config.precision)
    sampler = _sampler(config, corpus, objective)
    loop = _Loop(config, objective, model, trainer, average, precision, sampler, progress, on_interval, clock)
    warmup_steps = config.warmup_steps
    if config.max_steps is not None:
        on_start()
        loop.train(1, steps=warmup_steps + config.max_steps, warmup_steps=warmup_steps)
        return

    if config.test_once and objective.test and checkpoint is None:
        raise ValueError("test_once needs a checkpoint, which keeps the best epoch's parameters")
    if checkpoint and (restored := checkpoint.restore(model, trainer, average)):
        progress.resume(restored)
    if progress.unigram_loss is None:
        progress.unigram_loss = unigram_loss(objective.training(), objective.valid, len(objective.classes))
    on_start()

    def test_at_the_end() -> None:
        if config.test_once and objective.test and checkpoint and progress.best:
            on_epoch(loop.test_best(checkpoint))

    try:
        while not is_finished(progress, config):
            result = loop.epoch(len(progress.history) + 1, warmup_steps=warmup_steps)
            warmup_steps = 0
            progress.history.append(result)
            before_checkpoint()
            if checkpoint:
                checkpoint.save(model, trainer, progress, average if average.updates else None)
            on_epoch(result)
    except Diverged:
        test_at_the_end()
        raise
    test_at_the_end()


def _sampler(config: RunConfig, corpus: Corpus, objective: Objective) -> ClassSampler | None:
    """The sampler of the classes of each training step's softmax; None: the softmax is over all classes."""
    classes = len(objective.classes)
    if config.sampled_softmax is None or config.sampled_softmax >= classes:
        return None
    assert isinstance(corpus.train, np.ndarray)
    return ClassSampler(np.bincount(corpus.train, minlength=classes), config.sampled_softmax)


def _describe(progress: Progress, objective: Objective, model: SequenceModel) -> None:
    """Record what is known of a run before its first step."""
    if not progress.sessions:
        progress.sessions.append(Session())
    progress.train_tokens = objective.train_tokens
    progress.train_sequences = objective.train_sequences
    progress.vocab_size = len(objective.tokens)
    progress.parameters = count_parameters(model)


@dataclass(frozen=True)
class _Loop:
    """The state that the epochs of a run share; see `fit`."""

    config: RunConfig
    objective: Objective
    model: SequenceModel
    trainer: gluon.Trainer
    average: Average
    precision: Precision
    sampler: ClassSampler | None
    progress: Progress
    on_interval: Callable[[Interval], None]
    clock: Callable[[], float]

    def epoch(self, epoch: int, *, warmup_steps: int) -> EpochResult:
        """Train for one epoch, score validation and, if it improved, test.

        Raises:
            Diverged: a training loss was not finite, or the validation perplexity.
        """
        learning_rate, before = self._rate(epoch)(0.0), self.progress.train_seconds
        self.train(epoch, warmup_steps=warmup_steps)
        with self.average.applied(self.model) if self.average.updates else nullcontext():
            return self._scored(epoch, learning_rate, self.progress.train_seconds - before)

    def _scored(self, epoch: int, learning_rate: float, seconds: float) -> EpochResult:
        """The result of `epoch`, which began with this `learning_rate` and whose training took so many `seconds`."""
        objective, progress = self.objective, self.progress
        scored_before = progress.evaluation_seconds
        valid = self.score(objective.valid)
        if not math.isfinite(valid.loss.perplexity):
            # A training loss may recover from 1e8 nats; an epoch that ends there has diverged.
            raise Diverged(f"the validation loss was {valid.loss.mean:g} after epoch {epoch}")
        progress.valid_tokens_scored = valid.loss.tokens
        test = None
        if progress.best is None or valid.loss.mean < progress.best.valid_loss:
            if objective.test and not self.config.test_once:
                test = self.score(objective.test)
                progress.test_tokens_scored = test.loss.tokens
            progress.predictions = predict(self.model, objective, joined_by=" " if self.config.level == "word" else "")
            # Of the split that the predictions are of, which `test_once` scores at the end.
            scored = test if objective.test else valid
            progress.confusion = confusion(scored, objective.classes) if scored and objective.labelled else None
        return EpochResult(
            epoch=epoch,
            learning_rate=learning_rate,
            train_loss=progress.last_epoch.mean,
            valid_loss=valid.loss.mean,
            valid_perplexity=valid.loss.perplexity,
            test_loss=test.loss.mean if test else None,
            test_perplexity=test.loss.perplexity if test else None,
            tokens_per_second=tokens_per_second(progress.laps[progress.first_lap :]),
            seconds=seconds,
            valid_accuracy=valid.accuracy,
            test_accuracy=test.accuracy if test else None,
            session=len(progress.sessions),
            threads=progress.sessions[-1].threads,
            evaluation_seconds=progress.evaluation_seconds - scored_before,
        )

    def test_best(self, checkpoint: CheckpointDirectory) -> EpochResult:
        """The best epoch with its result on test; the model has that epoch's parameters afterwards."""
        checkpoint.load_best(self.model)
        objective, progress = self.objective, self.progress
        assert progress.best
        test = self.score(objective.test)
        progress.test_tokens_scored = test.loss.tokens
        if objective.labelled:
            progress.confusion = confusion(test, objective.classes)
        result = replace(
            progress.best, test_loss=test.loss.mean, test_perplexity=test.loss.perplexity, test_accuracy=test.accuracy
        )
        progress.history[result.epoch - 1] = result
        return result

    def train(self, epoch: int, *, steps: int | None = None, warmup_steps: int) -> None:
        """Train for one epoch, or for `steps` steps, with its batches over and over; count and time them.

        Raises:
            Diverged: a training loss was not finite.
        """
        config, progress = self.config, self.progress
        started = self.clock()
        seed_epoch(config.seed, epoch)
        batches = self.objective.training()
        steps = steps or len(batches)
        averages_after = self._averages_after(epoch)
        if averages_after == 0 and not self.average.updates:
            # GluonNLP's mean, too, is of these parameters and those after each step.
            self.average.update(self.model)

        def average(step: int) -> None:
            if averages_after is not None and step >= averages_after:
                self.average.update(self.model)

        stopwatch = Stopwatch(mx.nd.waitall, self.clock)
        meter = _Meter(progress, stopwatch, epoch, steps, config.log_interval, warmup_steps, self.on_interval)
        meter.start()
        self.precision.start_epoch()
        try:
            train_epoch(
                self.model,
                islice(cycle(batches), steps),
                self.trainer,
                clip=config.clip,
                carries_state=self.objective.carries_state,
                before_update=self._schedule(epoch, steps),
                after_update=average,
                precision=self.precision,
                sampler=self.sampler,
                synchronise_at=meter.due,
                on_losses=meter.count,
            )
        except Diverged as error:
            progress.last_epoch = LossTotal(math.inf, max(1, progress.last_epoch.tokens))
            raise Diverged(f"{error} of epoch {epoch}") from None
        else:
            if (skipped := self.precision.skipped_steps) is not None:
                progress.skipped_steps = (progress.skipped_steps or 0) + skipped
        finally:
            progress.train_seconds += self.clock() - started - stopwatch.paused_seconds

    def _rate(self, epoch: int) -> Callable[[float], float]:
        """The learning rate of `epoch` by the share of it that is done, before the factor of a window's length."""
        rate = learning_rate_after(self.progress.history, self.config)
        return lambda done: rate * schedule_factor(self.config, self._done(epoch, done))

    def _schedule(self, epoch: int, steps: int) -> Callable[[int, Batch], None]:
        """Sets the learning rate and the momentum of a step of `epoch`, which has so many."""
        config, rate_at = self.config, self._rate(epoch)

        def schedule(step: int, batch: Batch) -> None:
            window = len(batch.shards[0].inputs) / config.bptt if config.random_bptt else 1
            set_learning_rate(self.trainer, rate_at((step - 1) / steps) * window)
            momentum = momentum_at(config, self._done(epoch, (step - 1) / steps))
            if momentum is not None:
                set_momentum(self.trainer, momentum)

        return schedule

    def _done(self, epoch: int, done: float) -> float:
        """The share of the run that is done with the share `done` of `epoch`."""
        return (epoch - 1 + done) / epochs_expected(self.progress, self.config)

    def _averages_after(self, epoch: int) -> int | None:
        """The step of `epoch` with which averaging begins; 0: it has begun, or begins now; None: not in this epoch."""
        start = self.config.averaging_start
        if start and start[0] == "step":
            return max(0, start[1] - self.progress.steps)
        begins = averages_from(self.progress.history, self.config)
        return 0 if begins is not None and epoch >= begins else None

    def score(self, batches: Sequence[Batch]) -> Score:
        """`evaluate`, timed."""
        started = self.clock()
        found = evaluate(
            self.model,
            batches,
            carries_state=self.objective.carries_state,
            scorer=SoftmaxScorer(self.model, predicts=self.objective.measures_accuracy),
        )
        self.progress.evaluation_seconds += self.clock() - started
        return found
