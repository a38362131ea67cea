"""Plans and their collection, with a fake executor and fake machines; `train` with real workers."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import filelock
import pytest

from gluon_rnn import RunConfig, UserError, load_epochs, load_results, train
from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.config.identity import source_sha1
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.machine.blas import Measured
from gluon_rnn.machine.hardware import Gpu, Machine
from gluon_rnn.machine.libmxnet import CU112, GpuCode, Library
from gluon_rnn.runs.epochs import read_epochs, write_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import LossTotal, Progress
from gluon_rnn.runs.records import RunRecord, read_record, read_records, write_record
from gluon_rnn.runs.tables import read_points
from gluon_rnn.sweeps import checks, locking, planning
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors import Ended
from gluon_rnn.sweeps.executors.base import prune_nothing
from gluon_rnn.sweeps.origin import git_state
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from gluon_rnn.sweeps.pruning import SUPERSEDED, superseded
from gluon_rnn.sweeps.running import Display, run_sweep
from tests.common.test_files import no_more_open_files, refuse
from tests.conftest import small_config, write_folder
from tests.runs.test_records import epoch, make_done

#: What a fake worker leaves in its run's directory, and how it ends: None where it wrote a record.
Script = Callable[[Job, Path], tuple[str | None, str]]


def machine(*capabilities: tuple[int, int], cores: int = 8, machine_id: str = "m" * 12) -> Machine:
    """A machine with a GPU of each compute capability."""
    gpus = tuple(
        Gpu(index=number, uuid=f"GPU-{number}", name=f"board {number}", compute_capability=capability, memory_mb=8192)
        for number, capability in enumerate(capabilities)
    )
    return Machine(
        host="here",
        architecture="x86_64",
        cpu_name="a processor",
        cores=cores,
        memory_mb=4096,
        gpus=gpus,
        machine_id=machine_id,
        libc="glibc 2.36",
        python="3.11.0",
    )


def finish(job: Job, directory: Path) -> tuple[str | None, str]:
    """The worker of a run that goes well."""
    history = [epoch(1, 3.0, 3.5), epoch(2, 2.0, 2.5)]
    write_epochs(directory, job.run_id, history)
    write_record(directory, make_done(job, history))
    return None, ""


class FakeExecutor:
    """Runs no process: each job ends at once, as `script` says."""

    def __init__(self, script: Script = finish) -> None:
        self.script = script
        self.ran: list[str] = []
        self.closed = False

    @property
    def machine(self) -> Machine:
        return machine()

    def place(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], list[str]]:
        return tuple(slots), []

    def close(self) -> None:
        pass

    def run(
        self,
        jobs: Iterable[Job],
        runs_directory: Path,
        *,
        slots: Sequence[Slot],
        watch: Callable[[Sequence[Job]], None],
        prune: Callable[[Sequence[Job]], Mapping[str, str]] = prune_nothing,
    ) -> Iterator[Ended]:
        try:
            for job in jobs:
                directory = runs_directory / job.run_id
                directory.mkdir(parents=True, exist_ok=True)
                (directory / "record.json").unlink(missing_ok=True)
                watch([job])
                self.ran.append(job.run_id)
                status, reason = self.script(job, directory)
                if given_up := prune([job]).get(job.run_id):
                    status, reason = "pruned", given_up
                yield Ended(job, status, reason, 1.5)  # type: ignore[arg-type]
        finally:
            self.closed = True


#: Fake GPUs are of use to a CUDA build only.
FOR_CUDA = Library(Path("libmxnet.so"), CU112)


@pytest.fixture
def sweep(small_folder: Path) -> Sweep:
    """Two cells and two windows on the small corpus."""
    settings = small_config(dataset=str(small_folder), device="auto").model_dump(exclude_unset=True)
    return Sweep("grid", settings=settings, axes={"cell": ("lstm", "gru"), "bptt": (5, 6)})


def plan(sweep: Sweep, results: Path, **options: object) -> Plan:
    options = {"machine": machine(), "notice": pytest.fail, "library": FOR_CUDA, **options}
    return plan_sweep(sweep, results=results, **options)  # type: ignore[arg-type]


def ignore(line: str) -> None:
    """Take notice of nothing."""


def refused(sweep: Sweep, results: Path, **options: object) -> str:
    """The one line with which a plan is refused; nothing was made."""
    with pytest.raises(UserError) as raised:
        plan(sweep, results, **options)
    assert not (results / sweep.name).exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def sorted_by_table(directory: Path, records: Sequence[RunRecord]) -> list[RunRecord]:
    """`records` in the order of the table's rows."""
    by_name = {record.run_id: record for record in records}
    return [by_name[name] for name in load_results(directory)["run_id"]]


# Planning


def test_a_plan_lists_every_point_in_order_and_makes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    planned = plan(sweep, tmp_path / "results")
    assert [planned.label(job) for job in planned.jobs] == [
        "cell=lstm bptt=5",
        "cell=lstm bptt=6",
        "cell=gru bptt=5",
        "cell=gru bptt=6",
    ]
    assert planned.missing == planned.jobs
    assert len({job.run_id for job in planned.jobs}) == 4
    assert not (tmp_path / "results").exists()


def test_labels_tell_every_point_from_the_others(sweep: Sweep, tmp_path: Path) -> None:
    axes = {"embed_size": (8, 16), "tie_weights": (False,)}
    assert [planned.label(job) for planned in [plan(replace(sweep, axes=axes), tmp_path)] for job in planned.jobs] == [
        "embed_size=8",
        "embed_size=16",
    ]
    planned = plan(replace(sweep, axes={"hidden_size": (8, 16)}), tmp_path)
    assert [planned.label(job) for job in planned.jobs] == ["hidden_size=8", "hidden_size=16"]
    planned = plan(replace(sweep, axes={}), tmp_path)
    assert [planned.label(job) for job in planned.jobs] == ["cell=lstm bptt=5 hidden_size=8"]
    planned = plan(replace(sweep, axes={"device": ("cpu", "gpu")}), tmp_path, machine=machine((8, 0)))
    assert [planned.label(job) for job in planned.jobs] == ["device=cpu", "device=gpu"]


def test_points_that_come_out_equal_are_one(sweep: Sweep, tmp_path: Path) -> None:
    said = list[str]()
    planned = plan(replace(sweep, axes={"device": ("auto", "cpu"), "bptt": (5, 5, 6)}), tmp_path, notice=said.append)
    assert len(planned.jobs) == 2
    assert said == ["6 points are only 2 different runs; the others would repeat them"]
    assert planned.remarks == tuple(said)


