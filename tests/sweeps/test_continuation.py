"""Which runs continue a shorter one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.config.identity import run_id
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import RunRecord, make_record
from gluon_rnn.sweeps.continuation import take_over_checkpoints
from tests.runs.test_records import make_job


def named_job(corpus: CorpusFiles, **settings: Any) -> Job:
    job = make_job(corpus, run_id="", **settings)
    return job.model_copy(update={"run_id": run_id(job.config, content=job.content)})


def finished(job: Job, runs: Path) -> RunRecord:
    """The record of a finished run of `job`, whose checkpoint is there."""
    (runs / job.run_id / "checkpoint").mkdir(parents=True)
    (runs / job.run_id / "checkpoint" / "state.json").write_text("{}")
    (runs / job.run_id / "best.params").write_bytes(b"parameters")
    return make_record(job, Progress(), status="ok", started_at="2026-01-01T00:00:00+00:00", wall_seconds=1.0)


@pytest.mark.parametrize("schedule", ["plateau", "linear", "cosine", "one_cycle"])
def test_a_rate_that_depends_on_the_last_epoch_is_not_continued(
    small_corpus: CorpusFiles, tmp_path: Path, schedule: str
) -> None:
    shorter, longer = (named_job(small_corpus, epochs=epochs, lr_schedule=schedule) for epochs in (2, 3))
    record = finished(shorter, tmp_path)
    taken = list(take_over_checkpoints([longer], {record.run_id: record}, tmp_path))
    assert taken == ([(longer, record)] if schedule == "plateau" else [])
    assert (tmp_path / longer.run_id).exists() is (schedule == "plateau")


@pytest.mark.parametrize(
    ("epochs", "before", "after", "continues"),
    [
        (2, "none", "3", True),
        (2, "none", "2", False),
        (2, "none", "step 900", False),
        (7, "none", "ntasgd", True),
        (8, "none", "ntasgd", False),
        (2, "2", "2", True),
        (2, "2", "none", False),
        (2, "3", "4", False),
    ],
)
def test_averaging_may_begin_after_the_end_of_a_shorter_run(
    small_corpus: CorpusFiles, tmp_path: Path, epochs: int, before: str, after: str, continues: bool
) -> None:
    record = finished(named_job(small_corpus, epochs=epochs, averaging=before), tmp_path)
    longer = named_job(small_corpus, epochs=9, averaging=after)
    taken = list(take_over_checkpoints([longer], {record.run_id: record}, tmp_path))
    assert taken == ([(longer, record)] if continues else [])
