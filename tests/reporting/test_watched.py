"""Sweeps that Python starts show their progress where somebody watches, and a notebook's in its cell."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn import plan_sweep, run_sweep
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.notebook import NotebookDisplay
from gluon_rnn.reporting.terminal.displays import PlainDisplay, TerminalDisplay
from gluon_rnn.reporting.watched import display_for
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.results import Results
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display
from tests.runs.test_records import epoch, make_done, make_job


@pytest.mark.parametrize(
    ("terminal", "progress", "kind"),
    [
        (True, None, TerminalDisplay),
        (True, False, Display),
        (False, None, Display),
        (False, True, PlainDisplay),
    ],
)
def test_progress_is_shown_where_somebody_watches(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, progress: bool | None, kind: type
) -> None:
    output = io.StringIO()
    output.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", output)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert type(display_for(progress)) is kind


def test_a_cell_shows_the_sweep_and_its_running_points(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    jobs = tuple(make_job(small_corpus, run_id=f"{n:012}", cell=cell) for n, cell in enumerate(("lstm", "gru")))
    plan = Plan("a<b", tmp_path, jobs, jobs, (Slot("cpu", "a processor", "cpu"),))
    shown: list[str] = []
    now = 0.0
    display = NotebookDisplay(shown.append, clock=lambda: now)
    display.started(plan)
    assert '<td>a&lt;b</td><td><progress value="0" max="2"></progress></td><td>0 of 2 runs done, 0 s</td>' in shown[-1]
    now = 3.0
    directory = tmp_path / "runs" / jobs[1].run_id
    directory.mkdir(parents=True)
    live = LiveProgress(doing="epoch 1", fraction=0.25, perplexity=123.456, interval_loss=4.8, progress=Progress())
    (directory / "progress.json").write_text(live.model_dump_json())
    display.running(jobs)
    assert '<td>cell=lstm</td><td><progress value="0" max="1"></progress></td><td>starting</td>' in shown[-1]
    assert '<progress value="0.25" max="1"></progress></td><td>epoch 1, training perplexity 123.46</td>' in shown[-1]
    count = len(shown)
    display.running(jobs)  # so soon the browser is left alone
    assert len(shown) == count
    display.ended(jobs[0], make_done(jobs[0], [epoch(1, 4.0)]))
    display.ended(jobs[1], make_done(jobs[1], status="failed", reason="why"))
    display.stopped()
    assert shown[-1].endswith("<td>2 of 2 runs done, 1 failed or diverged, 3 s</td></tr></table>")


def test_paths_may_be_text(tmp_path: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(f"set: {{dataset: '{small_folder}', bptt: 5, batch_size: 4, log_interval: 10}}\n")
    plan = plan_sweep(load_sweep(str(file)), results=str(tmp_path), data_dir=str(tmp_path))
    assert plan == plan_sweep(load_sweep(file), results=tmp_path, data_dir=tmp_path)
    assert repr(plan) == f"<Plan tiny: 1 points, 1 to run, in {tmp_path / 'tiny'}>"
    done = run_sweep(replace(plan, jobs=(), missing=()))
    assert isinstance(done, Results)
    assert capsys.readouterr().out == ""
