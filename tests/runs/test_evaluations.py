"""evaluations.csv: rows are added whole, and nobody else touches them."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.evaluations import (
    EVALUATION_FIELDS,
    CacheSettings,
    DynamicSettings,
    Evaluation,
    append_evaluations,
    check_evaluations,
    read_settings,
)
from gluon_rnn.runs.job import Origin
from gluon_rnn.runs.records import read_records
from gluon_rnn.runs.tables import load_evaluations, write_tables
from gluon_rnn.sweeps.pruning import list_stale, remove_runs
from tests.runs.test_records import AWKWARD, epoch, keep, make_done, make_job


def make_evaluation(**values: Any) -> Evaluation:
    """Of a run of zeros, plainly on test."""
    base: dict[str, Any] = {
        "run_id": "0" * 12,
        "split": "test",
        "method": "plain",
        "searched": False,
        "batch_size": 1,
        "tokens_scored": 70,
        "loss": AWKWARD[0],
        "perplexity": AWKWARD[1],
        "accuracy": None,
        "plain_perplexity": None,
        "cache": None,
        "dynamic": None,
        "seconds": 1.5,
        "peak_rss_mb": 200.0,
        "parameters_sha1": "1" * 40,
        "dataset_sha1": "2" * 40,
        "threads": 2,
        "blas": "mkl",
        "evaluated_at": "2020-01-01T00:00:00+00:00",
        "origin": Origin(device_name="a processor", machine_id="f" * 12, host="here"),
    }
    return Evaluation(**base | values)


def test_rows_are_added_behind_what_is_there_and_read_back_to_the_bit(tmp_path: Path) -> None:
    append_evaluations(tmp_path, [make_evaluation()])
    before = (tmp_path / "evaluations.csv").read_bytes()
    settings = CacheSettings(window=9), DynamicSettings.model_validate({"rule": "sgd", "lambda": 0.5})
    append_evaluations(
        tmp_path,
        [make_evaluation(method="cache", cache=settings[0]), make_evaluation(method="dynamic", dynamic=settings[1])],
    )
    assert (tmp_path / "evaluations.csv").read_bytes().startswith(before)
    frame = load_evaluations(tmp_path)
    assert [*frame.columns] == [*EVALUATION_FIELDS]
    assert [*frame["loss"]] == [AWKWARD[0]] * 3
    assert [*frame["method"]] == ["plain", "cache", "dynamic"]
    assert frame["cache_window"].dtype == "Int64"
    assert [*frame["cache_lambda"].notna()] == [False, True, False]
    assert frame.loc[1, ["cache_window", "cache_theta", "cache_lambda"]].tolist() == [9, 0.662, 0.1279]
    assert frame.loc[2, ["dynamic_rule", "dynamic_lambda", "dynamic_bptt"]].tolist() == ["sgd", 0.5, 5]
    assert frame.loc[0, "host"] == "here"


@pytest.mark.parametrize("given", [{"bptt": 20}, {"bptt": 20, "rule": "sgd"}, {"bptt": 20, "lambda": 0.1}])
def test_a_row_has_the_settings_that_were_used(given: dict[str, Any]) -> None:
    """That of the second split, too: pydantic checks settings again when they become part of a row."""
    settings = DynamicSettings.model_validate(given)
    for _ in ("valid", "test"):
        row = make_evaluation(method="dynamic", dynamic=settings).row
        assert row["dynamic_lambda"] == settings.lambda_ == pytest.approx(given.get("lambda", 0.008))
        assert row["dynamic_eta"] == settings.eta == pytest.approx({"rms": 2e-4, "sgd": 0.4}[settings.rule])


def test_rows_of_several_at_once_are_all_there(tmp_path: Path) -> None:
    def add(place: int) -> None:
        for number in range(10):
            append_evaluations(tmp_path, [make_evaluation(run_id=f"{place}-{number}")])

    threads = [threading.Thread(target=add, args=[place]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(load_evaluations(tmp_path)["run_id"]) == sorted(f"{p}-{n}" for p in range(4) for n in range(10))


def test_nothing_is_left_beside_the_table_but_an_empty_file(tmp_path: Path) -> None:
    """It is the lock."""
    append_evaluations(tmp_path, [make_evaluation()])
    (lock,) = set(tmp_path.iterdir()) - {tmp_path / "evaluations.csv"}
    assert lock.read_bytes() == b""


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    append_evaluations(tmp_path, [make_evaluation()])
    before = (tmp_path / "evaluations.csv").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*evaluations\.csv"):
            append_evaluations(tmp_path, [make_evaluation()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "evaluations.csv").read_bytes() == before


def test_tables_and_pruning_leave_evaluations_alone(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path, make_done(make_job(small_corpus, "1" * 12), [epoch(1, 2.0)]))
    keep(tmp_path, make_done(make_job(small_corpus, "2" * 12), status="failed"))
    append_evaluations(tmp_path, [make_evaluation(run_id="1" * 12), make_evaluation(run_id="2" * 12)])
    before = (tmp_path / "evaluations.csv").read_bytes()
    write_tables(tmp_path, read_records(tmp_path)[0])
    remove_runs(tmp_path, list_stale(tmp_path), print)
    assert not (tmp_path / "runs" / ("2" * 12)).exists()
    assert (tmp_path / "evaluations.csv").read_bytes() == before


def test_a_table_of_other_columns_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    check_evaluations(tmp_path)
    (tmp_path / "evaluations.csv").write_text("run_id,score\n")
    with pytest.raises(UserError, match=r"evaluations\.csv has other columns than this version writes; rename it"):
        check_evaluations(tmp_path)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (CacheSettings, {"window": "0"}, r"window='0': input should be greater than or equal to 1"),
        (CacheSettings, {"lambda": "1.5"}, r"lambda='1.5': input should be less than or equal to 1"),
        (CacheSettings, {"lambda": "nan"}, r"lambda='nan': input should be a finite number"),
        (CacheSettings, {"theta": "0"}, r"theta='0': input should be greater than 0"),
        (CacheSettings, {"windows": "5"}, r"has no setting 'windows'; did you mean 'window'\?"),
        (CacheSettings, {"lambda_": "0.5"}, r"has no setting 'lambda_'; did you mean 'lambda'\?"),
        (CacheSettings, {"size": "5"}, r"has no setting 'size'; choose from window, theta, lambda$"),
        (DynamicSettings, {"rule": "adam"}, r"rule='adam': input should be 'rms' or 'sgd'"),
        (DynamicSettings, {"bptt": "many"}, r"bptt='many': input should be a valid integer"),
        (DynamicSettings, {"eta": "-1"}, r"eta='-1': input should be greater than or equal to 0"),
        (DynamicSettings, {"rule": "sgd", "epsilon": "1"}, r"--cache: rule=sgd has no epsilon; leave it out$"),
        (DynamicSettings, {"bptt": "9" * 400}, r"bptt='9+\.\.\.: input should be less than or equal to"),
        (DynamicSettings, {"batches": "0"}, r"batches='0': input should be greater than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_one_line(kind: Any, given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as found:
        read_settings(kind, given, of="--cache")
    assert "\n" not in str(found.value)
