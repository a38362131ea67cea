"""This machine's hardware, and the versions of the libraries that affect results."""

from __future__ import annotations

import importlib
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gluon_rnn.common.files import sha1_of
from gluon_rnn.machine import libmxnet

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        index: in PCI bus order, as ``nvidia-smi`` shows it.
        uuid: NVIDIA's identifier of the board.
        name: of the model.
        compute_capability: major and minor.
        memory_mb: its memory in MiB.
    """

    index: int
    uuid: str
    name: str
    compute_capability: tuple[int, int]
    memory_mb: int


@dataclass(frozen=True)
class Machine:
    """The machine that a run was measured on.

    Attributes:
        host: network name.
        architecture: such as ``x86_64``.
        cpu_name: the processor's model; see `cpu_name`.
        cores: logical cores that this process may use, given its affinity and its control group's quota.
        memory_mb: memory in MiB that it may use, given its control group's limit.
        gpus: those that ``CUDA_VISIBLE_DEVICES`` leaves visible.
        machine_id: 12 hexadecimal digits, equal on machines whose speeds can be compared: a hash of the architecture,
            processor, cores, memory in GiB and all GPUs, but not of the name.
        libc: C library and its version.
        python: version of this interpreter.
    """

    host: str
    architecture: str
    cpu_name: str
    cores: int
    memory_mb: int
    gpus: tuple[Gpu, ...]
    machine_id: str
    libc: str
    python: str


def libc_version() -> str:
    """The C library and its version, such as ``glibc 2.36``; ``unknown`` if it is not glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (OSError, ValueError):
        return "unknown"


def describe_machine(*, environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Machine:
    """Describe the machine and what this process may use of it; never raises.

    Args:
        environ: where ``CUDA_VISIBLE_DEVICES`` is read.
        nvml: a module like ``pynvml``, which is the default.
    """
    every_gpu = list_gpus(nvml)
    architecture, cpu, cores, memory_mb = platform.machine(), cpu_name(), _cores(), _memory_mb()
    # The visible GPUs differ between a sweep and its workers; the machine's do not.
    decisive = [architecture, cpu, cores, round(memory_mb / 1024), sorted(gpu.name for gpu in every_gpu)]
    return Machine(
        host=platform.node(),
        architecture=architecture,
        cpu_name=cpu,
        cores=cores,
        memory_mb=memory_mb,
        gpus=visible_gpus(every_gpu, environ.get("CUDA_VISIBLE_DEVICES")),
        machine_id=sha1_of(repr(decisive).encode())[:12],
        libc=libc_version(),
        python=platform.python_version(),
    )


def list_gpus(nvml: Any = None) -> list[Gpu]:
    """The GPUs that the driver reports, in PCI order; empty without a working driver.

    Args:
        nvml: a module like ``pynvml``, which is the default.
    """
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no package, no driver, a driver of another version than its library: no GPU to use
        return []
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def visible_gpus(gpus: Iterable[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """Select GPUs as CUDA does with ``CUDA_VISIBLE_DEVICES``.

    Args:
        gpus: all of the machine's.
        visible: comma-separated indices (in PCI order) or beginnings of UUIDs; CUDA ignores the first entry that names
            no GPU and all after it. None: every GPU is visible.
    """
    gpus = tuple(gpus)
    if visible is None:
        return gpus
    chosen: list[Gpu] = []
    for entry in (entry.strip() for entry in visible.split(",")):
        matches = [
            gpu for gpu in gpus if entry == str(gpu.index) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry))
        ]
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen += matches
    return tuple(chosen)


def default_threads(cores: int, jobs: int) -> int:
    """Share `cores` among `jobs` runs side by side, at least one thread each."""
    return max(1, cores // max(1, jobs))


def library_versions() -> dict[str, str]:
    """The installed versions of ``mxnet`` (in any of its distributions), ``gluonnlp`` and ``numpy``.

    Nothing is imported; what is not installed is left out.
    """
    versions = {name: version_of(name) for name in ("gluonnlp", "numpy")}
    versions["mxnet"] = next(map(version_of, libmxnet.distributions()), None)
    return {name: version for name, version in sorted(versions.items()) if version is not None}


def version_of(distribution: str) -> str | None:
    """The installed version of `distribution`; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        memory_mb=nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
    )


def _text(value: str | bytes) -> str:
    """NVML's older Python binding answers in bytes."""
    return value.decode() if isinstance(value, bytes) else value


def cpu_name() -> str:
    """The processor's model, as the kernel names it.

    Virtual machines call processors of several generations ``AMD EPYC`` or ``Intel(R) Xeon(R) CPU @ 2.20GHz``. Such a
    name has no model number, so the processor's family and model are added.
    """
    entries = dict(re.findall(r"^(.+?)[ \t]*:[ \t]*(.+)$", read_text(_CPUINFO), re.MULTILINE))
    names = [" ".join(entries[key].split()) for key in ("model name", "Model", "Hardware") if key in entries]
    if not names:
        return platform.processor() or "unknown"
    is_ambiguous = not re.search(r"\d", names[0].partition("@")[0])
    if is_ambiguous and {"cpu family", "model"} <= entries.keys():
        return f"{names[0]} (family {entries['cpu family']}, model {entries['model']})"
    return names[0]


def _cores() -> int:
    return max(1, int(min(len(os.sched_getaffinity(0)), cpu_quota(_control_groups()))))


def _memory_mb() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(total, memory_limit(_control_groups()))) >> 20


def _control_groups(mount: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders of this process's control groups, from its own up to the root of each hierarchy.

    Inside a container the path that /proc tells may not exist, as only its own part is mounted: then the root holds.
    """
    folders: dict[Path, None] = {}
    for line in read_text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for root in (
            [mount] if not controllers else [mount / controllers, *(mount / name for name in controllers.split(","))]
        ):
            own = root / path.lstrip("/")
            folders.update(dict.fromkeys([own, *(parent for parent in own.parents if parent.is_relative_to(root))]))
    return list(folders)


def cpu_quota(groups: Iterable[Path]) -> float:
    """The smallest number of cores that control groups (version 2 or 1) allow; infinity without a quota."""
    quotas = [math.inf]
    for group in groups:
        quota, _, period = (
            read_text(group / "cpu.max").strip()
            or f"{read_text(group / 'cpu.cfs_quota_us').strip()} {read_text(group / 'cpu.cfs_period_us').strip()}"
        ).partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_limit(groups: Iterable[Path]) -> float:
    """The smallest number of bytes that control groups (version 2 or 1) allow; infinity without a limit."""
    texts = (read_text(group / name).strip() for group in groups for name in ("memory.max", "memory.limit_in_bytes"))
    return min([float(text) for text in texts if text.isdigit()], default=math.inf)


def read_text(path: Path, default: str = "") -> str:
    """The content of a file of the kernel; `default` where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return default
