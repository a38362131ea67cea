"""Whether this installation and this machine can train: one check a line, each with its fix.

MXNet is tried in a separate process, started like a worker, so the report shows what a run will get.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from gluon_rnn.common import processes
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import printable
from gluon_rnn.machine import blas, hardware, libmxnet
from gluon_rnn.machine import environment as runtime

#: What `mxnet-cu112` is linked to, and which distribution provides each library; the driver brings its own.
CUDA_LIBRARIES = {
    "libcudart.so.11.0": "nvidia-cuda-runtime-cu11",
    "libcublas.so.11": "nvidia-cublas-cu11",
    "libcudnn.so.8": "nvidia-cudnn-cu11",
    "libnccl.so.2": "nvidia-nccl-cu11",
    "libcufft.so.10": "nvidia-cufft-cu11",
    "libcusolver.so.11": "nvidia-cusolver-cu11",
    "libcurand.so.10": "nvidia-curand-cu11",
    "libnvrtc.so.11.2": "nvidia-cuda-nvrtc-cu11",
    "libnvToolsExt.so.1": "nvidia-nvtx-cu11",
    "libcuda.so.1": "the NVIDIA driver",
}

#: Debian's packages of the system libraries that MXNet's wheels do not carry.
SYSTEM_PACKAGES = {"libgomp.so.1": "libgomp1", "libquadmath.so.0": "libquadmath0", "libstdc++.so.6": "libstdc++6"}

#: A results folder with less free space than this, in MiB, is worth a warning: a run's checkpoints take some 100 MB.
LEAST_FREE_MB = 1024

#: Of the modules that a line names.
_NAMED = 5
#: Where Python keeps those of its own that are compiled.
_EXTENSIONS = {str(Path(sysconfig.get_path("platstdlib"), "lib-dynload")), sysconfig.get_config_var("DESTSHARED")}

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis.

    Attributes:
        level: ``problem`` if training cannot work, ``warning`` if it will be slower or worse than necessary.
        text: what was found.
        fix: what to do about it; empty if nothing is wrong.
    """

    level: Level
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Worker:
    """The findings of a process that was started like a worker.

    Attributes:
        mxnet: version, or None if it could not be imported.
        gluonnlp: version, or None if it could not be imported.
        features: build features of MXNet that are on, such as ``CUDA`` and ``MKLDNN`` (oneDNN's older name).
        blas: as `gluon_rnn.machine.blas.blas_in_use` names it.
        gflops: 10^9 floating-point operations a second in float32 matrix products of 1024 by 1024.
        missing_libraries: what MXNet is linked to and the dynamic linker did not find, where the import failed.
        error: why an import failed, in one line.
    """

    mxnet: str | None = None
    gluonnlp: str | None = None
    features: list[str] = field(default_factory=list)
    blas: str = "unknown"
    gflops: float = 0.0
    missing_libraries: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        version: such as ``535.104.05``.
        cuda: newest CUDA version that it serves, major and minor.
    """

    version: str
    cuda: tuple[int, int]


def diagnose(
    data_dir: Path | None = None,
    *,
    results_dir: Path = Path("results"),
    environ: Mapping[str, str] = os.environ,
    machine: hardware.Machine | None = None,
    worker: Worker | None = None,
    driver: Driver | None = None,
    measured: Sequence[blas.Measured] | None = None,
    version_of: Callable[[str], str | None] = hardware.version_of,
    distributions: Sequence[str] | None = None,
    library: libmxnet.Library | None = None,
    path: Sequence[str] | None = None,
) -> dict[str, Check]:
    """Check everything that a run needs, by the names that are shown.

    It takes some 5 seconds, starts one process and downloads nothing.

    Args:
        data_dir: where corpora are looked for first; None: the default places.
        results_dir: where runs would be written.
        environ: the environment on which a worker's is built.
        machine: default: this one.
        worker: default: what `ask_worker` says.
        driver: default: what NVML says.
        measured: what each BLAS does. Default: they are timed now, and the verdict is kept for all runs to come.
        version_of: gives the installed version of a distribution, None if it is missing.
        distributions: that provide MXNet. Default: those that are installed.
        library: MXNet's. Default: the one that a worker would load.
        path: the folders in which a worker looks for modules. Default: this process's, the current folder last.
    """
    machine = machine or hardware.describe_machine(environ=environ)
    if measured is None:
        measured = runtime.measure_libraries(machine.cores, environ=environ, anew=True)
    worker = worker or ask_worker(runtime.process_environment("cpu", machine.cores, environ=environ))
    driver = driver or find_driver()
    modules = check_modules(worker, environ, processes.python_path() if path is None else path)
    library = library or libmxnet.installed(environ=environ)
    distributions = libmxnet.distributions() if distributions is None else distributions
    compiler = shutil.which("cc") or shutil.which("gcc")
    return {
        "Python": check_python(sys.version_info[:2]),
        "modules": modules,
        "C compiler": check_compiler(worker, compiler, Path(sysconfig.get_path("include"))),
        **check_packages(worker, modules, version_of("numpy"), distributions, library),
        **check_own_library(environ),
        **({"CUDA libraries": check_cuda_libraries(worker, library)} if library and library.code else {}),
        **check_gpus(machine, driver, library),
        "BLAS": check_blas(worker, machine, environ, measured),
        "bfloat16": check_bfloat16(measured),
        "threads": check_threads(machine),
        "huge pages": check_huge_pages(environ),
        "results": check_results(results_dir),
        "data": check_data(data_dir, environ),
    }


def format_checks(checks: Mapping[str, Check]) -> str:
    """Format `checks`, by name, for a terminal: a line each, and a second one for a fix."""
    width = max(map(len, checks), default=0)
    lines = []
    for name, check in checks.items():
        lines.append(printable(f"{check.level:<7}  {name:<{width}}  {check.text}"))
        if check.fix:
            lines.append(printable(f"{'':<7}  {'':<{width}}  -> {check.fix}"))
    return "\n".join(lines)


def check_python(version: tuple[int, int]) -> Check:
    """MXNet 1.9.1 and NumPy 1.23 run together on Python 3.10 and 3.11."""
    text = ".".join(map(str, version))
    if version in ((3, 10), (3, 11)):
        return Check("ok", text)
    return Check("problem", f"{text}, not 3.10 or 3.11", "make clean install PYTHON=python3.11")


def check_modules(worker: Worker, environ: Mapping[str, str], path: Sequence[str]) -> Check:
    """All modules come from the suite's environment or from Python itself, not from another folder."""
    elsewhere = modules_from_elsewhere(path, _environment(path))
    home = environ.get("PYTHONHOME")
    if not elsewhere and not home:
        return Check("ok", f"from {_environment(path)}")
    texts, fixes = [], []
    for folder, names in elsewhere.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        texts.append(f"{', '.join(names[:_NAMED])}{more} from {folder}")
        fixes.append(_fix_path(folder, environ))
    if home:
        texts.append(f"Python's own from PYTHONHOME={home}")
        fixes.append("unset PYTHONHOME")
    # Another version may do.
    level: Level = "warning" if worker.gluonnlp else "problem"
    return Check(level, f"{'; '.join(texts)}; not what was installed", "; ".join(dict.fromkeys(fixes)))