def test_results_of_a_corpus_that_was_not_meant_say_so(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(dataset: str, **options: object) -> CorpusFiles:
        return find_corpus("synthetic")

    settings = {**sweep.settings, "dataset": "auto"}
    monkeypatch.setattr(planning, "find_corpus", find_nothing)
    planned = plan(replace(sweep, settings=settings), tmp_path)
    assert planned.remarks == ("the corpus is synthetic, which is built in, because no published corpus was found",)
    assert plan(replace(sweep, settings={**settings, "dataset": "synthetic"}), tmp_path).remarks == ()


def test_a_corpus_is_known_by_its_bytes_not_by_its_place(sweep: Sweep, tmp_path: Path) -> None:
    here, there = write_folder(tmp_path / "here"), tmp_path / "there" / "corpus"
    before = plan(replace(sweep, axes={"dataset": (str(here),)}), tmp_path).jobs[0].run_id
    shutil.move(here, there)
    moved = replace(sweep, axes={"dataset": (str(there),)})
    assert plan(moved, tmp_path).jobs[0].run_id == before
    text = (there / "test.txt").read_bytes()
    (there / "test.txt").write_bytes(text[:-2] + b"!\n")
    assert plan(moved, tmp_path).jobs[0].run_id != before


def test_cores_are_shared_out_among_the_jobs(sweep: Sweep, tmp_path: Path) -> None:
    def threads(**options: object) -> set[int]:
        return {job.threads for job in plan(sweep, tmp_path, **options).jobs}

    assert threads() == {8}
    assert threads(jobs=2) == {4}
    assert threads(jobs=3) == {2}
    assert threads(jobs=50) == {1}
    assert threads(device="gpu:0,gpu:1", machine=machine((8, 0), (8, 0))) == {4}
    fixed = sweep.with_arguments({"threads": "5"}, {})
    assert {job.threads for job in plan(fixed, tmp_path, jobs=4).jobs} == {5}


def test_the_share_of_the_cores_does_not_name_a_run(sweep: Sweep, tmp_path: Path) -> None:
    assert [job.run_id for job in plan(sweep, tmp_path, jobs=4).jobs] == [
        job.run_id for job in plan(sweep, tmp_path).jobs
    ]
    other = sweep.with_arguments({"threads": "4"}, {})
    assert plan(other, tmp_path).jobs[0].run_id != plan(sweep, tmp_path).jobs[0].run_id


@pytest.mark.parametrize(
    ("device", "jobs", "gpus", "slots"),
    [
        ("auto", None, [], ["cpu"]),
        ("auto", 3, [], ["cpu"] * 3),
        ("auto", None, [(8, 0), (8, 0)], ["gpu:0"]),
        ("auto", 2, [(8, 0), (8, 0)], ["gpu:0", "gpu:1"]),
        ("auto", None, [(9, 0)], ["cpu"]),
        ("auto", None, [(9, 0), (8, 6)], ["gpu:1"]),
        ("cpu", None, [(8, 0)], ["cpu"]),
        ("gpu", None, [(9, 0), (5, 0)], ["gpu:1"]),
        ("gpu:1", None, [(8, 0), (8, 0)], ["gpu:1"]),
        ("gpu:01", None, [(8, 0), (8, 0)], ["gpu:1"]),
        ("gpu:1,gpu:0", None, [(8, 0), (8, 0)], ["gpu:1", "gpu:0"]),
        ("gpu:0,gpu:1", 1, [(8, 0), (8, 0)], ["gpu:0"]),
        ("gpu:1+gpu:0", None, [(8, 0), (8, 0)], ["gpu:1+gpu:0"]),
        ("gpu:0+gpu:1,gpu:3+gpu:02", None, [(8, 0)] * 4, ["gpu:0+gpu:1", "gpu:3+gpu:2"]),
        ("gpu:0+gpu:1,gpu:3+gpu:2", 1, [(8, 0)] * 4, ["gpu:0+gpu:1"]),
        ("cpu:1", None, [], ["cpu:1"]),
        ("cpu:0, cpu:1", None, [(8, 0)], ["cpu:0", "cpu:1"]),
        ("cpu:0+cpu:1,cpu:2+cpu:3", None, [], ["cpu:0+cpu:1", "cpu:2+cpu:3"]),
    ],
)
def test_workers_go_where_they_are_told(
    sweep: Sweep, tmp_path: Path, device: str, jobs: int | None, gpus: list[tuple[int, int]], slots: list[str]
) -> None:
    planned = plan(sweep, tmp_path, device=device, jobs=jobs, machine=machine(*gpus))
    assert [slot.device for slot in planned.slots] == slots
    assert all(any(slot.takes(job) for slot in planned.slots) for job in planned.jobs)
    for slot in planned.slots:
        # As MXNet will count them in the worker: in the order in which they were named.
        uuids = ",".join(f"GPU-{single.partition(':')[2]}" for single in slot.device.split("+"))
        assert slot.visible == (f"gpu:{uuids}" if slot.device.startswith("gpu") else "cpu")


def test_several_gpus_are_named_by_their_boards(sweep: Sweep, tmp_path: Path) -> None:
    gpus = machine((8, 0), (8, 0), (7, 0))
    gpus = replace(gpus, gpus=tuple(replace(gpu, name=f"board {gpu.compute_capability[0]}") for gpu in gpus.gpus))
    for device, name in (("gpu:0+gpu:1", "2 x board 8"), ("gpu:2+gpu:0", "board 7 + board 8"), ("gpu:2", "board 7")):
        assert plan(sweep, tmp_path, device=device, machine=gpus).slots[0].device_name == name
    assert plan(sweep, tmp_path, device="cpu:0+cpu:1", machine=gpus).slots[0].device_name == "a processor"


def test_a_gpus_number_does_not_name_a_run_but_its_kind_does(sweep: Sweep, tmp_path: Path) -> None:
    def first(device: str) -> str:
        return plan(sweep, tmp_path, device=device, machine=machine((8, 0), (8, 0))).jobs[0].run_id

    assert first("gpu:0") == first("gpu:1") == first("gpu:0,gpu:1") == first("gpu") == first("auto") != first("cpu")
    assert first("cpu:1") == first("cpu:0,cpu:1") == first("cpu")
    assert first("gpu:0+gpu:1") == first("gpu:1+gpu:0") not in (first("gpu:0"), first("cpu:0+cpu:1"))
    assert first("cpu:0+cpu:1") == first("cpu:2+cpu:3,cpu:0+cpu:1") != first("cpu")


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("gpu", [], ["device gpu does not exist", "--device cpu"]),
        ("gpu:0", [], ["device gpu:0 does not exist", "--device cpu"]),
        ("gpu:5", [(8, 0), (8, 0)], ["device gpu:5 does not exist", "gpu:0 to gpu:1"]),
        ("gpu:0", [(9, 0)], ["gpu:0 (board 0)", "compute capability 9.0", "7.0, 8.0, 8.6, no PTX", "docs/gpus.md"]),
        ("gpu:0,gpu:1", [(8, 0), (9, 0)], ["gpu:1 (board 1)", "9.0"]),
        ("gpu:0,gpu:0", [(8, 0)], ["names a device twice"]),
        ("gpu:0,gpu:00", [(8, 0)], ["names a device twice"]),
        ("gpu:0,cpu", [(8, 0)], ["mixes kinds"]),
        ("gpu,gpu:0", [(8, 0)], ["mixes kinds"]),
        ("tpu", [], ["unknown device 'tpu'"]),
        ("gpu:x", [], ["unknown device 'gpu:x'"]),
        ("gpu:0+gpu:2", [(8, 0), (8, 0)], ["device gpu:2 does not exist", "gpu:0 to gpu:1"]),
        ("gpu:0+gpu:1", [(8, 0), (9, 0)], ["gpu:1 (board 1)", "9.0"]),
        ("gpu:0+gpu:1,gpu:1+gpu:2", [(8, 0)] * 3, ["names a device twice"]),
        ("gpu:0+gpu:1,gpu:2", [(8, 0)] * 3, ["mixes kinds", "as many for each worker"]),
        ("gpu:0+cpu:1", [(8, 0)], ["unknown device 'gpu:0+cpu:1'"]),
        ("gpu:0+gpu:00", [(8, 0)], ["names a device twice"]),
        ("cpu:0,cpu:1,cpu:0", [], ["names a device twice"]),
        ("cpu:x", [], ["unknown device 'cpu:x'"]),
        ("", [], ["unknown device ''"]),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    sweep: Sweep, tmp_path: Path, device: str, gpus: list[tuple[int, int]], words: list[str]
) -> None:
    line = refused(sweep, tmp_path, device=device, machine=machine(*gpus))
    assert all(word in line for word in words), line
    if gpus and "," not in device:
        # The same from the sweep's own setting.
        pinned = sweep.with_arguments({"device": device}, {})
        assert refused(pinned, tmp_path, machine=machine(*gpus)).endswith(line)


