"""The check of a user's own cell: what is wrong with it, in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gluon_rnn.networks.own_cells import check

SOURCE = """
from mxnet.gluon import rnn

from gluon_rnn.cells import CustomCell
from gluon_rnn.networks.layers import GRUCell


class Good(GRUCell):
    pass


class NoCell:
    pass


class Raising(GRUCell):
    def __init__(self, hidden_size, input_size, **kwargs):
        raise KeyError("units")


class Short(rnn.LSTMCell):
    def hybrid_forward(self, F, *arguments, **parameters):
        output, states = super().hybrid_forward(F, *arguments, **parameters)
        return F.slice_axis(output, axis=1, begin=0, end=2), states


class Unlike(rnn.LSTMCell):
    def hybrid_forward(self, F, *arguments, **parameters):
        return F.dot(*arguments[:2]), []
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "cells_of_a_user"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop(name, None)
    return name


def test_what_works_is_let_pass(module: str) -> None:
    assert check(f"{module}:Good", hidden_size=4, input_size=3) is None
    assert check(f"{module}:Good", hidden_size=4, input_size=4, weight_drop=0.5) is None
    assert check("mxnet.gluon.rnn:LSTMCell", hidden_size=4, input_size=3) is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Goood", "has no class Goood; did you mean 'Good'?"),
        ("NoCell", "is neither a gluon_rnn.networks.layers.CustomCell nor"),
        ("Raising", "Raising(4, input_size=3) fails in 3 steps: KeyError: 'units' (line 18 of cells_of_a_user.py)"),
        ("Short", "its outputs have the shape (3, 2, 2), not (3, 2, 4)"),
        ("Unlike", "Unlike(4, input_size=3) fails in 3 steps: "),
    ],
)
def test_what_does_not_is_one_line(module: str, name: str, line: str) -> None:
    said = check(f"{module}:{name}", hidden_size=4, input_size=3)
    assert said is not None
    assert line in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "import nowhere_at_all\n",
            "cannot import {}: ModuleNotFoundError: No module named 'nowhere_at_all' (line 1 of",
        ),
        ("\ndef x(:\n", "cannot import {}: SyntaxError: invalid syntax ({}.py, line 2)"),
        ("raise RuntimeError('one\\ntwo')\n", "cannot import {}: RuntimeError: two (line 1 of"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, line: str
) -> None:
    name = f"broken_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    said = check(f"{name}:Cell", hidden_size=4, input_size=3)
    assert said is not None
    assert said.startswith(line.replace("{}", name))
    assert "\n" not in said
