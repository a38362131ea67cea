"""Runs as TensorBoard's event files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.reporting.tracking.base import (
    EPOCH_LOSS,
    INTERVAL_LOSS,
    Sent,
    remembered,
    require,
    settings,
    tags_after,
    tags_before,
)
from gluon_rnn.runs.job import FINISHED, Job
from gluon_rnn.runs.records import RunRecord


class TensorBoardTracker:
    """Event files, in a folder for each run: ``cell=lstm,bptt=35,<run_id>``.

    They are written by tensorboardX's synchronous writer: behind its `SummaryWriter` is a thread that dies of a full
    disk (tensorboardX 2.6.5), and the eleventh event after that waits for ever. TensorBoard's table of hyperparameters
    shows a run that failed as one without an end: it keeps the first end it reads, and the run may be made again. The
    run's text has the status and the reason.

    Args:
        directory: what ``tensorboard --logdir`` is given; made unless it is there.

    Raises:
        UserError: tensorboardX is not installed, or `directory` cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        require("tensorboardX", "--tensorboard")
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--tensorboard {directory} is not a folder that can be written: {error.strerror or error}; name "
                "another, after the sweep file"
            ) from None
        self.name = f"TensorBoard's log in {directory}"
        self._directory = directory
        self._writers: dict[str, Any] = {}

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        from tensorboardX.event_file_writer import EventsWriter

        memory = directory / "tensorboard_run.txt"
        if not (name := remembered(memory)):
            # A run measured anew, in another folder of results, say, gets a folder of its own here, too.
            stem = re.sub(r"[^\w=.+-]+", ",", f"{label[:120]} {job.run_id}", flags=re.ASCII)
            name = next(name for n in count(1) if not (self._directory / (name := stem + f",{n}" * (n > 1))).exists())
            write_atomically(memory, name)
        if writer := self._writers.pop(job.run_id, None):
            with suppress(OSError):  # what could not be written is sent anew
                writer.close()
        folder = self._directory / name
        folder.mkdir(exist_ok=True)
        files = sorted(folder.glob("*.tfevents.*"))
        # Files are named by the second, and read in the order of their names.
        self._writers[job.run_id] = EventsWriter(str(folder / "events"), f".{len(files)}")
        last = _last_steps(files)
        self._write(job, _session(job)[0], _text("before", tags_before(job)))
        return Sent(epochs=last.get(EPOCH_LOSS, 0), steps=last.get(INTERVAL_LOSS, 0))

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        from tensorboardX.summary import scalar

        self._write(job, *(scalar(name, value) for name, value in metrics.items()), step=step)

    def end(self, job: Job, record: RunRecord | None) -> None:
        if record:
            self._write(job, _text("after", tags_after(record)))
            if record.status in FINISHED:
                self._write(job, _session(job)[1])
        self._writers.pop(job.run_id).close()

    def _write(self, job: Job, *summaries: Any, step: int = 0) -> None:
        from tensorboardX.proto.event_pb2 import Event

        writer = self._writers[job.run_id]
        for summary in summaries:
            writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()


def _session(job: Job) -> tuple[Any, Any]:
    """The start and the good end of a run for TensorBoard's table of hyperparameters."""
    from tensorboardX.summary import hparams

    _, start, end = hparams(settings(job), {})
    return start, end


def _text(tag: str, facts: Mapping[str, str]) -> Any:
    from tensorboardX.summary import text

    return text(tag, "\n".join(f"- {name}: {value}" for name, value in facts.items()))


def _last_steps(files: Sequence[Path]) -> dict[str, int]:
    """The last step of every curve in TensorBoard's event `files`."""
    steps: dict[str, int] = {}
    for event in chain.from_iterable(map(_events, files)):
        for value in event.summary.value:
            steps[value.tag] = max(steps.get(value.tag, 0), event.step)
    return steps


def _events(path: Path) -> Iterator[Any]:
    """The events of a file; one that was cut short by a kill ends there.

    The records are TensorFlow's TFRecords: length (8 bytes, little-endian), its checksum (4), content, checksum (4).
    """
    from tensorboardX.proto.event_pb2 import Event

    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            content = file.read(length + 4)
            if len(content) < length + 4:
                return
            yield Event.FromString(content[:length])