def test_the_build_for_the_cpu_leaves_gpus_alone(sweep: Sweep, tmp_path: Path) -> None:
    library = Library(Path("libmxnet.so"))
    assert plan(sweep, tmp_path, machine=machine((8, 0)), library=library).slots[0].device == "cpu"
    line = refused(sweep, tmp_path, device="gpu:0", machine=machine((8, 0)), library=library)
    assert "make install EXTRA=cu112" in line
    # That one would not serve this GPU either.
    line = refused(sweep, tmp_path, device="gpu:0", machine=machine((9, 0)), library=library)
    assert "the CUDA build of MXNet has code for 5.0, 6.0, 7.0, 8.0, 8.6, no PTX; use --device cpu, or see" in line


def test_a_build_of_ones_own_decides_which_gpus_are_used(sweep: Sweep, tmp_path: Path) -> None:
    library = Library(Path("libmxnet.so"), GpuCode(frozenset({(9, 0)})))
    gpus = machine((8, 0), (9, 0))
    assert plan(sweep, tmp_path, machine=gpus, library=library).slots[0].device == "gpu:1"
    assert "this MXNet has code for 9.0" in refused(sweep, tmp_path, device="gpu:0", machine=gpus, library=library)


@pytest.mark.parametrize(("jobs", "words"), [(0, "--jobs 0 must be at least 1"), (-1, "at least 1")])
def test_no_workers_are_refused(sweep: Sweep, tmp_path: Path, jobs: int, words: str) -> None:
    assert words in refused(sweep, tmp_path, jobs=jobs)


def test_more_jobs_than_gpus_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    assert "there is room for 2" in refused(sweep, tmp_path, jobs=3, machine=machine((8, 0), (8, 0)))
    # One usable.
    assert "room for 1" in refused(sweep, tmp_path, device="gpu", jobs=2, machine=machine((8, 0), (9, 0)))
    assert "room for 1" in refused(sweep, tmp_path, device="gpu:0+gpu:1", jobs=2, machine=machine((8, 0), (8, 0)))
    assert "room for 2" in refused(sweep, tmp_path, device="cpu:0,cpu:1", jobs=3)


def test_a_gpu_that_the_sweep_names_has_a_worker(sweep: Sweep, tmp_path: Path) -> None:
    named = replace(sweep, axes={"device": ("gpu:0", "gpu:1"), "cell": ("lstm", "gru")})
    gpus = machine((8, 0), (8, 0))
    # Which of the boards it is decides nothing: the points of a cell are one.
    planned = plan(named, tmp_path, machine=gpus, notice=ignore)
    assert len(planned.jobs) == 2
    assert planned.remarks == ("4 points are only 2 different runs; the others would repeat them",)
    assert "--jobs 1" in refused(named, tmp_path, jobs=1, machine=gpus)


def test_devices_that_the_sweep_names_are_shared_by_no_two_runs(sweep: Sweep, tmp_path: Path) -> None:
    def devices(*named: str, **options: object) -> list[str]:
        swept = replace(sweep, axes={"device": named}, pinned={"batch_size": 6})
        options = {"machine": machine(*[(8, 0)] * 3), "notice": ignore, **options}
        return [slot.device for slot in plan(swept, tmp_path, **options).slots]

    assert devices("gpu:0+gpu:1", "gpu") == ["gpu:0+gpu:1", "gpu:2"]
    assert devices("cpu:0+cpu:1", "cpu", "gpu:2") == ["cpu:0+cpu:1", "gpu:2", "cpu"]
    assert devices("gpu:1", "gpu") == ["gpu:1"]
    assert devices("cpu", "gpu", jobs=2) == ["gpu:0", "cpu"]
    assert devices("cpu", "gpu", jobs=3) == ["gpu:0", "gpu:1", "cpu"]
    for named, jobs, line in (
        (("gpu:0", "gpu:0+gpu:1"), None, "the sweep names gpu:0 for several workers"),
        (("gpu:0+gpu:1+gpu:2", "gpu"), None, "leaves none for device gpu"),
        (("gpu:0+gpu:1", "gpu"), 1, "--jobs 1 leaves no worker for some of the 2 devices"),
        (("cpu", "gpu"), 1, "--jobs 1 leaves no worker for some of the 2 devices"),
        (("cpu", "gpu"), 5, "--jobs 5 is too many: there is room for 4"),
    ):
        swept = replace(sweep, axes={"device": named}, pinned={"batch_size": 6})
        assert line in refused(swept, tmp_path, jobs=jobs, machine=machine(*[(8, 0)] * 3))


@pytest.mark.parametrize("device", ["cpu:0+cpu:1+cpu:2", "cpu:0+cpu:1+cpu:2,cpu:3+cpu:4+cpu:5"])
def test_a_batch_that_the_devices_cannot_share_is_refused(sweep: Sweep, tmp_path: Path, device: str) -> None:
    line = refused(sweep, tmp_path, device=device)
    assert line.startswith("batch_size=4 cannot be shared equally by the 3 devices of cpu:0+cpu:1+cpu:2;")
    assert line.endswith("make it a multiple of 3")
    plan(sweep.with_arguments({"batch_size": "6"}, {}), tmp_path, device=device)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 1000}, ["small", "batch_size=1000", "bptt=5", "6000", "lower them"]),
        ({"max_train_tokens": 23}, ["has 23 tokens", "needs 24"]),
        ({"eval_batch_size": 5000}, ["validation", "eval_batch_size=5000"]),
        ({"max_eval_tokens": 3}, ["2 tokens to score", "eval_batch_size=3"]),
        ({"dataset": "/nowhere/at/all"}, ["'/nowhere/at/all'"]),
        ({"cell": "no_such_module:Cell"}, ["no_such_module:Cell", "no module no_such_module", "PYTHONPATH"]),
        ({"cell": "gluon_rnn.no_such:Cell"}, ["no module gluon_rnn.no_such"]),
    ],
)
def test_a_point_that_cannot_run_is_refused(
    sweep: Sweep, tmp_path: Path, settings: dict[str, object], words: list[str]
) -> None:
    bad = replace(sweep, pinned=settings, axes={})
    line = refused(bad, tmp_path)
    assert all(word in line for word in words), line


def test_the_shortest_corpus_that_fits_is_taken(sweep: Sweep, tmp_path: Path) -> None:
    plan(replace(sweep, pinned={"max_train_tokens": 24, "max_eval_tokens": 4}, axes={}), tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [("train.txt", b"", "train.txt"), ("valid.txt", b"a \xff b\n", "UTF-8"), ("test.txt", None, "test.txt")],
)
def test_a_corpus_that_is_none_is_refused(
    sweep: Sweep, tmp_path: Path, file: str, content: bytes | None, word: str
) -> None:
    folder = write_folder(tmp_path / "corpus")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert word in refused(replace(sweep, pinned={"dataset": str(folder)}), tmp_path)


