"""Small runs end at the perplexities they always did, and a broken recipe does not. README.md has the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from gluon_rnn.config import CUSTOM_CELLS, FUSED_CELLS, RunConfig, run_id
from gluon_rnn.records import RunRecord, load_results
from tests.regression import baselines, mutations
from tests.regression.baselines import TOLERANCE, compare, measure, points, settle, table

#: A broken recipe is at least so many tolerances off.
FAR = 20
LIMIT = TOLERANCE["synthetic"]


def label(config: RunConfig) -> str:
    return f"{config.cell}-{'tied' if config.tie_weights else 'untied'}"


@pytest.mark.parametrize("config", points("synthetic"), ids=label)
def test_the_built_in_corpus(config: RunConfig) -> None:
    compare(measure(config))


@pytest.mark.parametrize("config", points("wikitext-2"), ids=label)
def test_a_part_of_wikitext2(config: RunConfig, real_data: Path) -> None:
    compare(measure(config))


@pytest.mark.parametrize(
    ("mutation", "cell", "tied"),
    mutations.CAUGHT_BY,
    ids=[f"{mutation.__name__}-{cell}-{'tied' if tied else 'untied'}" for mutation, cell, tied in mutations.CAUGHT_BY],
)
def test_a_broken_recipe_is_caught(
    mutation: mutations.Mutation, cell: str, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = (point for point in points("synthetic") if (point.cell, point.tie_weights) == (cell, tied))
    mutation(monkeypatch)
    record = measure(config)
    with pytest.raises(AssertionError, match="perplexity moved by more than"):
        compare(record, tolerances=FAR)


@pytest.fixture(scope="module")
def kept() -> RunRecord:
    """The first row of the table, as if just measured."""
    row = load_results(table("synthetic")).iloc[0].dropna().to_dict()
    return RunRecord.model_validate(row)


def moved(record: RunRecord, factor: float) -> RunRecord:
    assert record.test_perplexity is not None
    return record.model_copy(update={"test_perplexity": record.test_perplexity * factor})


@pytest.mark.parametrize("factor", [1 + 2 * LIMIT, 1 - 2 * LIMIT])
def test_a_perplexity_that_moved_either_way_fails_with_the_change_and_the_mend(kept: RunRecord, factor: float) -> None:
    with pytest.raises(AssertionError) as caught:
        compare(moved(kept, factor))
    assert f"test_perplexity {kept.test_perplexity:.6g} -> " in str(caught.value)
    assert f"({factor - 1:+.3%})" in str(caught.value)
    assert "valid_perplexity" not in str(caught.value)
    assert "`make baseline` renews synthetic.csv" in str(caught.value)


def test_a_run_that_is_not_in_the_table_or_diverged_fails(kept: RunRecord) -> None:
    for change in ({"run_id": "0" * 12}, {"test_perplexity": None}, {"train_perplexity": float("inf")}):
        with pytest.raises(AssertionError, match="perplexity moved"):
            compare(kept.model_copy(update=change))


def test_rounding_leaves_no_trace_in_a_renewed_table(
    kept: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settle(moved(kept, 1 + LIMIT / 2)) == kept
    far = moved(kept, 1 + 2 * LIMIT)
    assert settle(far) == far
    new = far.model_copy(update={"run_id": "0" * 12})
    assert settle(new) == new
    monkeypatch.setattr(baselines, "FOLDER", tmp_path)  # which holds no table yet
    assert settle(kept) == kept


@pytest.mark.parametrize("name", ["synthetic", "wikitext-2"])
def test_the_table_has_the_runs_of_the_sweep_and_no_others(name: str) -> None:
    kept, runs = load_results(table(name)), points(name)
    (corpus,) = set(kept["dataset_sha1"])
    assert sorted(kept["run_id"]) == sorted(run_id(run, content={"corpus": corpus}) for run in runs)
    assert set(kept["status"]) == {"ok"}
    assert {run.cell for run in runs} == {*FUSED_CELLS, *CUSTOM_CELLS} - {"char_loop", "char_loop_concat"}
