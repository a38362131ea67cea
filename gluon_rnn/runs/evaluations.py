"""Evaluations of finished runs: ``evaluations.csv``, beside the ``runs.csv`` of their sweep.

Rows are only ever added. Sweeps, ``prune`` and reports leave the file alone, so that the rows of a run stay when the
run is removed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from gluon_rnn.common.errors import UserError, did_you_mean, reason
from gluon_rnn.common.files import append, locked_file, read_whole
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import MOST
from gluon_rnn.runs.epochs import csv_text
from gluon_rnn.runs.job import Origin

EVALUATIONS = "evaluations.csv"

Split = Literal["valid", "test"]
Method = Literal["plain", "cache", "dynamic"]
#: Each of them, in words.
METHODS: dict[Method, str] = {
    "plain": "of the model alone",
    "cache": "with a neural cache",
    "dynamic": "by dynamic evaluation",
}


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class CacheSettings(_Settings):
    """A neural cache: see `gluon_rnn.trained.cache`. The defaults are GluonNLP's, tuned for an AWD-LSTM."""

    window: Annotated[int, Field(ge=1, le=MOST)] = 2000
    """tokens that a neural cache remembers"""
    theta: Annotated[float, Field(gt=0)] = 0.662
    """factor of the scores of a neural cache: the larger, the more it prefers the most similar contexts"""
    lambda_: Annotated[float, Field(alias="lambda", ge=0, le=1)] = 0.1279
    """share of a neural cache in the probabilities"""


class DynamicSettings(_Settings):
    """Dynamic evaluation: see `gluon_rnn.trained.dynamic_evaluation`.

    The defaults are Krause's, but for the eta of the sgd rule. Those of eta and lambda grow in proportion to bptt.
    """

    rule: Literal["rms", "sgd"] = "rms"
    """update rule of dynamic evaluation: rms, scaled by the gradients' root mean square in training, or sgd"""
    bptt: Annotated[int, Field(ge=1, le=MOST)] = 5
    """tokens between two updates of dynamic evaluation"""
    eta: Annotated[float, Field(ge=0)] = 5e-5
    """learning rate of dynamic evaluation"""
    lambda_: Annotated[float, Field(alias="lambda", ge=0, le=1)] = 2e-3
    """how far each update of dynamic evaluation pulls the parameters back to the trained ones"""
    epsilon: Annotated[float, Field(gt=0)] = 2e-5
    """added to the root mean square of the rms rule"""
    batches: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """batches of training that the rms rule's statistics come from; empty: all"""

    @model_validator(mode="after")
    def _scale_defaults(self) -> DynamicSettings:
        if self.rule == "sgd" and (idle := self.model_fields_set & {"epsilon", "batches"}):
            raise ValueError(f"rule=sgd has no {min(idle)}; leave it out")
        # Not assigned: the fields that were given stay known as those. From the defaults, not from what is there:
        # pydantic asks again when the settings become part of an `Evaluation`.
        if "eta" not in self.model_fields_set:
            self.__dict__["eta"] = _ETAS[self.rule] * self.bptt / _DEFAULT_BPTT
        if "lambda_" not in self.model_fields_set:
            self.__dict__["lambda_"] = min(_LAMBDA * self.bptt / _DEFAULT_BPTT, 1.0)
        return self


_DEFAULT_BPTT = DynamicSettings.model_fields["bptt"].default
_LAMBDA = DynamicSettings.model_fields["lambda_"].default
#: The default eta of each rule at the default bptt.
_ETAS = {"rms": DynamicSettings.model_fields["eta"].default, "sgd": 0.1}

_Kind = TypeVar("_Kind", CacheSettings, DynamicSettings)


def read_settings(kind: type[_Kind], given: Mapping[str, Any], *, of: str) -> _Kind:
    """The settings of `kind` that are `given` by the names of the command line, as numbers or text.

    Args:
        of: what they are of, for the message.

    Raises:
        UserError: there is no such setting, or one is out of range.
    """
    names = [info.alias or name for name, info in kind.model_fields.items()]
    if unknown := [name for name in given if name not in names]:
        hint = did_you_mean(unknown[0], names) or f"; choose from {', '.join(names)}"
        raise UserError(f"{of} has no setting {quoted(unknown[0])}{hint}")
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        where = "".join(f"{name}={quoted(first['input'])}: " for name in first["loc"])
        raise UserError(f"{of}: {where}{message[0].lower()}{message[1:]}") from None


