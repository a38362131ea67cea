"""More epochs for a finished run: the longer one begins where the shorter one has ended."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from gluon_rnn.config import run_id
from gluon_rnn.files import replicate
from gluon_rnn.records import BEST, CHECKPOINT, Job, RunRecord


def take_over_checkpoint(job: Job, records: Mapping[str, RunRecord], runs: Path) -> RunRecord | None:
    """Give `job` the last checkpoint of the longest finished run that differs from it by fewer epochs alone.

    Nothing else of a run depends on how many epochs follow, so that the job comes to the bits of one that was never
    shorter (same threads and BLAS). What the shorter run took counts for the longer one, too: it is its first sitting.

    Args:
        job: about to start; no worker is at it.
        records: of the sweep's folder, by run_id.
        runs: the folder of the runs.

    Returns:
        The shorter run. None: there is none with a checkpoint, or the job has one of its own.

    Raises:
        OSError: the checkpoint cannot be copied.
    """
    directory = runs / job.run_id
    shorter = None if job.config.max_steps or (directory / CHECKPOINT).exists() else _longest_before(job, records, runs)
    if shorter is None:
        return None
    source = runs / shorter.run_id
    directory.mkdir(parents=True, exist_ok=True)
    replicate(source / BEST, directory / BEST)
    unfinished = directory / f".{CHECKPOINT}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for path in (source / CHECKPOINT).iterdir():
        replicate(path, unfinished / path.name)
    unfinished.rename(directory / CHECKPOINT)
    return shorter


def _longest_before(job: Job, records: Mapping[str, RunRecord], runs: Path) -> RunRecord | None:
    fewer = {
        record.epochs for record in records.values() if record.status == "ok" and record.epochs < job.config.epochs
    }
    for epochs in sorted(fewer, reverse=True):
        name = run_id(job.config.model_copy(update={"epochs": epochs}), content=job.content)
        if name in records and all((runs / name / file).is_file() for file in (f"{CHECKPOINT}/state.json", BEST)):
            return records[name]
    return None
