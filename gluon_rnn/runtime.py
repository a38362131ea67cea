"""How a process must start, and what machine this is.

What decides the speed of MXNet on a CPU — its threads, its BLAS, its memory pages — is settled by the environment in
which the process starts, which is why every run gets a process, and its environment from `process_environment`. Nothing
here imports MXNet, GluonNLP or NumPy. `gluon_rnn.doctor` checks an installation with what is found here.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import math
import os
import platform
import re
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gluon_rnn import blas, processes

#: Set to ``off``, this variable leaves a worker's environment alone but for its threads and its device.
TUNING_VARIABLE = "GLUON_RNN_TUNING"

#: Environment variables that can change a run's speed or bits: `recorded_environment` reports those that are set.
RECORDED_VARIABLES = (
    TUNING_VARIABLE,
    blas.BLAS_VARIABLE,
    blas.FILE_VARIABLE,
    "CUBLAS_WORKSPACE_CONFIG",
    "GLIBC_TUNABLES",
    "GOMP_SPINCOUNT",
    "LD_PRELOAD",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "MKL_THREADING_LAYER",
    "MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD",
    "MXNET_OPTIMIZER_AGGREGATION_SIZE",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_THREAD_TIMEOUT",
)

#: What MXNet 1.9.1, CUDA and Python say when an allocation fails.
_OUT_OF_MEMORY = (
    "bad_alloc",
    "out of memory",
    "Memory allocation failed",
    "Failed to allocate",
    "Cannot allocate memory",
    "MemoryError",
    "CUDNN_STATUS_ALLOC_FAILED",
)

#: Oldest and newest compute capability that MXNet 1.9.1's CUDA 11.2 wheel runs on.
SUPPORTED_COMPUTE_CAPABILITIES = ((5, 0), (8, 9))

# Every array as large as the logits (93 MB at batch 20, bptt 35, 33,278 words) is otherwise mapped, page-faulted in and
# unmapped again at each step, which cost as much as the arithmetic: 0.43 s a step without these, 0.31 s with huge pages
# alone. The others keep freed blocks in the one heap; together they brought the page faults down to jemalloc's. Without
# caches of small freed blocks these merge with their neighbours at once, and the large arrays of a step find room where
# those of the step before were: at most 897 MB for LSTM 650 on an EPYC, where it was 923 to 981, in the same time.
_MALLOC_TUNABLES = {
    "glibc.malloc.hugetlb": "1",  # madvise(MADV_HUGEPAGE); known since glibc 2.35
    "glibc.malloc.mmap_max": "0",
    "glibc.malloc.trim_threshold": str(1 << 34),
    "glibc.malloc.arena_max": "1",
    "glibc.malloc.tcache_count": "0",
    "glibc.malloc.mxfast": "0",
}


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        index: its number in the order of PCI buses, as ``nvidia-smi`` shows it.
        uuid: NVIDIA's name for this very board.
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
    """What a run was measured on.

    Attributes:
        host: network name.
        architecture: such as ``x86_64``.
        cpu_name: the processor's model.
        cores: logical cores that this process may use, by affinity and by its control group's quota.
        memory_mb: memory in MiB that it may use, by the machine and by its control group.
        gpus: those that it may use, by ``CUDA_VISIBLE_DEVICES``.
        machine_id: 12 hexadecimal digits that agree on machines on which speeds can be compared. They come from
            architecture, processor, cores, memory in GiB and all of the machine's GPUs, not from its name.
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


