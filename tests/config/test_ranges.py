"""Ranges of numbers: what they stand for, and what is only nearly one."""

from __future__ import annotations

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.ranges import expand

MOST = 1000


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "0..4", [0, 1, 2, 3, 4]),
        ("seed", " 3 .. 3 ", [3]),
        ("learning_rate", "1..3", [1, 2, 3]),
        ("learning_rate", "log(5, 80, 5)", [5, 10, 20, 40, 80]),
        # 40 ** (1/4), 40 ** (2/4) and 40 ** (3/4) by hand, to four digits.
        ("learning_rate", "log(1,40,5)", [1, 2.515, 6.325, 15.91, 40]),
        ("learning_rate", "log(0.1, 0.001, 3)", [0.1, 0.01, 0.001]),
        ("weight_decay", "log(1e-300, 1e300, 3)", [1e-300, 1, 1e300]),
        ("dropout", "linear(0, 0.5, 6)", [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ("dropout", "linear(0.12345678, 0.5, 2)", [0.12345678, 0.5]),
        ("hidden_size", "log(50, 800, 4)", [50, 126, 317, 800]),
        ("clip", "linear(-1, 1, 3)", [-1, 0, 1]),  # for the setting to refuse
    ],
)
def test_a_range_stands_for_numbers(name: str, text: str, values: list[float]) -> None:
    assert expand(name, text, most=MOST) == values


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("seed", 3),
        ("seed", "3"),
        ("learning_rate", "auto"),
        ("learning_rate", "1e-3"),
        ("clip", "none"),
        # Text has no ranges: these may be folders.
        ("dataset", "0..4"),
        ("dataset", "log(1, 40, 5)"),
        ("embedding", "../vectors.txt"),
    ],
)
def test_anything_else_is_itself(name: str, item: object) -> None:
    assert expand(name, item, most=MOST) == [item]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seed", "4..0", "'4..0' is empty; write '0..4'"),
        ("seed", "0..1000", "'0..1000' has more than 1,000 values; shorten it"),
        ("seed", "0..", "'0..' is not a range of whole numbers such as 0..4"),
        ("dropout", "0..0.5", "'0..0.5' is not a range of whole numbers such as 0..4; for others use linear("),
        ("seed", "0.." + "9" * 5000, "is not a range of whole numbers"),
        ("learning_rate", "log(1", "'log(1' has no closing parenthesis; put a range in quotes inside [ ] or { }"),
        ("learning_rate", "lg(1, 40, 5)", "unknown range 'lg(1, 40, 5)'; did you mean 'log'?; write FIRST..LAST"),
        ("learning_rate", "log(1, 40)", "'log(1, 40)' is not log(FIRST, LAST, COUNT), such as log(1, 40, 5)"),
        ("learning_rate", "log(1, 40, 5, 6)", "is not log(FIRST, LAST, COUNT)"),
        ("learning_rate", "log(1, inf, 5)", "is not log(FIRST, LAST, COUNT)"),
        ("learning_rate", "log(1, 40, 2.5)", "is not log(FIRST, LAST, COUNT)"),
        ("learning_rate", "log(0, 40, 5)", "'log(0, 40, 5)' needs numbers above 0; use linear("),
        ("learning_rate", "log(1, 40, 1)", "'log(1, 40, 1)' needs a COUNT from 2 to 1,000"),
        ("learning_rate", "log(1, 40, 1001)", "needs a COUNT from 2 to 1,000"),
        ("hidden_size", "log(1, 4, 9)", "'log(1, 4, 9)' has only 4 different values; lower COUNT or widen it"),
        ("learning_rate", "log(1, 1.0001, 5)", "has only 2 different values"),
    ],
)
def test_what_is_nearly_a_range_is_one_line(name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        expand(name, text, most=MOST)
    said = str(refused.value)
    assert said.startswith(f"axis {name}: ")
    assert message in said
    assert "\n" not in said
    assert len(said) < 250
