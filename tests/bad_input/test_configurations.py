"""Settings of any kind: a configuration that can be named, kept and read again, or one line."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import printable, quoted
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.run import RunConfig, coerce, configure
from gluon_rnn.config.sweep_file import MOST_POINTS, Sweep
from tests.bad_input.harness import SCALARS, TEXT

FIELDS = list(RunConfig.model_fields)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
#: What stands beside a good value, which most random values are not.
NEAR = {
    "dataset": ["auto", "synthetic", "x"],
    "model": ["rnn_lm", "standard_lstm_lm_200"],
    "cell": ["lstm", "custom_gru", "package.module:Cell"],
    "device": ["cpu", "gpu:0", "auto"],
    "optimizer": ["sgd", "adam"],
    "initializer": ["xavier"],
    "precision": ["float32"],
    "tie_weights": [True, "false"],
}
GOOD = {name: st.sampled_from(NEAR.get(name, [1, "2", 0.5, None])) for name in FIELDS}
SETTINGS = st.dictionaries(st.sampled_from(FIELDS), st.none(), max_size=8).flatmap(
    lambda names: st.fixed_dictionaries({name: GOOD[name] | GOOD[name] | VALUES for name in names})
)


def one_line(error: UserError) -> str:
    (line,) = str(error).splitlines()
    assert len(line) < 2000
    return line


@given(SETTINGS)
def test_settings_are_a_configuration_or_a_line(settings: dict[str, Any]) -> None:
    try:
        config = configure(settings)
    except UserError as error:
        one_line(error)
        return
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert len(run_id(config, content={"corpus": "0" * 40})) == 12
    for name, value in config.model_dump().items():
        if isinstance(value, int | float):
            assert math.isfinite(value), name
            # What no computation of a run or of its progress overflows with.
            assert isinstance(value, float) or value < 2**31, name


@given(st.sampled_from(FIELDS) | TEXT, VALUES)
def test_a_value_has_its_fields_type_or_a_line(name: str, value: Any) -> None:
    try:
        found = coerce(name, value)
    except UserError as error:
        said = one_line(error)
    else:
        assert coerce(name, found) == found
        return
    assert quoted(name) in said or name in said


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=3))
def test_unknown_settings_are_a_line(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        configure({f"{name}?": value for name, value in settings.items()})
    assert one_line(caught.value).startswith("unknown setting")


@given(VALUES)
def test_a_quoted_value_is_short_and_shows(value: Any) -> None:
    text = quoted(value)
    assert 0 < len(text) <= 80
    assert text.isprintable()


@given(TEXT)
def test_printable_text_is_one_line_and_says_what_it_was(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    shown.encode()


def test_a_quoted_value_is_not_written_in_full_before_it_is_cut() -> None:
    bomb: Any = ["x"] * 9
    for _ in range(60):
        bomb = [bomb] * 9  # 9**60 words
    assert len(quoted(bomb)) <= 80
    loop: list[Any] = []
    loop.append(loop)
    assert quoted(loop)
    assert quoted(10**5000) == "an integer of 16,610 bits"
    assert quoted("a\x1b[31m\ud800") == r"'a\x1b[31m\ud800'"


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        ("hidden_size", 2**14),
        ("embed_size", 2**14),
        ("num_layers", 128),
        *((name, 2**31 - 1) for name in ("bptt", "batch_size", "epochs", "max_steps", "warmup_steps", "lr_patience")),
        *((name, 2**31 - 1) for name in ("early_stopping", "max_train_tokens", "max_eval_tokens", "log_interval")),
        *((name, 2**31 - 1) for name in ("eval_bptt", "eval_batch_size", "seed")),
        ("threads", 4096),
    ],
)
def test_a_number_of_anything_has_an_end(setting: str, most: int) -> None:
    base = {"tie_weights": False}
    assert getattr(configure({**base, setting: most}), setting) == most
    for value in (most + 1, 10**400, 16**5000):
        with pytest.raises(UserError) as caught:
            configure({**base, setting: value})
        assert f"{setting}=" in one_line(caught.value)


def test_points_are_counted_before_they_are_made() -> None:
    seeds = list(range(MOST_POINTS))
    assert len(Sweep("x", axes={"seed": seeds}).points()) == MOST_POINTS
    with pytest.raises(UserError, match=r"the axes make 1,000,000,000,000 points, .* up to 10,000; shorten them"):
        Sweep("x", axes={"seed": seeds, "bptt": seeds, "epochs": seeds}).points()
    # Pinned, an axis is none.
    pinned = Sweep("x", axes={"seed": seeds, "bptt": [1, 2]}).with_arguments({"bptt": "5"}, {})
    assert len(pinned.points()) == MOST_POINTS


@pytest.mark.parametrize(
    "device", ["gpu:²", "gpu:٣", "gpu:-1", "gpu: 1", "gpu:1\n", "gpu:" + "9" * 5000, "gpu:0+gpu:²", ""]
)
def test_odd_digits_name_no_device(device: str) -> None:
    with pytest.raises(UserError, match="unknown device"):
        configure({"device": device})
