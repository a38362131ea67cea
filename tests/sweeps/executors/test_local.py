"""Worker processes: one to a slot, stopped in order, and their ends understood.

The workers here are shell scripts; `sys.executable` is how a real one is started, so it is replaced.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import unnumbered
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.job import Job
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors import Ended, ExecutorOptions, local
from gluon_rnn.sweeps.executors.local import LocalExecutor
from tests.runs.test_records import make_job

CPU = Slot("cpu", "a processor", "cpu")
#: Said by every worker: what it was started with.
HELLO = 'echo "$CUDA_VISIBLE_DEVICES|$OMP_NUM_THREADS|$(pwd)" >> "$3/hello"\n'

Worker = Callable[[str], None]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Gives every worker a body: a shell script whose ``$3`` is the run's directory."""

    def give(body: str) -> None:
        script = tmp_path / "worker.sh"
        script.write_text(f"#!/bin/sh\n{HELLO}{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        # Nothing is preloaded into the shell.
        monkeypatch.setenv("GLUON_RNN_TUNING", "off")

    return give


def run(executor: LocalExecutor, jobs: Iterable[Job], folder: Path, *, slots: Sequence[Slot] = (CPU,)) -> list[Ended]:
    return list(executor.run(jobs, folder, slots=slots, watch=lambda running: None))


def make_jobs(corpus: CorpusFiles, count: int, **settings: object) -> list[Job]:
    return [make_job(corpus, run_id=f"{number:012}", **settings) for number in range(count)]


def is_alive(process: int) -> bool:
    try:
        # A zombie, whose parent has not looked yet, is dead.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds; for as long as the test may take."""
    while not condition():
        time.sleep(0.02)


def test_a_worker_holds_what_the_sweep_lets_it_inherit(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    """Its lock; nothing else."""
    worker('ls -l /proc/$$/fd > "$3/open"')
    with (tmp_path / "lock").open("w") as lock, (tmp_path / "other").open("w"):
        os.set_inheritable(lock.fileno(), True)
        (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    listed = (tmp_path / ended.job.run_id / "open").read_text()
    assert str(tmp_path / "lock") in listed
    assert str(tmp_path / "other") not in listed


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EAGAIN, "Resource temporarily unavailable; end other programs, or raise the limit of processes"),
        (errno.ENOMEM, "Cannot allocate memory; end other programs, or raise the limit of memory"),
        (errno.EMFILE, "Too many open files; raise the limit of open files"),
        (errno.E2BIG, "Argument list too long"),
    ],
)
def test_a_worker_that_is_not_started_ends_the_sweep_with_the_reason(
    worker: Worker,
    tmp_path: Path,
    small_corpus: CorpusFiles,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    line: str,
) -> None:
    """And stops those that run."""
    worker("exec sleep 600")
    popen, started = subprocess.Popen, []

    def start(*arguments: Any, **options: Any) -> Any:
        if started:
            raise OSError(number, os.strerror(number))
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(UserError) as raised:
        run(LocalExecutor(), make_jobs(small_corpus, 2), tmp_path, slots=[CPU, CPU])
    assert str(raised.value).startswith(f"cannot start a worker: {line}")
    assert started[0].returncode == -signal.SIGTERM


def test_an_interpreter_that_is_gone_is_named(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("GLUON_RNN_TUNING", "off")
    with pytest.raises(UserError) as raised:
        run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert str(raised.value) == f"cannot start a worker: {tmp_path / 'python'}: No such file or directory"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("kill -SEGV $$", "the worker was ended by SIGSEGV"),
        ("kill -KILL $$", "the worker was ended by SIGKILL"),
        ("exit 0", "the worker ended with status 0 and no record, and said nothing"),
        (
            "echo first; printf '\\033[31mlast\\033[0m\\n\\n'; exit 3",
            "the worker ended with status 3 and no record; the last line of its log: [31mlast[0m",
        ),
    ],
)
def test_a_worker_that_dies_is_a_failure_with_its_reason(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, body: str, reason: str
) -> None:
    worker(body)
    (tmp_path / f"{0:012}").mkdir()
    (tmp_path / f"{0:012}" / "log.txt").write_text("MemoryError, said an earlier attempt\n")
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == ("failed", reason)


