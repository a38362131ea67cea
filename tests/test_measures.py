"""By which numbers results are read: as what was measured says."""

from __future__ import annotations

import math

import pytest

from gluon_rnn.config import RunConfig
from gluon_rnn.corpora import CorpusFiles
from gluon_rnn.measures import SCORED_ON, measures_of, scored_on
from gluon_rnn.records import COLUMNS
from tests.test_records import make_done, make_job


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
    "other",
    [{"objective": "next_token"}, {"level": "character"}, {"lower": True}, {"min_freq": 2}, {"max_eval_tokens": 9}],
)
def test_losses_of_different_things_do_not_compare(small_corpus: CorpusFiles, other: dict[str, object]) -> None:
    record, same = (make_done(make_job(small_corpus, **settings)) for settings in ({}, {"cell": "gru", "bptt": 9}))
    assert scored_on(record) == scored_on(same)
    assert scored_on(record) != scored_on(make_done(make_job(small_corpus, **other)))
    assert set(SCORED_ON) - {"dataset_sha1"} < set(RunConfig.model_fields)
