"""The settings for readers: in groups, with their values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gluon_rnn.config.run import MOST, RunConfig

#: Every setting, in the order of lists and pages.
GROUPS = {
    "Task and data": "objective dataset level lower min_freq last_batch stride max_train_tokens max_eval_tokens",
    "Network": "model cell hidden_size num_layers bidirectional tie_weights initializer",
    "Dropout": "dropout dropout_input dropout_hidden dropout_embedding weight_drop",
    "Embedding": "embedding embed_size train_embedding embedding_initializer",
    "Batches": "bptt random_bptt batch_size eval_bptt eval_batch_size",
    "Optimization": "optimizer learning_rate lr_schedule lr_decay lr_patience lr_steps averaging clip momentum "
    "min_momentum weight_decay alpha beta sampled_softmax",
    "Length of a run": "epochs time_budget early_stopping test_once max_steps warmup_steps",
    "Machine and repeats": "seed device threads precision log_interval",
}
#: Pydantic's words for the bounds of a field that a validator comes before, and JSON schema's.
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_IN_WORDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
_KINDS = {"integer": "whole numbers", "number": "numbers", "null": "none", "string": "text", "boolean": "true, false"}
_WIDTH = 100
_INDENT = 24


def described() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """The title of each group, and its settings with their JSON schemas, whose bounds are complete."""
    schema = RunConfig.model_json_schema()["properties"]
    for title, names in GROUPS.items():
        yield title, [(name, schema[name] | _bounds(name)) for name in names.split()]


def _bounds(name: str) -> dict[str, float]:
    """The bounds of a field, which its JSON schema lacks where a validator comes first."""
    found = RunConfig.model_fields[name].metadata
    return {word: getattr(item, key) for item in found for key, word in BOUNDS.items() if hasattr(item, key)}


def default_of(field: Mapping[str, Any]) -> str:
    """A default as it is written in a sweep file; ``(empty)`` for no text."""
    return "none" if field.get("default") is None else str(field["default"]).lower() or "(empty)"


def values_of(field: Mapping[str, Any], *, code: str = "") -> str:
    """The values that a setting accepts, from its JSON schema: ``whole numbers from 1 to 128``.

    Args:
        field: the schema.
        code: what to put around values, as Markdown's backtick.
    """
    if "anyOf" in field:
        return " or ".join(values_of(part, code=code) for part in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"{code}{value}{code}" for value in field["enum"])
    kind = _KINDS[field["type"]]
    if field["type"] in ("null", "boolean"):
        return ", ".join(f"{code}{value}{code}" for value in kind.split(", "))
    return " ".join([kind, *(f"{word} {field[key]:,}" for key, word in _IN_WORDS.items() if key in field)])


def settings_list() -> str:
    """Every setting with its description, default and values, for a terminal."""
    lines = []
    for title, fields in described():
        lines += [title, ""]
        for name, field in fields:
            # The bound of any count says nothing.
            values = values_of(field).replace(f" to {MOST:,}", "")
            given = f"default: {default_of(field)}" + (f"; values: {values}" if values != "text" else "")
            text = f"{field['description']} ({given})"
            lines += textwrap.wrap(
                f"  {name:<{_INDENT - 4}}  {' '.join(text.split())}",
                _WIDTH,
                subsequent_indent=" " * _INDENT,
                break_on_hyphens=False,
                break_long_words=False,
            )
        lines.append("")
    return "\n".join([*lines, "Use them as --set name=value, as --axis name=value,value, or in a sweep file."])