def test_a_worker_that_had_no_memory_even_for_its_record_is_told_by_its_log(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker("echo MemoryError; echo and more; exit 1")
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert ended.status == "oom"
    assert ended.reason == "the worker ended with status 1 and no record; the last line of its log: and more"


def test_a_record_speaks_for_a_worker_that_crashes_on_its_way_out(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker('touch "$3/record.json"; kill -SEGV $$')
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == (None, "")


def test_a_kill_by_the_kernel_is_want_of_memory(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker("kill -KILL $$")
    kills = iter([4, 5])
    monkeypatch.setattr(local, "_kernel_memory_kills", lambda: next(kills))
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == ("oom", "killed by the kernel, which had run out of memory")


def test_a_worker_that_takes_too_long_is_stopped_with_its_children(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker('sleep 600 & echo $! > "$3/child"; wait')
    (ended,) = run(LocalExecutor(ExecutorOptions(timeout=0.3)), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == ("timeout", "stopped after the timeout of 0.3 s")
    assert ended.seconds >= 0.3
    child = int((tmp_path / ended.job.run_id / "child").read_text())
    wait_for(lambda: not is_alive(child))


@pytest.mark.slow
@pytest.mark.parametrize("silence", ["exec sleep 600", "kill -STOP $$"])
def test_a_worker_that_shows_no_sign_of_life_is_stopped(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, silence: str
) -> None:
    # First it writes on for longer than it may be silent: to the log, then by putting a new file in place.
    worker(
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo $i; done\n"
        'for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo > "$3/new"; mv "$3/new" "$3/progress.json"; done\n' + silence
    )
    (ended,) = run(LocalExecutor(ExecutorOptions(stall_timeout=0.7)), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == ("timeout", "stopped after 0.7 s without a sign of life")
    assert ended.seconds >= 2.3


def test_a_worker_that_floods_its_log_is_stopped(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LOG_LIMIT_MB", 1)
    # What an earlier attempt wrote does not count.
    (tmp_path / f"{0:012}").mkdir()
    (tmp_path / f"{0:012}" / "log.txt").write_bytes(bytes(3 << 20))
    worker('if [ -e "$3/../flood" ]; then yes; fi; exit 4')
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert "status 4" in ended.reason
    (tmp_path / "flood").touch()
    (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    assert (ended.status, ended.reason) == ("failed", "stopped because its log.txt had grown by more than 1 MB")


def test_a_worker_that_will_not_stop_is_killed(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_SECONDS", 0.2)
    worker("trap '' TERM; while :; do sleep 0.05; done")
    (ended,) = run(LocalExecutor(ExecutorOptions(timeout=0.3)), make_jobs(small_corpus, 1), tmp_path)
    assert ended.status == "timeout"


def test_a_worker_that_finished_in_time_is_no_timeout(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker("exit 3")
    monkeypatch.setattr(local, "_POLL_SECONDS", 0.3)
    (ended,) = run(LocalExecutor(ExecutorOptions(timeout=0.2)), make_jobs(small_corpus, 1), tmp_path)
    assert ended.status == "failed"


def test_leaving_stops_what_runs_and_starts_nothing_more(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker('echo $$ > "$3/pid"; exec sleep 600')
    jobs = make_jobs(small_corpus, 3)
    pids: list[int] = []

    class CtrlC(Exception):
        pass

    def watch(running: Sequence[Job]) -> None:
        files = [tmp_path / job.run_id / "pid" for job in running]
        if all(path.exists() and path.read_text() for path in files):
            pids.extend(int(path.read_text()) for path in files)
            raise CtrlC

    with pytest.raises(CtrlC):
        list(LocalExecutor().run(jobs, tmp_path, slots=[CPU, CPU], watch=watch))
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)
    assert not (tmp_path / jobs[2].run_id).exists()


def test_a_job_that_is_given_up_ends_alone(worker: Worker, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    worker(f'touch "$3/here"; until [ -e {tmp_path}/go ]; do sleep 0.02; done')
    jobs = make_jobs(small_corpus, 2)
    given_up = jobs[0].run_id

    def prune(running: Sequence[Job]) -> dict[str, str]:
        started = all((tmp_path / job.run_id / "here").exists() for job in jobs)
        return {given_up: "for want of progress"} if started else {}

    events = LocalExecutor().run(jobs, tmp_path, slots=[CPU, CPU], watch=lambda running: None, prune=prune)
    first = next(events)
    assert (first.job.run_id, first.status, first.reason) == (given_up, "pruned", "for want of progress")
    (tmp_path / "go").touch()
    (second,) = events
    assert (second.job.run_id, second.status) == (jobs[1].run_id, "failed")


def test_as_many_run_at_a_time_as_there_are_slots(worker: Worker, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    # Each worker waits for another, so one at a time would never end.
    worker(f'touch "$3/here"; until [ $(ls {tmp_path}/*/here | wc -l) -ge 2 ]; do sleep 0.02; done')
    jobs = make_jobs(small_corpus, 4)
    seen: list[int] = []
    executor = LocalExecutor(ExecutorOptions(timeout=30))
    ended = list(executor.run(jobs, tmp_path, slots=[CPU, CPU], watch=lambda running: seen.append(len(running))))
    assert [item.status for item in ended] == ["failed"] * 4
    assert sorted(item.job.run_id for item in ended) == [job.run_id for job in jobs]
    assert max(seen) == 2


def test_each_gpu_has_one_worker_which_sees_no_other(worker: Worker, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    worker("sleep 0.15")
    slots = [Slot(f"gpu:{number}", f"board {number}", f"gpu:GPU-{number}") for number in (0, 1)]
    jobs = make_jobs(small_corpus, 4, device="gpu")
    jobs.append(make_job(small_corpus, run_id="f" * 12, device="gpu:1"))
    together: list[list[str]] = []

    def watch(running: Sequence[Job]) -> None:
        together.append([job.config.device for job in running])

    ended = list(LocalExecutor().run(jobs, tmp_path, slots=slots, watch=watch))
    assert all(len(set(devices)) == len(devices) for devices in together)
    assert ["gpu:0", "gpu:1"] in [sorted(devices) for devices in together]
    for item in ended:
        number = item.job.config.device.partition(":")[2]
        assert item.job.origin.device_name == f"board {number}"
        assert (tmp_path / item.job.run_id / "hello").read_text().split("|")[0] == f"GPU-{number}"
    assert {item.job.run_id: item.job.config.device for item in ended}["f" * 12] == "gpu:1"


@pytest.mark.parametrize(
    ("devices", "visible"),
    [
        (("cpu:0", "cpu:1"), ("", "")),
        (("cpu:0+cpu:1", "cpu:3+cpu:2"), ("", "")),
        (("gpu:0+gpu:1", "gpu:3+gpu:2"), ("GPU-0,GPU-1", "GPU-3,GPU-2")),
    ],
)
def test_no_device_has_two_workers_at_a_time(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles, devices: tuple[str, str], visible: tuple[str, str]
) -> None:
    # The first worker waits for another, so that two are surely at work at once.
    worker(f'touch "$3/here"; until [ $(ls {tmp_path}/*/here | wc -l) -ge 2 ]; do sleep 0.02; done')
    slots = [
        Slot(device, f"at {device}", f"gpu:{uuids}" if uuids else "cpu")
        for device, uuids in zip(devices, visible, strict=True)
    ]
    jobs = [
        job.model_copy(update={"config": job.config.model_copy(update={"device": unnumbered(devices[0])})})
        for job in make_jobs(small_corpus, 5)
    ]
    together: list[list[str]] = []

    def watch(running: Sequence[Job]) -> None:
        together.append([device for job in running for device in job.config.devices])

    ended = list(LocalExecutor(ExecutorOptions(timeout=30)).run(jobs, tmp_path, slots=slots, watch=watch))
    assert len(ended) == 5
    assert all(len(set(busy)) == len(busy) for busy in together)
    assert sorted("+".join(devices).split("+")) in [sorted(busy) for busy in together]
    for item in ended:
        device = item.job.config.device
        assert item.job.origin.device_name == f"at {device}"
        seen = (tmp_path / item.job.run_id / "hello").read_text().split("|")[0]
        assert seen == visible[devices.index(device)]


def test_processor_and_gpu_jobs_go_to_their_own_slots(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker("exit 1")
    jobs = [
        make_job(small_corpus, run_id="a", device="gpu"),
        make_job(small_corpus, run_id="b", device="cpu"),
        make_job(small_corpus, run_id="c", device="gpu"),
    ]
    ended = run(LocalExecutor(), jobs, tmp_path, slots=[CPU, Slot("gpu:3", "a board", "gpu:GPU-3")])
    assert {item.job.run_id: item.job.config.device for item in ended} == {"a": "gpu:3", "b": "cpu", "c": "gpu:3"}
    assert (tmp_path / "b" / "hello").read_text().split("|")[0] == ""


def test_a_job_without_a_slot_is_refused_before_anything_starts(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker("exit 0")
    jobs = [make_job(small_corpus, run_id="a"), make_job(small_corpus, run_id="b", device="gpu:1")]
    with pytest.raises(ValueError, match="no slot takes b,"):
        LocalExecutor().place(jobs, [CPU])
    with pytest.raises(ValueError, match="no slot takes b,"):
        run(LocalExecutor(), jobs, tmp_path)


def test_a_job_is_asked_for_when_there_is_room_for_it(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    """So that what comes next may depend on how others ended."""
    worker("exit 3")
    ended: list[Ended] = []
    asked: list[int] = []

    def jobs() -> Iterator[Job]:
        for job in make_jobs(small_corpus, 4):
            asked.append(len(ended))
            yield job

    for item in LocalExecutor().run(jobs(), tmp_path, slots=[CPU, CPU], watch=lambda running: None):
        ended.append(item)
    # Two may end between two looks.
    assert asked in ([0, 0, 1, 2], [0, 0, 2, 2], [0, 0, 1, 3], [0, 0, 2, 3])


def test_a_worker_starts_afresh_with_its_threads_and_the_log_goes_on(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    directory = tmp_path / "0"
    directory.mkdir()
    for name in ("record.json", "progress.json", "log.txt", "epochs.csv"):
        (directory / name).write_text("before\n")
    worker('echo said; echo complained >&2; cat "$3/config.json" > "$3/seen"; [ "$4" = $PPID ] && exit 7')
    job = make_job(small_corpus, run_id="0").model_copy(update={"threads": 3})
    (ended,) = run(LocalExecutor(), [job], tmp_path)
    # The worker was told who its parent is.
    assert ended.reason.startswith("the worker ended with status 7")
    assert (directory / "log.txt").read_text() == "before\nsaid\ncomplained\n"
    assert not (directory / "record.json").exists()
    assert not (directory / "progress.json").exists()
    assert (directory / "epochs.csv").exists()
    assert Job.model_validate_json((directory / "seen").read_bytes()) == job
    # The user's own cell is found from the folder in which the sweep was started.
    assert (directory / "hello").read_text() == f"|3|{os.getcwd()}\n"


def test_ctrl_c_in_a_terminal_reaches_the_sweep_alone(
    worker: Worker, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    worker("kill -INT 0; exit 5")
    before = signal.signal(signal.SIGINT, lambda *arguments: pytest.fail("the worker shares the sweep's group"))
    try:
        (ended,) = run(LocalExecutor(), make_jobs(small_corpus, 1), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "SIGINT" in ended.reason
