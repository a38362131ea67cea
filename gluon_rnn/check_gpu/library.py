"""The part ``machine``: what is here, and whether MXNet can compute with it at all."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gluon_rnn import doctor
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.machine import blas, libmxnet
from gluon_rnn.machine.hardware import describe_machine, library_versions, read_text

#: How NVIDIA's libraries tell their versions: a function that returns it, or one that stores it.
_VERSIONS = {
    "CUDA runtime": ("libcudart.so", "cudaRuntimeGetVersion", True),
    "cuDNN": ("libcudnn.so", "cudnnGetVersion", False),
    "cuBLAS": ("libcublas.so", "cublasGetCudartVersion", False),
}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    machine = describe_machine()
    items: dict[str, Callable[[], dict[str, Any]]] = {
        "processor": lambda: {"value": f"{machine.cpu_name}, {machine.cores} cores, {machine.memory_mb} MiB"},
        "versions": lambda: {"value": ", ".join(f"{name} {version}" for name, version in library_versions().items())},
        "libmxnet.so": _library,
        "MXNet's build": _features,
    }
    if request.device == "gpu":
        for gpu in machine.gpus:
            items[f"GPU {gpu.index}"] = lambda gpu=gpu: _gpu(gpu)  # type: ignore[misc]
        items |= {"driver": _driver, "NVIDIA_TF32_OVERRIDE": lambda: {"value": os.environ.get("NVIDIA_TF32_OVERRIDE")}}
    items["a product on the device"] = lambda: _product(request)
    if request.device == "gpu":
        # Loaded by now.
        items |= {name: lambda name=name: _version(*_VERSIONS[name]) for name in _VERSIONS}  # type: ignore[misc]
    items["BLAS on the host"] = lambda: {"value": blas.blas_in_use()}
    report.measure(items)


def _library() -> dict[str, Any]:
    library = libmxnet.installed()
    if library is None:
        return {"value": "not found", "ok": False}
    code = f"code for {library.code}" if library.code else "no code for GPUs"
    return {"value": f"{library.path}: {code}"}


def _features() -> dict[str, Any]:
    import mxnet as mx

    enabled = sorted(name for name, feature in mx.runtime.Features().items() if feature.enabled)
    return {"value": ", ".join(enabled)}


def _gpu(gpu: Any) -> dict[str, Any]:
    library = libmxnet.installed()
    text = f"{gpu.name}, {gpu.memory_mb} MiB, compute capability {libmxnet.written(gpu.compute_capability)}"
    return {"value": text, "ok": bool(library and library.code.serves(gpu.compute_capability))}


def _driver() -> dict[str, Any]:
    driver = doctor.find_driver()
    if driver is None:
        return {"value": "none", "ok": False}
    return {"value": f"{driver.version}, CUDA {driver.cuda[0]}.{driver.cuda[1]}"}


def _product(request: Request) -> dict[str, Any]:
    import mxnet as mx
    import numpy as np

    from gluon_rnn.check_gpu.devices import device_of

    matrix = np.arange(64, dtype=np.float32).reshape(8, 8)
    found = mx.nd.dot(*[mx.nd.array(matrix, ctx=device_of(request))] * 2).asnumpy()
    # Whole numbers below 2^24 are exact in float32.
    right = bool((found == matrix @ matrix).all())
    return {"value": "right" if right else "wrong", "ok": right}


def _version(library: str, function: str, stores: bool) -> dict[str, Any]:
    path = loaded(library, read_text(Path("/proc/self/maps")))
    if path is None:
        return {"value": "not loaded"}
    ask = getattr(ctypes.CDLL(str(path)), function)
    if not stores:
        ask.restype = ctypes.c_size_t
        return {"value": f"{ask()} ({path.name})"}
    version = ctypes.c_int()
    ask(ctypes.byref(version))
    return {"value": f"{version.value} ({path.name})"}


def loaded(library: str, maps: str) -> Path | None:
    """The file whose name begins with `library` in a process's `maps`, the text of ``/proc/PID/maps``."""
    fields = (line.split(maxsplit=5) for line in maps.splitlines())
    paths = (Path(found[5]) for found in fields if len(found) == 6)
    return next((path for path in paths if path.name.startswith(library)), None)
