"""Memory in use by a process and its GPUs, as reported by the system and the driver, without importing MXNet."""

from __future__ import annotations

import importlib
import os
import re
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gluon_rnn.machine.hardware import list_gpus, visible_gpus


def peak_rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """The peak resident memory of this process, in MiB.

    Linux passes the figure of ``getrusage`` on to the programs that a process starts: a worker of 252 MB reported
    3,079 MB because the process that started its sweep had used 3 GB. ``VmHWM`` starts anew with each program.

    Args:
        status: where Linux describes the process; ``getrusage`` answers where there is no such file.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def gpu_memory_reader(*, environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Callable[[], float | None]:
    """Make a function that tells how much memory is in use, by anyone, on all GPUs that this process may see, in MiB.

    It asks NVIDIA's driver. CUDA would take memory for its first answer, and gives none once it has met an error.

    Args:
        environ: where ``CUDA_VISIBLE_DEVICES`` is read.
        nvml: a module like ``pynvml``, which is the default.

    Returns:
        The function; it says None where the driver shows no such GPU, and raises what `nvml` raises later on.
    """
    gpus = visible_gpus(list_gpus(nvml), environ.get("CUDA_VISIBLE_DEVICES"))
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(gpu.index) for gpu in gpus]
    except Exception:  # no package, no driver, a driver of another version than its library
        handles = []
    if not handles:
        return lambda: None
    return lambda: sum(float(nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles) / 2**20


class PeakGpuMemory:
    """The most GPU memory that was seen in use, beyond what was in use at the start.

    Nothing is raised: a figure that cannot be had must not cost a run its record.

    Args:
        in_use: tells what is in use now, in MiB; None where that is not known.

    Attributes:
        mb: in MiB; None while it is not known.
    """

    def __init__(self, in_use: Callable[[], float | None]) -> None:
        self.mb: float | None = None
        self._in_use = in_use
        self._before = self._look() or 0.0

    def sample(self) -> None:
        """Look once more."""
        now = self._look()
        if now is not None:
            self.mb = max(self.mb or 0.0, now - self._before)

    def _look(self) -> float | None:
        try:
            return self._in_use()
        except Exception:
            return None
