"""A process's own memory, and a GPU's as a driver tells it; no figure of it costs a run anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gluon_rnn.machine.memory import GpuMemory, PeakGpuMemory, gpu_memory_reader, peak_rss_mb
from tests.machine.test_environment import FakeNvml

CHILD = "from gluon_rnn.machine.memory import peak_rss_mb; print(peak_rss_mb())"
#: Touches 1.5 GB, and then starts the child.
PARENT = f"""
import subprocess, sys
ballast = bytearray(1_500_000_000)
ballast[::4096] = b"x" * len(ballast[::4096])
subprocess.run([sys.executable, "-I", "-c", {CHILD!r}], check=True)
"""


@pytest.mark.slow
def test_a_process_is_not_told_its_parents_memory() -> None:
    done = subprocess.run([sys.executable, "-I", "-c", PARENT], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 500


def test_the_peak_is_no_less_than_what_was_touched(tmp_path: Path) -> None:
    before = peak_rss_mb()
    ballast = bytearray(1 << 28)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert peak_rss_mb() >= 256
    del ballast
    assert peak_rss_mb() >= max(before, 256)
    # Where there is no such file, as on other systems, the other figure has to do.
    assert peak_rss_mb(tmp_path / "none") >= 256


class Boards(FakeNvml):
    """GPUs of which the first and the third have so much in use, in MiB, by `processes`."""

    used = (100, 0, 30)
    #: A process's number, and its memory in MiB, on each GPU.
    processes: tuple[list[tuple[int, int | None]], ...] = ([], [], [])

    def nvmlDeviceGetMemoryInfo(self, board: tuple[Any, ...]) -> SimpleNamespace:
        return SimpleNamespace(total=16 << 30, used=self.used[self.boards.index(board)] << 20)

    def nvmlDeviceGetComputeRunningProcesses(self, board: tuple[Any, ...]) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=used if used is None else used << 20)
            for pid, used in self.processes[self.boards.index(board)]
        ]


class OldBoards(Boards):
    """Whose driver does not tell processes apart."""

    def nvmlDeviceGetComputeRunningProcesses(self, board: tuple[Any, ...]) -> list[SimpleNamespace]:
        raise self.NVMLError("Not Supported")


@pytest.mark.parametrize(
    ("visible", "found"),
    [("GPU-aaaa,GPU-cccc", 130.0), ("2", 30.0), ("GPU-aabb", 0.0), ("", None), ("GPU-none", None)],
)
@pytest.mark.parametrize("boards", [Boards, OldBoards])
def test_gpu_memory_is_of_the_gpus_that_the_process_may_see(
    boards: type[Boards], visible: str, found: float | None
) -> None:
    read = gpu_memory_reader(environ={"CUDA_VISIBLE_DEVICES": visible}, nvml=boards())
    assert read() == (None if found is None else GpuMemory(found))


@pytest.mark.parametrize(
    ("processes", "own"),
    [
        (([(7, 60), (8, 40)], [], [(7, 30)]), 90.0),
        (([(7, 60)], [], [(8, 30)]), 60.0),
        (([(8, 100)], [(7, 5)], [(8, 30)]), None),  # on a GPU that the process does not see
        (([(7, None)], [], []), None),  # the driver knows the process, not its memory
    ],
)
def test_the_driver_counts_a_process_on_all_its_gpus(
    processes: tuple[list[tuple[int, int | None]], ...], own: float | None
) -> None:
    boards = Boards()
    boards.processes = processes
    read = gpu_memory_reader(environ={"CUDA_VISIBLE_DEVICES": "GPU-aaaa,GPU-cccc"}, nvml=boards, pid=7)
    assert read() == GpuMemory(130.0, own)


def test_without_a_driver_gpu_memory_is_not_known() -> None:
    assert gpu_memory_reader(environ={"CUDA_VISIBLE_DEVICES": "0"}, nvml=Boards(broken=True))() is None


def peaks(*seen: GpuMemory | None) -> list[float | None]:
    """The peak after the start and after each further look."""
    peak = PeakGpuMemory(iter(seen).__next__)
    found = [peak.mb]
    for _ in seen[1:]:
        peak.sample()
        found.append(peak.mb)
    return found


def test_the_gpu_peak_is_the_processs_own_whoever_else_is_there() -> None:
    seen = [GpuMemory(5000.0), GpuMemory(5900.0, 500.0), GpuMemory(9000.0, 900.0), GpuMemory(9500.0, 700.0)]
    assert peaks(*seen) == [None, 500.0, 900.0, 900.0]
    # It is not known yet at the first look, and no longer at the last.
    assert peaks(GpuMemory(300.0), GpuMemory(9000.0), GpuMemory(9900.0, 400.0), GpuMemory(9900.0)) == [
        *(None, 8700.0),
        *(400.0, 400.0),
    ]


def test_where_processes_are_not_told_apart_the_gpu_peak_is_what_came_on_top() -> None:
    seen = map(GpuMemory, [300.0, 900.0, 1300.0, 500.0])
    assert peaks(*seen) == [None, 600.0, 1000.0, 1000.0]


def test_a_gpu_figure_that_cannot_be_had_costs_nothing() -> None:
    def answers() -> Iterator[GpuMemory]:
        yield GpuMemory(300.0)
        yield GpuMemory(800.0)
        raise RuntimeError("CUDA: an illegal memory access was encountered")

    peak = PeakGpuMemory(answers().__next__)
    peak.sample()
    peak.sample()
    peak.sample()
    assert peak.mb == 500.0
    # What was in use before is not known: all of it may be the run's.
    assert peaks(None, GpuMemory(700.0)) == [None, 700.0]
    assert peaks(None, None) == [None, None]
