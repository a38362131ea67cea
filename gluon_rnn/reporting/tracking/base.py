"""The interface of a tracker, and the data it receives: curves, settings, tags."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig
from gluon_rnn.runs.contents import DIGESTS
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.progress import EpochResult, perplexity
from gluon_rnn.runs.records import RunRecord

#: In every epoch and in every interval; their last steps say what a tracker has.
EPOCH_LOSS = "train/loss_nats_per_token"
INTERVAL_LOSS = "interval/train_loss_nats_per_token"

#: Where a run happens, which may change when it goes on; the other settings never do.
_PLACE = ("device", "threads")


@dataclass
class Sent:
    """The part of a run that a tracker has received.

    Attributes:
        epochs: the last one.
        steps: the training step of the last interval.
    """

    epochs: int = 0
    steps: int = 0


class Tracker(Protocol):
    """A destination for runs. Its methods may raise any exception and may be slow."""

    @property
    def name(self) -> str:
        """The name shown to the user."""
        ...

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        """Begin a run called `label`, or resume the one that its `directory` remembers."""
        ...

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each of the curves."""
        ...

    def end(self, job: Job, record: RunRecord | None) -> None:
        """End the run; without a record it was interrupted and may be resumed."""
        ...


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """The metrics of an epoch, without those that were not measured."""
    metrics = {
        EPOCH_LOSS: result.train_loss,
        "train/perplexity": perplexity(result.train_loss),
        "train/learning_rate": result.learning_rate,
        "train/tokens_per_second": result.tokens_per_second,
        "train/seconds": result.seconds,
        "valid/loss_nats_per_token": result.valid_loss,
        "valid/perplexity": result.valid_perplexity,
        "valid/accuracy": result.valid_accuracy,
        "test/loss_nats_per_token": result.test_loss,
        "test/perplexity": result.test_perplexity,
        "test/accuracy": result.test_accuracy,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def interval_metrics(loss: float, tokens_per_second: float | None) -> dict[str, float]:
    """The metrics of a log interval: the mean `loss` in nats a token; no speed during warm-up."""
    metrics = {INTERVAL_LOSS: loss, "interval/train_perplexity": perplexity(loss)}
    return metrics if tokens_per_second is None else metrics | {"interval/train_tokens_per_second": tokens_per_second}


def final_metrics(record: RunRecord) -> dict[str, float]:
    """All numeric results of a run, by column."""
    return {
        f"final/{name.replace('_loss', '_loss_nats_per_token')}": value
        for name, value in _outcome(record).items()
        if _is_number(value)
    }


def settings(job: Job) -> dict[str, Any]:
    """The settings that have a value, and the names of the corpus and of given vectors."""
    return job.named_config.model_dump(exclude=set(_PLACE), exclude_none=True)


def tags_before(job: Job) -> dict[str, str]:
    """Tags that are known before a run starts: its name, its place, its commit."""
    digests = {name: job.contents[name] for name in DIGESTS.values()}
    facts = {"run_id": job.run_id, **digests, "device": job.config.device, "threads": job.threads}
    return {name: str(value) for name, value in {**facts, **job.origin.model_dump()}.items() if value is not None}


def tags_after(record: RunRecord) -> dict[str, str]:
    """Tags that are known after a run: status, reason, machine, versions."""
    words = {name: value for name, value in _outcome(record).items() if not _is_number(value)}
    words |= {"threads": record.config.threads, "device": record.config.device}
    return {name: str(value) for name, value in words.items()}


def _outcome(record: RunRecord) -> dict[str, Any]:
    """The columns of results that have a value."""
    settings = {"schema_version", *RunConfig.model_fields}
    return {name: value for name, value in record.row.items() if name not in settings and value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require(package: str, option: str) -> None:
    """Raise a `UserError` if the `package` of an `option` is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{option} needs {package}, which is not installed: make dev, or "
            ".venv/bin/python -m pip install 'gluon_rnn[tracking]'"
        )


def remembered(path: Path) -> str:
    """The tracker's name for the run, which its directory keeps in `path`; empty if there is none."""
    name = path.read_text(encoding="utf-8") if path.exists() else ""
    # It names a folder or a run; in results that someone else made it must not lead elsewhere.
    return name if re.fullmatch(r"[\w=+,-][\w=.+,-]*", name, flags=re.ASCII) else ""


def one_line(error: Exception) -> str:
    """`error` and its type, without passwords."""
    text = " ".join(str(error).split())
    return without_password(f"{type(error).__name__}: {text}")[:300]


def without_password(text: str) -> str:
    """`text` without user names and passwords in addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)
