"""A process's own memory, and a GPU's as a driver tells it; no figure of it costs a run anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gluon_rnn.machine.memory import PeakGpuMemory, gpu_memory_reader, peak_rss_mb
from tests.machine.test_environment import FakeNvml

CHILD = "from gluon_rnn.machine.memory import peak_rss_mb; print(peak_rss_mb())"
#: Touches 1.5 GB, and then starts the child.
PARENT = f"""
import subprocess, sys
ballast = bytearray(1_500_000_000)
ballast[::4096] = b"x" * len(ballast[::4096])
subprocess.run([sys.executable, "-I", "-c", {CHILD!r}], check=True)
"""


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
    """GPUs of which the first and the third have so much in use, in MiB."""

    used = (100, 0, 30)

    def nvmlDeviceGetMemoryInfo(self, board: tuple[Any, ...]) -> SimpleNamespace:
        return SimpleNamespace(total=16 << 30, used=self.used[self.boards.index(board)] << 20)


@pytest.mark.parametrize(
    ("visible", "found"),
    [("GPU-aaaa,GPU-cccc", 130.0), ("2", 30.0), ("GPU-aabb", 0.0), ("", None), ("GPU-none", None)],
)
def test_gpu_memory_is_of_the_gpus_that_the_process_may_see(visible: str, found: float | None) -> None:
    assert gpu_memory_reader(environ={"CUDA_VISIBLE_DEVICES": visible}, nvml=Boards())() == found


def test_without_a_driver_gpu_memory_is_not_known() -> None:
    assert gpu_memory_reader(environ={"CUDA_VISIBLE_DEVICES": "0"}, nvml=Boards(broken=True))() is None


def test_the_gpu_peak_is_what_came_on_top() -> None:
    peak = PeakGpuMemory(iter([300.0, 900.0, 1300.0, 500.0]).__next__)
    assert peak.mb is None
    found = []
    for _ in range(3):
        peak.sample()
        found.append(peak.mb)
    assert found == [600.0, 1000.0, 1000.0]


def test_a_gpu_figure_that_cannot_be_had_costs_nothing() -> None:
    def answers() -> Iterator[float]:
        yield 300.0
        yield 800.0
        raise RuntimeError("CUDA: an illegal memory access was encountered")

    peak = PeakGpuMemory(answers().__next__)
    peak.sample()
    peak.sample()
    peak.sample()
    assert peak.mb == 500.0
    # What was in use before is not known: all of it may be the run's.
    nothing = PeakGpuMemory(iter([None, 700.0]).__next__)
    nothing.sample()
    assert nothing.mb == 700.0
    never = PeakGpuMemory(lambda: None)
    never.sample()
    assert never.mb is None