def _fix_path(folder: str, environ: Mapping[str, str]) -> str:
    named = environ.get("PYTHONPATH", "").split(os.pathsep)
    if any(entry and os.path.realpath(entry) == os.path.realpath(folder) for entry in named):
        return "unset PYTHONPATH" if len(named) == 1 else f"take {folder} out of PYTHONPATH, or unset it"
    if folder == site.getusersitepackages():
        return "set PYTHONNOUSERSITE=1"
    return f"take {folder} off Python's path"


def _environment(path: Sequence[str]) -> str:
    """The folder on `path` into which this suite was installed, with all that it needs."""
    here = (folder for folder in path if any(Path(folder).glob("gluon_rnn-*.dist-info")))
    return next(here, sysconfig.get_path("purelib"))


def modules_from_elsewhere(path: Sequence[str], environment: str) -> dict[str, list[str]]:
    """The modules that come before those of `environment` or Python's own, by the folder on `path` that has them."""
    own = {module.name for module in pkgutil.iter_modules([environment])} | sys.stdlib_module_names
    pythons = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_EXTENSIONS}
    before = takewhile(lambda folder: folder != environment, path)
    found = {
        folder: sorted(own & {module.name for module in pkgutil.iter_modules([folder])})
        for folder in before
        if folder not in pythons
    }
    return {folder: names for folder, names in found.items() if names}


def check_compiler(worker: Worker, compiler: str | None, headers: Path) -> Check:
    """The compiler. GluonNLP needs it for its installation only."""
    missing = [
        what for what, there in (("C compiler", compiler), ("Python.h", (headers / "Python.h").is_file())) if not there
    ]
    if not missing:
        return Check("ok", str(compiler))
    level: Level = "ok" if worker.gluonnlp else "problem"
    fix = "" if worker.gluonnlp else "apt-get install build-essential python3-dev, then make install"
    return Check(level, f"no {' and no '.join(missing)}; needed to install GluonNLP only", fix)


