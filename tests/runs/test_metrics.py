"""By which numbers results are read: as what was measured says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.metrics import (
    SCORED_ON,
    Reached,
    learned_nothing,
    loss_to_beat,
    measures_of,
    outcome,
    rank,
    scored_on,
    time_to_perplexity,
    written,
)
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.runs.records import COLUMNS, RunRecord
from tests.runs.test_records import make_done, make_job


def test_time_to_a_perplexity_counts_training_and_scoring(small_corpus: CorpusFiles) -> None:
    def ended(*epochs: tuple[float, float, float | None]) -> RunRecord:
        history = tuple(
            EpochResult(n, 1.0, 5.0, math.log(valid), valid, None, None, None, seconds, evaluation_seconds=scoring)
            for n, (valid, seconds, scoring) in enumerate(epochs, 1)
        )
        return make_done(make_job(small_corpus)).model_copy(
            update={"history": history, "train_tokens": 100, "evaluation_seconds": 9.0}
        )

    record = ended((200.0, 10.0, 2.0), (120.0, 8.0, 1.0), (130.0, 8.0, 0.5), (90.0, 8.0, 1.0))
    assert time_to_perplexity(record, 250) == Reached(1, 12.0, 100)
    assert time_to_perplexity(record, 120) == Reached(2, 21.0, 200)
    assert time_to_perplexity(record, 119.9) == Reached(4, 38.5, 400)
    assert time_to_perplexity(record, 89) is None
    # Three epochs that say nothing of scoring share the run's nine seconds.
    older = ended((200.0, 10.0, None), (120.0, 8.0, None), (90.0, 8.0, None))
    assert time_to_perplexity(older, 120) == Reached(2, 24.0, 200)


def test_one_accuracy_decides_and_none_of_a_share_is_one() -> None:
    assert measures_of([]) is measures_of([None, None])
    assert measures_of([None, 0.0]) is measures_of([0.5])
    assert [measure.column for measure in measures_of([None]).all] == ["valid_perplexity", "test_perplexity"]
    labelled = measures_of([None, 0.0])
    assert [m.column for m in labelled.all] == ["valid_loss", "valid_accuracy", "test_loss", "test_accuracy"]
    assert [m.column for m in labelled.valid] == ["valid_loss", "valid_accuracy"]
    assert {m.column for m in labelled.all} < set(COLUMNS)


@pytest.mark.parametrize(
    ("accuracy", "place", "value", "written"),
    [
        (None, 0, 1234.567, "1,234.57"),
        (None, 0, math.inf, "inf"),
        (None, 0, 43886.14, "43,886.14"),
        (None, 0, 4.2e13, "4.2e+13"),
        (0.5, 0, 1e200, "1.0e+200"),
        (0.5, 0, 0.17604, "0.1760"),
        (0.5, 1, 0.97416, "97.42 %"),
        (0.5, 1, 1.0, "100.00 %"),
    ],
)
def test_figures_are_written_as_people_read_them(
    accuracy: float | None, place: int, value: float, written: str
) -> None:
    assert measures_of([accuracy]).all[place].written(value) == written


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 2, "0.00"),
        (999_999.99, 2, "999,999.99"),
        (999_999.996, 2, "1.0e+06"),  # not 1,000,000.00
        (1e6, 2, "1.0e+06"),
        (99_999_999.4, 0, "99,999,999"),
        (1e8, 0, "1.0e+08"),
        (-246_213_289_901_013.0, 2, "-2.5e+14"),
        (1e300, 4, "1.0e+300"),
        (math.inf, 2, "inf"),
        (-math.inf, 0, "-inf"),
        (math.nan, 2, "nan"),
        (123_456_789_012, 0, "123,456,789,012"),  # a count is whole
    ],
)
def test_a_number_has_no_more_digits_than_people_read(value: float, digits: int, text: str) -> None:
    assert written(value, digits) == text


def test_a_sign_is_shown_where_it_is_asked_for() -> None:
    assert (written(1.5, 2, sign="+"), written(1e99, 4, sign="+"), written(-1.5, 1, sign="+")) == (
        *("+1.50", "+1.0e+99", "-1.5"),
    )


@pytest.mark.parametrize(
    ("row", "bound", "nothing"),
    [
        ({"valid_loss": 6.8, "unigram_loss": 6.9}, 6.9, False),
        ({"valid_loss": 6.9, "unigram_loss": 6.9}, 6.9, True),
        ({"valid_loss": math.inf, "unigram_loss": 6.9}, 6.9, True),
        ({"valid_loss": math.nan, "unigram_loss": 6.9}, 6.9, True),
        ({"valid_loss": None, "unigram_loss": 6.9}, 6.9, False),
        ({"valid_loss": 1.1, "unigram_loss": 1.0, "objective": "classification"}, 1.0, True),
        # Of an older version: above the uniform model.
        ({"valid_loss": 10.0}, math.log(17_000), True),
        ({"valid_loss": 9.0}, math.log(17_000), False),
        ({"valid_loss": 10.0, "objective": "next_token"}, math.log(17_000), True),
        ({"valid_loss": 10.0, "objective": "tagging"}, None, False),
        ({"valid_loss": 10.0, "vocab_size": None}, None, False),
        ({"valid_loss": 10.0, "vocab_size": 0}, None, False),
    ],
)
def test_a_run_that_is_not_better_than_the_unigram_model_learned_nothing(
    small_corpus: CorpusFiles, row: dict[str, Any], bound: float | None, nothing: bool
) -> None:
    record = make_done(make_job(small_corpus)).with_columns(row)
    assert loss_to_beat(record.row) == bound
    assert learned_nothing(record.row) == nothing
    assert outcome(record) == ("worse than unigram" if nothing else "ok")
    assert outcome(record.with_columns({"status": "diverged"})) == "diverged"


def test_the_best_are_first_by_validation_then_by_speed(small_corpus: CorpusFiles) -> None:
    def record(name: str, status: str = "ok", valid: float | None = None, speed: float | None = None) -> RunRecord:
        made = make_done(make_job(small_corpus, run_id=name), status=status)
        return made.with_columns({"valid_loss": valid, "test_loss": 1.0, "tokens_per_second": speed})

    records = [
        record("failed", "failed", 1.0, 9.0),
        record("slow", valid=None, speed=1.0),
        record("second", valid=9.0),
        record("learned nothing", valid=9.8),
        record("diverged", "diverged", 2.0),
        record("fast", valid=None, speed=5.0),
        record("first", valid=8.0),
    ]
    ranked = [
        item.run_id for item in sorted(records, key=lambda r: rank({outcome(r)}, r.valid_loss, r.tokens_per_second))
    ]
    assert ranked == ["first", "second", "fast", "slow", "diverged", "learned nothing", "failed"]
    # Of several seeds: one that went wrong puts a point behind the good ones, and before those without a good one.
    outcomes = [{"ok"}, {"ok", "failed"}, {"diverged", "failed"}, {"failed", "oom"}]
    assert [rank(of, 1.0, 1.0)[0] for of in outcomes] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "other",
    [{"objective": "next_token"}, {"level": "character"}, {"lower": True}, {"min_freq": 2}, {"max_eval_tokens": 9}],
)
def test_losses_of_different_things_do_not_compare(small_corpus: CorpusFiles, other: dict[str, object]) -> None:
    record, same = (make_done(make_job(small_corpus, **settings)) for settings in ({}, {"cell": "gru", "bptt": 9}))
    assert scored_on(record) == scored_on(same)
    assert scored_on(record) != scored_on(make_done(make_job(small_corpus, **other)))
    assert set(SCORED_ON) - {"dataset_sha1"} < set(RunConfig.model_fields)
