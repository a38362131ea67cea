"""Which settings change nothing, and what is said of a sweep that has some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import configure
from gluon_rnn.config.sweep_file import Override, Sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.sweeps.idle import idle_settings, remarks

TEXT = CorpusFiles("small", None, "0" * 40, train_tokens=400, valid_tokens=100, test_tokens=90)


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({}, set()),
        ({"objective": "tagging"}, {"bptt", "eval_bptt"}),
        ({"objective": "classification"}, {"bptt", "eval_bptt"}),
        ({"objective": "next_token"}, {"eval_bptt"}),
        (
            {"max_steps": 5},
            {"epochs", "time_budget", "test_once", "lr_steps", "lr_decay", "lr_patience", "early_stopping"}
            | {"eval_bptt", "eval_batch_size", "max_eval_tokens"},
        ),
        ({"epochs": 1}, {"lr_steps", "lr_decay", "lr_patience", "early_stopping"}),
        ({"epochs": 3, "lr_steps": "4:0.1"}, {"lr_steps"}),
        ({"epochs": 4, "lr_steps": "4:0.1"}, set()),
        ({"epochs": 3, "early_stopping": 3}, {"early_stopping"}),
        ({"epochs": 3, "early_stopping": 2}, set()),
        ({"lr_decay": 1}, {"lr_patience"}),
        ({"lr_schedule": "cosine"}, {"lr_decay", "lr_patience"}),
        ({"averaging": "ntasgd", "epochs": 7}, {"averaging"}),
        ({"averaging": "ntasgd", "epochs": 8}, set()),
        ({"averaging": "3", "epochs": 2}, {"averaging"}),
        ({"averaging": "3", "epochs": 3}, set()),
        ({"averaging": "step 4", "epochs": 3, "bptt": 20}, {"averaging"}),
        ({"averaging": "step 3", "epochs": 3, "bptt": 20}, set()),
        ({"averaging": "step 4", "epochs": 3, "bptt": 20, "random_bptt": True}, set()),
        ({"optimizer": "adadelta"}, {"learning_rate", "lr_schedule", "lr_decay", "lr_patience", "lr_steps"}),
        (
            {"embedding": "one_hot", "tie_weights": False},
            {"embedding_initializer", "train_embedding", "dropout_embedding"},
        ),
        ({"num_layers": 1}, {"dropout_hidden"}),
        ({"max_train_tokens": 400, "max_eval_tokens": 100}, {"max_train_tokens", "max_eval_tokens"}),
        ({"max_train_tokens": 399, "max_eval_tokens": 99}, set()),
    ],
)
def test_a_setting_without_effect_is_known(settings: dict[str, Any], idle: set[str]) -> None:
    found = idle_settings(configure(settings), TEXT)
    assert {*found} == idle
    assert all(found.values())


def said(sweep: Sweep) -> list[str]:
    return list(remarks(sweep, [(config, TEXT) for config in sweep.points()]))


@pytest.mark.parametrize(
    ("settings", "axis", "reason"),
    [
        ({"objective": "tagging"}, {"bptt": (20, 70)}, "bptt changes nothing: objective=tagging reads whole sequences"),
        ({"epochs": 1}, {"lr_decay": (0.25, 0.5)}, "lr_decay changes nothing: epochs=1 has no later epoch"),
        ({"max_steps": 9}, {"epochs": (1, 2)}, "epochs changes nothing: max_steps=9 measures speed"),
        ({}, {"max_train_tokens": (500, 600)}, "max_train_tokens changes nothing: small has 400 tokens"),
        ({}, {"log_interval": (1, 2)}, "log_interval changes nothing: it decides no result"),
    ],
)
def test_an_axis_without_effect_is_refused(
    settings: Mapping[str, Any], axis: Mapping[str, tuple[Any, ...]], reason: str
) -> None:
    sweep = Sweep("s", settings=settings, axes={"cell": ("lstm", "gru"), **axis})
    with pytest.raises(UserError, match=f"^axis {reason}.*; drop the axis$"):
        said(sweep)
    # One value is as good as a setting.
    assert said(replace(sweep, axes={name: values[:1] for name, values in sweep.axes.items()})) == []


def test_an_axis_that_changes_some_points_is_let_pass() -> None:
    axes = {"objective": ("tagging", "next_token"), "bptt": (20, 70)}
    assert said(Sweep("s", axes=axes)) == []


def test_a_setting_of_the_command_line_that_changes_nothing_is_named() -> None:
    sweep = Sweep("s", settings={"epochs": 1}, axes={"cell": ("lstm", "gru")})
    assert said(sweep.with_arguments({"lr_patience": "2", "dropout": "0.5"}, {})) == [
        "lr_patience=2 changes nothing: epochs=1 has no later epoch"
    ]


@pytest.mark.parametrize(
    ("when", "line"),
    [
        ({"cell": "rnn:Gruu"}, "the override for cell=rnn:Gruu matches no point"),
        ({"cell": "gru", "bptt": 36}, "the override for cell=gru bptt=36 matches no point"),
        ({"cell": "custom_rnn"}, "the override for cell=custom_rnn matches no point; did you mean 'custom_gru'?"),
        ({"hidden_size": 650}, "the override for hidden_size=650 matches no point"),
    ],
)
def test_an_override_that_fits_no_point_is_named(when: dict[str, Any], line: str) -> None:
    axes = {"cell": ("lstm", "gru", "custom_gru"), "bptt": (20, 35)}
    overrides = (Override(when, {"dropout": 0.5}), Override({"cell": "gru"}, {"dropout": 0.1}))
    assert said(Sweep("s", axes=axes, overrides=overrides)) == [line]


def test_an_override_that_the_command_line_has_no_use_for_is_not() -> None:
    overrides = (Override({"cell": "gru"}, {"dropout": 0.5}), Override({"cell": "grru:Gru"}, {"dropout": 0.4}))
    sweep = Sweep("s", axes={"cell": ("lstm", "gru")}, overrides=overrides)
    narrowed = sweep.with_arguments({"cell": "lstm"}, {})
    assert said(narrowed) == ["the override for cell=grru:Gru matches no point"]
    assert narrowed.points() == [configure({"cell": "lstm"})]
