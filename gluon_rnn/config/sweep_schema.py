"""The JSON schema of sweep files, by which an editor completes and checks them: ``benchmarks/sweep.schema.json``.

``make pages`` writes the file. ``python -m gluon_rnn.config.sweep_schema`` prints it.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from gluon_rnn.config import ranges
from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, MODELS, RunConfig, number_type
from gluon_rnn.config.search_space import KEYS as SEARCH_KEYS
from gluon_rnn.config.search_space import MOST_TRIALS, Pruner, Sampler, SearchSettings
from gluon_rnn.config.settings import BOUNDS
from gluon_rnn.config.sweep_file import KEYS, SWEEP_NAME

#: What a setting takes beside the type of its field, or what an editor can offer.
_MORE: dict[str, list[dict[str, Any]]] = {
    "averaging": [{"enum": ["none", "ntasgd"]}, {"type": "integer", "minimum": 1}],
    "cell": [{"enum": [*FUSED_CELLS, *CUSTOM_CELLS]}],
    "model": [{"enum": [*MODELS]}],
}
_RANGE = {
    "type": "string",
    "pattern": r"^\s*([-+]?\d+\s*\.\.\s*[-+]?\d+|(linear|log)\(.*\))\s*$",
    "title": ranges.FORMS,
}

_DRAWN = {
    "type": "string",
    "pattern": r"^\s*(uniform|log)\([^()]*\)\s*$",
    "title": "uniform(LOW, HIGH) or log(LOW, HIGH)",
}


def sweep_schema() -> dict[str, Any]:
    """The schema, in draft 7, which editors know best."""
    settings = {name: _reference(name) for name in RunConfig.model_fields}
    keys = {
        "name": {
            "type": "string",
            "pattern": f"^{SWEEP_NAME}$",
            "description": "folder of the results; default: the file's name",
        },
        "set": {"$ref": "#/definitions/(set)", "description": "settings of every point"},
        "axes": {"$ref": "#/definitions/(axes)", "description": "values by setting; the points are their product"},
        "points": {
            "type": "array",
            "items": {"$ref": "#/definitions/(set)"},
            "description": "points that are written out; axes multiply them",
        },
        "overrides": {"type": ["array", "null"], "items": _override(), "description": "for some of the points only"},
        "search": {**_search(), "description": "proposes points by the results of others, in place of axes"},
        "notes": {"type": ["string", "null"], "description": "what readers of the results should know"},
        "speeds_count": {"type": "boolean", "description": "whether the speeds of the runs may be compared"},
    }
    assert tuple(keys) == KEYS
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A sweep file of gluon_rnn",
        **_mapping(keys),
        "definitions": {
            "(set)": _mapping(settings),
            "(axes)": _mapping({name: _axis(name) for name in RunConfig.model_fields}),
            "(space)": _mapping({name: _dimension(name) for name in RunConfig.model_fields}),
            **{name: _value(name, schema) for name, schema in RunConfig.model_json_schema()["properties"].items()},
        },
    }


def as_text() -> str:
    """The schema as a file."""
    return json.dumps(sweep_schema(), indent=1) + "\n"


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def _override() -> dict[str, Any]:
    parts = {"when": "(set)", "set": "(set)", "axes": "(axes)"}
    override = _mapping({name: _reference(definition) for name, definition in parts.items()})
    return {**override, "required": ["when"], "anyOf": [{"required": ["set"]}, {"required": ["axes"]}]}


def _search() -> dict[str, Any]:
    space = _reference("(space)")
    condition = {**_mapping({"when": _reference("(set)"), "space": space}), "required": ["when", "space"]}
    parts = {
        "space": space,
        "conditions": {"type": ["array", "null"], "items": condition},
        "trials": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_TRIALS},
        "sampler": {"enum": [*get_args(Sampler)], "default": SearchSettings.sampler},
        "pruner": {"enum": [*get_args(Pruner)], "default": SearchSettings.pruner},
        "seed": _reference("seed"),
    }
    assert tuple(parts) == SEARCH_KEYS
    return _mapping(parts)


def _dimension(name: str) -> dict[str, Any]:
    """A list of values; of numbers also a range that values are drawn from."""
    choices = {"type": "array", "minItems": 1, "items": _reference(name)}
    return choices if number_type(name) is None else {"anyOf": [choices, _DRAWN]}


def _axis(name: str) -> dict[str, Any]:
    """A list of values; of numbers also a range, or a list with ranges in it."""
    if number_type(name) is None:
        return {"type": "array", "minItems": 1, "items": _reference(name)}
    return {"anyOf": [{"type": "array", "minItems": 1, "items": {"anyOf": [_reference(name), _RANGE]}}, _RANGE]}


def _value(name: str, field: dict[str, Any]) -> dict[str, Any]:
    """A setting's value, of the schema of its field."""
    about = {"description": " ".join(field["description"].split()), "default": field["default"]}
    kinds = field.get("anyOf") or [
        {BOUNDS.get(key, key): value for key, value in field.items() if key not in ("title", "description", "default")}
    ]
    if {"type": "null"} in kinds:
        kinds = [*kinds, {"const": "none"}]
    if number_type(name) and isinstance(field["default"], str):
        kinds = [*kinds, {"const": field["default"]}]
    kinds = [*_MORE.get(name, ()), *kinds]
    return {**about, **kinds[0]} if len(kinds) == 1 else {**about, "anyOf": kinds}


if __name__ == "__main__":
    print(as_text(), end="")