def test_a_data_folder_that_is_none_is_refused_even_if_unneeded(sweep: Sweep, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert f"--data-dir {missing}" in refused(sweep, tmp_path, data_dir=missing)


def test_results_that_cannot_be_written_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for results in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        line = refused(sweep, results)
        assert str(tmp_path / "file") in line
        assert "is not a folder" in line
    (tmp_path / "grid").touch()
    with pytest.raises(UserError, match="grid is not a folder"):
        plan(sweep, tmp_path)


def test_a_name_that_no_folder_can_have_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="File name too long"):
        plan(sweep, tmp_path / ("x" * 300))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(UserError, match="symbolic links"):
        plan(sweep, tmp_path / "circle")


def test_a_users_cell_is_known_by_its_source(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    source = tmp_path / "package" / "own.py"
    source.write_text("raise SystemExit('imported while planning')\n")
    own = replace(sweep, pinned={"cell": "package.own:Cell"}, axes={})
    before = plan(own, tmp_path / "results").jobs[0].run_id
    assert plan(own, tmp_path / "results").jobs[0].run_id == before
    source.write_text("# changed\n")
    assert plan(own, tmp_path / "results").jobs[0].run_id != before


def test_a_users_cell_is_found_on_pythons_path(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere.py").touch()
    own = replace(sweep, pinned={"cell": "elsewhere:Cell"}, axes={})
    assert "PYTHONPATH" in refused(own, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(plan(own, tmp_path).jobs) == 1


def test_a_job_holds_the_digests_that_name_it(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("1\n")
    (vectors,) = write_vectors(tmp_path, "v1")
    axes = {"cell": ("lstm", "mine:Cell"), "embedding": ("random", "one_hot", str(vectors))}
    jobs = plan(replace(sweep, axes=axes, pinned={"tie_weights": False}), tmp_path / "results").jobs
    digests = [(job.contents["embedding_sha1"], job.contents["cell_sha1"]) for job in jobs]
    of_vectors, of_cell = sha1_of_file(vectors), source_sha1("mine:Cell")
    assert digests == [(given, cell) for cell in (None, of_cell) for given in (None, None, of_vectors)]
    assert all(Job.model_validate_json(job.model_dump_json()) == job for job in jobs)
    record = make_done(jobs[-1])
    assert [record.dataset_sha1, record.embedding_sha1, record.cell_sha1] == [jobs[0].corpus.sha1, of_vectors, of_cell]
    (tmp_path / "helper.py").write_text("2\n")
    again = plan(replace(sweep, axes=axes, pinned={"tie_weights": False}), tmp_path / "results").jobs
    assert [old.run_id == new.run_id for old, new in zip(jobs, again, strict=True)] == [True] * 3 + [False] * 3


def write_vectors(folder: Path, *versions: str, name: str = "vec.txt") -> list[Path]:
    """Different vectors of one file name, in folders of their own."""
    paths = [folder / version / name for version in versions]
    for place, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        path.write_text(f"the 0.{place} 0.5\ncat 0.25 {len(name)}\n")
    return paths


def test_labels_tell_contents_of_one_name_apart(sweep: Sweep, tmp_path: Path) -> None:
    one, two = write_vectors(tmp_path, "v1", "v2")
    (other,) = write_vectors(tmp_path, "v3", name="other.txt")
    axes = {"embedding": (str(one), str(two), str(other), "random")}
    planned = plan(replace(sweep, axes=axes, pinned={"tie_weights": False}), tmp_path)
    first, second = (sha1_of_file(path)[:7] for path in (one, two))
    names = [planned.label(job).partition("embedding=")[2].split()[0] for job in planned.jobs]
    assert names == [f"{one}@{first}", f"{two}@{second}", str(other), "random"]
    folders = [write_folder(tmp_path / name / "text", lines=lines) for name, lines in (("a", 60), ("b", 61))]
    planned = plan(replace(sweep, axes={"dataset": tuple(map(str, folders))}), tmp_path)
    assert [planned.label(job) for job in planned.jobs] == [
        f"dataset={folder}@{job.corpus.sha1[:7]}" for folder, job in zip(folders, planned.jobs, strict=True)
    ]


# Running


def test_every_run_is_in_the_tables_and_is_not_made_again(sweep: Sweep, tmp_path: Path) -> None:
    planned = plan(sweep, tmp_path)
    executor = FakeExecutor()
    records = run_sweep(planned, executor=executor)
    assert [record.run_id for record in records] == [job.run_id for job in planned.jobs] == executor.ran
    assert executor.closed
    assert sorted(load_results(tmp_path / "grid")["run_id"]) == sorted(executor.ran)
    assert len(load_epochs(tmp_path / "grid")) == 8
    points = json.loads((tmp_path / "grid" / "sweep.json").read_text())["points"]
    assert points == [{"run_id": job.run_id, "label": planned.label(job)} for job in planned.jobs]

    again = plan(sweep, tmp_path)
    assert again.missing == ()
    tables = [(tmp_path / "grid" / name).read_bytes() for name in ("runs.csv", "epochs.csv")]
    executor = FakeExecutor()
    assert run_sweep(again, executor=executor) == records
    assert executor.ran == []
    assert [(tmp_path / "grid" / name).read_bytes() for name in ("runs.csv", "epochs.csv")] == tables


def test_tables_are_up_to_date_after_every_run(sweep: Sweep, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []

    class Counting(Display):
        def ended(self, job: Job, record: object) -> None:
            counts.append((len(load_results(tmp_path / "grid")), len(load_epochs(tmp_path / "grid"))))

    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(), display=Counting())
    assert counts == [(1, 2), (2, 4), (3, 6), (4, 8)]


def test_only_what_is_missing_is_run(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(replace(sweep, axes={"cell": ("lstm",), "bptt": (5, 6)}), tmp_path), executor=FakeExecutor())
    planned = plan(sweep, tmp_path)
    assert [planned.label(job) for job in planned.missing] == ["cell=gru bptt=5", "cell=gru bptt=6"]
    executor = FakeExecutor()
    assert len(run_sweep(planned, executor=executor)) == 4
    assert executor.ran == [job.run_id for job in planned.missing]


def test_what_is_no_point_any_longer_stays_in_the_tables(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    records = run_sweep(plan(replace(sweep, axes={"cell": ("lstm",), "bptt": (7,)}), tmp_path), executor=FakeExecutor())
    assert len(records) == 1
    assert len(load_results(tmp_path / "grid")) == 5


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pruning_moves_what_is_no_point_any_longer_and_can_be_undone(sweep: Sweep, tmp_path: Path) -> None:
    grid, said = tmp_path / "grid", list[str]()
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    (grid / "runs" / "unfinished").mkdir()
    tables = {name: (grid / name).read_bytes() for name in ("runs.csv", "epochs.csv")}
    fewer = plan(replace(sweep, axes={"cell": ("lstm",), "bptt": (5, 6)}), tmp_path)
    kept = {job.run_id for job in fewer.jobs}
    gone = {job.run_id for job in plan(sweep, tmp_path).jobs} - kept
    before = tree(grid / "runs")
    # Two of the four, and one that never ended.
    told = superseded(fewer, read_records(grid)[0])
    assert {*told} == gone | {"unfinished"}
    assert sorted(told.values()) == ["bptt=5: ok", "bptt=6: ok", "without a record"]
    assert tree(grid / "runs") == before

    executor = FakeExecutor()
    records = run_sweep(fewer, executor=executor, prune=True, notice=said.append)
    assert (executor.ran, {record.run_id for record in records}) == ([], kept)
    assert {*load_results(grid)["run_id"]} == {*load_epochs(grid)["run_id"]} == kept
    assert {path.name for path in (grid / "runs").iterdir()} == kept
    assert {path.name for path in (grid / SUPERSEDED).iterdir()} == gone | {"unfinished"}
    assert {**tree(grid / "runs"), **tree(grid / SUPERSEDED)} == before
    assert [name in line and SUPERSEDED in line for name, line in zip(sorted(told), said, strict=False)] == [True] * 3
    assert len(said) == 4

    run_sweep(fewer, executor=FakeExecutor(), prune=True, notice=pytest.fail)
    for directory in (grid / SUPERSEDED).iterdir():
        directory.rename(grid / "runs" / directory.name)
    run_sweep(fewer, executor=FakeExecutor(), notice=pytest.fail)
    assert {name: (grid / name).read_bytes() for name in tables} == tables


def test_a_finished_point_is_made_again_on_purpose_and_its_first_run_kept(sweep: Sweep, tmp_path: Path) -> None:
    grid, said = tmp_path / "grid", list[str]()
    first = run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    name = first[2].run_id
    before = (grid / "runs" / name / "record.json").read_bytes()
    again = plan(sweep, tmp_path, rerun=[name])
    assert [job.run_id for job in again.missing] == [name]

    def finish_otherwise(job: Job, directory: Path) -> tuple[str | None, str]:
        write_record(directory, make_done(job, [epoch(1, 1.5, 2.0)]))
        return None, ""

    executor = FakeExecutor(finish_otherwise)
    records = run_sweep(again, executor=executor, notice=said.append)
    assert executor.ran == [name]
    assert [record.valid_loss for record in records] == [2.0, 2.0, 1.5, 2.0]
    assert load_results(grid)["valid_loss"].tolist() == [record.valid_loss for record in sorted_by_table(grid, records)]
    assert (grid / SUPERSEDED / name / "record.json").read_bytes() == before
    assert said[0] == f"moved run {name} (to be re-run) to {grid / SUPERSEDED / name}"


def test_a_point_to_be_made_again_is_one_of_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    assert refused(sweep, tmp_path, rerun=["0" * 12]) == (
        "--rerun 000000000000: no point of this sweep has that run_id; --dry-run lists them"
    )


def test_pruning_replaces_nothing_that_was_moved_before(sweep: Sweep, tmp_path: Path) -> None:
    lstm, gru = (plan(replace(sweep, axes={"cell": (cell,)}), tmp_path) for cell in ("lstm", "gru"))
    for planned in (lstm, gru, lstm, gru):
        run_sweep(plan_again := replace(planned, missing=planned.jobs), executor=FakeExecutor(), prune=True)
        assert load_results(tmp_path / "grid")["run_id"].tolist() == [plan_again.jobs[0].run_id]
    first, second = lstm.jobs[0].run_id, gru.jobs[0].run_id
    assert sorted(path.name for path in (tmp_path / "grid" / SUPERSEDED).iterdir()) == sorted(
        [first, f"{first}-2", second]
    )


def test_a_prune_that_was_stopped_leaves_tables_that_are_put_right(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    fewer = plan(replace(sweep, axes={"cell": ("lstm",), "bptt": (5,)}), tmp_path)
    (tmp_path / "grid" / SUPERSEDED).touch()  # no folder can be made there
    with pytest.raises(UserError, match="cannot write to"):
        run_sweep(fewer, executor=FakeExecutor(), prune=True)
    assert len(load_results(tmp_path / "grid")) == 1
    (tmp_path / "grid" / SUPERSEDED).unlink()
    run_sweep(fewer, executor=FakeExecutor(), notice=pytest.fail)
    assert len(load_results(tmp_path / "grid")) == 4


@pytest.mark.parametrize("status", ["failed", "oom", "timeout"])
def test_a_failed_point_is_a_row_and_is_left_until_it_is_asked_for(sweep: Sweep, tmp_path: Path, status: str) -> None:
    def fail_gru(job: Job, directory: Path) -> tuple[str | None, str]:
        if job.config.cell == "lstm":
            return finish(job, directory)
        live = LiveProgress(
            doing="", progress=Progress(history=[epoch(1, 3.0, 3.5)], last_epoch=LossTotal(7.0, 7), steps=12)
        )
        (directory / "progress.json").write_text(live.model_dump_json())
        # Of an attempt before, which came further.
        write_epochs(directory, job.run_id, [epoch(1, 3.0, 3.5), epoch(2, 2.0, 2.5)])
        return status, "why"

    records = run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(fail_gru))
    assert [record.status for record in records] == ["ok", "ok", status, status]
    assert {record.reason for record in records[2:]} == {"why"}
    # What it had come to is kept, and the two tables agree on it.
    assert [(record.epochs_run, record.steps, record.test_loss) for record in records[2:]] == [(1, 12, 3.5)] * 2
    epochs = load_epochs(tmp_path / "grid")
    assert (epochs["run_id"] == records[2].run_id).sum() == 1
    began = datetime.fromisoformat(records[2].started_at)
    assert 0 <= (datetime.now(timezone.utc) - began).total_seconds() < 60
    assert records[2].wall_seconds == 1.5

    assert plan(sweep, tmp_path).missing == ()
    planned = plan(sweep, tmp_path, rerun_failed=True)
    assert [job.config.cell for job in planned.missing] == ["gru", "gru"]
    assert {record.status for record in run_sweep(planned, executor=FakeExecutor())} == {"ok"}
    assert load_results(tmp_path / "grid")["status"].tolist() == ["ok"] * 4


def test_a_diverged_point_is_finished(sweep: Sweep, tmp_path: Path) -> None:
    def diverge(job: Job, directory: Path) -> tuple[str | None, str]:
        write_record(directory, make_done(job, status="diverged", nats=math.inf))
        return None, ""

    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(diverge), fail_fast=True)
    assert plan(sweep, tmp_path, rerun_failed=True).missing == ()
    assert load_results(tmp_path / "grid")["status"].tolist() == ["diverged"] * 4


def test_fail_fast_stops_at_the_first_failure(sweep: Sweep, tmp_path: Path) -> None:
    executor = FakeExecutor(
        lambda job, directory: ("failed", "why") if job.config.bptt == 6 else finish(job, directory)
    )
    records = run_sweep(plan(sweep, tmp_path), executor=executor, fail_fast=True)
    assert [record.status for record in records] == ["ok", "failed"]
    assert executor.closed
    assert len(load_results(tmp_path / "grid")) == 2


def test_a_failed_point_that_waits_to_be_made_again_is_not_lost(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(lambda job, directory: ("failed", "why")))

    def interrupt(job: Job, directory: Path) -> tuple[str | None, str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(sweep, tmp_path, rerun_failed=True), executor=FakeExecutor(interrupt))
    # No row is lost; the one that was being made again is missing, the others are failed as before.
    assert load_results(tmp_path / "grid")["status"].tolist() == ["failed"] * 4
    planned = plan(sweep, tmp_path)
    assert planned.missing == planned.jobs[:1]


def test_an_interrupt_keeps_what_had_finished_and_frees_the_folder(sweep: Sweep, tmp_path: Path) -> None:
    def script(job: Job, directory: Path) -> tuple[str | None, str]:
        if job.config.cell == "gru":
            raise KeyboardInterrupt
        return finish(job, directory)

    stopped: list[bool] = []

    class Watching(Display):
        def stopped(self) -> None:
            # The workers go first.
            stopped.append(executor.closed)

    executor = FakeExecutor(script)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(sweep, tmp_path), executor=executor, display=Watching())
    assert (executor.closed, stopped) == (True, [True])
    assert len(load_results(tmp_path / "grid")) == 2
    planned = plan(sweep, tmp_path)
    assert [job.config.cell for job in planned.missing] == ["gru", "gru"]
    assert len(run_sweep(planned, executor=FakeExecutor())) == 4


def test_an_interrupt_of_the_display_stops_the_workers(sweep: Sweep, tmp_path: Path) -> None:
    class Interrupted(Display):
        def ended(self, job: Job, record: object) -> None:
            raise KeyboardInterrupt

        def stopped(self) -> None:
            assert executor.closed

    executor = FakeExecutor()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(sweep, tmp_path), executor=executor, display=Interrupted())
    assert len(executor.ran) == 1


@pytest.mark.slow
def test_a_second_sweep_in_the_folder_is_refused_and_harms_nothing(sweep: Sweep, tmp_path: Path) -> None:
    planned = plan(sweep, tmp_path)
    (tmp_path / "grid").mkdir()
    executor = FakeExecutor()
    with (
        filelock.FileLock(tmp_path / "grid" / ".lock"),
        pytest.raises(UserError, match=r"another sweep is running in .*grid; wait for it"),
    ):
        run_sweep(planned, executor=executor)
    assert executor.ran == []
    assert not (tmp_path / "grid" / "runs.csv").exists()
    assert not (tmp_path / "grid" / "sweep.json").exists()


def test_the_folder_is_free_only_when_the_last_worker_has_gone(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_LOCK_PATIENCE_SECONDS", 0.1)

    def outlive(job: Job, directory: Path) -> tuple[str | None, str]:
        # As a worker of a sweep that is killed: it has what is inheritable.
        workers.append(subprocess.Popen(["sleep", "600"], close_fds=False))
        return finish(job, directory)

    workers: list[subprocess.Popen[bytes]] = []
    planned = plan(replace(sweep, axes={}), tmp_path)
    run_sweep(planned, executor=FakeExecutor(outlive))
    with pytest.raises(UserError, match="another sweep is running in"):
        run_sweep(planned, executor=FakeExecutor())
    (worker,) = workers
    worker.kill()
    worker.wait()
    assert len(run_sweep(planned, executor=FakeExecutor())) == 1


def test_what_killed_sweeps_and_workers_left_goes(sweep: Sweep, tmp_path: Path) -> None:
    planned = plan(sweep, tmp_path)
    run_sweep(planned, executor=FakeExecutor())
    runs = tmp_path / "grid" / "runs"
    done, unfinished = runs / planned.jobs[0].run_id, runs / "unfinished"
    for path in (
        tmp_path / "grid" / ".runs.csv.x.tmp",
        done / ".record.json.x.tmp",
        done / "progress.json",
        done / "checkpoint" / "state.json",
        unfinished / ".epochs.csv.x.tmp",
        unfinished / "progress.json",
        unfinished / "checkpoint" / "state.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    assert not list(tmp_path.rglob("*.tmp"))
    assert sorted(path.name for path in done.iterdir()) == ["checkpoint", "epochs.csv", "record.json"]
    # It may go on from there.
    assert sorted(path.name for path in unfinished.iterdir()) == ["checkpoint", "progress.json"]


def test_a_table_that_was_changed_is_kept_and_made_again(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    table = tmp_path / "grid" / "runs.csv"
    whole = table.read_text()
    table.write_text(whole.replace(",ok,", ",no,", 1))
    lines: list[str] = []
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(), notice=lines.append)
    assert lines == [f"{table} did not agree with the runs' records; it is kept as runs.csv.damaged and rebuilt"]
    assert table.read_text() == whole
    assert ",no," in (tmp_path / "grid" / "runs.csv.damaged").read_text()


def test_a_run_costs_the_same_reads_and_writes_however_many_there_are(sweep: Sweep, tmp_path: Path) -> None:
    """A table is written from what is known; no other run's files are looked at."""
    opened: list[int] = [0]
    counting = False

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if counting and event == "open" and str(arguments[0]).startswith(str(tmp_path)):
            opened[-1] += 1

    sys.addaudithook(count)  # for good, but it does nothing once the test has ended

    def note(job: Job, directory: Path) -> tuple[str | None, str]:
        opened.append(0)
        return finish(job, directory)

    planned = plan(replace(sweep, axes={"seed": tuple(range(40))}), tmp_path)
    counting = True
    run_sweep(planned, executor=FakeExecutor(note))
    counting = False
    assert len(opened) == 41
    # Its epochs, its record and both tables are written, each with a look at its folder, and the record is read (twice,
    # says Python, of a file that is opened by an opener).
    assert set(opened[1:]) == {10}


def test_what_another_sweep_finished_since_the_plan_is_not_run_again(sweep: Sweep, tmp_path: Path) -> None:
    late = plan(sweep, tmp_path)
    first = run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    executor = FakeExecutor()
    assert run_sweep(late, executor=executor) == first
    assert executor.ran == []


def test_damaged_records_are_named_and_made_again(sweep: Sweep, tmp_path: Path) -> None:
    records = run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    runs = tmp_path / "grid" / "runs"
    cut, foreign = (runs / records[place].run_id / "record.json" for place in (0, 1))
    cut.write_text(cut.read_text()[:100])
    shutil.copy(runs / records[2].run_id / "record.json", foreign)
    (tmp_path / "grid" / "sweep.json").unlink()
    lines: list[str] = []
    planned = plan(sweep, tmp_path, notice=lines.append)
    assert [str(cut) in lines[0] or str(cut) in lines[1], len(lines)] == [True, 2]
    assert any(str(foreign) in line and records[2].run_id in line for line in lines)
    assert {job.run_id for job in planned.missing} == {records[0].run_id, records[1].run_id}
    assert run_sweep(planned, executor=FakeExecutor(), notice=lines.append) == records
    assert len(load_results(tmp_path / "grid")) == 4
    assert len(lines) == 4
    for path in (cut, foreign):
        assert f"{path} is kept as record.json.damaged, and its point is re-run" in lines
        assert (path.parent / "record.json.damaged").exists()


def test_a_worker_whose_record_is_cut_short_has_failed(sweep: Sweep, tmp_path: Path) -> None:
    def cut(job: Job, directory: Path) -> tuple[str | None, str]:
        (directory / "record.json").write_text("{")
        return None, ""

    records = run_sweep(plan(replace(sweep, axes={}), tmp_path), executor=FakeExecutor(cut))
    assert records[0].status == "failed"
    assert "record.json is damaged" in records[0].reason
    assert str(tmp_path) not in records[0].reason


def test_what_may_be_committed_is_enough_to_go_on_from(sweep: Sweep, tmp_path: Path) -> None:
    executor = FakeExecutor(
        lambda job, directory: ("failed", f"no '{tmp_path}/x'") if job.config.bptt == 6 else finish(job, directory)
    )
    run_sweep(plan(sweep, tmp_path / "results"), executor=executor)
    original, clone = tmp_path / "results" / "grid", tmp_path / "clone" / "grid"
    for path in [
        original / "runs.csv",
        original / "epochs.csv",
        *original.glob("runs/*/record.json"),
    ]:
        target = clone / path.relative_to(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        assert str(tmp_path.parent) not in path.read_text()
    for name in ("runs.csv", "epochs.csv"):
        (clone / name).unlink()
    planned = plan(sweep, clone.parent)
    assert planned.missing == ()
    run_sweep(planned, executor=FakeExecutor())
    for name in ("runs.csv", "epochs.csv"):
        assert (clone / name).read_bytes() == (original / name).read_bytes()


def test_results_of_another_machine_are_noticed(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    lines: list[str] = []
    assert plan(sweep, tmp_path, machine=machine(machine_id="n" * 12), notice=lines.append).missing == ()
    assert len(lines) == 1
    assert lines[0].startswith("4 of the finished points were measured on another machine")


def test_a_folder_that_goes_away_ends_the_sweep_in_one_line(sweep: Sweep, tmp_path: Path) -> None:
    def remove(job: Job, directory: Path) -> tuple[str | None, str]:
        shutil.rmtree(tmp_path / "grid")
        return "failed", "why"

    executor = FakeExecutor(remove)
    with pytest.raises(UserError, match=r"cannot write to .*grid: No such file or directory"):
        run_sweep(plan(sweep, tmp_path), executor=executor)
    assert (len(executor.ran), executor.closed) == (1, True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_could_not_be_written_is_named_and_the_sweep_goes_on_later(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    flush = os.fsync

    def fill_up(job: Job, directory: Path) -> tuple[str | None, str]:
        if job.config.cell == "gru":
            monkeypatch.setattr(os, "fsync", refuse(number))
        return finish(job, directory)

    executor = FakeExecutor(fill_up)
    planned = plan(sweep, tmp_path)
    epochs = tmp_path / "grid" / "runs" / planned.jobs[2].run_id / "epochs.csv"
    with pytest.raises(UserError) as raised:
        run_sweep(planned, executor=executor)
    assert str(raised.value) == (
        f"cannot write to {tmp_path / 'grid'}: {os.strerror(number)} ({epochs}); fix that or give --results another "
        "folder"
    )
    assert (len(executor.ran), executor.closed) == (3, True)
    assert load_results(tmp_path / "grid")["status"].tolist() == ["ok", "ok"]
    monkeypatch.setattr(os, "fsync", flush)
    again = plan(sweep, tmp_path)
    assert [job.config.cell for job in again.missing] == ["gru", "gru"]
    assert len(run_sweep(again, executor=FakeExecutor())) == 4


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EMFILE, "Too many"), "Too many; raise the limit of open files (ulimit -n)"),
        (
            OSError(errno.EMFILE, "Too many open files", "{}/runs.csv"),
            "{}/runs.csv: Too many open files; raise the limit of open files (ulimit -n)",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            "Cannot allocate memory; end other programs, or raise the limit of memory (ulimit -v)",
        ),
        (OSError(errno.EACCES, "Permission denied", "/elsewhere/vec.txt"), "/elsewhere/vec.txt: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (
            OSError(errno.EFBIG, "File too large", "{}/runs.csv"),
            "cannot write to {}: File too large ({}/runs.csv); raise the limit of a file's size (ulimit -f)",
        ),
    ],
)
def test_a_folder_is_blamed_for_nothing_else(sweep: Sweep, tmp_path: Path, error: OSError, line: str) -> None:
    folder = str(tmp_path / "grid")

    def fail(job: Job, directory: Path) -> tuple[str | None, str]:
        if job.config.cell == "lstm":
            return finish(job, directory)
        if error.filename:
            error.filename = error.filename.replace("{}", folder)
        raise error

    with pytest.raises(UserError) as raised:
        run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(fail))
    assert str(raised.value) == line.replace("{}", folder)
    assert load_results(tmp_path / "grid")["status"].tolist() == ["ok", "ok"]


def test_records_that_cannot_be_opened_now_are_not_called_damaged(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(plan(sweep, tmp_path), executor=FakeExecutor())
    (directory, *_) = (tmp_path / "grid" / "runs").iterdir()
    with no_more_open_files(), pytest.raises(OSError, match="Too many open files"):
        read_record(directory)
    with no_more_open_files(), pytest.raises(OSError, match="Too many open files"):
        read_points(tmp_path / "grid")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_a_line(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    lines: list[str] = []
    assert len(run_sweep(plan(sweep, tmp_path), executor=FakeExecutor(), notice=lines.append)) == 4
    assert lines == [
        f"warning: the file system of {tmp_path / 'grid'} has no locks, so a second sweep there would not be "
        "refused: do not start one while this one runs"
    ]


def test_a_table_in_the_way_ends_the_sweep_before_it_starts(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "grid" / "runs.csv" / "x").mkdir(parents=True)
    executor = FakeExecutor()
    with pytest.raises(UserError, match="cannot write to"):
        run_sweep(plan(sweep, tmp_path), executor=executor)
    assert executor.ran == []


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_checkout(folder: Path) -> str:
    """A repository with what tells that it is this project's, and its commit."""
    folder.mkdir(exist_ok=True)
    git(folder, "init")
    (folder / "setup.py").touch()
    git(folder, "add", ".")
    git(folder, "commit", "-m", f"first of {folder}")
    return git(folder, "rev-parse", "HEAD")


def test_the_state_of_the_checkout_leaves_results_out(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
    commit = make_checkout(tmp_path)
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "runs.csv").touch()
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "new.py").touch()
    assert git_state(tmp_path) == (commit, True)


@pytest.mark.parametrize("worktree", [False, True], ids=["checkout", "worktree"])
def test_the_state_of_the_checkout_is_its_own_whatever_gits_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worktree: bool
) -> None:
    """In a hook they are those of another repository."""
    other, folder = tmp_path / "other", tmp_path / "ours, ü"
    commit = make_checkout(folder)
    assert make_checkout(other) != commit
    if worktree:
        git(folder, "worktree", "add", str(tmp_path / "tree"))
        folder = tmp_path / "tree"
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_NAMESPACE": "x",
        "GIT_CEILING_DIRECTORIES": tmp_path,
        "GIT_CONFIG_PARAMETERS": "'status.showUntrackedFiles=no'",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert git_state(folder) == (commit, False)
    (folder / "new.py").touch()
    assert git_state(folder) == (commit, True)


def test_the_state_of_a_checkout_that_belongs_to_another_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container; Git's own tests have a variable for it, which is set where it is not taken away."""
    commit = make_checkout(tmp_path / "ours")
    path = tmp_path / "bin" / "git"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec "{shutil.which("git")}" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path / "ours", "status")
    assert git_state(tmp_path / "ours") == (commit, False)


# Real workers


@pytest.mark.slow
def test_train_is_a_run_in_a_process_of_its_own(small_folder: Path, tmp_path: Path) -> None:
    config = small_config(dataset=str(small_folder), epochs=1)
    record = train(config, directory=tmp_path)
    assert (record.status, record.epochs_run, record.config.dataset) == ("ok", 1, "small")
    assert record.test_perplexity is not None
    assert 1 < record.test_perplexity < 100
    assert (tmp_path / "train" / "runs" / record.run_id / "best.params").exists()
    # It is a sweep of one point, which is not run again.
    assert train(RunConfig(**config.model_dump(exclude_unset=True)), directory=tmp_path) == record


@pytest.mark.slow
def test_more_epochs_go_on_from_a_finished_run_to_the_bits_of_one_that_was_always_longer(
    small_folder: Path, tmp_path: Path
) -> None:
    settings = small_config(dataset=str(small_folder), dropout=0.2, threads=1, momentum=0.5).model_dump()
    settings = {name: value for name, value in settings.items() if name != "epochs"}

    def records(folder: str, *epochs: int) -> RunRecord:
        for count in epochs:
            said.clear()
            sweep = Sweep("s", settings={**settings, "epochs": count})
            (record,) = run_sweep(plan(sweep, tmp_path / folder), notice=said.append)
        return record

    said: list[str] = []
    always = records("always", 3)
    assert said == []
    longer = records("longer", 1, 2, 3)
    assert len(said) == 1
    assert said[0].endswith("after epoch 2")
    assert (always.status, always.times_resumed, longer.status, longer.times_resumed) == ("ok", 0, "ok", 2)
    runs = [tmp_path / folder / "s" / "runs" / always.run_id for folder in ("always", "longer")]
    histories = [[(row.train_loss, row.valid_loss, row.test_loss) for row in read_epochs(run)] for run in runs]
    assert len(histories[0]) == 3
    assert histories[0] == histories[1]
    for name in ("best.params", "checkpoint/epoch-3.params", "checkpoint/epoch-3.states"):
        assert runs[0].joinpath(name).read_bytes() == runs[1].joinpath(name).read_bytes(), name
    # The shorter runs are as they were.
    assert len(load_results(tmp_path / "longer" / "s")) == 3
    assert [row.epoch for row in read_epochs(tmp_path / "longer" / "s" / "runs" / records("longer", 1).run_id)] == [1]


@pytest.mark.slow
def test_a_pool_of_cpu_contexts_has_one_worker_on_each_and_the_results_of_one(
    small_folder: Path, tmp_path: Path
) -> None:
    settings = small_config(dataset=str(small_folder), epochs=1, batch_size=8, dropout=0.0, threads=1).model_dump()
    sweep = Sweep("pool", settings={**settings, "device": "auto"}, axes={"cell": ("lstm", "gru")})
    together: list[list[str]] = []

    class Watching(Display):
        def running(self, jobs: Sequence[Job]) -> None:
            together.append([single for job in jobs for single in job.config.devices])

    def records(device: str) -> list[RunRecord]:
        together.clear()
        found = run_sweep(plan(sweep, tmp_path / device, device=device), display=Watching())
        assert {record.status for record in found} == {"ok"}
        assert all(len(set(busy)) == len(busy) for busy in together)
        return found

    pool = records("cpu:1,cpu:2")
    assert {record.config.device for record in pool} == {"cpu:1", "cpu:2"}
    assert ["cpu:1", "cpu:2"] in [sorted(busy) for busy in together]
    pairs = records("cpu:0+cpu:1")
    assert {record.config.device for record in pairs} == {"cpu:0+cpu:1"}
    for one, several in zip(pool, pairs, strict=True):
        assert one.run_id != several.run_id
        assert several.valid_loss == pytest.approx(one.valid_loss, abs=1e-6)
        assert several.train_perplexity == pytest.approx(one.train_perplexity, rel=1e-6)
        assert (several.train_tokens, several.parameters) == (one.train_tokens, one.parameters)


@pytest.mark.slow
def test_a_training_that_fails_raises_its_reason_and_the_end_of_its_log(small_folder: Path) -> None:
    with pytest.raises(RuntimeError) as raised:
        train(small_config(dataset=str(small_folder), cell="tests.cells_for_tests:Telling"))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("failed: FileNotFoundError: no weights in")
    assert any(line.startswith("Traceback") for line in lines[1:])
    assert len(lines) <= 41


def test_train_refuses_what_cannot_run() -> None:
    with pytest.raises(UserError, match="neither a known name nor a folder"):
        train(small_config(dataset="/nowhere/at/all"))


def test_tf32_is_refused_where_there_is_none(small_folder: Path, tmp_path: Path) -> None:
    sweep = Sweep("s", pinned=small_config(dataset=str(small_folder), precision="tf32", device="auto").model_dump())
    with pytest.raises(UserError, match="precision=tf32 needs a GPU; use precision=float32 on a CPU"):
        plan(sweep, tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"precision=tf32 needs GPUs of compute capability 8\.0 or newer"):
        plan(sweep, tmp_path, device="gpu", machine=machine((7, 5)))
    both = machine((7, 5), (8, 0))
    assert plan(sweep, tmp_path, device="gpu:1", machine=both).missing
    with pytest.raises(UserError, match=r"precision=tf32 needs GPUs of compute capability 8\.0 or newer"):
        plan(sweep, tmp_path, device="gpu:0,gpu:1", machine=both)
    (job,) = plan(sweep, tmp_path, device="gpu", machine=machine((8, 0))).missing
    assert job.config.precision == "tf32"


def test_float16_is_refused_where_there_is_none(small_folder: Path, tmp_path: Path) -> None:
    sweep = Sweep("s", pinned=small_config(dataset=str(small_folder), precision="float16", device="auto").model_dump())
    with pytest.raises(
        UserError, match=r"precision=float16 needs a GPU: MXNet 1\.9\.1 has no float16 products on a CPU;"
    ):
        plan(sweep, tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"precision=float16 needs GPUs of compute capability 7\.0 or newer"):
        plan(sweep, tmp_path, device="gpu", machine=machine((6, 1)))
    assert plan(sweep, tmp_path, device="gpu", machine=machine((7, 0))).missing


def test_what_no_gpu_has_the_memory_for_is_refused_and_what_may_not_fit_is_mentioned(
    small_folder: Path, tmp_path: Path
) -> None:
    """The GPUs have 8 GiB each."""
    on_gpu: dict[str, object] = {"dataset": str(small_folder), "device": "auto"}
    said: list[str] = []
    sweep = Sweep("s", pinned=small_config(hidden_size=9000, **on_gpu).model_dump(exclude_unset=True))
    with pytest.raises(
        UserError,
        match=r"lstm of 9000 units takes about [\d,]+ MiB of a GPU, and the largest here has 8,192; hidden_size=4500 ",
    ):
        plan(sweep, tmp_path, device="gpu", machine=machine((8, 0), (8, 0)), notice=said.append)
    assert said == []
    assert plan(sweep, tmp_path, device="cpu", notice=said.append).missing
    close = Sweep("s", pinned=small_config(hidden_size=5400, **on_gpu).model_dump(exclude_unset=True))
    assert plan(close, tmp_path, device="gpu", machine=machine((8, 0)), notice=said.append).missing
    assert [line for line in said if "it may not fit; hidden_size=2700 would take about" in line]


def test_a_blas_that_is_none_is_refused_before_anything_starts(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUON_RNN_BLAS", "atlas")
    with pytest.raises(UserError, match="GLUON_RNN_BLAS='atlas' is not a library: choose mkl, openblas, mxnet or"):
        plan(Sweep("s", pinned={"dataset": str(small_folder)}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_refused_where_it_cannot_work(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = Sweep(
        "s", pinned=small_config(dataset=str(small_folder), precision="bfloat16", device="auto").model_dump()
    )
    gains, gains_nothing = (lambda threads: [Measured("mkl", 300.0, 900.0)]), (lambda threads: [Measured("mkl", 300.0)])
    monkeypatch.setattr(checks, "measure_libraries", gains)
    with pytest.raises(UserError, match="precision=bfloat16 needs a CPU"):
        plan(lowered, tmp_path, device="gpu", machine=machine((8, 0)))
    (job,) = plan(lowered, tmp_path, device="cpu").missing
    monkeypatch.setattr(checks, "measure_libraries", gains_nothing)
    with pytest.raises(
        UserError, match=r"precision=bfloat16 is not available: only Intel's MKL .*; use precision=float32"
    ):
        plan(lowered, tmp_path, device="cpu")
    # What was measured elsewhere can still be read and counted as done.
    (tmp_path / "s" / "runs" / job.run_id).mkdir(parents=True)
    finish(job, tmp_path / "s" / "runs" / job.run_id)
    assert plan(lowered, tmp_path, device="cpu").missing == ()
