"""One run on a machine of a cluster, without a cluster; most workers here are shell scripts, as in test_executors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.machine.hardware import describe_machine, library_versions
from gluon_rnn.runs.job import Job
from gluon_rnn.sweeps.executors import node
from gluon_rnn.sweeps.executors.mirror import Change
from gluon_rnn.sweeps.executors.node import Update, run_here
from tests.runs.test_records import make_job
from tests.sweeps.executors.test_local import Worker, is_alive, wait_for, worker  # noqa: F401 (a fixture)
from tests.sweeps.test_sweep import machine


def no_text() -> dict[str, bytes]:
    raise AssertionError("the corpus is here")


def no_file() -> bytes:
    raise AssertionError("the vectors are here")


def updates(job: Job, start: Change | None = None, **options: object) -> Iterator[Update]:
    options = {"corpus": no_text, "vectors": no_file, "modules": {}, **options}
    return run_here(job, start or Change(), **options)  # type: ignore[arg-type]


def log_of(told: Iterator[Update]) -> tuple[Update, str]:
    """The last update, and the whole log."""
    every = list(told)
    return every[-1], b"".join(update.change.log for update in every).decode()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run's temporary folder is made, and must have gone from in the end."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def test_a_run_is_told_from_its_start_to_its_end(
    worker: Worker,  # noqa: F811
    folders: Path,
    tmp_path: Path,
    small_corpus: CorpusFiles,
) -> None:
    worker(
        f"echo started; touch {tmp_path}/here; until [ -e {tmp_path}/go ]; do sleep 0.02; done\n"
        'cat "$3/checkpoint/state.json"; echo record > "$3/record.json"; rm -r "$3/checkpoint"; exit 0'
    )
    start = Change(files={"checkpoint/state.json": b"where it was\n"})
    told = updates(make_job(small_corpus), start)
    first = next(told)
    assert (first.change, first.ended) == (Change(), None)
    assert first.job.origin.host == describe_machine().host
    assert first.job.origin.machine_id == describe_machine().machine_id
    assert first.job.origin.mxnet_version == library_versions()["mxnet"]
    assert next(told).change == Change(log=b"started\n")
    assert list(folders.iterdir())
    (tmp_path / "go").touch()
    log = b""
    for last in told:
        log += last.change.log
        if last.ended:
            # The receiver of the last word may end the process.
            assert not list(folders.iterdir())
    assert log == b"where it was\n"
    assert last.ended
    assert (last.ended.status, last.ended.reason, last.ended.job) == (None, "", first.job)
    assert last.change.files["record.json"] == b"record\n"
    assert last.change.gone == ("checkpoint", "progress.json")


def test_a_worker_that_dies_or_takes_too_long_has_its_reason(
    worker: Worker,  # noqa: F811
    folders: Path,
    small_corpus: CorpusFiles,
) -> None:
    worker("echo said; exit 3")
    *_, last = updates(make_job(small_corpus))
    assert last.ended
    assert last.ended.reason == "the worker ended with status 3 and no record; the last line of its log: said"
    assert last.ended.job.origin.device_name == describe_machine().cpu_name
    worker("exec sleep 600")
    *_, last = updates(make_job(small_corpus), timeout=0.3)
    assert last.ended
    assert (last.ended.status, last.ended.reason) == ("timeout", "stopped after the timeout of 0.3 s")
    assert not list(folders.iterdir())


def test_closing_stops_the_worker_and_leaves_nothing(
    worker: Worker,  # noqa: F811
    folders: Path,
    tmp_path: Path,
    small_corpus: CorpusFiles,
) -> None:
    worker(f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; echo on; exec sleep 600")
    before = os.getcwd()
    told = updates(make_job(small_corpus))
    next(told)
    assert next(told).change.log == b"on\n"
    process = int((tmp_path / "pid").read_text())
    assert is_alive(process)
    told.close()  # type: ignore[attr-defined]
    assert not is_alive(process)
    assert not list(folders.iterdir())
    assert os.getcwd() == before


def test_a_worker_finds_the_users_modules_and_works_among_no_others(
    worker: Worker,  # noqa: F811
    small_corpus: CorpusFiles,
) -> None:
    worker("ls -R; cat own_cells.py")
    before = os.getcwd()
    modules = {"own_cells.py": b"class Mine\n", "package/__init__.py": b"", "package/cells.py": b""}
    _, log = log_of(updates(make_job(small_corpus), modules=modules))
    assert log.split() == [".:", "own_cells.py", "package", "./package:", "__init__.py", "cells.py", "class", "Mine"]
    assert os.getcwd() == before


def test_the_corpus_is_brought_where_it_is_not(
    worker: Worker,  # noqa: F811
    tmp_path: Path,
    small_folder: Path,
    small_corpus: CorpusFiles,
) -> None:
    worker('cat "$(sed -n \'s/.*"folder": "\\(.*\\)".*/\\1/p\' "$3/config.json")/valid.txt"')
    contents = {path.name: path.read_bytes() for path in small_folder.iterdir()}
    job = make_job(replace(small_corpus, folder=tmp_path / "nowhere"))
    _, log = log_of(updates(job, corpus=lambda: contents))
    assert log == contents["valid.txt"].decode()


def test_the_vectors_are_brought_where_they_are_not(
    worker: Worker,  # noqa: F811
    tmp_path: Path,
    small_corpus: CorpusFiles,
) -> None:
    worker('cat "$(sed -n \'s/.*"path": "\\(.*\\)".*/\\1/p\' "$3/config.json")"')
    found = FoundVectors("some.txt", tmp_path / "nowhere" / "some.txt", "0" * 40, 2)
    job = make_job(small_corpus).model_copy(update={"vectors": found})
    _, log = log_of(updates(job, vectors=lambda: {"some.txt": b"the 1 2\n"}))
    assert log == "the 1 2\n"


def test_a_gpu_run_has_the_one_that_the_cluster_left_visible(
    worker: Worker,  # noqa: F811
    small_corpus: CorpusFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker('cat "$3/hello"')
    job = make_job(small_corpus, device="gpu")
    one = machine((8, 0), (8, 6))
    monkeypatch.setattr(node, "describe_machine", lambda: replace(one, gpus=one.gpus[1:]))
    last, log = log_of(updates(job))
    assert last.job.config.device == "gpu:1"
    assert last.job.origin.device_name == "board 1"
    assert log.startswith("GPU-1|1|")
    monkeypatch.setattr(node, "describe_machine", machine)
    with pytest.raises(RuntimeError, match="gave a GPU of here, where the driver shows none"):
        next(updates(job))