def check_packages(
    worker: Worker,
    modules: Check,
    numpy: str | None,
    distributions: Sequence[str],
    library: libmxnet.Library | None,
) -> dict[str, Check]:
    """The packages that a worker imports; no installation fixes what comes from elsewhere, which `modules` tells."""
    checks = {
        "NumPy": check_numpy(numpy),
        "MXNet": check_mxnet(worker, distributions, library),
        "GluonNLP": check_gluonnlp(worker),
    }
    if not modules.fix:
        return checks
    return {n: replace(c, fix=modules.fix) if c.level == "problem" else c for n, c in checks.items()}


def check_numpy(version: str | None) -> Check:
    """From NumPy 1.24 on, MXNet cannot be imported."""
    if version is not None and version.startswith("1.23."):
        return Check("ok", version)
    return Check("problem", f"{version or 'missing'}; MXNet 1.9.1 needs 1.23", "make install")


def check_mxnet(worker: Worker, distributions: Sequence[str], library: libmxnet.Library | None) -> Check:
    """MXNet is there, from one distribution at most (a build may lie on Python's path), and can be imported."""
    if len(distributions) > 1:
        found = f"{' and '.join(distributions)} are all installed and overwrite each other's files"
        return Check("problem", found, "make clean install")
    name = distributions[0] if distributions else "mxnet"
    if worker.mxnet is None and not distributions and library is None:
        return Check("problem", "missing", "make install")
    if worker.mxnet is None:
        return Check("problem", f"{name}: {worker.error}", _fix_import(worker.error))
    features = (
        f"CUDA {'on' if 'CUDA' in worker.features else 'off'}, oneDNN {'on' if 'MKLDNN' in worker.features else 'off'}"
    )
    code = f"; code for {library.code}" if library and library.code else ""
    return Check("ok", f"{name} {worker.mxnet} ({features}{code})")


def check_own_library(environ: Mapping[str, str]) -> dict[str, Check]:
    """A library that ``MXNET_LIBRARY_PATH`` names in place of the installed one; nothing where it is unset."""
    wanted = environ.get(libmxnet.LIBRARY_VARIABLE)
    if not wanted:
        return {}
    if libmxnet.own_build(environ) is None:
        text = f"{libmxnet.LIBRARY_VARIABLE}={wanted} is not the absolute path of a file, so MXNet ignores it"
        return {"own build": Check("warning", text, f"correct or unset {libmxnet.LIBRARY_VARIABLE}")}
    return {"own build": Check("ok", f"{wanted} ({libmxnet.LIBRARY_VARIABLE})")}


def _fix_import(error: str) -> str:
    library = missing_library(error)
    if library in SYSTEM_PACKAGES:
        return f"apt-get install {' '.join(SYSTEM_PACKAGES.values())}"
    if library == "libcuda.so.1":
        return "install NVIDIA's driver, or for the CPU make install EXTRA=cpu"
    return "make install EXTRA=cu112" if library in CUDA_LIBRARIES else "make clean install"


def missing_library(error: str) -> str | None:
    """Read from the dynamic linker's message which library it did not find."""
    match = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", error)
    return match[1] if match else None


def check_gluonnlp(worker: Worker) -> Check:
    """GluonNLP can be imported, which needs MXNet."""
    if worker.gluonnlp is not None:
        return Check("ok", worker.gluonnlp)
    if worker.mxnet is None:
        return Check("problem", "not tested, because MXNet cannot be imported", "fix MXNet first")
    return Check("problem", worker.error, "make install")


def check_cuda_libraries(worker: Worker, library: libmxnet.Library) -> Check:
    """The dynamic linker finds what MXNet's library is linked to, in an environment like a worker's."""
    if not worker.missing_libraries:
        return Check("ok", f"all {len(library.needed)} found")
    text = ", ".join(
        f"{name} ({CUDA_LIBRARIES[name]})" if name in CUDA_LIBRARIES else name for name in worker.missing_libraries
    )
    known = [name for name in worker.missing_libraries if name in CUDA_LIBRARIES]
    fix = _fix_import(f"{known[-1]}: cannot open shared object file") if known else ""
    if len(known) < len(worker.missing_libraries):
        fix = "; ".join(filter(None, [fix, "add the folder of the others to LD_LIBRARY_PATH"]))
    return Check("problem", f"missing: {text}", fix)


