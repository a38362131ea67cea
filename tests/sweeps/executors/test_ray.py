"""Runs on a real Ray cluster of this machine: a head without cores, and two raylets that stand for two machines."""

from __future__ import annotations

import copy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn import UserError, plan_sweep, run_sweep
from gluon_rnn.config.identity import source_sha1
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.runs.epochs import read_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.records import RunRecord, read_record
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors import Ended, ExecutorOptions
from gluon_rnn.sweeps.executors import ray as ray_module
from gluon_rnn.sweeps.executors.local import LocalExecutor
from gluon_rnn.sweeps.executors.mirror import Change
from gluon_rnn.sweeps.executors.node import Update
from gluon_rnn.sweeps.executors.ray import Node, RayExecutor
from tests.cli.test_cli import CHECKOUT, RUN_SWEEP, SETTINGS, environment, refusal, wait_for, workers_of, write_sweep
from tests.conftest import AWD
from tests.runs.test_records import make_job
from tests.sweeps.executors.test_local import is_alive
from tests.sweeps.test_sweep import machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(map(str.isspace, sys.executable)), reason="Ray cannot start workers with a Python whose path has blanks"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _path_as_it_was() -> Iterator[None]:
    """Importing Ray puts a folder with modules of its own first on Python's path, which tests after these look at."""
    before = [*sys.path]
    yield
    sys.path[:] = before


#: Room for one run at a time, which a cluster takes as the number of its places.
HERE = Slot("cpu", describe_machine().cpu_name, "cpu")

#: What differs between two runs that came out alike.
TIMES = {
    "tokens_per_second",
    "sequences_per_second",
    "step_ms_p50",
    "step_ms_p95",
    "train_seconds",
    "evaluation_seconds",
    "wall_seconds",
    "peak_rss_mb",
    "started_at",
}
#: So many that a run is far from its end when its first checkpoint has come back.
MANY_EPOCHS = 20


def silent(running: Sequence[Job]) -> None:
    """Watch nothing."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # Ray's sockets lie in it, whose names may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=2)
            yield cluster
        finally:
            cluster.shutdown()
            for path in (folder, *folders_of("ray-whole")):
                shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def joined(cluster: Any, said: list[str]) -> Iterator[RayExecutor]:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        # Of this process, not of the nodes', and told in every row.
        patch.setenv("GOMP_SPINCOUNT", "100")
        with closing(RayExecutor(ExecutorOptions(cluster.address, notice=said.append))) as executor:
            assert signal.getsignal(signal.SIGTERM) is handler
            yield executor


@pytest.fixture
def executor(joined: RayExecutor, said: list[str]) -> RayExecutor:
    """The cluster's, which a test may change."""
    said.clear()
    return copy.copy(joined)


def locally(jobs: Sequence[Job], folder: Path) -> list[Ended]:
    return list(LocalExecutor().run(jobs, folder, slots=[HERE], watch=silent))


def record_of(job: Job, folder: Path) -> RunRecord:
    record = read_record(folder / job.run_id)
    assert record
    return record


def assert_alike(job: Job, here: Path, there: Path) -> None:
    """One run in two folders: all that is measured but time, to the bit."""
    one, other = (
        record_of(job, folder).model_dump(exclude=TIMES | {"history", "sessions", "times_resumed"})
        for folder in (here, there)
    )
    assert one == other
    assert one["status"] == "ok"
    epochs = [
        [
            replace(epoch, tokens_per_second=None, seconds=0.0, evaluation_seconds=0.0, session=None)
            for epoch in read_epochs(folder / job.run_id)
        ]
        for folder in (here, there)
    ]
    assert epochs[0] == epochs[1]
    assert len(epochs[0]) == job.config.epochs
    assert (here / job.run_id / "best.params").read_bytes() == (there / job.run_id / "best.params").read_bytes()


def raylet_of(process: int) -> int:
    """The raylet whose worker has started `process`."""
    for _ in range(2):
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process


def workers_at(run_id: str) -> list[int]:
    """The processes that work at a run, wherever that is."""
    return [
        process
        for process in workers_of(Path(tempfile.gettempdir()))
        if f"/{run_id}\0".encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    ]