class Evaluation(BaseModel):
    """The result of a finished run's parameters on a split: a row of ``evaluations.csv``."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    run_id: str
    """the run, as in runs.csv"""
    split: Split
    """what was scored: valid or test"""
    method: Method
    """plain, cache (a neural cache) or dynamic (dynamic evaluation); compare perplexities within one method only"""
    searched: bool
    """whether settings of the method were chosen by the perplexity of validation, with --search"""
    batch_size: int
    """columns that the split was cut into, each scored from the zero state"""
    tokens_scored: int
    """targets, each scored once"""
    loss: float
    """nats a target by this method"""
    perplexity: float
    """exp(loss)"""
    accuracy: float | None
    """share of the targets that the model thought most likely; empty where a run's record has none"""
    plain_perplexity: float | None
    """perplexity of the same pass without the cache; empty unless the method is cache"""
    cache: CacheSettings | None
    dynamic: DynamicSettings | None
    seconds: float
    """seconds of scoring this split; the first row of a method includes its search and its statistics of training"""
    peak_rss_mb: float
    """largest resident memory of the process so far, in 2**20 bytes"""
    parameters_sha1: str
    """SHA-1 of best.params as it was scored"""
    dataset_sha1: str
    """SHA-1 of the corpus's three splits"""
    threads: int | None
    """CPU threads; empty where the calling process did not say"""
    blas: str
    """library that multiplied matrices, and its kernel"""
    evaluated_at: str
    """when it was scored, UTC, ISO 8601"""
    origin: Origin

    @property
    def row(self) -> dict[str, Any]:
        """The cells of its row in ``evaluations.csv``, by column."""
        row: dict[str, Any] = {}
        for name in type(self).model_fields:
            value, prefix = getattr(self, name), _PREFIXES.get(name)
            if prefix is None:
                row[name] = value
            elif value is not None:
                row |= {f"{prefix}{key}": setting for key, setting in value.model_dump(by_alias=True).items()}
        return {name: row.get(name) for name in EVALUATION_FIELDS}


#: The parts of an evaluation that have several columns, and what those begin with.
_PREFIXES = {"cache": "cache_", "dynamic": "dynamic_", "origin": ""}


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    parts: dict[str, type[BaseModel]] = {"cache": CacheSettings, "dynamic": DynamicSettings, "origin": Origin}
    for name, info in Evaluation.model_fields.items():
        if name in parts:
            for field, part in parts[name].model_fields.items():
                yield f"{_PREFIXES[name]}{part.alias or field}", part
        else:
            yield name, info


#: The columns of ``evaluations.csv``, in order.
EVALUATION_FIELDS = dict(_fields())


def describe_evaluation(column: str) -> str:
    """The meaning of a column of ``evaluations.csv``, with its unit."""
    description = EVALUATION_FIELDS[column].description
    assert description, column
    return " ".join(description.split())


def settings_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the method of a row, without its name: ``{"window": 2000, "theta": 0.662, "lambda": 0.1279}``."""
    parts: dict[str, type[BaseModel]] = {"cache": CacheSettings, "dynamic": DynamicSettings}
    part = parts.get(row["method"])
    names = [info.alias or name for name, info in part.model_fields.items()] if part else []
    return {name: value for name in names if (value := row[f"{row['method']}_{name}"]) is not None}


def check_evaluations(directory: Path) -> None:
    """Check, before anything is scored, that rows can be added to the ``evaluations.csv`` in `directory`.

    Raises:
        UserError: the file or the folder cannot be written, or the file has other columns.
    """
    path = directory / EVALUATIONS
    if not os.access(path if path.exists() else directory, os.W_OK):
        raise UserError(f"cannot write {path}; give yourself the right to, or copy the sweep's folder")
    try:
        head = next(csv.reader(io.StringIO(read_whole(path).decode(errors="replace"))), [])
    except FileNotFoundError:
        return
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {reason(error) if isinstance(error, OSError) else error}") from None
    if head != [*EVALUATION_FIELDS]:
        raise UserError(f"{path} has other columns than this version writes; rename it, and evaluate again")


def append_evaluations(directory: Path, evaluations: Iterable[Evaluation]) -> None:
    """Append a row for each of `evaluations` to the ``evaluations.csv`` in a sweep's `directory`: all rows or none.

    Existing rows are not rewritten, so a sweep and other evaluations may run meanwhile.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file is then as it was.
    """
    path = directory / EVALUATIONS
    with locked_file(directory / f".{EVALUATIONS}.lock"):
        size = path.stat().st_size if path.exists() else 0
        rows = [evaluation.row.values() for evaluation in evaluations]
        text = csv_text([*([] if size else [EVALUATION_FIELDS]), *rows])
        try:
            append(path, text.encode())
        except OSError:
            with suppress(OSError):  # why the rows are not there says more
                os.truncate(path, size)
            raise