def check_gpus(machine: hardware.Machine, driver: Driver | None, library: libmxnet.Library | None) -> dict[str, Check]:
    """Every visible GPU, the driver, and whether the installed MXNet can use them; a machine without a GPU is fine."""
    if not machine.gpus:
        why = "no driver" if driver is None else f"driver {driver.version} shows none"
        return {"GPU": Check("ok", f"none ({why}); runs use the CPU")}
    checks = {}
    if driver is not None:
        checks["driver"] = _check_driver(driver, library)
    return checks | {f"GPU {gpu.index}": _check_gpu(gpu, library) for gpu in machine.gpus}


def _check_driver(driver: Driver, library: libmxnet.Library | None) -> Check:
    text = f"{driver.version}, CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    runtimes = (re.fullmatch(r"libcudart\.so\.(\d+)\b.*", name) for name in (library.needed if library else ()))
    cuda = next((int(found[1]) for found in runtimes if found), 11)
    if cuda > 11:
        if driver.cuda[0] < cuda:
            return Check("problem", f"{text}; this MXNet needs CUDA {cuda}", "install a newer driver")
    elif driver.cuda < (11, 2):
        return Check("problem", f"{text}; MXNet's build needs 11.2", "install driver 520 or later")
    elif driver.cuda < (11, 8):
        # MXNet compiles fused operators with NVRTC 11.8, whose PTX an older driver refuses.
        fix = "install driver 520 or later, or set MXNET_USE_FUSION=0"
        return Check("warning", f"{text}; it cannot load operators fused for CUDA 11.8", fix)
    return Check("ok", text)


def _check_gpu(gpu: hardware.Gpu, library: libmxnet.Library | None) -> Check:
    text = f"{gpu.name}, {gpu.memory_mb} MiB, compute capability {libmxnet.written(gpu.compute_capability)}"
    if library and library.code.serves(gpu.compute_capability):
        return Check("ok", text)
    fix = "use the CPU, or a build of MXNet that has code for this GPU: see docs/gpus.md"
    if library and library.code:
        return Check("warning", f"{text}; the installed MXNet has code for {library.code} only", fix)
    if libmxnet.CU112.serves(gpu.compute_capability):
        return Check("warning", f"{text}; the installed MXNet is for the CPU", "make install EXTRA=cu112")
    return Check("warning", f"{text}; MXNet's CUDA builds on PyPI have code for {libmxnet.CU112} only", fix)


def check_blas(
    worker: Worker, machine: hardware.Machine, environ: Mapping[str, str], measured: Sequence[blas.Measured]
) -> Check:
    """The BLAS that multiplies matrices, and the measured speed of each."""
    if worker.mxnet is None:
        return Check("problem", "not tested, because MXNet cannot be imported", "fix MXNet first")
    text = f"{worker.blas}, {worker.gflops:.0f} GFLOP/s with {machine.cores} threads"
    if not runtime.tuning_wanted(environ):
        return Check("ok", f"{text} ({runtime.TUNING_VARIABLE}=off)")
    rates = ", ".join(
        f"{each.name} {each.error}" if each.float32 is None else f"{each.name} {each.float32:.0f}" for each in measured
    )
    text = f"{text}; measured in a decoder's products: {rates}"
    if wanted := environ.get(blas.BLAS_VARIABLE):
        return Check("ok", f"{text} ({blas.BLAS_VARIABLE}={wanted})")
    if blas.is_busy(measured):
        return Check("warning", f"{text}, beside other work", "make doctor again when the machine is idle")
    if len(measured) == 1:
        fix = "make install, in a folder without colons in its path, to have faster ones"
        return Check("warning", text, fix)
    return Check("ok", text)


def check_bfloat16(measured: Sequence[blas.Measured]) -> Check:
    """Whether ``precision=bfloat16`` is offered here."""
    lack = blas.lacks_for_bfloat16(measured)
    return Check("ok", f"not offered: {lack}" if lack else "offered on the CPU")


def check_threads(machine: hardware.Machine) -> Check:
    """How many threads a run alone on the machine gets."""
    return Check(
        "ok",
        f"{hardware.default_threads(machine.cores, 1)} a run ({machine.cpu_name}, {machine.memory_mb} MiB)",
    )


def check_huge_pages(environ: Mapping[str, str]) -> Check:
    """Whether the heap of a worker gets huge pages."""
    if not runtime.tuning_wanted(environ):
        return Check("ok", f"left alone ({runtime.TUNING_VARIABLE}=off)")
    if runtime.huge_pages_available():
        return Check("ok", f"on ({hardware.libc_version()})")
    return Check(
        "ok",
        f"not to be had: they need glibc 2.35 (here {hardware.libc_version()}) and a kernel that allows them",
    )


