"""Own cells before the first run: one short process for all of them, and none where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.sweeps import own_cells
from gluon_rnn.sweeps.own_cells import check_own_cells
from gluon_rnn.sweeps.planning import plan_sweep
from gluon_rnn.sweeps.running import run_sweep
from tests.conftest import small_config
from tests.runs.test_records import make_job


def test_all_cells_of_a_sweep_are_asked_about_at_once(
    small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(own_cells, "ask", lambda module, request, **options: asked.append({**request, **options}))
    settings = [
        {"cell": "a:A", "seed": 0},
        {"cell": "a:A", "seed": 1},
        {"cell": "b:B", "embed_size": 6, "weight_drop": 0.5},
        {"cell": "lstm"},
    ]
    check_own_cells(make_job(small_corpus, **each) for each in settings)
    (request,) = asked
    assert request["subject"] == "a step of a:A, b:B"
    assert [tuple(cell.values()) for cell in request["cells"]] == [
        ("a:A", 8, 8, 0.0),
        ("b:B", 8, 6, 0.5),
        ("b:B", 8, 8, 0.5),
    ]
    check_own_cells([make_job(small_corpus)])
    assert len(asked) == 1


@pytest.mark.slow
def test_a_sweep_with_a_misspelt_class_starts_nothing(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from gluon_rnn.networks.layers import RNNCell\nclass Mine(RNNCell): pass\n")
    settings = {**small_config().model_dump(exclude_unset=True), "dataset": str(small_folder)}
    plan = plan_sweep(Sweep("s", settings=settings, axes={"cell": ("lstm", "mine:Mien")}), results=tmp_path / "results")
    with pytest.raises(UserError, match=r"^cell mine:Mien: mine has no class Mien; did you mean 'Mine'\?$"):
        run_sweep(plan)
    assert not (tmp_path / "results").exists()