def has_done_an_epoch(directory: Path) -> bool:
    """Whether its checkpoint has come back, and the line of the log that is written next."""
    log = directory / "log.txt"
    done = log.exists() and "[epoch 1] throughput" in log.read_text()
    return done and (directory / "checkpoint" / "state.json").exists()


def folders_of(run_id: str) -> set[Path]:
    """What nodes have of a run."""
    return set(Path(tempfile.gettempdir()).glob(f"gluon-rnn-{run_id}-*"))


def complete(corpus: CorpusFiles, run_id: str, **settings: object) -> Job:
    """A job as a plan would make it for this machine."""
    job = make_job(corpus, run_id=run_id, threads=1, **settings)
    here = describe_machine()
    versions = {f"{name}_version": version for name, version in ray_module.library_versions().items()}
    origin = {"host": here.host, "machine_id": here.machine_id, "device_name": here.cpu_name, **versions}
    return job.model_copy(update={"origin": job.origin.model_copy(update=origin)})


@pytest.fixture(scope="module")
def whole(joined: RayExecutor, tmp_path_factory: pytest.TempPathFactory, small_corpus: CorpusFiles) -> tuple[Job, Path]:
    """A run that was never stopped, and where it is."""
    job, folder = complete(small_corpus, "ray-whole", epochs=MANY_EPOCHS), tmp_path_factory.mktemp("whole")
    locally([job], folder)
    return job, folder


