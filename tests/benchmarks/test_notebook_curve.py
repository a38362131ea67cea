"""System A's log beside the notebook's curve: which figure stands in which row, of a run that was resumed, too."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import notebook_curve
from gluon_rnn.config.run import PRESETS
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.progress import EpochResult
from run_logs import interval_perplexities
from tests.runs.test_records import keep, make_done, make_job


def logged(epoch: int, batch: int, perplexity: float) -> str:
    return (
        f"12:00:00 [epoch {epoch} batch {batch}/2983] loss 5.0000, perplexity {perplexity:.2f}, throughput 1 tokens/s\n"
    )


def run(sweep: Path, corpus: CorpusFiles, log: str) -> None:
    """Put a run of two epochs with this log into a sweep's folder."""
    history = tuple(EpochResult(epoch, 20.0, 5.0, 5.1, 164.02, 4.9, 134.29, 3000.0, 600.0) for epoch in (1, 2))
    model = "standard_lstm_lm_200"
    record = make_done(make_job(corpus, run_id="0123456789ab", model=model, **PRESETS[model]), history)
    (keep(sweep, record) / "log.txt").write_text(log)


def test_each_batch_stands_beside_the_notebooks(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {batch: value * (1.03 if batch == 400 else 0.99) for batch, value in notebook_curve.NOTEBOOK.items()}
    log = logged(1, 200, 2000.0) + logged(2, 200, 77.0)
    # It was killed here and began the epoch again.
    log += "".join(logged(2, batch, value) for batch, value in ours.items())
    run(tmp_path / "notebook-cpu", small_corpus, log)
    monkeypatch.setattr(sys, "argv", ["notebook_curve.py", str(tmp_path / "notebook-cpu")])
    notebook_curve.main()
    text = (tmp_path / "notebook-cpu" / "README.md").read_text()
    assert "| 200 | 235.91 | 2,000.00 | 233.55 | -1.0 |" in text
    assert "| 400 | 233.75 | - | 240.76 | 3.0 |" in text
    assert "Ours of that epoch is within 3.0% of it, at the median within 1.0%." in text
    assert "| 1 | 20 | 148.41 | 164.02 | 134.29 |" in text
    assert "samples/s" not in text, "the notebook's speed is a GPU's"
    ElementTree.parse(tmp_path / "notebook-cpu" / "curve.svg")
    (tmp_path / "notebook-cpu" / "README.md").write_text("old\n\n## How it came about\n\nBy hand.\n")
    notebook_curve.main()
    assert (tmp_path / "notebook-cpu" / "README.md").read_text() == text + "## How it came about\n\nBy hand.\n"


def test_a_gpus_speed_stands_beside_the_notebooks(small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus, device="gpu:0")).model_copy(update={"sequences_per_second": 3145.3})
    text = notebook_curve.page("notebook", record, {2: dict(notebook_curve.NOTEBOOK)})
    assert "The notebook's GPU trained 1,630 samples/s; this run trained 3,145 sequences/s." in text


def test_a_log_is_read_however_large_a_perplexity_became() -> None:
    lines = ["7.39", "12345.67", "12,345.67", "4.2e+13", "inf"]  # the second as an earlier version wrote it
    log = "".join(
        f"12:00:00 [epoch 1 batch {n}/5] loss 5.0000, perplexity {text}, throughput 1 tokens/s\n"
        for n, text in enumerate(lines, 1)
    )
    assert interval_perplexities(log) == ({1: {1: 7.39, 2: 12345.67, 3: 12345.67, 4: 4.2e13, 5: math.inf}}, 5)


def test_both_curves_are_drawn_over_the_second_epoch() -> None:
    drawn = notebook_curve.plot({200: 230.0, 2983: 200.0}, 2983)
    (_, [ours]), (_, [notebook]) = drawn.lines
    assert ours == [(1 + 200 / 2983, 230.0), (2.0, 200.0)]
    assert notebook[0] == (1 + 200 / 2983, 235.91)


@pytest.mark.parametrize("log", ["", logged(1, 200, 2000.0), logged(2, 100, 230.0)])
def test_a_log_without_the_notebooks_batches_is_one_line(
    tmp_path: Path,
    small_corpus: CorpusFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: str,
) -> None:
    run(tmp_path, small_corpus, log)
    monkeypatch.setattr(sys, "argv", ["notebook_curve.py", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        notebook_curve.main()
    assert caught.value.code == 2
    assert "the log lacks some of the notebook's batches" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


def test_a_record_whose_log_stayed_elsewhere_is_one_line(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, small_corpus, "")
    log = tmp_path / "runs" / "0123456789ab" / "log.txt"
    log.unlink()
    monkeypatch.setattr(sys, "argv", ["notebook_curve.py", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        notebook_curve.main()
    assert caught.value.code == 2
    assert f"{log} is not here: logs stay on the machine that trained" in capsys.readouterr().err
