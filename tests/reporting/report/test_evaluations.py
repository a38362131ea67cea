"""The section of a report on evaluations: a column for each method, and the last of equal ones."""

from __future__ import annotations

from pathlib import Path

from gluon_rnn import write_report
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.evaluations import CacheSettings, DynamicSettings, append_evaluations
from tests.runs.test_evaluations import make_evaluation
from tests.runs.test_records import epoch, keep, make_done, make_job


def cells(folder: Path) -> list[list[str]]:
    """The rows of the section's table in report.md, without the heading."""
    write_report(folder)
    _, _, text = (folder / "report.md").read_text(encoding="utf-8").partition("## Evaluations\n")
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_method_has_a_column_and_only_the_last_of_equal_evaluations_shows(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    keep(tmp_path, make_done(make_job(small_corpus), [epoch(1, 2.0)]))
    assert cells(tmp_path) == []
    cache, dynamic = CacheSettings(window=9), DynamicSettings(rule="sgd")
    append_evaluations(
        tmp_path,
        [
            make_evaluation(perplexity=102.0),
            make_evaluation(perplexity=102.5),
            make_evaluation(run_id="gone", perplexity=50.0),
            make_evaluation(method="cache", cache=cache, perplexity=77.8, plain_perplexity=102.4, searched=True),
            make_evaluation(method="dynamic", dynamic=dynamic, perplexity=88.0),
        ],
    )
    run = ["0" * 12, "lstm", "8", "0", "test"]
    of_dynamic = "rule=sgd bptt=5 eta=0.1 lambda=0.002 epsilon=2e-05"
    assert cells(tmp_path) == [
        [*run, "plain", "-", "no", "102.50", "-", "-"],
        [*run, "cache", "window=9 theta=0.662 lambda=0.1279", "yes", "102.40", "77.80", "-"],
        [*run, "dynamic", of_dynamic, "no", "-", "-", "88.00"],
    ]


def test_a_damaged_table_is_a_note(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path, make_done(make_job(small_corpus), [epoch(1, 2.0)]))
    (tmp_path / "evaluations.csv").write_text("nothing\n")
    assert cells(tmp_path) == []
    assert "no evaluations: cannot read evaluations.csv" in (tmp_path / "report.md").read_text(encoding="utf-8")
