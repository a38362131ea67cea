"""The learning rate of each epoch and the last epoch, as functions of what came before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gluon_rnn.config.run import RunConfig, parse_steps
from gluon_rnn.runs.progress import EpochResult


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


def is_finished(history: Sequence[EpochResult], config: RunConfig) -> bool:
    """Whether all epochs are done, or `early_stopping` of them in a row brought no new best validation loss."""
    best = min(history, key=lambda epoch: epoch.valid_loss, default=None)
    stale = len(history) - best.epoch if best else 0
    return len(history) >= config.epochs or (config.early_stopping is not None and stale >= config.early_stopping)
