"""The learning rate, the beginning of averaging and the last epoch, as functions of what came before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gluon_rnn.config.run import NON_MONOTONE, RunConfig, parse_steps
from gluon_rnn.runs.progress import EpochResult, Progress, tokens_per_second

#: Of one_cycle, as of PyTorch's ``OneCycleLR``: the share of the steps in which the rate rises, the first rate and, in
#: shares of that, the last.
_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1e-4
#: Epochs that say how long the next will take. A machine that was busy for an epoch is not so for ever.
_RECENT = 3


def learning_rate_after(history: Sequence[EpochResult], config: RunConfig) -> float:
    """The rate of the epoch that follows `history`, before `schedule_factor`.

    Of the schedule plateau it is multiplied by `lr_decay` whenever more than `lr_patience` epochs in a row brought no
    new best validation loss, and set to what `lr_steps` says of an epoch.
    """
    rate, best, stale = config.learning_rate, math.inf, 0
    if config.lr_schedule != "plateau":
        return rate
    steps = dict(parse_steps(config.lr_steps))
    for following, epoch in enumerate(history, 2):
        if epoch.valid_loss < best:
            best, stale = epoch.valid_loss, 0
        else:
            stale += 1
        if stale > config.lr_patience:
            rate, stale = rate * config.lr_decay, 0
        rate = steps.get(following, rate)
    return rate


def schedule_factor(config: RunConfig, done: float) -> float:
    """The factor of the rate in the step before which the share `done` of the run, from 0 to 1, was done."""
    if config.lr_schedule == "linear":
        return 1 - done
    if config.lr_schedule == "cosine":
        return _along_cosine(1, 0, done)
    if config.lr_schedule == "one_cycle":
        if done < _RISE:
            return _along_cosine(_FIRST, 1, done / _RISE)
        return _along_cosine(1, _FIRST * _LAST, (done - _RISE) / (1 - _RISE))
    return 1.0


def momentum_at(config: RunConfig, done: float) -> float | None:
    """The momentum of the step before which the share `done` of the run was done; None: it stays as it is.

    In one_cycle it mirrors the rate (Smith, arXiv 1803.09820): from high to low while that rises, and back.
    """
    if config.min_momentum is None:
        return None
    high, low = config.full_momentum, config.min_momentum
    if done < _RISE:
        return _along_cosine(high, low, done / _RISE)
    return _along_cosine(low, high, (done - _RISE) / (1 - _RISE))


def _along_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def averages_from(history: Sequence[EpochResult], config: RunConfig) -> int | None:
    """The epoch in which averaging begins, once `history` determines it; None: not yet, or not with an epoch.

    Of ntasgd that is the epoch after the first whose validation loss is worse than the best of all epochs but the last
    5 before it, as GluonNLP 0.10's and AWD-LSTM's own scripts have it.
    """
    if config.averaging == "none":
        return None
    if config.averaging_start:
        unit, number = config.averaging_start
        return number if unit == "epoch" else None
    losses = [epoch.valid_loss for epoch in history]
    for place in range(NON_MONOTONE + 1, len(losses)):
        if losses[place] > min(losses[: place - NON_MONOTONE]):
            return place + 2
    return None


def is_finished(progress: Progress, config: RunConfig) -> bool:
    """Whether all epochs are done, or `early_stopping` epochs in a row brought no new best validation loss."""
    done = len(progress.history)
    stale = done - progress.best.epoch if progress.best else 0
    return bool(done and done >= epochs_expected(progress, config)) or (
        config.early_stopping is not None and stale >= config.early_stopping
    )


def epochs_expected(progress: Progress, config: RunConfig) -> int:
    """The expected number of epochs of the whole run, given `progress`.

    That is `epochs`, or fewer with a `time_budget`: each epoch to come is expected to take as long as the longest of
    the last `_RECENT`, scoring included. During the first epoch, training is expected to go on at the speed so far. The
    first epoch always counts.
    """
    if config.time_budget is None:
        return config.epochs
    left, longest = config.time_budget, 0.0
    if progress.history:
        times = [epoch.total_seconds for epoch in progress.history]
        left, longest = left - sum(times), max(times[-_RECENT:])
    elif (speed := tokens_per_second(progress.laps)) and progress.train_tokens:
        longest = progress.train_tokens / speed
    fitting = len(progress.history) + math.floor(left / longest) if longest else config.epochs
    return max(1, len(progress.history), min(fitting, config.epochs))