def process_environment(
    device: str, threads: int, *, precision: str = "float32", environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Build the whole environment in which a worker process must start.

    The first call on a machine measures which BLAS is fastest there, in under a second: see `gluon_rnn.blas`.

    Args:
        device: ``cpu``, or ``gpu:`` followed by a GPU's UUID or by its index in PCI order, or by several of them,
            separated by commas, in the order in which the worker is to count them.
        threads: CPU threads of the worker, at least 1.
        precision: of the run. Unless it is ``tf32``, no product is made in TF32.
        environ: the environment to build on. ``GLUON_RNN_TUNING=off`` in it leaves out everything but the threads, the
            device's variables and Python's hash seed. Settings that it holds already are kept beside the ones added.

    Raises:
        ValueError: `device` is none of these, or `threads` is below 1.
        UserError: ``GLUON_RNN_BLAS`` names no library that is here.
    """
    kind, _, gpus = device.partition(":")
    if (kind, bool(gpus)) not in (("cpu", False), ("gpu", True)) or threads < 1:
        raise ValueError(f"no environment for device {device!r} and {threads} threads")
    environment = _with_threads(threads, processes.environment(environ))
    library = blas.choose(_cpu_name(), environment) if tuning_wanted(environ) else None
    environment["PYTHONHASHSEED"] = "0"  # the order of a set must not reach a result
    # MXNet 1.9.1 makes functions out of docstrings as it is imported, and uses what NumPy warns of.
    for name in ("PYTHONOPTIMIZE", "PYTHONWARNINGS"):
        environment.pop(name, None)
    # Without the PCI order CUDA counts the fastest GPU first, and NVML does not. A CPU run sees no GPU and so holds no
    # memory of one.
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environment["CUDA_VISIBLE_DEVICES"] = gpus
    if kind == "gpu":
        # MXNet 1.9.1 lets cuBLAS and cuDNN round the factors of a float32 product to TF32's ten bits wherever the GPU
        # can (Ampere and newer); NVIDIA's libraries obey this variable before their caller.
        environment.pop("NVIDIA_TF32_OVERRIDE", None)
        if precision != "tf32":
            environment["NVIDIA_TF32_OVERRIDE"] = "0"
    # MXNet's CUDA build looks for its libraries beside itself, whatever the device; the wheels put them elsewhere.
    blas.prepend(environment, "LD_LIBRARY_PATH", cuda_library_folders())
    if library:
        if kind == "cpu":
            # MXNet updates four parameters in one operator, which spares a GPU launches and costs a CPU time: 43 ms a
            # step for LSTM 200's, 19 ms one by one. The numbers are the same.
            environment.setdefault("MXNET_OPTIMIZER_AGGREGATION_SIZE", "1")
            # MXNet runs operators of a backward pass in groups, and frees what they have used at a group's end: the
            # memory of both layers' passes at once, 674 MB of arrays for 606 (LSTM 650), in the same time.
            environment.setdefault("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD", "1")
        if blas.mkl_library():
            # For products in bfloat16, whichever library makes the others. GNU is the OpenMP that MXNet is linked to;
            # two of them in one process would compete for the cores.
            environment.setdefault("MKL_THREADING_LAYER", "GNU")
        environment = library.environment(environment)
        if huge_pages_available():
            environment["GLIBC_TUNABLES"] = _merge_tunables(environ.get("GLIBC_TUNABLES", ""))
    return environment


def measure_libraries(
    threads: int, *, environ: Mapping[str, str] = os.environ, anew: bool = False
) -> tuple[blas.Measured, ...]:
    """What each BLAS does here with so many threads: see `gluon_rnn.blas.measure`."""
    return blas.measure(_cpu_name(), _with_threads(threads, environ), anew=anew)


def _with_threads(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the number of threads said to every library.

    MXNet takes half of an x86 machine's cores unless told: 0.74 s a step with one thread of two, 0.43 s with both. The
    number also decides the bits of a matrix product, so it is always said.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**environ, **dict.fromkeys(names, str(threads))}


def tuning_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``GLUON_RNN_TUNING`` is anything but ``off``."""
    return environ.get(TUNING_VARIABLE, "").strip().lower() != "off"


def recorded_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Pick the settings that can change speed or bits, libraries by file name and without their folders."""
    found = {name: environ[name] for name in RECORDED_VARIABLES if name in environ}
    for name in {blas.BLAS_VARIABLE, blas.FILE_VARIABLE} & {*found}:
        found[name] = Path(found[name]).name
    if preloaded := found.get("LD_PRELOAD"):
        found["LD_PRELOAD"] = " ".join(Path(entry).name for entry in re.split(r"[ :]+", preloaded) if entry)
    return found


def tells_want_of_memory(text: str) -> bool:
    """Whether an error's text, or the end of a log, says that an allocation failed."""
    return any(sign in text for sign in _OUT_OF_MEMORY)


def cuda_library_folders(site_packages: Path | None = None) -> list[str]:
    """List the folders of the CUDA libraries that came as wheels; `site_packages` is this interpreter's by default."""
    site_packages = site_packages or Path(sysconfig.get_path("purelib"))
    return [str(folder) for folder in sorted(site_packages.glob("nvidia/*/lib"))]


def huge_pages_available() -> bool:
    """Whether the C library can ask for huge pages (glibc 2.35 or later) and the kernel would give them."""
    name, _, version = libc_version().partition(" ")
    if name != "glibc" or tuple(map(int, re.findall(r"\d+", version)[:2])) < (2, 35):
        return False
    return "[never]" not in _read(Path("/sys/kernel/mm/transparent_hugepage/enabled"), "[never]")


def libc_version() -> str:
    """Name the C library and its version, such as ``glibc 2.36``; ``unknown`` if it is not glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (OSError, ValueError):
        return "unknown"


def _merge_tunables(given: str) -> str:
    """Add to a GLIBC_TUNABLES what it does not set itself."""
    own = [entry for entry in given.split(":") if entry]
    set_already = {entry.partition("=")[0] for entry in own}
    return ":".join([*own, *(f"{name}={value}" for name, value in _MALLOC_TUNABLES.items() if name not in set_already)])


class _Symbol(ctypes.Structure):
    """The C library's ``Dl_info``: which loaded file an address belongs to."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class _MklVersion(ctypes.Structure):
    """MKL's ``MKLVersion``."""

    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("update", ctypes.c_int),
        ("product_status", ctypes.c_char_p),
        ("build", ctypes.c_char_p),
        ("processor", ctypes.c_char_p),
        ("platform", ctypes.c_char_p),
    )


