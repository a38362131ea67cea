"""The BLAS that multiplies matrices for MXNet: the candidates, their measured speeds on this machine, and the choice.

MXNet 1.9.1 for a CPU calls whichever ``cblas_sgemm`` the dynamic linker finds first, so a library loaded earlier
replaces its own OpenBLAS 0.3.13. Which one is fastest depends on the processor: on an Intel Xeon with AMX MKL did 284
GFLOP/s and MXNet's own 37; on an AMD EPYC (Zen 5) MKL did 170, MXNet's own 100 and the OpenBLAS in SciPy's wheel 370.
So each is timed in a process of its own (`machine.blas_probe`), in under a second in all. The choice is cached for each
processor, number of threads and set of libraries.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from gluon_rnn.common.errors import UserError, starting
from gluon_rnn.common.files import cache_directory, expand, read_whole, seal, sha1_of, unseal, write_atomically
from gluon_rnn.common.printable import quoted
from gluon_rnn.machine import libmxnet
from gluon_rnn.machine.hardware import read_text

#: Names the library: mkl, openblas, mxnet or a path. Unset: the fastest by measurement.
BLAS_VARIABLE = "GLUON_RNN_BLAS"
NAMES = ("mkl", "openblas", "mxnet")

#: Set by this suite for a worker: the file that `load_chosen` loads there.
FILE_VARIABLE = "GLUON_RNN_BLAS_FILE"

#: Variables that change the speed of a library. A cached choice is valid only if they are the same.
_DECISIVE = ("OPENBLAS_", "MKL_", "OMP_", "GOMP_", "KMP_")
#: A cached choice changes only if another library is faster by this factor. Between two libraries of equal speed the
#: choice must not change from one measurement to the next, because each rounds differently.
_CLEARLY = 1.1
#: The limit of `Measured.waited`, above which other work distorted the measurement. Alone it was 0.00 to 0.06, beside
#: two busy processes on two cores 1.1 to 1.5.
_BUSY = 0.2
_PROBE = Path(__file__).with_name("blas_probe.py")
#: Longer than a slow machine needs for a probe.
_PROBE_SECONDS = 20.0

# How idle threads wait, by what a step of LSTM 200 took on two cores of an AMD EPYC (Zen 5), alone and beside a process
# that kept one core busy. MKL shares GNU OpenMP's threads with MXNet: 216 and 359 ms where they sleep at once, 203 and
# 389 ms where they spin 1,000 times first; always spinning took 207 ms alone, and on a Xeon 1.75 s for 0.66 s beside
# another process.
_MKL_SETTINGS = {"MKL_THREADING_LAYER": "GNU", "OMP_WAIT_POLICY": "passive"}
# OpenBLAS has threads of its own. By default they spin for 2^26 cycles after a product, on the cores that MXNet's
# threads then need: a step of LSTM 650 took 472 ms, and 417 ms with 2^14 cycles. MXNet's threads may then spin 1,000
# times before they sleep: 127 and 310 ms, where sleeping at once took 146 and 380, and always spinning 255 ms alone.
# Once two threads of a process have used GNU OpenMP, as Python's and MXNet's do, it lets idle ones spin 100 times only,
# unless its policy is active (env.c of libgomp: gomp_throttled_spin_count_var). On two cores of an EPYC (Zen 3) a step
# of LSTM 200 with sampled_softmax=1024 took 120 ms with 100 and 78 ms with 1,000, with the whole softmax as long.
_OPENBLAS_SETTINGS = {"OPENBLAS_THREAD_TIMEOUT": "14", "GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "active"}


@dataclass(frozen=True)
class Library:
    """A BLAS library that MXNet can use.

    Attributes:
        name: one of `NAMES`, or the path that the user gave.
        path: of its file; None: MXNet's own, of which no file was found.
        version: of the distribution that it came with, or what else tells its file from another.
        folders: where the libraries that it needs are looked for.
        settings: variables that it needs, or with which it is faster.
    """

    name: str
    path: Path | None
    version: str = ""
    folders: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def preloaded(self) -> Path | None:
        """The file for ``LD_PRELOAD``, if the library is loaded in that way: MKL, which loads its other parts
        itself.
        """
        return self.path if self.path and _is_preloaded(self.path) else None

    @property
    def loaded(self) -> Path | None:
        """The file for `load_chosen`, if the library is loaded in that way; MXNet's own needs neither."""
        return None if self.name == "mxnet" or self.preloaded else self.path

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` with the variables that this library needs. Variables that the user has set stay."""
        environment = dict(environ)
        settings = dict(self.settings)
        if "OMP_WAIT_POLICY" in environ or "GOMP_SPINCOUNT" in environ:
            # Both say how GNU OpenMP's threads wait.
            settings = {
                key: value for key, value in settings.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
            }
        for key, value in settings.items():
            environment.setdefault(key, value)
        prepend(environment, "LD_LIBRARY_PATH", self.folders)
        environment.pop(FILE_VARIABLE, None)
        if self.preloaded:
            prepend(environment, "LD_PRELOAD", [str(self.preloaded)])
        if self.loaded:
            environment[FILE_VARIABLE] = str(self.loaded)
        return environment


@dataclass(frozen=True)
class Measured:
    """The measured speed of a library.

    Attributes:
        name: of the library.
        float32: GFLOP/s in a decoder's products; None where it could not be timed.
        bfloat16: the same with bfloat16 factors; None where it has no such products.
        waited: seconds per second, summed over threads, that they waited for a core because of other work.
        error: why it could not be timed.
    """

    name: str
    float32: float | None = None
    bfloat16: float | None = None
    waited: float = 0.0
    error: str = ""


Probe = Callable[[Library, Mapping[str, str]], Measured]


def prepend(environment: dict[str, str], name: str, entries: Sequence[str]) -> None:
    """Prepend `entries` to a colon-separated variable, each once."""
    before = [entry for entry in environment.get(name, "").split(":") if entry]
    joined = ":".join(dict.fromkeys([*entries, *before]))
    if joined:
        environment[name] = joined


def load_chosen(environ: Mapping[str, str] = os.environ) -> None:
    """Load the library that a worker's environment names, so that later libraries use it; do nothing if none is named.

    To be called before MXNet is imported. NumPy is imported first: the OpenBLAS 0.3.20 in the wheel of NumPy 1.23.5
    shares 8,910 names with the OpenBLAS 0.3.27 in SciPy 1.13.1's, and where that was preloaded, NumPy's computed with
    the other's inner functions (float32 singular values of a 300 x 300 matrix ended in a segmentation fault on an AMD
    EPYC of Zen 5). Python binds a library's calls when it loads the library, so NumPy's, which is loaded already, keeps
    its own.
    """
    path = environ.get(FILE_VARIABLE)
    if not path:
        return
    import numpy  # noqa: F401

    try:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    except OSError as error:
        print(f"cannot load the chosen BLAS, so MXNet uses its own: {error}", file=sys.stderr)


@cache
def installed() -> tuple[Library, ...]:
    """The installed candidates: MKL, SciPy's OpenBLAS and MXNet's own, in this order.

    A library is left out if a variable that has to name its folder cannot: see `_can_be_named`.
    """
    return tuple(library for library in (_mkl(), _scipy_openblas(), _mxnet_own()) if library)


def mkl_library() -> Path | None:
    """The main file of PyPI's ``mkl``, ``libmkl_rt.so.N``; None if it is not installed."""
    return next((library.path for library in installed() if library.name == "mkl"), None)


def _mkl() -> Library | None:
    if platform.machine() != "x86_64":
        return None
    return _packaged("mkl", "mkl", r"libmkl_rt\.so\.\d+", _MKL_SETTINGS)


def _scipy_openblas() -> Library | None:
    """The OpenBLAS in SciPy's wheel, whose symbols have no prefix. Its libgfortran lies beside it or beside NumPy's."""
    library = _packaged("openblas", "scipy", r"libopenblas(p-|\.).*\.so(\.\d+)*", _OPENBLAS_SETTINGS)
    if library is None or library.path is None:
        return None
    beside = library.path.parent
    folders = (str(beside), str(beside.with_name("numpy.libs")))
    return Library(library.name, library.path, library.version, folders, library.settings)


def _mxnet_own() -> Library:
    for distribution in libmxnet.distributions():
        if library := _packaged("mxnet", distribution, r"libopenblas\.so(\.\d+)*", _OPENBLAS_SETTINGS):
            return library
    return Library("mxnet", None, settings=_OPENBLAS_SETTINGS)


def _packaged(name: str, distribution: str, pattern: str, settings: Mapping[str, str]) -> Library | None:
    """The library in a file of `distribution` whose name matches `pattern`; None where there is none."""
    try:
        files, version = metadata.files(distribution) or [], metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(os.path.normpath(str(file.locate()))) for file in files if re.fullmatch(pattern, file.name))
    path = next((path for path in paths if path.is_file() and _can_be_named(path)), None)
    return Library(name, path, f"{distribution} {version}", settings=settings) if path else None


def _is_preloaded(path: Path) -> bool:
    return path.name.startswith("libmkl")


def _can_be_named(path: Path) -> bool:
    """Whether environment variables can name `path`.

    ``LD_LIBRARY_PATH`` separates its folders by colons and semicolons, ``LD_PRELOAD`` its files by colons and blanks.
    """
    return not re.search(r"[\s:;]" if _is_preloaded(path) else "[:;]", str(path))


def asked_for(environ: Mapping[str, str] = os.environ) -> Library | None:
    """The library that ``GLUON_RNN_BLAS`` names; None where it is unset.

    Raises:
        UserError: the library that it names is not installed.
    """
    wanted = environ.get(BLAS_VARIABLE, "").strip()
    if not wanted:
        return None
    if wanted in NAMES:
        if library := next((library for library in installed() if library.name == wanted), None):
            return library
        raise UserError(f"{BLAS_VARIABLE}={wanted} is not installed: run make install, or unset the variable")
    path = expand(wanted).absolute()
    if "/" not in wanted or not path.is_file():
        raise UserError(
            f"{BLAS_VARIABLE}={quoted(wanted)} is not a library: "
            f"choose {', '.join(NAMES)} or the path of a shared library"
        )
    if not _can_be_named(path):
        marks = "spaces, colons or semicolons" if _is_preloaded(path) else "colons or semicolons"
        raise UserError(
            f"{BLAS_VARIABLE}={quoted(wanted)} has {marks}, which separate paths in environment variables; link to it"
        )
    state = path.stat()
    settings = _MKL_SETTINGS if "mkl" in path.name else _OPENBLAS_SETTINGS
    return Library(str(path), path, f"{state.st_size} {state.st_mtime_ns}", (str(path.parent),), settings)


def choose(processor: str, environ: Mapping[str, str], *, folder: Path | None = None) -> Library:
    """The library that a worker uses: the requested one, otherwise the fastest measured one.

    Args:
        processor: its name, under which the verdict is kept.
        environ: the worker's environment so far, its threads included.
        folder: see `measure`.

    Raises:
        UserError: see `asked_for`.
    """
    if wanted := asked_for(environ):
        return wanted
    by_name = {library.name: library for library in installed()}
    if len(by_name) == 1:
        return by_name["mxnet"]
    return by_name[fastest(measure(processor, environ, folder=folder))]


def fastest(measured: Sequence[Measured]) -> str:
    """The name of the library with the highest float32 rate; MXNet's own if none could be timed."""
    timed = [each for each in measured if each.float32]
    return max(timed, key=lambda each: each.float32 or 0).name if timed else "mxnet"


def measure(
    processor: str,
    environ: Mapping[str, str],
    *,
    anew: bool = False,
    folder: Path | None = None,
    probe: Probe | None = None,
) -> tuple[Measured, ...]:
    """The speed of each candidate in `environ`, from the cache or measured now.

    The result is cached unless other work distorted it; then only this process uses it, and the next one measures
    again.

    Args:
        processor: its name.
        environ: the worker's environment so far, its threads included.
        anew: measure even if there is a cached choice, which stays unless another library is now clearly faster.
        folder: of the verdicts; None: the user's cache, and without one each process measures for itself.
        probe: times one library; `run_probe` unless given.
    """
    wanted = asked_for(environ)
    libraries = (*installed(), *([wanted] if wanted and wanted.name not in NAMES else ()))
    decisive = {key: value for key, value in environ.items() if key.startswith(_DECISIVE)}
    versions = [f"{library.name}: {library.version}" for library in libraries]
    under = {"processor": processor, "libraries": versions, "settings": dict(sorted(decisive.items()))}
    name = sha1_of(json.dumps(under).encode())[:16]
    folder = folder or cache_directory()
    path = folder / "blas" / f"{name}.json" if folder else None
    before = _kept.get(name) or (_read_verdict(path) if path else None)
    if before and not anew:
        _kept[name] = before
        return before
    found = tuple((probe or run_probe)(library, environ) for library in libraries)
    if before and not _clearly_faster(found, fastest(before)):
        found = before
    _kept[name] = found
    if path is None or is_busy(found):
        return found
    with suppress(OSError):  # a home that is read-only, or none
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal({**under, "measured": [vars(each) for each in found]}))
    return found


def is_busy(measured: Sequence[Measured]) -> bool:
    """Whether other work disturbed a measurement."""
    return any(each.waited > _BUSY for each in measured)


#: This process's measurements, in case nothing can be cached.
_kept: dict[str, tuple[Measured, ...]] = {}


def _clearly_faster(found: Sequence[Measured], chosen: str) -> bool:
    """Whether another library is now so much faster than `chosen` that the choice must change."""
    rates = {each.name: each.float32 or 0.0 for each in found}
    return rates.get(fastest(found), 0.0) > _CLEARLY * rates.get(chosen, 0.0)


def _read_verdict(path: Path) -> tuple[Measured, ...] | None:
    try:
        return tuple(Measured(**each) for each in unseal(read_whole(path))["measured"]) or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_probe(library: Library, environ: Mapping[str, str]) -> Measured:
    """Time `library` in a process of its own that starts in `environ`.

    Raises:
        UserError: the operating system cannot start a process, which says nothing about the library.
    """
    if library.path is None:
        return Measured(library.name, error="its file was not found")
    environment = {**library.environment(environ), "LD_PRELOAD": ""}
    command = [sys.executable, "-I", "-S", str(_PROBE), str(library.path)]
    try:
        with starting("a measurement of a BLAS"):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
            )
        return Measured(library.name, **json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Measured(library.name, error=f"it took more than {_PROBE_SECONDS:.0f} s")
    except (ValueError, TypeError):
        return Measured(library.name, error=f"its process ended with status {done.returncode}")


def lacks_for_bfloat16(measured: Sequence[Measured]) -> str:
    """The reason why ``precision=bfloat16`` is not offered on this CPU; empty if it is.

    Only MKL multiplies bfloat16, and it is slower than float32 where the processor has no instructions for it.
    """
    lowered = max((each.bfloat16 or 0.0 for each in measured), default=0.0)
    if not lowered:
        return "only Intel's MKL (the package mkl) multiplies in bfloat16, and it is not installed"
    best = max((each.float32 or 0.0 for each in measured), default=0.0)
    if lowered > _CLEARLY * best:
        return ""
    return f"it is not faster here ({lowered:.0f} GFLOP/s) than float32 ({best:.0f} GFLOP/s)"


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
    return read_text(Path("/proc/self/maps")).splitlines()
