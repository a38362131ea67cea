"""The state of a run that has not ended: ``progress.json`` and its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gluon_rnn.common.files import read_whole, unseal
from gluon_rnn.runs.epochs import read_epochs
from gluon_rnn.runs.job import CHECKPOINT
from gluon_rnn.runs.metrics import written
from gluon_rnn.runs.progress import PROGRESS, EpochResult, Progress, Session


class LiveProgress(BaseModel):
    """A running run's ``progress.json``, whose size does not grow with the epochs.

    Attributes:
        doing: what it is doing, as the display shows it.
        fraction: of the run that is done, 0 to 1.
        fraction_before: of the run that was done when this process began; None while it has not read its checkpoint.
        perplexity: the newest: training's within an epoch, validation's after it.
        tokens_per_second: over the last log interval, or epoch.
        interval_loss: training's mean nats a token over the last log interval; None where none has just ended.
        epochs: the number of finished epochs, which `progress` leaves out; they are in ``epochs.csv`` and, with all
            their results, in the checkpoint.
        progress: the other results so far; see `Progress.without_epochs`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    doing: str
    fraction: float = 0.0
    fraction_before: float | None = None
    perplexity: float | None = None
    tokens_per_second: float | None = None
    interval_loss: float | None = None
    epochs: int = 0
    progress: Progress

    @property
    def epochs_done(self) -> int:
        """The number of finished epochs."""
        return self.epochs + len(self.progress.history)

    @property
    def split(self) -> str:
        """The split of `perplexity`: ``train``, or ``valid`` at the end of an epoch."""
        return "valid" if self.interval_loss is None else "train"

    @property
    def in_words(self) -> str:
        """As ``epoch 1/3, step 350/745, 2,000 tokens/s, training perplexity 741.20``."""
        parts = [self.doing]
        if self.tokens_per_second is not None:
            parts.append(f"{written(self.tokens_per_second, 0)} tokens/s")
        if self.perplexity is not None:
            split = {"train": "training", "valid": "validation"}[self.split]
            parts.append(f"{split} perplexity {written(self.perplexity, 2)}")
        return ", ".join(parts)


def read_progress(directory: Path) -> LiveProgress | None:
    """The ``progress.json`` of a run's `directory`; None if it is missing or unreadable."""
    try:
        return LiveProgress.model_validate_json(read_whole(directory / "progress.json"))
    except (OSError, ValidationError):
        return None


class ProgressWatch:
    """Follows the ``progress.json`` of running runs and reads each only after it was replaced.

    Args:
        read: gives the content of a run's directory.
    """

    def __init__(self, read: Callable[[Path], LiveProgress | None] = read_progress) -> None:
        self._read = read
        self._known: dict[Path, tuple[tuple[int, int], LiveProgress | None]] = {}

    def newest(self, directory: Path) -> LiveProgress | None:
        """The progress of the run in `directory`; None while it is unknown."""
        self.news(directory)
        return self._known[directory][1] if directory in self._known else None

    def news(self, directory: Path) -> LiveProgress | None:
        """The newest progress, unless it was returned before."""
        try:
            state = (directory / "progress.json").stat()
        except OSError:
            self._known.pop(directory, None)
            return None
        # The file is replaced as a whole, never changed.
        seen = (state.st_ino, state.st_mtime_ns)
        if directory in self._known and self._known[directory][0] == seen:
            return None
        self._known[directory] = seen, self._read(directory)
        return self._known[directory][1]


def finished_epochs(directory: Path, live: LiveProgress) -> list[EpochResult]:
    """The epochs that a run has finished by what it says in `live`.

    Raises:
        ValueError: its ``epochs.csv`` is damaged.
    """
    newest = live.progress.history
    return [*read_epochs(directory)[: live.epochs], *newest] if live.epochs else newest


def read_so_far(directory: Path) -> Progress:
    """The results of a run whose process died: its last checkpoint, and the later state in ``progress.json``.

    The last session is that process's.
    """
    live = read_progress(directory) or LiveProgress(doing="", progress=Progress(sessions=[Session()]))
    progress, saved = live.progress, _checkpointed(directory)
    if saved and len(saved.history) > live.epochs_done:
        # The process died before it said that it had saved a checkpoint, or restored that of an earlier one.
        if saved.sessions and progress.sessions and saved.sessions[-1].started_at == progress.sessions[-1].started_at:
            return saved
        progress.resume(saved)
        return progress
    if saved:
        progress.laps = saved.laps[: progress.first_lap] + progress.laps
    if saved and len(saved.history) == live.epochs:
        return replace(progress, history=saved.history, predictions=saved.predictions, confusion=saved.confusion)
    # Without a checkpoint, or with one that came from a node before its successor.
    with suppress(ValueError):
        progress.history = finished_epochs(directory, live)
    return progress


def _checkpointed(directory: Path) -> Progress | None:
    """The results at the run's last checkpoint; None if it is missing or damaged."""
    try:
        return PROGRESS.validate_python(unseal(read_whole(directory / CHECKPOINT / "state.json"))["progress"])
    except (OSError, ValueError, KeyError):
        return None
