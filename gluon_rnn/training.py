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

from gluon_rnn.batches import Batch, Share
from gluon_rnn.cells import Tensors
from gluon_rnn.checkpoints import CheckpointDirectory
from gluon_rnn.config import RunConfig, parse_steps
from gluon_rnn.corpora.encoded import Corpus
from gluon_rnn.metrics import (
    Confusion,
    EpochResult,
    Lap,
    LossTotal,
    Prediction,
    Progress,
    Sitting,
    Stopwatch,
    tokens_per_second,
)
from gluon_rnn.models import SequenceModel, build_model, count_parameters, trained_parameters
from gluon_rnn.objectives import Objective, lay_out
from gluon_rnn.precisions import PRECISIONS, Precision
from gluon_rnn.step import LOGITS_IN_A_BLOCK, backpropagate, clip_and_update, log_probabilities

#: Of a confusion table, whose cells are their square.
MOST_LABELS = 100


class Diverged(Exception):
    """A loss was not finite; the text says where."""


def train_epoch(
    model: SequenceModel,
    batches: Iterable[Batch],
    trainer: gluon.Trainer,
    *,
    clip: float | None,
    carries_state: bool,
    precision: Precision = PRECISIONS["float32"],
    synchronise_at: Callable[[int], bool],
    on_losses: Callable[[np.ndarray[Any, Any], Sequence[Batch]], None],
) -> None:
    """Gradients, clipping and a step for each batch.

    A batch's loss is the mean over its targets. Where several devices share the batch, MXNet's KVStore adds up their
    gradients, and every replica of the parameters takes the same step.

    Args:
        batches: see `gluon_rnn.objectives`.
        clip: global norm; None leaves the gradients alone.
        carries_state: whether a batch begins in the state that the one before it ended in (truncated backpropagation
            through time: gradients stop at its edge), not in zeros.
        precision: of the decoder's matrix products.
        synchronise_at: whether to wait for the device and report after this step, counted from 1; nothing else in the
            loop waits.
        on_losses: given the mean losses, in nats a target, of the steps since the last report, and their batches.

    Raises:
        Diverged: a reported loss is not finite; whatever `on_losses` raises.
    """
    parameters = trained_parameters(model)
    states: list[Tensors] = []
    losses: list[mx.nd.NDArray] = []
    seen: list[Batch] = []
    step = 0
    for step, batch in enumerate(batches, 1):
        if not states or not carries_state:
            states = [_zeros(model, share) for share in batch.shares]
        for device, share in enumerate(batch.shares):
            loss, states[device] = backpropagate(
                model, share, states[device], targets=batch.targets, precision=precision
            )
            losses.append(loss)
        trainer.allreduce_grads()
        clip_and_update(trainer, parameters, clip)
        seen.append(batch)
        if synchronise_at(step):
            on_losses(_finite(losses, step, len(seen)), seen)
            losses, seen = [], []
    if seen:
        on_losses(_finite(losses, step, len(seen)), seen)


def _zeros(model: SequenceModel, share: Share) -> Tensors:
    return model.begin_state(share.inputs.shape[1], share.inputs.context)


def _finite(losses: Sequence[mx.nd.NDArray], last_step: int, steps: int) -> np.ndarray[Any, Any]:
    """The mean loss of each of the last `steps`, of its devices' parts."""
    gathered = mx.nd.concat(*(loss.as_in_context(losses[0].context) for loss in losses), dim=0)
    values: np.ndarray[Any, Any] = gathered.asnumpy().astype(np.float64).reshape(steps, -1).sum(axis=1)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise Diverged(f"the loss was {values[wrong[0]]} at step {last_step - len(values) + wrong[0] + 1}")
    return values


