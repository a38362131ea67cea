"""Small runs end at the figures they always did, and a broken recipe does not. README.md has the figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gluon_rnn import assert_no_regression
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.runs.tables import load_results
from tests.regression import baselines, mutations
from tests.regression.baselines import BUILT_IN, TOLERANCE, compare, kept_rows, make_job, measure, points, settle, table

#: A broken recipe is at least so many tolerances off.
FAR = 20
LIMIT = TOLERANCE["synthetic"]


def runs_of(*names: str) -> Iterator[Any]:
    for name in names:
        for label in points(name):
            marks = [pytest.mark.slow] if name == "synthetic" else []
            yield pytest.param(name, label, id=f"{name} {label}".replace(" ", "-"), marks=marks)


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "label"), list(runs_of(*BUILT_IN)))
def test_built_in_corpora(name: str, label: str) -> None:
    record = measure(points(name)[label])
    compare(name, record)
    if name == "hihello":
        assert [example.predicted for example in record.predictions] == ["ihello"]
    if name == "labels":
        assert record.confusion is not None
        counts = np.array(record.confusion.counts)
        assert counts.sum() == record.test_tokens_scored
        assert counts.trace() / counts.sum() == pytest.approx(record.test_accuracy, rel=1e-7)


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize("label", points("wikitext-2"))
def test_a_part_of_wikitext2(label: str, real_data: Path) -> None:
    compare("wikitext-2", measure(points("wikitext-2")[label]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutation", "name", "label"),
    mutations.CAUGHT_BY,
    ids=[f"{mutation.__name__}-{name}-{label}".replace(" ", "-") for mutation, name, label in mutations.CAUGHT_BY],
)
def test_a_broken_recipe_is_caught(
    mutation: mutations.Mutation, name: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    record = measure(points(name)[label])
    with pytest.raises(AssertionError, match="moved by more than"):
        compare(name, record, tolerances=FAR)


@pytest.fixture(scope="module")
def kept() -> RunRecord:
    """The first row of the table, as if just measured."""
    return RunRecord.model_validate(next(iter(kept_rows("synthetic").values())))


def moved(record: RunRecord, factor: float) -> RunRecord:
    assert record.test_perplexity is not None
    return record.with_columns({"test_perplexity": record.test_perplexity * factor})


@pytest.mark.parametrize("factor", [1 + 2 * LIMIT, 1 - 2 * LIMIT])
def test_a_perplexity_that_moved_either_way_fails_with_the_change_and_the_fix(kept: RunRecord, factor: float) -> None:
    with pytest.raises(AssertionError) as caught:
        compare("synthetic", moved(kept, factor))
    assert f"test_perplexity {kept.test_perplexity:.6g} -> " in str(caught.value)
    assert f"({factor - 1:+.3%})" in str(caught.value)
    assert "valid_perplexity" not in str(caught.value)
    assert "`make baseline` renews synthetic.csv" in str(caught.value)


def test_a_run_that_is_not_in_the_table_or_diverged_fails(kept: RunRecord) -> None:
    for change in ({"run_id": "0" * 12}, {"test_perplexity": None}, {"train_perplexity": float("inf")}):
        with pytest.raises(AssertionError, match="_perplexity"):
            compare("synthetic", kept.with_columns(change))


@pytest.mark.parametrize("column", ["valid_accuracy", "words_without_vector"])
def test_a_figure_that_was_not_measured_fails(kept: RunRecord, column: str) -> None:
    assert getattr(kept, column) is None
    with pytest.raises(AssertionError, match=f"{column} nan -> 1"):
        compare("synthetic", kept.with_columns({column: 1}))


def test_rounding_leaves_no_trace_in_a_renewed_table(
    kept: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settle("synthetic", moved(kept, 1 + LIMIT / 2)) == kept
    far = moved(kept, 1 + 2 * LIMIT)
    assert settle("synthetic", far) == far
    new = far.with_columns({"run_id": "0" * 12})
    assert settle("synthetic", new) == new
    monkeypatch.setattr(baselines, "FOLDER", tmp_path)  # which holds no table yet
    assert settle("synthetic", kept) == kept


@pytest.mark.parametrize("name", TOLERANCE)
def test_the_table_has_the_runs_of_the_sweep_and_no_others(name: str) -> None:
    kept, runs = kept_rows(name), points(name).values()
    if name in BUILT_IN:
        names = [make_job(run)[0].run_id for run in runs]
    else:
        (corpus,) = {row["dataset_sha1"] for row in kept.values()}
        names = [run_id(run, content={"corpus": corpus}) for run in runs]
    assert sorted(kept) == sorted(names)
    assert {row["status"] for row in kept.values()} == {"ok"}


def test_every_cell_is_run() -> None:
    cells = {name: {run.cell for run in points(name).values()} for name in TOLERANCE}
    assert cells["synthetic"] == cells["wikitext-2"]
    assert {"char_loop", "char_loop_concat"} < cells["characters"]
    assert cells["synthetic"] == {*FUSED_CELLS, *CUSTOM_CELLS} - {"char_loop", "char_loop_concat"}


def test_the_gate_for_users_lets_labels_pass_beside_themselves_and_none_that_are_worse() -> None:
    kept = load_results(table("labels"))
    worse = kept.copy()
    worse.loc[kept["run_id"] == kept["run_id"].iloc[-1], "valid_loss"] += 0.03
    worse["valid_perplexity"] = np.exp(worse["valid_loss"])
    assert_no_regression(table("labels"), table("labels"), two_sided=True)
    with pytest.raises(AssertionError, match=r"regressed: 1 of 4 points; .*: validation loss \+0.0300 nats"):
        assert_no_regression(kept, worse)