def blas_in_use() -> str:
    """Name the library that answers MXNet's matrix products in this process, and the kernel it chose.

    To be called in a worker after ``import mxnet``: the name comes from the loaded libraries themselves. The symbol is
    looked up as the dynamic linker does for MXNet, among what was preloaded and then in MXNet's own dependencies.

    Returns:
        Such as ``mkl 2026.2 (AVX-512)`` or ``openblas 0.3.13 (Prescott)``; ``unknown`` if MXNet is not loaded or has
        its matrix product built in.
    """
    mxnet = next((line.split(maxsplit=5)[5] for line in _maps() if line.endswith("/libmxnet.so")), None)
    if mxnet is None:
        return "unknown"
    preloaded, own = ctypes.CDLL(None), ctypes.CDLL(mxnet)
    function = getattr(preloaded, "cblas_sgemm", None) or getattr(own, "cblas_sgemm", None)
    symbol = _Symbol()
    dladdr = preloaded.dladdr
    dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Symbol)]
    if function is None or not dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(symbol)):
        return "unknown"
    path = os.fsdecode(symbol.file)
    return _mkl_name(ctypes.CDLL(path)) or _openblas_name(ctypes.CDLL(path)) or Path(path).name


def _mkl_name(library: ctypes.CDLL) -> str | None:
    describe, name = getattr(library, "MKL_Get_Version", None), getattr(library, "MKL_Get_Version_String", None)
    if describe is None or name is None:
        return None
    version, text = _MklVersion(), ctypes.create_string_buffer(256)
    describe(ctypes.byref(version))
    name(text, len(text))
    # "... Library Version 2026.2-Product Build ..." and "Intel(R) Advanced Vector Extensions 2 (Intel(R) AVX2) ..."; in
    # the structure the minor number stays 0.
    release = re.search(r"Version ([\w.]+)", text.value.decode())
    kernel = re.search(r"\(Intel\(R\) (\S+?)\)", version.processor.decode())
    return f"mkl {release[1] if release else version.major} ({kernel[1] if kernel else version.processor.decode()})"