@dataclass(frozen=True)
class Score:
    """What a model came to on batches.

    Attributes:
        loss: over all targets that count.
        truth: those targets, where the likeliest were looked for.
        likeliest: and these.
    """

    loss: LossTotal
    truth: np.ndarray[Any, Any] | None = None
    likeliest: np.ndarray[Any, Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of targets that were the likeliest."""
        return None if self.truth is None else float(np.mean(self.truth == self.likeliest))


def evaluate(
    model: SequenceModel,
    batches: Sequence[Batch],
    *,
    carries_state: bool = True,
    counts_correct: bool = False,
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
) -> Score:
    """Score every target of `batches` once; only the end waits for the device.

    Args:
        batches: each on one device.
        carries_state: as in `train_epoch`.
        counts_correct: whether to look for the likeliest target of each.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
    """
    nats, likeliest = _score_targets(
        model,
        batches,
        carries_state=carries_state,
        finds_likeliest=counts_correct,
        logits_in_a_block=logits_in_a_block,
    )
    # A sum of 200,000 losses in float32 would lose digits.
    total = LossTotal(float(nats.asnumpy().sum(dtype=np.float64)), sum(batch.targets for batch in batches))
    if likeliest is None:
        return Score(total)
    counted = np.concatenate([_counted(share).ravel() for batch in batches for share in batch.shares])
    truth = np.concatenate([share.targets.asnumpy().ravel() for batch in batches for share in batch.shares])
    found = likeliest.asnumpy().astype(np.int32)
    return Score(total, truth[counted], found[counted])


def _score_targets(
    model: SequenceModel,
    batches: Sequence[Batch],
    *,
    carries_state: bool,
    finds_likeliest: bool,
    logits_in_a_block: int,
) -> tuple[mx.nd.NDArray, mx.nd.NDArray | None]:
    """The weighted loss of each target of all `batches`, in nats, and, if wanted, the likeliest class instead of each.

    All blocks are decoded into one array. With an array for each, Python, which runs ahead of the device, had MXNet
    1.9.1 hold those of a whole batch: 600 MB more at 5,600 targets and 33,278 classes.
    """
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    context = batches[0].shares[0].inputs.context
    block_size = max(1, logits_in_a_block // weight.shape[0])
    largest = max(batch.shares[0].targets.size for batch in batches)
    decoded = mx.nd.empty((min(block_size, largest), weight.shape[0]), ctx=context)
    state: Tensors = []
    nats: list[mx.nd.NDArray] = []
    likeliest: list[mx.nd.NDArray] = []
    for batch in batches:
        (share,) = batch.shares
        if not state or not carries_state:
            state = _zeros(model, share)
        outputs, state = model.read(share, state)
        flat, targets = outputs.reshape((-3, 0)), share.targets.reshape((-1,))  # (targets, units), (targets,)
        for first in range(0, len(flat), block_size):
            units, labels = (array[first : first + block_size] for array in (flat, targets))
            scores = log_probabilities(units, weight.data(context), bias.data(context), out=decoded[: len(units)])
            loss = -mx.nd.pick(scores, labels)
            if share.weights is not None:
                loss = loss * share.weights.reshape((-1,))[first : first + block_size]
            nats.append(loss)
            if finds_likeliest:
                likeliest.append(scores.argmax(axis=1))
    return mx.nd.concat(*nats, dim=0), mx.nd.concat(*likeliest, dim=0) if finds_likeliest else None


def _counted(share: Share) -> np.ndarray[Any, Any]:
    """Which targets count, as `Share.targets` is laid out."""
    if share.weights is None:
        return np.ones(share.targets.shape, dtype=bool)
    weights: np.ndarray[Any, Any] = share.weights.asnumpy()
    return weights > 0


def unigram_loss(training: Sequence[Batch], scored: Sequence[Batch], classes: int) -> float:
    """Nats a target of `scored` under the unigram model of the targets of `training`.

    That is the model that knows how frequent each of the `classes` is and reads nothing. It is estimated by maximum
    likelihood with one added to every count: a target has the probability (its count in `training` + 1) / (their number
    + `classes`). Padding is not counted.
    """
    known, asked = (_target_counts(batches, classes) for batches in (training, scored))
    return float(asked @ -np.log((known + 1) / (known.sum() + classes)) / asked.sum())


def _target_counts(batches: Sequence[Batch], classes: int) -> np.ndarray[Any, Any]:
    """How often each of the `classes` is a target that counts, (classes,)."""
    shares = [share for batch in batches for share in batch.shares]
    targets = [share.targets.asnumpy()[_counted(share)] for share in shares]
    return np.bincount(np.concatenate(targets), minlength=classes)


def predict(model: SequenceModel, objective: Objective, *, joined_by: str) -> tuple[Prediction, ...]:
    """What `model` says of an objective's examples, beside the truth.

    Args:
        joined_by: what stands between two tokens: a blank between words, nothing between characters.
    """
    _, likeliest = _score_targets(
        model,
        objective.examples,
        carries_state=objective.carries_state,
        finds_likeliest=True,
        logits_in_a_block=LOGITS_IN_A_BLOCK,
    )
    assert likeliest is not None
    sizes = [batch.shares[0].targets.size for batch in objective.examples]
    parts: list[list[tuple[list[str], list[str], list[str]]]] = []
    for batch, found in zip(
        objective.examples, np.split(likeliest.asnumpy().astype(int), np.cumsum(sizes)[:-1]), strict=True
    ):
        (share,) = batch.shares
        found = found.reshape(share.targets.shape)
        inputs, targets, counted = share.inputs.asnumpy(), share.targets.asnumpy(), _counted(share)
        given = np.ones(inputs.shape, dtype=bool)
        if share.lengths is not None:
            given = np.arange(len(inputs))[:, None] < share.lengths.asnumpy()
        elif share.weights is not None:
            given = counted
        parts.append(
            [
                (
                    [objective.tokens[item] for item in inputs[given[:, column], column]],
                    [objective.classes[item] for item in targets[counted[:, column], column]],
                    [objective.classes[item] for item in found[counted[:, column], column]],
                )
                for column in range(inputs.shape[1])
            ]
        )
    # A text's batches go on from one another; other examples are all in one.
    between = " " if objective.labelled else joined_by
    return tuple(
        Prediction(
            text=joined_by.join(token for text, _, _ in column for token in text),
            truth=between.join(token for _, truth, _ in column for token in truth),
            predicted=between.join(token for _, _, predicted in column for token in predicted),
        )
        for column in zip(*parts, strict=True)
    )


def confusion(score: Score, labels: Sequence[str]) -> Confusion | None:
    """How often which label was taken for which; None where there are more than `MOST_LABELS`."""
    if score.truth is None or score.likeliest is None or len(labels) > MOST_LABELS:
        return None
    pairs = np.bincount(score.truth.astype(int) * len(labels) + score.likeliest, minlength=len(labels) ** 2)
    return Confusion(tuple(labels), tuple(map(tuple, pairs.reshape(len(labels), -1).tolist())))


@dataclass(frozen=True)
class Interval:
    """What `fit` reports at each log interval.

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


class _Meter:
    """Counts and times the steps of one epoch as their losses arrive, but not what is done with them."""

    def __init__(
        self,
        progress: Progress,
        stopwatch: Stopwatch,
        *,
        epoch: int,
        steps: int,
        log_interval: int,
        warmup_steps: int,
        on_interval: Callable[[Interval], None],
    ) -> None:
        self._progress = progress
        self._stopwatch = stopwatch
        self._epoch = epoch
        self._steps = steps
        self._log_interval = log_interval
        self._warmup_steps = warmup_steps
        self._on_interval = on_interval
        self._step = 0
        self._since_report = LossTotal()
        progress.first_lap = len(progress.laps)
        progress.last_epoch = LossTotal()

    def due(self, step: int) -> bool:
        """Whether to look at the device after this step."""
        return step % self._log_interval == 0 or step == self._warmup_steps

    def count(self, losses: np.ndarray[Any, Any], batches: Sequence[Batch]) -> None:
        """Take in the mean losses of the steps since the last call, and what they were of."""
        seconds = self._stopwatch.stop()
        tokens = sum(batch.tokens for batch in batches)
        targets = np.array([batch.targets for batch in batches])
        nats = float(losses @ targets)
        self._step += len(losses)
        self._progress.steps += len(losses)
        self._progress.last_epoch.add(nats, int(targets.sum()))
        self._since_report.add(nats, int(targets.sum()))
        speed = None
        if self._step > self._warmup_steps:
            self._progress.laps.append(Lap(len(losses), tokens, seconds, len(self._progress.sittings)))
            speed = tokens_per_second(self._progress.laps[-1:])
        if self._step % self._log_interval == 0:
            self._on_interval(Interval(self._epoch, self._step, self._steps, self._since_report.mean, speed))
            self._since_report = LossTotal()
        self._stopwatch.start()


def learning_rate_after(history: Sequence[EpochResult], config: RunConfig) -> float:
    """The rate of the epoch that follows `history`.

    Multiplied by `lr_decay` whenever more than `lr_patience` epochs in a row brought no new best validation loss, and
    set to what `lr_steps` says of an epoch.
    """
    steps = dict(parse_steps(config.lr_steps))
    rate, best, stale = config.learning_rate, math.inf, 0
    for following, epoch in enumerate(history, 2):
        if epoch.valid_loss < best:
            best, stale = epoch.valid_loss, 0
        else:
            stale += 1
        if stale > config.lr_patience:
            rate, stale = rate * config.lr_decay, 0
        rate = steps.get(following, rate)
    return rate


def is_finished(progress: Progress, config: RunConfig) -> bool:
    """Whether all epochs are done, or `early_stopping` of them in a row brought no new best."""
    done = len(progress.history)
    stale = done - progress.best.epoch if progress.best else 0
    return done >= config.epochs or (config.early_stopping is not None and stale >= config.early_stopping)


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed MXNet and numpy for one epoch, so that a resumed run draws the masks and the order of one never stopped.

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
    on_interval: Callable[[Interval], None] = lambda interval: None,
    before_checkpoint: Callable[[], None] = lambda: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train and evaluate as `config` says.

    Args:
        contexts: the devices, of one kind. Several share each batch, and the first evaluates.
        progress: filled in as training goes, so that a run cut short keeps what it had. Its last sitting is this
            process's; one of which nothing is known is added where there is none.
        vectors: the initial embedding, (vocabulary, embed_size); None: random or one-hot, as `config` says.
        checkpoint: resumed from where it holds an epoch, and written after every epoch.
        on_interval: called at each log interval; like the other callbacks, it is in no timing of training.
        before_checkpoint: called at the end of each epoch, so that what it adds to `progress` is in the checkpoint.
        on_epoch: called with each finished epoch, after its checkpoint was written; test was measured if validation
            improved.
        clock: seconds, monotonic.

    Raises:
        Diverged: a training loss was not finite, or an epoch's validation perplexity.
        ValueError: the corpus does not fill one window, or the batch cannot be shared equally.
    """
    objective = lay_out(config, corpus, contexts, scored=config.max_steps is None)
    model = build_model(config, len(objective.tokens), *contexts, classes=len(objective.classes), vectors=vectors)
    settings = {"learning_rate": config.learning_rate, "wd": config.weight_decay}
    if config.momentum:
        settings["momentum"] = config.momentum
    # One device makes no store of it.
    trainer = gluon.Trainer(
        trained_parameters(model), config.optimizer, settings, kvstore="device", update_on_kvstore=False
    )
    if not progress.sittings:
        progress.sittings.append(Sitting())
    progress.train_tokens = objective.train_tokens
    progress.train_sequences = objective.train_sequences
    progress.vocab_size = len(objective.tokens)
    progress.parameters = count_parameters(model)
    warmup_steps = config.warmup_steps

    def train(epoch: int) -> None:
        started = clock()
        seed_epoch(config.seed, epoch)
        drawn = objective.training()
        steps = len(drawn) if config.max_steps is None else config.warmup_steps + config.max_steps
        batches = islice(cycle(drawn), steps)
        stopwatch = Stopwatch(mx.nd.waitall, clock)
        meter = _Meter(
            progress,
            stopwatch,
            epoch=epoch,
            steps=steps,
            log_interval=config.log_interval,
            warmup_steps=warmup_steps,
            on_interval=on_interval,
        )
        stopwatch.start()
        try:
            train_epoch(
                model,
                batches,
                trainer,
                clip=config.clip,
                carries_state=objective.carries_state,
                precision=PRECISIONS[config.precision],
                synchronise_at=meter.due,
                on_losses=meter.count,
            )
        except Diverged as error:
            progress.last_epoch = LossTotal(math.inf, max(1, progress.last_epoch.tokens))
            raise Diverged(f"{error} of epoch {epoch}") from None
        finally:
            progress.train_seconds += clock() - started - stopwatch.paused_seconds

    if config.max_steps is not None:
        train(1)
        return

    if checkpoint and (restored := checkpoint.restore(model, trainer)):
        progress.resume(restored)
    if progress.unigram_loss is None:
        progress.unigram_loss = unigram_loss(objective.training(), objective.valid, len(objective.classes))

    def score(batches: Sequence[Batch]) -> Score:
        started = clock()
        found = evaluate(model, batches, carries_state=objective.carries_state, counts_correct=objective.counts_correct)
        progress.evaluation_seconds += clock() - started
        return found

    while not is_finished(progress, config):
        epoch = len(progress.history) + 1
        trainer.set_learning_rate(learning_rate_after(progress.history, config))
        before = progress.train_seconds
        train(epoch)
        warmup_steps = 0
        valid = score(objective.valid)
        if not math.isfinite(valid.loss.perplexity):
            # A training loss may come back from 1e8 nats; an epoch that ends there has led nowhere.
            raise Diverged(f"the validation loss was {valid.loss.mean:g} after epoch {epoch}")
        progress.valid_tokens_scored = valid.loss.tokens
        improved = progress.best is None or valid.loss.mean < progress.best.valid_loss
        test = score(objective.test) if improved and objective.test else None
        if test:
            progress.test_tokens_scored = test.loss.tokens
        if improved:
            progress.predictions = predict(model, objective, joined_by=" " if config.level == "word" else "")
            progress.confusion = confusion(test or valid, objective.classes) if objective.labelled else None
        result = EpochResult(
            epoch=epoch,
            learning_rate=trainer.learning_rate,
            train_loss=progress.last_epoch.mean,
            valid_loss=valid.loss.mean,
            valid_perplexity=valid.loss.perplexity,
            test_loss=test.loss.mean if test else None,
            test_perplexity=test.loss.perplexity if test else None,
            tokens_per_second=tokens_per_second(progress.laps[progress.first_lap :]),
            seconds=progress.train_seconds - before,
            valid_accuracy=valid.accuracy,
            test_accuracy=test.accuracy if test else None,
            sitting=len(progress.sittings),
            threads=progress.sittings[-1].threads,
        )
        progress.history.append(result)
        before_checkpoint()
        if checkpoint:
            checkpoint.save(model, trainer, progress)
        on_epoch(result)
