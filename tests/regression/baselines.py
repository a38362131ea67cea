"""Figures of small runs as they were: how they are measured, compared and renewed.

``make baseline`` runs this module.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mxnet as mx

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.data.corpora import CorpusFiles, find_corpus, synthetic
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.folder import FILES
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.data.vectors import find_vectors
from gluon_rnn.data.vectors.loading import load_vectors
from gluon_rnn.runs.job import Job, Origin, Status
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import RunRecord, make_record
from gluon_rnn.runs.tables import load_results, table_rows, write_tables
from gluon_rnn.training.loop import Diverged, fit
from tests.conftest import REAL_DATA, has_real_data

FOLDER = Path(__file__).parent
#: How far a figure of each sweep may move, relatively; README.md says what these were taken from.
TOLERANCE = {
    "synthetic": 1e-4,
    "wikitext-2": 2e-3,
    "embeddings": 1e-4,
    "hihello": 1e-4,
    "labels": 1e-4,
    "characters": 1e-4,
}
#: Of these, the sweeps that need nothing but a clone.
BUILT_IN = tuple(name for name in TOLERANCE if name != "wikitext-2")
#: The columns of a row that depend on arithmetic.
MEASURED = (
    "train_perplexity",
    "valid_loss",
    "valid_perplexity",
    "test_loss",
    "test_perplexity",
    "valid_accuracy",
    "test_accuracy",
)
#: The columns of a row that must not move; a loss moves with its perplexity.
COMPARED = (
    "train_perplexity",
    "valid_perplexity",
    "test_perplexity",
    "valid_accuracy",
    "test_accuracy",
    "best_epoch",
    "epochs_run",
    "words_without_vector",
)
#: Corpora made of the built-in one: with capitals where a line begins, and its train as one text without splits.
CAPITALS, ONE_TEXT = "capitals", "one_text"
#: The tables are made to be compared, so that nothing in them tells of a machine.
ANYWHERE = Origin(
    device_name="any",
    machine_id="any",
    mxnet_version=None,
    gluonnlp_version=None,
    numpy_version=None,
    git_commit=None,
    git_dirty=None,
    host="any",
)
#: The settings that decide how a corpus is read.
_READING = ("dataset", "objective", "level", "lower", "min_freq", "last_batch", "max_train_tokens", "max_eval_tokens")
#: How labels say what would not speak for itself.
_WORDS = {
    "tie_weights": {True: "tied", False: "untied"},
    "train_embedding": {True: "trained", False: "frozen"},
    "bptt": {1: "by character", 6: "at once"},
    "stride": {1: "eight", 3: "three"},
}


@cache
def _sweep(name: str) -> Sweep:
    return load_sweep(FOLDER / f"{name}.yaml")


def label(name: str, run: RunConfig) -> str:
    """What tells `run` from the others of this folder's sweep `name`, such as ``lstm tied``."""
    values = {axis: getattr(run, axis) for axis in _sweep(name).axes}
    return " ".join(_WORDS.get(axis, {}).get(value, str(value)) for axis, value in values.items())


def points(name: str) -> dict[str, RunConfig]:
    """The runs of that sweep by their labels."""
    return {label(name, config): config for config in _sweep(name).points()}


def table(name: str) -> Path:
    """What is kept of them, as a ``runs.csv``."""
    return FOLDER / f"{name}.csv"


def kept_rows(name: str) -> dict[str, dict[str, Any]]:
    """The rows of that table, by run id."""
    return _rows(table(name))


@cache
def _rows(path: Path) -> dict[str, dict[str, Any]]:
    return {row["run_id"]: row for row in table_rows(load_results(path))}


def make_job(config: RunConfig) -> tuple[Job, Corpus]:
    """A run of this folder as a sweep would start it, and what it reads."""
    files, corpus = _corpus(**{name: getattr(config, name) for name in _READING})
    vectors = find_vectors(config.embedding, data_dir=FOLDER)
    content = {"corpus": files.sha1}
    if config.embedding != "random":
        content["embedding"] = vectors.sha1 if vectors else config.embedding
    name = run_id(config, content=content)
    return Job(run_id=name, config=config, corpus=files, vectors=vectors, threads=1, origin=ANYWHERE), corpus


