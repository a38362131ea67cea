"""The environment in which a worker process must start.

MXNet's speed on a CPU depends on its threads, its BLAS and its memory pages, all of which are fixed when the process
starts. That is why every run has its own process, with an environment from `process_environment`. Nothing here imports
MXNet, GluonNLP or NumPy.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gluon_rnn.common import processes
from gluon_rnn.machine import blas, libmxnet
from gluon_rnn.machine.hardware import cpu_name, libc_version, read_text

#: Set to ``off``, this variable leaves a worker's environment alone but for its threads and its device.
TUNING_VARIABLE = "GLUON_RNN_TUNING"

#: Whether MXNet compiles neighbouring pointwise operators of a graph on a GPU into one; 1 unless the user sets 0.
#:
#: It is 0 while a graph is called that loops or whose arrays change their shapes (`unfused`), because fusion in MXNet
#: 1.9.1 can crash. Python's thread infers a fused operator's shapes (``FusedOp::InferShape`` in
#: src/operator/fusion/fused_op.cc) and replaces its graph meanwhile, without a lock, while the device's thread may be
#: generating code from that graph (``FusedOp::GenerateCode``). Shapes are inferred anew whenever a graph is given other
#: ones and, in the body of ``F.contrib.foreach``, at each step (``NaiveRunGraph``). This was read in the sources after
#: a test with such a body had died of a segmentation fault on an H100; the stack of apache/mxnet#16725 ends in the same
#: function. An unrolled graph has much to fuse, and keeps its shapes until the device has been waited for.
FUSION_VARIABLE = "MXNET_USE_FUSION"

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
    libmxnet.LIBRARY_VARIABLE,
    "MXNET_OPTIMIZER_AGGREGATION_SIZE",
    FUSION_VARIABLE,
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


def process_environment(
    device: str, threads: int, *, precision: str = "float32", environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Build the complete environment for a worker process.

    The first call on a machine measures which BLAS is fastest, in under a second: see `gluon_rnn.machine.blas`.

    Args:
        device: ``cpu``, or ``gpu:`` followed by a GPU's UUID or by its index in PCI order, or by several of them,
            separated by commas, in the order in which the worker is to count them.
        threads: CPU threads of the worker, at least 1.
        precision: of the run. Unless it is ``tf32``, no product is made in TF32.
        environ: the environment to build on. ``GLUON_RNN_TUNING=off`` in it leaves out everything but the threads, the
            device's variables and Python's hash seed. Settings that it holds already are kept beside the ones added.

    Raises:
        ValueError: `device` is not one of these, or `threads` is below 1.
        UserError: ``GLUON_RNN_BLAS`` names a library that is not installed.
    """
    kind, _, gpus = device.partition(":")
    if (kind, bool(gpus)) not in (("cpu", False), ("gpu", True)) or threads < 1:
        raise ValueError(f"no environment for device {device!r} and {threads} threads")
    environment = _with_threads(threads, processes.environment(environ))
    library = blas.choose(cpu_name(), environment) if tuning_wanted(environ) else None
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
        environment.setdefault(FUSION_VARIABLE, "1")
        # Without it cuDNN's recurrent layers, several in one call, may add up in another order each time (NVIDIA's
        # release notes of cuDNN 8.0; cuBLAS, "Results reproducibility").
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
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


@contextmanager
def unfused() -> Iterator[None]:
    """Forbid MXNet to fuse operators in the graphs that this process makes meanwhile: see `FUSION_VARIABLE`.

    Only a process for a GPU has the variable, and only there MXNet fuses.
    """
    before = os.environ.get(FUSION_VARIABLE)
    if before is None:
        yield
        return
    os.environ[FUSION_VARIABLE] = "0"
    try:
        yield
    finally:
        os.environ[FUSION_VARIABLE] = before


def measure_libraries(
    threads: int, *, environ: Mapping[str, str] = os.environ, anew: bool = False
) -> tuple[blas.Measured, ...]:
    """Measure each BLAS with this many threads: see `gluon_rnn.machine.blas.measure`."""
    return blas.measure(cpu_name(), _with_threads(threads, environ), anew=anew)


def _with_threads(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the number of threads set for every library.

    MXNet uses half of an x86 machine's cores by default: 0.74 s per step with one thread of two, 0.43 s with both. The
    number also affects the bits of a matrix product, so it is always set.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**environ, **dict.fromkeys(names, str(threads))}


def tuning_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``GLUON_RNN_TUNING`` is anything but ``off``."""
    return environ.get(TUNING_VARIABLE, "").strip().lower() != "off"


def recorded_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that can change speed or bits; libraries as file names, without folders."""
    found = {name: environ[name] for name in RECORDED_VARIABLES if name in environ}
    for name in {blas.BLAS_VARIABLE, blas.FILE_VARIABLE, libmxnet.LIBRARY_VARIABLE} & {*found}:
        found[name] = Path(found[name]).name
    if preloaded := found.get("LD_PRELOAD"):
        found["LD_PRELOAD"] = " ".join(Path(entry).name for entry in re.split(r"[ :]+", preloaded) if entry)
    return found


def tells_want_of_memory(text: str) -> bool:
    """Whether an error's text or the end of a log reports a failed allocation."""
    return any(sign in text for sign in _OUT_OF_MEMORY)


def cuda_library_folders(site_packages: Path | None = None) -> list[str]:
    """The folders of the CUDA libraries installed as wheels; `site_packages` defaults to this interpreter's."""
    site_packages = site_packages or Path(sysconfig.get_path("purelib"))
    return [str(folder) for folder in sorted(site_packages.glob("nvidia/*/lib"))]


def huge_pages_available() -> bool:
    """Whether the C library can request huge pages (glibc 2.35 or later) and the kernel grants them."""
    name, _, version = libc_version().partition(" ")
    if name != "glibc" or tuple(map(int, re.findall(r"\d+", version)[:2])) < (2, 35):
        return False
    return "[never]" not in read_text(Path("/sys/kernel/mm/transparent_hugepage/enabled"), "[never]")


def _merge_tunables(given: str) -> str:
    """Add our tunables to a GLIBC_TUNABLES, except those it sets already."""
    own = [entry for entry in given.split(":") if entry]
    set_already = {entry.partition("=")[0] for entry in own}
    return ":".join([*own, *(f"{name}={value}" for name, value in _MALLOC_TUNABLES.items() if name not in set_already)])
