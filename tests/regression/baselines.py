"""Perplexities of small runs as they were: how they are measured, compared and renewed.

``make baseline`` is ``python -m tests.regression.baselines``.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import mxnet as mx

from gluon_rnn.config import RunConfig, load_sweep, run_id
from gluon_rnn.corpora import CorpusFiles, find_corpus
from gluon_rnn.corpora.encoded import Corpus
from gluon_rnn.corpora.loading import load_corpus
from gluon_rnn.errors import UserError
from gluon_rnn.metrics import Progress
from gluon_rnn.records import Job, Origin, RunRecord, Status, load_results, make_record, write_tables
from gluon_rnn.training import Diverged, fit
from tests.conftest import REAL_DATA, has_real_data

FOLDER = Path(__file__).parent
#: How far a perplexity of each sweep may move, relatively; README.md says what these were taken from.
TOLERANCE = {"synthetic": 1e-4, "wikitext-2": 2e-3}
MEASURED = ("train_perplexity", "valid_loss", "valid_perplexity", "test_loss", "test_perplexity")
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


def points(name: str) -> list[RunConfig]:
    """The runs of this folder's sweep `name`."""
    return load_sweep(FOLDER / f"{name}.yaml").points()


def table(name: str) -> Path:
    """What is kept of them, as a ``runs.csv``."""
    return FOLDER / f"{name}.csv"


def measure(config: RunConfig) -> RunRecord:
    """Train in this process; of the row, only the perplexities' last digits depend on where and when."""
    files, corpus = _corpus(config.dataset, config.max_train_tokens, config.max_eval_tokens)
    progress = Progress()
    status: Status = "ok"
    try:
        fit(config, corpus, contexts=[mx.cpu()], progress=progress)
    except Diverged:
        status = "diverged"
    name = run_id(config, content={"corpus": files.sha1})
    job = Job(run_id=name, config=config, corpus=files, threads=1, origin=ANYWHERE)
    timeless = replace(progress, laps=[], train_seconds=0.0, evaluation_seconds=0.0)
    record = make_record(job, timeless, status=status, started_at="any", wall_seconds=0.0)
    found = record.model_dump(include=set(MEASURED), exclude_none=True)
    rounded = {name: float(f"{value:.8g}") for name, value in found.items()}
    return record.model_copy(update={**rounded, "threads": None})


@cache
def _corpus(dataset: str, max_train_tokens: int, max_eval_tokens: int) -> tuple[CorpusFiles, Corpus]:
    files = find_corpus(dataset, data_dir=REAL_DATA if dataset == "wikitext-2" else None)
    return files, load_corpus(files, max_train_tokens=max_train_tokens, max_eval_tokens=max_eval_tokens)


def compare(record: RunRecord, *, tolerances: float = 1) -> None:
    """Raise an `AssertionError` if perplexities of `record` are off by more `tolerances` than that from those kept.

    Unlike `gluon_rnn.assert_no_regression`, which judges validation, it looks at all three splits.
    """
    kept, limit = load_results(table(record.dataset)).set_index("run_id"), tolerances * TOLERANCE[record.dataset]
    tied = "tied" if record.tie_weights else "untied"
    moved = []
    for name in ("train_perplexity", "valid_perplexity", "test_perplexity"):
        old, new = kept[name].get(record.run_id, math.nan), getattr(record, name)
        new = math.nan if new is None else new
        change = new / old - 1
        if not abs(change) <= limit:
            moved.append(f"{record.cell} {tied} ({record.run_id}): {name} {old:.6g} -> {new:.6g} ({change:+.3%})")
    assert not moved, "\n".join(
        [
            f"perplexity moved by more than {limit:.3%}",
            *moved,
            f"If this is meant: `make baseline` renews {record.dataset}.csv, and its diff shows what moved.",
        ]
    )


def settle(record: RunRecord) -> RunRecord:
    """`record`, with the perplexities that are kept of its run where they agree within the tolerance.

    So a table that is renewed on another machine does not change by that machine's rounding.
    """
    try:
        compare(record)
    except (AssertionError, UserError):
        return record
    kept = load_results(table(record.dataset)).set_index("run_id").loc[record.run_id, list(MEASURED)]
    return record.model_copy(update=kept.to_dict())


def renew(name: str) -> None:
    """Make the runs of sweep `name` and write its table."""
    records = [settle(measure(config)) for config in points(name)]
    with TemporaryDirectory() as folder:
        write_tables(Path(folder), records)
        shutil.copy(Path(folder) / "runs.csv", table(name))


if __name__ == "__main__":
    renew("synthetic")
    if has_real_data():
        renew("wikitext-2")
    else:
        print(
            f"no WikiText-2 in {REAL_DATA}/wikitext-2: wikitext-2.csv stays as it is; GLUON_RNN_DATA names its folder"
        )
