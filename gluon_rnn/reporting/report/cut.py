"""A run as it was after fewer epochs than it was trained for."""

from __future__ import annotations

from gluon_rnn.common.errors import UserError
from gluon_rnn.runs.progress import Progress, perplexity
from gluon_rnn.runs.records import SCORES, RunRecord


def after(record: RunRecord, epochs: int) -> RunRecord:
    """`record` as if its run had ended after `epochs` epochs; unchanged if it was not longer.

    A run's first epochs are those of a run that ends there, unless its learning rate depends on its length. Its
    `wall_seconds` are then not known.

    Raises:
        UserError: the learning rate does depend on it, or the epochs are not known.
    """
    if record.epochs_run < epochs or (record.epochs_run == epochs == record.config.epochs):
        return record
    config = record.config
    if record.epochs_run > epochs and (config.lr_schedule != "plateau" or config.time_budget is not None):
        raise UserError(
            f"run {record.run_id} cannot be read as it was after epoch {epochs}: lr_schedule={config.lr_schedule} "
            "depends on the length of a run; leave --epochs out"
        )
    history = record.history[:epochs]
    best = Progress(history=list(history)).best
    if best is None or len(history) < epochs:
        if record.epochs_run <= epochs:
            return record
        raise UserError(
            f"run {record.run_id} cannot be read as it was after epoch {epochs}: its folder has no epochs.csv, or not "
            "that epoch in it; leave --epochs out"
        )
    # It ended otherwise later.
    ended = {"status": "ok", "reason": ""} if record.epochs_run > epochs else {}
    return record.with_columns(
        {
            **ended,
            **{name: getattr(best, name) for name in SCORES},
            "best_epoch": best.epoch,
            "train_perplexity": perplexity(history[-1].train_loss),
            **dict.fromkeys(("epochs", "epochs_run"), epochs),
            "history": history,
            "predictions": (),
            "confusion": None,
            "train_seconds": sum(epoch.seconds or 0 for epoch in history),
            "evaluation_seconds": sum(epoch.evaluation_seconds or 0 for epoch in history) or None,
            "wall_seconds": None if record.epochs_run > epochs else record.wall_seconds,
        }
    )
