"""Records in Python and notebooks: short texts, tables, DataFrames."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.runs.results import Results
from gluon_rnn.runs.tables import load_epochs, load_results, write_tables
from tests.runs.test_records import epoch, make_done, make_job

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def records(small_corpus: CorpusFiles) -> Results:
    history = [epoch(1, 5.0, 4.5), epoch(2, 4.0, 3.5)]
    jobs = [make_job(small_corpus, run_id=f"{n:012}", hidden_size=n, learning_rate=n) for n in (8, 9)]
    return Results([make_done(jobs[0], history), make_done(jobs[1], history[:1], status="diverged", reason="<inf>")])


def test_a_record_says_what_was_set_and_what_came_of_it(records: Results) -> None:
    text = repr(records[0])
    assert text.startswith("RunRecord(run_id='000000000008', status='ok', dataset='small', ")
    assert "hidden_size=8, " in text
    assert text.endswith(
        "valid_perplexity=54.5982, test_perplexity=33.1155, tokens_per_second=8.0, wall_seconds=0.333333)"
    )
    assert len(text) < 500
    assert "reason='<inf>'" in repr(records[1])
    assert "<td>diverged &lt;inf&gt;</td>" in records[1]._repr_html_()


def test_records_are_a_table_of_what_varies(records: Results) -> None:
    html = records._repr_html_()
    head = "".join(f"<th>{name}</th>" for name in ("run_id", "hidden_size", "learning_rate"))
    assert f"<thead><tr>{head}<th>valid ppl</th><th>test ppl</th><th>tokens/s</th>" in html
    assert "<td>8</td><td>8.0</td><td>54.60</td><td>33.12</td><td>8</td><td>0</td><td>ok</td>" in html
    assert html.count("<tr>") == 3
    assert Results([])._repr_html_() == "<p>no records</p>"


def test_a_frame_is_that_of_the_table(tmp_path: Path) -> None:
    found: list[RunRecord] = read_records(RESULTS / "wikitext2-cpu")[0]
    write_tables(tmp_path, found)
    loaded = load_results(tmp_path)
    frame = Results(found).to_frame()
    assert list(frame["run_id"]) == [record.run_id for record in found]
    ordered = frame.set_index("run_id").loc[loaded["run_id"]].reset_index()
    pd.testing.assert_frame_equal(ordered[list(loaded.columns)], loaded, check_exact=True)


def test_epochs_have_their_runs_settings(records: Results, tmp_path: Path) -> None:
    write_tables(tmp_path, records)
    plain = load_epochs(tmp_path)
    for path in (tmp_path, str(tmp_path / "epochs.csv")):
        frame = load_epochs(path, settings=True)
        assert list(frame.columns[:4]) == ["run_id", "hidden_size", "learning_rate_run", "epoch"]
        assert frame["hidden_size"].tolist() == [8, 8, 9]
        assert frame["learning_rate_run"].tolist() == [8.0, 8.0, 9.0]
        pd.testing.assert_frame_equal(frame[plain.columns], plain)
    assert load_epochs(tmp_path, settings=["status"])["status"].tolist() == ["ok", "ok", "diverged"]
    with pytest.raises(UserError, match=r"there is no column 'hiden_size' in runs\.csv; did you mean 'hidden_size'"):
        load_epochs(tmp_path, settings=["hiden_size"])