def measure(config: RunConfig) -> RunRecord:
    """Train in this process; of the row, only the last digits of what is `MEASURED` depend on where and when."""
    job, corpus = make_job(config)
    progress, vectors = Progress(), None
    if job.vectors:
        vectors, progress.words_without_vector = load_vectors(job.vectors, corpus.vocab, seed=config.seed)
    status: Status = "ok"
    try:
        fit(config, corpus, contexts=[mx.cpu()], progress=progress, vectors=vectors)
    except Diverged:
        status = "diverged"
    timeless = replace(progress, laps=[], train_seconds=0.0, evaluation_seconds=0.0)
    record = make_record(job, timeless, status=status, started_at="any", wall_seconds=0.0)
    found = record.model_dump(include=set(MEASURED), exclude_none=True)
    rounded = {name: float(f"{value:.8g}") for name, value in found.items()}
    return record.with_columns({**rounded, "threads": None})


@cache
def _corpus(*, dataset: str, objective: str, level: str, last_batch: str, **reading: Any) -> tuple[CorpusFiles, Corpus]:
    kind = {"objective": objective, "level": level}

    def load(files: CorpusFiles) -> Corpus:
        return load_corpus(files, **kind, padding=last_batch == "keep", **reading)

    if dataset == CAPITALS:
        with TemporaryDirectory() as scratch:
            folder = Path(scratch, CAPITALS)
            folder.mkdir()
            for split, content in synthetic.generate().items():
                lines = content.decode().splitlines(keepends=True)
                (folder / FILES[split]).write_text("".join(line.capitalize() for line in lines), encoding="utf-8")
            files = find_corpus(str(folder), **kind)
            return files, load(files)
    if dataset == ONE_TEXT:
        files = find_corpus(synthetic.NAME, **kind)
        return replace(files, dataset=ONE_TEXT), replace(load(files), valid=None, test=None)
    files = find_corpus(dataset, **kind, data_dir=REAL_DATA if dataset == "wikitext-2" else None)
    return files, load(files)


def compare(name: str, record: RunRecord, *, tolerances: float = 1) -> None:
    """Raise an `AssertionError` if figures of `record`, a run of sweep `name`, are off by more `tolerances` than that
    from those kept, or are there and were not.

    Unlike `gluon_rnn.assert_no_regression`, which judges validation, it looks at all three splits.
    """
    kept, limit = kept_rows(name).get(record.run_id, {}), tolerances * TOLERANCE[name]
    moved = []
    for column in COMPARED:
        old, new = _number(kept.get(column)), _number(getattr(record, column))
        change = new / old - 1
        if not abs(change) <= limit and not (math.isnan(old) and math.isnan(new)):
            moved.append(
                f"{label(name, record.config)} ({record.run_id}): {column} {old:.6g} -> {new:.6g} ({change:+.3%})"
            )
    assert not moved, "\n".join(
        [
            f"moved by more than {limit:.3%}",
            *moved,
            f"If this is meant: `make baseline` renews {name}.csv, and its diff shows what moved.",
        ]
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def settle(name: str, record: RunRecord) -> RunRecord:
    """`record`, with the figures that are kept of its run where they agree within the tolerance.

    So a table that is renewed on another machine does not change by that machine's rounding.
    """
    try:
        compare(name, record)
    except (AssertionError, UserError):
        return record
    kept = kept_rows(name)[record.run_id]
    return record.with_columns({column: kept[column] for column in MEASURED})


def renew(name: str) -> None:
    """Make the runs of sweep `name` and write its table."""
    records = [settle(name, measure(config)) for config in points(name).values()]
    with TemporaryDirectory() as folder:
        write_tables(Path(folder), records)
        shutil.copy(Path(folder) / "runs.csv", table(name))


if __name__ == "__main__":
    for name in BUILT_IN:
        renew(name)
    if has_real_data():
        renew("wikitext-2")
    else:
        print(
            f"no WikiText-2 in {REAL_DATA}/wikitext-2: wikitext-2.csv stays as it is; GLUON_RNN_DATA names its folder"
        )