def _openblas_name(library: ctypes.CDLL) -> str | None:
    describe, kernel = getattr(library, "openblas_get_config", None), getattr(library, "openblas_get_corename", None)
    if describe is None or kernel is None:
        return None
    describe.restype = kernel.restype = ctypes.c_char_p
    version = re.search(r"\d+(\.\d+)+", describe().decode())
    return f"openblas {version[0] if version else '(unknown version)'} ({kernel().decode()})"


def _maps() -> list[str]:
    return _read(Path("/proc/self/maps")).splitlines()


def describe_machine(*, environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Machine:
    """Describe the machine and what of it this process may use; it never raises.

    Args:
        environ: where ``CUDA_VISIBLE_DEVICES`` is read.
        nvml: a module like ``pynvml``, which is the default.
    """
    every_gpu = list_gpus(nvml)
    architecture, cpu, cores, memory_mb = platform.machine(), _cpu_name(), _cores(), _memory_mb()
    # The visible GPUs differ between a sweep and its workers; the machine's do not.
    decisive = [architecture, cpu, cores, round(memory_mb / 1024), sorted(gpu.name for gpu in every_gpu)]
    return Machine(
        host=platform.node(),
        architecture=architecture,
        cpu_name=cpu,
        cores=cores,
        memory_mb=memory_mb,
        gpus=visible_gpus(every_gpu, environ.get("CUDA_VISIBLE_DEVICES")),
        machine_id=hashlib.sha1(repr(decisive).encode()).hexdigest()[:12],
        libc=libc_version(),
        python=platform.python_version(),
    )


def list_gpus(nvml: Any = None) -> list[Gpu]:
    """List the GPUs that the driver shows, in PCI order; none if there is no driver or it does not answer.

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
    """Select as CUDA does with ``CUDA_VISIBLE_DEVICES``.

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


def supports_gpu(gpu: Gpu) -> bool:
    """Whether MXNet 1.9.1 can run on `gpu`: compute capability 5.0 to 8.9.

    The wheel for CUDA 11.2 carries machine code for 5.0, 6.0, 7.0, 8.0 and 8.6, which later minor versions run as well,
    and no PTX from which a driver could make code for Hopper and newer (9.0 and up).
    """
    oldest, newest = SUPPORTED_COMPUTE_CAPABILITIES
    return oldest <= gpu.compute_capability <= newest


def default_threads(cores: int, jobs: int) -> int:
    """Share `cores` among `jobs` runs side by side, at least one thread each."""
    return max(1, cores // max(1, jobs))


def library_versions() -> dict[str, str]:
    """Versions of ``mxnet`` (whichever of its distributions is there), ``gluonnlp`` and ``numpy``, unless missing.

    Nothing is imported.
    """
    versions = {name: version_of(name) for name in ("gluonnlp", "numpy")}
    versions["mxnet"] = version_of(mxnet_distribution() or "mxnet")
    return {name: version for name, version in sorted(versions.items()) if version is not None}


def mxnet_distribution() -> str | None:
    """Which distribution provides MXNet: ``mxnet-cu112``, ``mxnet`` or none."""
    return next((name for name in ("mxnet-cu112", "mxnet") if version_of(name)), None)


def version_of(distribution: str) -> str | None:
    """The installed version of `distribution`; None if it is missing."""
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


def _cpu_name() -> str:
    for key in ("model name", "Model", "Hardware"):
        match = re.search(rf"^{key}\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
        if match:
            return " ".join(match[1].split())
    return platform.processor() or "unknown"


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
    for line in _read(Path("/proc/self/cgroup")).splitlines():
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
            _read(group / "cpu.max").strip()
            or f"{_read(group / 'cpu.cfs_quota_us').strip()} {_read(group / 'cpu.cfs_period_us').strip()}"
        ).partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_limit(groups: Iterable[Path]) -> float:
    """The smallest number of bytes that control groups (version 2 or 1) allow; infinity without a limit."""
    texts = (_read(group / name).strip() for group in groups for name in ("memory.max", "memory.limit_in_bytes"))
    return min([float(text) for text in texts if text.isdigit()], default=math.inf)


def _read(path: Path, default: str = "") -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return default
