"""What the logs of runs say of training on the way, between the epochs that records hold."""

from __future__ import annotations

import re

#: The line that `gluon_rnn.worker` writes at each log interval.
_INTERVAL = re.compile(r"\[epoch (\d+) batch (\d+)/(\d+)\] loss \S+, perplexity ([\d.]+|inf)")


def interval_perplexities(log: str) -> tuple[dict[int, dict[int, float]], int]:
    """By epoch and batch the training perplexity since the line before, and the batches of an epoch.

    Of an epoch that was begun twice, by a run that was resumed, the last line of each batch counts.
    """
    curves: dict[int, dict[int, float]] = {}
    batches = 0
    for found in _INTERVAL.finditer(log):
        curves.setdefault(int(found[1]), {})[int(found[2])] = float(found[4])
        batches = int(found[3])
    return curves, batches