def check_results(folder: Path) -> Check:
    """Runs can be written into `folder` or, where it does not exist yet, into the nearest folder above it."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return Check("problem", f"cannot write into {existing}", "give another folder with --results")
    free_mb = shutil.disk_usage(existing).free >> 20
    if free_mb < LEAST_FREE_MB:
        return Check("warning", f"{folder}: {free_mb} MiB free", "make room, or give another folder with --results")
    return Check("ok", f"{folder}: {free_mb} MiB free")


def check_data(data_dir: Path | None, environ: Mapping[str, str]) -> Check:
    """Which published corpora are in `data_dir` or in the cache with the right bytes; nothing is downloaded.

    It is a warning if WikiText-2 is not among them.
    """
    from gluon_rnn.data.corpora import known, published, wikitext2
    from gluon_rnn.data.places import DATA_VARIABLE, expand

    if data_dir is None and environ.get(DATA_VARIABLE):
        data_dir = Path(environ[DATA_VARIABLE])
    if data_dir is not None and not os.path.isdir(data_dir := expand(data_dir)):
        return Check("problem", f"{data_dir} is not a folder", f"give another with --data-dir or {DATA_VARIABLE}")
    here: dict[str, Path] = {}
    fixes: dict[str, str] = {}
    for corpus in known.PUBLISHED.values():
        alone = replace(corpus, sources=())
        try:
            here[corpus.name], _ = published.find(alone, data_dir and data_dir.absolute(), notice=lambda _: None)
        except published.Unavailable as error:
            fixes[corpus.name] = error.fix
        except UserError as error:
            return Check("problem", str(error))
    others = ", ".join(name for name in here if name != wikitext2.NAME) or "none"
    rest = f"of the other corpora here: {others}"
    if wikitext2.NAME in fixes:
        text = "WikiText-2 is not here yet: a sweep will try to download it, else auto means the synthetic corpus"
        return Check("warning", f"{text}; {rest}", fixes[wikitext2.NAME])
    return Check("ok", f"WikiText-2 in {here[wikitext2.NAME]}, verified; {rest}")


def find_driver(nvml: Any = None) -> Driver | None:
    """Ask NVML for the driver's version; None without a driver.

    Args:
        nvml: a module like ``pynvml``, which is the default.
    """
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
        version, cuda = nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetCudaDriverVersion()
        nvml.nvmlShutdown()
    except Exception:  # as for runtime.list_gpus: after any error of NVML there is no usable driver
        return None
    return Driver(version.decode() if isinstance(version, bytes) else version, (cuda // 1000, cuda % 1000 // 10))


def ask_worker(environment: Mapping[str, str], *, timeout_seconds: float = 120) -> Worker:
    """Start a process in `environment`, import what a run imports, and multiply matrices for a second.

    Args:
        environment: a whole environment, from `gluon_rnn.machine.environment.process_environment`.
        timeout_seconds: after this long the process is ended and counts as failed.
    """
    command = processes.command("gluon_rnn.doctor")
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Worker(error=f"importing MXNet took more than {timeout_seconds:.0f} s")
    try:
        return Worker(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return Worker(error=last[0] if last else f"the process ended with status {done.returncode} and said nothing")


def examine() -> None:
    """Print, as one line of JSON, the fields of `Worker` for this very process."""
    import ctypes

    found: dict[str, Any] = {}
    try:
        import mxnet

        found |= {
            "mxnet": mxnet.__version__,
            "features": [name for name, feature in mxnet.runtime.Features().items() if feature.enabled],
            "blas": blas.blas_in_use(),
            "gflops": _gflops(mxnet),
        }
        import gluonnlp

        found["gluonnlp"] = gluonnlp.__version__
    except Exception as error:  # whatever an old library raises on import is what is to be reported
        found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if "mxnet" not in found and (library := libmxnet.installed()):
            found["missing_libraries"] = [
                # MXNet's own libraries lie beside it, where its run path finds them.
                name
                for name in library.needed
                if not (library.path.parent / name).exists() and not _loads(ctypes.CDLL, name)
            ]
    print(json.dumps(found))


def _loads(load: Callable[[str], Any], library: str) -> bool:
    try:
        load(library)
    except OSError:
        return False
    return True


def _gflops(mxnet: Any, *, size: int = 1024, seconds: float = 1.0) -> float:
    matrix = mxnet.nd.ones((size, size))
    mxnet.nd.dot(matrix, matrix).wait_to_read()  # the first product starts the threads
    products, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        mxnet.nd.dot(matrix, matrix).wait_to_read()
        products += 1
    return float(2 * size**3 * products / elapsed / 1e9)


if __name__ == "__main__":
    examine()
