"""More epochs for a finished run: the longer run starts from the shorter one's last checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gluon_rnn.common.files import replicate
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.run import RunConfig
from gluon_rnn.runs.job import BEST, CHECKPOINT, Job
from gluon_rnn.runs.records import RunRecord


def take_over_checkpoints(
    jobs: Iterable[Job], records: Mapping[str, RunRecord], runs: Path
) -> Iterator[tuple[Job, RunRecord]]:
    """Give each job the last checkpoint of the longest finished run that it begins with.

    That is a run that differs from it only by fewer epochs and, if it ended before the job begins to average
    parameters, by not averaging them. Training does not depend on what is to come, so the result is bit-identical to
    that of a run that was never shorter (with the same threads and BLAS). With a schedule other than plateau it does
    depend on it: such a job starts from the beginning. The shorter run's time counts as the job's first session. A job
    that has its own checkpoint keeps it.

    Args:
        jobs: about to start.
        records: of the sweep's folder, by run_id.
        runs: the folder of the runs.

    Yields:
        Each job that continues a shorter run, and that run.

    Raises:
        OSError: a checkpoint cannot be copied.
    """
    ended = sorted({record.config.epochs for record in records.values() if record.status == "ok"}, reverse=True)
    for job in jobs:
        can_continue = job.config.lr_schedule == "plateau" and not job.config.max_steps
        if not can_continue or (runs / job.run_id / CHECKPOINT).exists():
            continue
        shorter = (run_id(config, content=job.content) for config in _beginnings(job.config, ended))
        kept = (name for name in shorter if name in records and _has_checkpoint(runs / name))
        if name := next(kept, None):
            _copy_checkpoint(runs / name, runs / job.run_id)
            yield job, records[name]


def _beginnings(config: RunConfig, ended: Iterable[int]) -> Iterator[RunConfig]:
    """Shorter configurations that `config` begins with, for each of the epochs in `ended`."""
    for epochs in ended:
        if epochs < config.epochs:
            yield config.model_copy(update={"epochs": epochs})
            if config.averaging != "none" and epochs < _first_averaged(config):
                yield config.model_copy(update={"epochs": epochs, "averaging": "none"})


def _first_averaged(config: RunConfig) -> int:
    """The first epoch that may average parameters; 1 if averaging begins at a step, which may be in any epoch."""
    unit, start = config.earliest_averaging
    return start if unit == "epoch" else 1


def _has_checkpoint(directory: Path) -> bool:
    return all((directory / file).is_file() for file in (f"{CHECKPOINT}/state.json", BEST))


def _copy_checkpoint(source: Path, to: Path) -> None:
    """Copy a checkpoint atomically; `gluon_rnn.common.files.remove_leftovers` removes what a kill leaves."""
    to.mkdir(parents=True, exist_ok=True)
    replicate(source / BEST, to / BEST)
    unfinished = to / f".{CHECKPOINT}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for path in (source / CHECKPOINT).iterdir():
        replicate(path, unfinished / path.name)
    unfinished.rename(to / CHECKPOINT)
