"""How far sweeps are, one by one and all of a folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.terminal.status import find_sweeps, read_standing, status_lines, sweeps_table
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.tables import write_tables
from tests.reporting.terminal.conftest import NAMES, console_of, make_plan, say
from tests.runs.test_records import epoch, keep, make_done, make_job


def plan_of(folder: Path, *labels: str) -> Path:
    """A sweep's folder whose plan has points of these labels."""
    folder.mkdir(parents=True, exist_ok=True)
    points = [{"run_id": f"{number:012}", "label": text} for number, text in enumerate(labels)]
    (folder / "sweep.json").write_text(json.dumps({"name": folder.name, "points": points}))
    return folder


def lines_of(folder: Path, *, active: bool | None = False) -> list[str]:
    return status_lines(replace(read_standing(folder), active=active))


def test_a_live_perplexity_of_any_size_is_short(tmp_path: Path) -> None:
    plan_of(tmp_path, "x")
    directory = tmp_path / "runs" / f"{0:012}"
    directory.mkdir(parents=True)
    for perplexity, shown in ((1e300, "1.0e+300"), (math.inf, "inf")):
        state = LiveProgress(doing="epoch 1/2", perplexity=perplexity, interval_loss=5.0, progress=Progress())
        (directory / "progress.json").write_text(state.model_dump_json())
        assert lines_of(tmp_path, active=None)[0].endswith("; whether a sweep is running is not known")
        assert lines_of(tmp_path, active=None)[1] == f"  x: epoch 1/2, training perplexity {shown}"
        assert lines_of(tmp_path, active=True)[1] == f"  x: epoch 1/2, training perplexity {shown}"


def test_status_tells_what_runs_only_while_a_sweep_does(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan_of(tmp_path, *NAMES)
    jobs = [make_job(small_corpus, run_id=f"{number:012}") for number in range(5)]
    keep(tmp_path, make_done(jobs[0], [epoch(1, 2.0, 2.5)]))
    keep(tmp_path, make_done(jobs[1], status="oom", reason="why"))
    keep(tmp_path, make_done(make_job(small_corpus, run_id="a" * 12)))  # no point of this sweep
    say(make_plan(tmp_path, jobs), jobs[2], 0.5, "epoch 1/2")
    first, *lines = lines_of(tmp_path, active=True)
    assert first == f"{tmp_path}: 2 of 5 points ended (1 ok, 1 oom); a sweep is running"
    assert lines == [
        "  [red]x: ok, validation perplexity 7.39, test 12.18, 8 tokens/s",
        "  [/bold]: oom (why)",
        "  :cat:: epoch 1/2, 6,789 tokens/s, training perplexity 12.35",
        "  two words=x: waiting",
        "  [link=y: waiting",
        "best so far: cell=lstm bptt=5 hidden_size=8: validation perplexity 7.39",
    ]
    assert lines_of(tmp_path)[0].endswith("; no sweep is running")
    assert lines_of(tmp_path)[3] == "  :cat:: interrupted"


def test_committed_results_are_listed_best_first_without_a_plan(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    losses = {"lstm": 2.0, "gru": 1.0, "rnn_tanh": 3.0}
    records = [
        make_done(make_job(small_corpus, run_id=f"{place:012}", cell=cell), [epoch(1, loss, loss)])
        for place, (cell, loss) in enumerate(losses.items())
    ]
    write_tables(tmp_path, records)
    for kept in (False, True):
        if kept:
            for record in records:
                keep(tmp_path, record)
        first, *lines = lines_of(tmp_path)
        assert first == f"{tmp_path}: 3 runs (3 ok); the plan is not committed with results"
        assert [line.split()[0] for line in lines] == ["cell=gru:", "cell=lstm:", "cell=rnn_tanh:", "best"]
        assert lines[-1] == "best so far: cell=gru: validation perplexity 2.72"


def test_all_sweeps_of_a_folder_are_a_table(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    done, stopped, committed = (tmp_path / name for name in ("done", "group/stopped", "z[red]"))
    job = make_job(small_corpus, run_id=f"{0:012}")
    for folder, labels in ((done, ["a"]), (stopped, ["a", "b"])):
        plan_of(folder, *labels)
        keep(folder, make_done(job, [epoch(1, 2.0, 2.0)]) if folder == done else make_done(job, status="failed"))
    committed.mkdir()
    write_tables(committed, [make_done(job)])
    (done / "runs" / "below").mkdir()
    plan_of(done / "runs" / "below", "no sweep of its own")
    folders = find_sweeps(tmp_path)
    assert folders == [done, stopped, committed]
    for width in (72, 200):
        console, text = console_of(terminal=False, width=width)
        console.print(sweeps_table(tmp_path, [read_standing(folder) for folder in folders]))
        rows = [line.split() for line in text.getvalue().splitlines()]
        assert rows[1][:5] == ["sweep", "state", "points", "best", "measure"]
        assert rows[3][:6] == ["done", "done", "1/1", "7.39", "valid", "ppl"]
        assert rows[4] == ["group/stopped", "stopped,", "1", "failed", "1/2"]
        assert rows[5][:5] == ["z[red]", "results", "1", "8", "tokens/s"]
        assert ("settings" in rows[1]) == (width == 200)
        assert max(map(len, text.getvalue().splitlines())) <= width


def test_a_folder_without_sweeps_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no sweeps; run one with gluon-rnn sweep, or name another folder$"):
        find_sweeps(tmp_path)
