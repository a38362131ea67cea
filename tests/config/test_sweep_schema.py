"""The JSON schema of sweep files, beside what `load_sweep` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.config.sweep_schema import sweep_schema

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCHEMA = sweep_schema()


def is_valid(content: Any) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMA).is_valid(content))


def test_it_is_a_schema_that_knows_and_describes_every_setting() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for name in RunConfig.model_fields:
        value = SCHEMA["definitions"][name]
        assert value["description"]
        assert value["default"] == RunConfig.model_fields[name].default
        if value["default"] is not None:
            assert is_valid({"set": {name: value["default"]}}), name


def test_the_sweeps_of_the_project_are_valid_and_name_it() -> None:
    paths = list(BENCHMARKS.rglob("*.yaml"))
    assert len(paths) > 10
    for path in paths:
        text = path.read_text()
        assert is_valid(yaml.safe_load(text)), path
        name = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / name).resolve() == BENCHMARKS / "sweep.schema.json", path


@pytest.mark.parametrize("text", [
    "name: x",
    "set: {clip: none, learning_rate: auto, cell: 'my.module:Cell', averaging: 3}",
    "set: {clip: null, threads: 2, model: awd_lstm_lm_600, averaging: ntasgd}",
    "axes: {seed: 0..4, learning_rate: ['log(1, 40, 5)', auto, 2.5], clip: [0.25, none], cell: [lstm, gru]}",
    "points: [{cell: lstm, learning_rate: 20}, {cell: gru}]",
    "overrides: [{when: {cell: gru}, axes: {learning_rate: [1, 2]}}, {when: {bptt: 35}, set: {seed: 3}}]",
    "overrides:",
    "search: {trials: 3, space: {cell: [lstm], dropout: 'uniform(0, 0.5)'}, sampler: random, pruner: median}",
    "axes: {bptt: 5..6}\nsearch: {sampler: grid, conditions: [{when: {bptt: 5}, space: {seed: [1]}}]}",
])  # fmt: skip
def test_what_is_valid_is_loaded(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    load_sweep(tmp_path / "x.yaml")
    assert is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("text", [
    "axis: {seed: [1]}",
    "name: ../x",
    "set: {bbtt: 35}",
    "set: {bptt: 0}",
    "set: {dropout: 1}",
    "set: {dropout: 0..4}",
    "set: {learning_rate: 0}",
    "set: {learning_rate: fast}",
    "set: {clip: nothing}",
    "set: {hidden_size: 100000}",
    "set: {optimizer: adamw}",
    "axes: {cell: lstm}",
    "axes: {cell: [3]}",
    "axes: {seed: []}",
    "axes: {seed: 0-4}",
    "axes: {objective: ['0..4']}",
    "points: {cell: gru}",
    "points: [{cel: gru}]",
    "overrides: [{when: {cell: gru}}]",
    "overrides: [{set: {cell: gru}}]",
    "overrides: [{when: {cell: gru}, set: {}, axis: {}}]",
    "3",
    "search: {trials: 0, space: {cell: [lstm]}}",
    "search: {trials: 2, space: {cell: [lstm]}, samplr: grid}",
    "search: {trials: 2, space: {cell: [lstm]}, sampler: halton}",
    "search: {trials: 2, space: {cell: 'uniform(0, 1)'}}",
    "search: {trials: 2, space: {dropout: 'log(0.1, 0.2'}}",
])  # fmt: skip
def test_what_is_refused_is_not_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError):
        load_sweep(tmp_path / "x.yaml")
    assert not is_valid(yaml.safe_load(text))
