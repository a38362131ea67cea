"""What the logs of runs say of training on the way, between the epochs that records hold."""

from __future__ import annotations

import re
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import read_whole

#: The line that `gluon_rnn.training.worker` writes at each log interval.
_INTERVAL = re.compile(r"\[epoch (\d+) batch (\d+)/(\d+)\] loss \S+, perplexity (\d[\d,]*\.\d+(?:e\+\d+)?|inf)")


def read_log(directory: Path, run_id: str) -> str:
    """The log of a run in a sweep's `directory`.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    path = directory / "runs" / run_id / "log.txt"
    try:
        return read_whole(path).decode(errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"{path} is not here: logs stay on the machine that trained; run the sweep under another --name"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def interval_perplexities(log: str) -> tuple[dict[int, dict[int, float]], int]:
    """By epoch and batch the training perplexity since the line before, and the batches of an epoch.

    Of an epoch that was begun twice, by a run that was resumed, the last line of each batch counts.
    """
    curves: dict[int, dict[int, float]] = {}
    batches = 0
    for found in _INTERVAL.finditer(log):
        curves.setdefault(int(found[1]), {})[int(found[2])] = float(found[4].replace(",", ""))
        batches = int(found[3])
    return curves, batches
