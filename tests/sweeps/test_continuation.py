"""Which runs continue a shorter one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gluon_rnn.config.identity import run_id
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import make_record
from gluon_rnn.sweeps.continuation import take_over_checkpoints
from tests.runs.test_records import make_job


@pytest.mark.parametrize("schedule", ["plateau", "linear", "cosine", "one_cycle"])
def test_a_rate_that_depends_on_the_last_epoch_is_not_continued(
    small_corpus: CorpusFiles, tmp_path: Path, schedule: str
) -> None:
    def job(epochs: int) -> Job:
        named = make_job(small_corpus, run_id="", epochs=epochs, lr_schedule=schedule)
        return named.model_copy(update={"run_id": run_id(named.config, content=named.content)})

    shorter, longer = job(2), job(3)
    (tmp_path / shorter.run_id / "checkpoint").mkdir(parents=True)
    (tmp_path / shorter.run_id / "checkpoint" / "state.json").write_text("{}")
    (tmp_path / shorter.run_id / "best.params").write_bytes(b"parameters")
    record = make_record(shorter, Progress(), status="ok", started_at="2026-01-01T00:00:00+00:00", wall_seconds=1.0)
    taken = list(take_over_checkpoints([longer], {record.run_id: record}, tmp_path))
    assert taken == ([(longer, record)] if schedule == "plateau" else [])
    assert (tmp_path / longer.run_id).exists() is (schedule == "plateau")