def test_runs_are_those_of_this_machine_to_the_bit(
    executor: RayExecutor,
    said: list[str],
    tmp_path: Path,
    small_corpus: CorpusFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = tmp_path / "user"
    user.mkdir()
    shutil.copy(CHECKOUT / "tests" / "cells_for_tests.py", user / "own_cells.py")
    # What it imports from beside it must come along, and be all that its digest is of.
    (user / "beside_it.py").touch()
    with (user / "own_cells.py").open("a") as source:
        source.write("\nimport beside_it\n")
    monkeypatch.chdir(user)
    jobs = [
        complete(small_corpus, cell, cell=f"own_cells:{cell}", **AWD, random_bptt=True).model_copy(
            update={"cell_sha1": source_sha1("own_cells:OwnCell")}
        )
        for cell in ("OwnCell", "Crashing")
    ]
    fine, crashing = (job.run_id for job in jobs)
    locally(jobs[:1], tmp_path / "local")
    shutil.copytree(str(small_corpus.folder), user / "text")
    # No node works in this folder, so that the text must come to it.
    away = [job.model_copy(update={"corpus": replace(small_corpus, folder=Path("text"))}) for job in jobs]
    seen: set[str] = set()
    ended = {
        item.job.run_id: item
        for item in executor.run(
            away, tmp_path / "ray", slots=[HERE], watch=lambda running: seen.update(j.run_id for j in running)
        )
    }
    assert (ended[fine].status, ended[fine].reason) == (None, "")
    assert_alike(jobs[0], tmp_path / "local", tmp_path / "ray")
    there = tmp_path / "ray" / fine
    names = sorted(path.name for path in there.iterdir())
    assert names == [
        *("best.params", "checkpoint", "config.json", "epochs.csv", "log.txt", "record.json", "vocabulary.json")
    ]
    assert (there / "log.txt").read_text().splitlines()[-1].endswith("ended: ok")
    assert (ended[crashing].status, ended[crashing].reason) == ("failed", "the worker was ended by SIGSEGV")
    assert "own_cells.py" in (tmp_path / "ray" / crashing / "log.txt").read_text()
    assert seen == {job.run_id for job in jobs}
    assert said == []


def test_a_node_that_dies_costs_no_more_than_an_epoch(
    cluster: Any,
    executor: RayExecutor,
    said: list[str],
    tmp_path: Path,
    whole: tuple[Job, Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    job, uninterrupted = whole
    directory = tmp_path / "ray" / job.run_id
    orphans: list[int] = []

    def kill(running: Sequence[Job]) -> None:
        if running and not orphans and has_done_an_epoch(directory):
            orphans.extend(workers_at(job.run_id))
            raylet = raylet_of(orphans[0])
            (node,) = [node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == raylet]
            cluster.remove_node(node, allow_graceful=False)

    try:
        (ended,) = executor.run([job], tmp_path / "ray", slots=[HERE], watch=kill)
    finally:
        cluster.add_node(num_cpus=2)
    assert (ended.status, ended.reason) == (None, "")
    assert_alike(job, uninterrupted, tmp_path / "ray")
    # Ray's own lines about it are not among the sweep's.
    assert capfd.readouterr() == ("", "")
    (line,) = said
    assert line.startswith(f"run {job.run_id}: its node was lost (")
    assert line.endswith("); starting it again, 1 of 3 times")
    log = (directory / "log.txt").read_text()
    assert log.count(f"{job.run_id}: lstm") == 2
    assert log.count("[epoch 1] throughput") == 1
    wait_for(lambda: not workers_at(job.run_id))


@pytest.mark.parametrize("first", ["local", "ray"])
def test_a_sweep_that_was_stopped_goes_on_with_the_other_executor(
    executor: RayExecutor, tmp_path: Path, whole: tuple[Job, Path], first: str
) -> None:
    job, uninterrupted = whole
    directory = tmp_path / "both" / job.run_id
    local = LocalExecutor()

    class CtrlC(Exception):
        pass

    def stop(running: Sequence[Job]) -> None:
        if has_done_an_epoch(directory):
            assert workers_at(job.run_id)
            raise CtrlC

    # A node that died, in another test, could not clean up.
    left = folders_of(job.run_id)
    one, other = (local, executor) if first == "local" else (executor, local)
    with pytest.raises(CtrlC):
        list(one.run([job], tmp_path / "both", slots=[HERE], watch=stop))
    # Stopped in order: nothing need be waited for.
    assert not workers_at(job.run_id)
    assert folders_of(job.run_id) == left
    assert not (directory / "record.json").exists()
    (ended,) = other.run([job], tmp_path / "both", slots=[HERE], watch=silent)
    assert ended.status is None
    assert_alike(job, uninterrupted, tmp_path / "both")
    assert (directory / "log.txt").read_text().count("[epoch 1] throughput") == 1


def test_two_runs_never_share_a_gpu(
    cluster: Any, executor: RayExecutor, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held"
    held.mkdir()

    # Ray's resources are real, the boards are not: a run holds a file of its GPU's name until both have been held.
    def run_task(job: Job, start: Change, corpus: object, modules: object, timeout: object) -> Iterator[Update]:
        import os
        import time

        gpu = os.environ["CUDA_VISIBLE_DEVICES"]
        (held / gpu).open("x").close()
        (held / f"ever-{gpu}").touch()
        job = job.model_copy(update={"config": job.config.model_copy(update={"device": f"gpu:{gpu}"})})
        yield Update(job, Change(files={"gpu": gpu.encode()}))
        while len(list(held.glob("ever-*"))) < 2:
            time.sleep(0.01)
        (held / gpu).unlink()
        yield Update(job, Change(), Ended(job, "failed", "was none", 0.0))

    node = cluster.add_node(num_cpus=2, num_gpus=2)
    try:
        monkeypatch.setattr(ray_module, "_run_task", run_task)
        executor.nodes = (Node(machine((8, 0), (8, 0)), 2, 2),)
        jobs = [make_job(small_corpus, run_id=f"{number:012}", device="gpu") for number in range(5)]
        ended = list(executor.run(jobs, tmp_path, slots=[HERE], watch=silent))
    finally:
        cluster.remove_node(node)
    assert [item.reason for item in ended] == ["was none"] * 5
    assert {(tmp_path / job.run_id / "gpu").read_text() for job in jobs} == {"0", "1"}


class WithTime:
    """Ray, except that a wait for tasks to stop in order ends when the last has been told and one has ended."""

    def __init__(self, ray: Any, told: Sequence[Path]) -> None:
        self._ray = ray
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ray, name)

    def wait(self, references: Sequence[Any], *, num_returns: int, timeout: float) -> Any:
        if timeout != ray_module._GRACE_SECONDS:
            return self._ray.wait(references, num_returns=num_returns, timeout=timeout)
        wait_for(lambda: all(path.exists() for path in self._told))
        return self._ray.wait(references, num_returns=1)


def test_leaving_stops_runs_in_order_and_those_that_will_not_by_force(
    executor: RayExecutor, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither ends by itself; only the first is content to be told so.
    def run_task(job: Job, *arguments: object) -> Iterator[Update]:
        import os
        import time

        yield Update(job, Change(files={"process": str(os.getpid()).encode()}))
        while True:
            try:
                (tmp_path / f"{job.run_id} listens").touch()
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                (tmp_path / f"{job.run_id} was told").touch()
                if job.run_id == "obedient":
                    raise

    class CtrlC(Exception):
        pass

    def stop(running: Sequence[Job]) -> None:
        if len(running) == 2 and all((tmp_path / f"{name} listens").exists() for name in names):
            raise CtrlC

    monkeypatch.setattr(ray_module, "_run_task", run_task)
    names = ("obedient", "stubborn")
    executor._ray = WithTime(executor._ray, [tmp_path / f"{name} was told" for name in names])
    jobs = [make_job(small_corpus, run_id=name, threads=1) for name in names]
    with pytest.raises(CtrlC):
        list(executor.run(jobs, tmp_path, slots=[HERE], watch=stop))
    assert (tmp_path / "obedient was told").exists()
    stubborn = int((tmp_path / "stubborn" / "process").read_text())
    wait_for(lambda: not is_alive(stubborn))


def test_a_run_that_is_given_up_is_stopped_on_its_node(
    executor: RayExecutor, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_task(job: Job, *arguments: object) -> Iterator[Update]:
        import time

        yield Update(job, Change(log=b"an epoch\n"))
        try:
            while job.run_id == "bad" or not (tmp_path / "go").exists():
                time.sleep(0.01)
        except KeyboardInterrupt:
            (tmp_path / "told").touch()
            raise
        yield Update(job, Change(), Ended(job, None, "", 1.0))

    def prune(running: Sequence[Job]) -> dict[str, str]:
        begun = [job.run_id for job in running if (tmp_path / job.run_id / "log.txt").exists()]
        return {"bad": "it is behind"} if sorted(begun) == ["bad", "good"] else {}

    monkeypatch.setattr(ray_module, "_run_task", run_task)
    jobs = [make_job(small_corpus, run_id=name, threads=1) for name in ("bad", "good")]
    events = executor.run(jobs, tmp_path, slots=[HERE], watch=silent, prune=prune)
    first = next(events)
    assert (first.job.run_id, first.status, first.reason) == ("bad", "pruned", "it is behind")
    assert (tmp_path / "told").exists()
    (tmp_path / "go").touch()
    assert [(ended.job.run_id, ended.status) for ended in events] == [("good", None)]


def test_a_run_on_a_node_that_lives_is_not_made_again(
    executor: RayExecutor, said: list[str], tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_task(job: Job, *arguments: object) -> Iterator[Update]:
        yield Update(job, Change(log=b"began\n"))
        raise OSError("no space left on the node")

    monkeypatch.setattr(ray_module, "_run_task", run_task)
    job = make_job(small_corpus)
    (ended,) = executor.run([job], tmp_path, slots=[HERE], watch=silent)
    assert (ended.status, ended.reason) == ("failed", "OSError on its node: no space left on the node")
    assert (tmp_path / job.run_id / "log.txt").read_text() == "began\n"
    assert said == []


def test_a_run_whose_node_is_lost_again_and_again_has_failed(
    executor: RayExecutor, said: list[str], tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_task(job: Job, start: Change, *arguments: object) -> Iterator[Update]:
        import os
        import signal
        import time

        attempt = int(start.files.get("checkpoint/state.json", b"0")) + 1
        yield Update(job, Change(files={"checkpoint/state.json": str(attempt).encode()}))
        while not state.exists() or state.read_text() != str(attempt):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    job = make_job(small_corpus)
    state = tmp_path / job.run_id / "checkpoint" / "state.json"
    monkeypatch.setattr(ray_module, "_run_task", run_task)
    (ended,) = executor.run([job], tmp_path, slots=[HERE], watch=silent)
    assert ended.status == "failed"
    assert ended.reason == "its node was lost 4 times, the last time by WorkerCrashedError"
    assert [line.partition("; ")[2] for line in said] == [f"starting it again, {n} of 3 times" for n in (1, 2, 3)]
    # Each was given the checkpoint of the one before.
    assert state.read_text() == "4"


def test_a_node_that_joins_is_used_and_one_that_never_comes_is_not_waited_for(
    cluster: Any, executor: RayExecutor, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_task(job: Job, *arguments: object) -> Iterator[Update]:
        yield Update(job, Change(), Ended(job, "failed", f"got {job.threads} threads", 0.0))

    monkeypatch.setattr(ray_module, "_run_task", run_task)
    monkeypatch.setattr(ray_module, "_LOOK_SECONDS", 0.1)
    # The nodes as they were when the sweep began.
    executor.nodes = (*executor.nodes, Node(machine(), 3, 0), Node(machine(), 5, 0))
    added: list[Any] = []

    def join(running: Sequence[Job]) -> None:
        if not added:
            added.append(cluster.add_node(num_cpus=3))

    try:
        (ended,) = executor.run([make_job(small_corpus, threads=3)], tmp_path, slots=[HERE], watch=join)
        assert ended.reason == "got 3 threads"
    finally:
        cluster.remove_node(added[0])
    monkeypatch.setattr(ray_module, "_PATIENCE_SECONDS", 0.2)
    (ended,) = executor.run([make_job(small_corpus, threads=5)], tmp_path, slots=[HERE], watch=silent)
    assert (ended.status, ended.reason) == ("failed", "no node is left in the Ray cluster that could hold it")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"threads": 3},
            "no node of the Ray cluster has the 3 cores that a run needs; the largest has 2 cores and 0 GPUs: lower "
            "threads, or add a node",
        ),
        (
            {"device": "gpu"},
            "no node of the Ray cluster has the 2 cores and a GPU that a run needs; the largest has 2 cores and 0 "
            "GPUs: lower threads, or add a node",
        ),
        (
            {"device": "gpu:1"},
            "device gpu:1 cannot be requested from a Ray cluster, which chooses them; use gpu",
        ),
    ],
)
def test_what_no_node_can_hold_is_refused_before_anything_starts(
    executor: RayExecutor, small_corpus: CorpusFiles, settings: dict[str, object], line: str
) -> None:
    with pytest.raises(UserError) as raised:
        executor.place([make_job(small_corpus), make_job(small_corpus, **settings)], [HERE])
    assert str(raised.value) == line


@pytest.mark.parametrize("listed", ["cpu:0", "cpu:1", "cpu:0+cpu:1", "cpu:0+cpu:1,cpu:2+cpu:3"])
def test_a_plan_for_devices_that_a_cluster_does_not_choose_is_refused(
    executor: RayExecutor, tmp_path: Path, small_folder: Path, listed: str
) -> None:
    """As Python can ask for; it would run on one."""
    sweep = Sweep("grid", settings={**SETTINGS, "dataset": str(small_folder), "device": "auto"})
    plan = plan_sweep(sweep, results=tmp_path, device=listed, machine=executor.machine)
    device = plan.jobs[0].config.device
    with pytest.raises(UserError) as raised:
        run_sweep(plan, executor=executor)
    assert not (tmp_path / "grid").exists()
    assert str(raised.value) == f"device {device} cannot be requested from a Ray cluster, which chooses them; use cpu"


@pytest.mark.parametrize(
    # A node of 6 cores, and one of 14 with three GPUs.
    ("jobs", "cpu", "gpu", "slots"),
    [(None, 6, 4, 3), (1, 6, 14, 1), (2, 6, 7, 2), (3, 3, 4, 3), (5, 2, 4, 5), (40, 1, 4, 20)],
)
def test_a_run_has_its_share_of_the_smallest_node(
    executor: RayExecutor, small_corpus: CorpusFiles, jobs: int | None, cpu: int, gpu: int, slots: int
) -> None:
    few, many = machine(cores=8), machine((8, 0), (8, 0), cores=16)
    executor.nodes = (Node(few, 6, 0), Node(many, 14, 3))
    executor._jobs = jobs
    of_cpu, of_gpu = make_job(small_corpus), make_job(small_corpus, device="gpu")
    assert executor._threads(of_cpu) == cpu
    assert executor._threads(of_gpu) == gpu
    assert executor._threads(make_job(small_corpus, threads=5)) == 5
    assert len(executor.place([of_cpu], [])[0]) == slots
    assert executor.machine.cores == 6
    assert len(executor.machine.gpus) == 2


def test_other_libraries_on_a_node_are_refused(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray_module.library_versions()
    monkeypatch.setattr(ray_module, "library_versions", lambda: {**here, "gluonnlp": "0.9"})
    with pytest.raises(
        UserError, match=r"^node .* has gluonnlp 0\.10\.0, and this machine 0\.9; install the same on b"
    ):
        ray_module._describe_nodes(executor._ray)


def test_a_python_by_which_ray_starts_no_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/a folder/python")
    with pytest.raises(UserError, match=r"^Ray cannot start workers with a Python whose path contains blanks"):
        RayExecutor()


def test_one_process_joins_one_cluster(cluster: Any, executor: RayExecutor) -> None:
    with pytest.raises(UserError, match=r"^Ray is at work in this process already; call ray\.shutdown\(\) first$"):
        RayExecutor(ExecutorOptions(cluster.address))


def test_the_command_line_runs_on_a_cluster_and_goes_on_with_one_of_its_own(
    cluster: Any, tmp_path: Path, small_folder: Path
) -> None:
    settings = {**SETTINGS, "dataset": str(small_folder), "threads": 1, "epochs": MANY_EPOCHS}
    command = [*RUN_SWEEP, str(write_sweep(tmp_path / "one.yaml", {"set": settings})), "--executor", "ray"]
    home = tmp_path / "home"
    home.mkdir()
    for module in ("pydantic", "yaml"):  # no node takes them for others
        (tmp_path / f"{module}.py").write_text("raise SystemExit('shadowed')\n")

    def start(**more: str) -> subprocess.Popen[str]:
        env = environment(HOME=str(home), RAY_TMPDIR=str(Path(cluster.head_node.get_temp_dir_path()).parent), **more)
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    process = start(RAY_ADDRESS=cluster.address)
    results = tmp_path / "results" / "one"
    wait_for(lambda: any(map(has_done_an_epoch, results.glob("runs/*"))))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    # Two raylets of two cores, for runs of one thread; and nothing of Ray's between the sweep's lines.
    (run,) = results.glob("runs/*")
    assert out.splitlines() == [
        "one: 1 point, 0 done already, 1 to run on cpu, 4 at a time; results in results/one",
        f"started cell=lstm bptt=5 hidden_size=8 (run {run.name})",
    ]
    assert err.splitlines()[:2] == [
        "",
        "stopped; the finished runs are in results/one. To resume, run the same command again:",
    ]
    assert len(err.splitlines()) == 3
    assert not workers_at(run.name)
    process = start()
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0].endswith("0 done already, 1 to run on cpu, 2 at a time; results in results/one")
    log = (run / "log.txt").read_text()
    assert (log.count(": lstm, hidden"), log.count("[epoch 1] throughput")) == (2, 1)
    # Ray leaves a token for all clusters to come, unless it is given one.
    assert not (home / ".ray").exists()


def test_what_is_wrong_with_a_cluster_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ray(*arguments: str) -> str:
        return refusal(capsys, "sweep", "--executor", "ray", *arguments)

    monkeypatch.setattr(ray_module, "_ANSWER_SECONDS", 3.0)
    assert ray("--ray-address", "127.0.0.1:9") == (
        "error: no Ray cluster answers at 127.0.0.1:9 (no word within 3 s); start one with ray start --head, or name "
        "another --ray-address"
    )
    monkeypatch.setattr(ray_module, "_ANSWER_SECONDS", 60.0)
    line = ray("--ray-address", "nonsense")
    assert line.startswith("error: no Ray cluster answers at nonsense (ValueError: Invalid address format: nonsense);")
    assert ray("--ray-address", "ray://here:10001").startswith("error: ray://here:10001 is a Ray Client's address")
    assert ray("--device", "gpu:0,gpu:1").startswith(
        "error: --device gpu:0,gpu:1 cannot be requested from a Ray cluster"
    )
    line = refusal(capsys, "sweep", "--ray-address", "here:6379")
    assert line == "error: --ray-address needs --executor ray; add it or drop the address"
    monkeypatch.setitem(sys.modules, "ray", None)
    assert ray() == "error: --executor ray needs Ray; pip install 'gluon_rnn[ray]', on every node"
