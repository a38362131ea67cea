"""Memory in use by a process and its GPUs, as reported by the system and the driver, without importing MXNet."""

from __future__ import annotations

import importlib
import os
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gluon_rnn.machine.hardware import list_gpus, visible_gpus

_MIB = 2**20


def peak_rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """The peak resident memory of this process, in MiB.

    Linux passes the figure of ``getrusage`` on to the programs that a process starts: a worker of 252 MB reported
    3,079 MB because the process that started its sweep had used 3 GB. ``VmHWM`` restarts with each program.

    Args:
        status: where Linux describes the process; ``getrusage`` answers where there is no such file.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


class GpuMemory(NamedTuple):
    """Memory in use on a process's GPUs, in MiB.

    Attributes:
        everyone: by all processes.
        own: by this process, its CUDA context included; None: the driver does not say, as in a container, where it
            knows the process by another number.
    """

    everyone: float
    own: float | None = None


def gpu_memory_reader(
    *, environ: Mapping[str, str] = os.environ, nvml: Any = None, pid: int | None = None
) -> Callable[[], GpuMemory | None]:
    """Make a function that returns the memory in use on the GPUs visible to this process.

    It asks NVIDIA's driver, because CUDA would allocate memory for its first answer and gives no answer after an error.

    Args:
        environ: where ``CUDA_VISIBLE_DEVICES`` is read.
        nvml: a module like ``pynvml``, which is the default.
        pid: of the process; None: this one.

    Returns:
        The function. It returns None if the driver shows no such GPU, and passes on later exceptions of `nvml`.
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

    def read() -> GpuMemory:
        everyone = sum(nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles)
        own = _used_by(pid or os.getpid(), handles, nvml)
        return GpuMemory(everyone / _MIB, None if own is None else own / _MIB)

    return read


def _used_by(pid: int, handles: Sequence[Any], nvml: Any) -> int | None:
    """The bytes that the driver counts for a process on all GPUs; None if it counts none or does not know."""
    try:
        processes = [each for handle in handles for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError:  # not every driver and GPU can tell
        return None
    used = [each.usedGpuMemory for each in processes if each.pid == pid]
    return sum(used) if used and None not in used else None


class PeakGpuMemory:
    """The peak of a run's GPU memory, as sampled.

    That is what the driver counts for this process, once it does. Until then, and where it never does, it is what was
    in use by anyone, beyond what was at the start. MXNet's pool keeps what it has once taken, so that a look now and
    then finds the peak.

    Nothing is raised: a missing figure must not cost a run its record.

    Args:
        in_use: returns the memory in use now; None if unknown.

    Attributes:
        mb: in MiB; None while it is not known.
    """

    def __init__(self, in_use: Callable[[], GpuMemory | None]) -> None:
        self.mb: float | None = None
        self._in_use = in_use
        self._is_own = False
        before = self._look()
        self._before = before.everyone if before else 0.0

    def sample(self) -> None:
        """Take a sample."""
        now = self._look()
        if now is None or (self._is_own and now.own is None):
            return
        if now.own is not None and not self._is_own:
            self.mb, self._is_own = None, True
        self.mb = max(self.mb or 0.0, now.everyone - self._before if now.own is None else now.own)

    def _look(self) -> GpuMemory | None:
        try:
            return self._in_use()
        except Exception:
            return None
