"""Which kernels there are, what each needs, how a process is told to use it, and what it then really uses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gluon_rnn.common import processes
from gluon_rnn.machine.blas import Library, installed

CHECKOUT = Path(__file__).parents[2]
#: What decides a kernel, its threads or what is preloaded. A kernel sets what it needs of them, and no other is left:
#: where OpenBLAS does not know a new processor, the environment may already name another.
_DECIDING = re.compile(r"(OPENBLAS|GOTO|MKL|DNNL|MKLDNN|OMP|GOMP|KMP|GLUON_RNN_(BLAS|TUNING)|LD_PRELOAD$).*")
#: Where the process that runs the tests writes down what came of each; see `plugin`.
REPORT_VARIABLE = "GLUON_RNN_KERNELS_REPORT"
#: Seconds after which is ended what hangs: a process that multiplies, a test, and the process that runs the tests.
_PROBE_SECONDS, _TEST_SECONDS, _TESTS_SECONDS = 60, 90, 1200
#: Tests that may end their process before the kernel is given up, and what pytest says where none is left.
_MOST_CRASHES, _NO_TESTS = 5, 5


@dataclass(frozen=True)
class Kernel:
    """One way to tell a process how to compute.

    Attributes:
        name: in the table and for ``--only``.
        library: what answers MXNet's matrix products: ``mkl``, ``openblas`` (SciPy's) or ``mxnet`` (its own).
        variables: of the environment, beside the library's own.
        flags: of ``/proc/cpuinfo``, which the processor must have.
    """

    name: str
    library: str
    variables: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


_AVX2, _AVX512 = ("avx2", "fma"), ("avx512f", "avx512dq", "avx512bw", "avx512vl")
#: A library that is told nothing chooses for itself, and comes first. oneDNN computes recurrent layers and softmax
#: beside a BLAS: MXNet's own, with the kernel that most processors can run.
KERNELS = (
    Kernel("mkl", "mkl"),
    *(
        Kernel(f"mkl {name}", "mkl", {"MKL_ENABLE_INSTRUCTIONS": name}, flags)
        for name, flags in (("SSE4_2", ("sse4_2",)), ("AVX2", _AVX2), ("AVX512", _AVX512))
    ),
    *(
        Kernel(f"{library}{core and ' '}{core}", library, {"OPENBLAS_CORETYPE": core} if core else {}, flags)
        for library, cores in (
            ("openblas", {"": (), "Haswell": _AVX2, "SkylakeX": _AVX512, "Prescott": ("pni",)}),
            ("mxnet", {"": (), "Haswell": _AVX2, "Prescott": ("pni",)}),
        )
        for core, flags in cores.items()
    ),
    *(
        Kernel(f"onednn {isa}", "mxnet", {"DNNL_MAX_CPU_ISA": isa, "OPENBLAS_CORETYPE": "Haswell"}, (*_AVX2, *flags))
        for isa, flags in (("SSE41", ("sse4_1",)), ("AVX2", ()), ("ALL", ()))
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one kernel with so many threads.

    Attributes:
        kernel: its name.
        threads: of OpenMP and of the BLAS.
        blas: as `gluon_rnn.machine.blas.blas_in_use` names it; empty if no process lived to tell.
        instructions: oneDNN's, as it names them.
        products: 6 hexadecimal digits of some products' bits; where they differ, so do kernels.
        passed: tests.
        failed: identifiers of tests.
        left_out: reasons for which tests were skipped, and how many.
        trouble: what else went wrong, such as a crash.
        skipped: why it was not tried; empty if it was.
    """

    kernel: str
    threads: int
    blas: str = ""
    instructions: str = ""
    products: str = ""
    passed: int = 0
    failed: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    trouble: str = ""
    skipped: str = ""

    @property
    def is_red(self) -> bool:
        """Whether something failed."""
        return bool(self.failed or self.trouble)


def lacks(kernel: Kernel, *, flags: Sequence[str], libraries: Mapping[str, Library]) -> str:
    """Why `kernel` cannot be tried here; empty if it can."""
    if kernel.library not in libraries:
        return f"no {kernel.library} is installed here"
    missing = [flag for flag in kernel.flags if flag not in flags]
    return f"this processor has no {', '.join(missing)}" if missing else ""


def environment(
    kernel: Kernel, threads: int, *, libraries: Mapping[str, Library], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The whole environment of a process that is to use `kernel`, with what a worker has for its library."""
    found = {name: value for name, value in environ.items() if not _DECIDING.match(name)}
    found |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    found |= {"PYTHONHASHSEED": "0", "GLUON_RNN_BLAS": kernel.library, **kernel.variables}
    return libraries[kernel.library].environment(found)


def installed_libraries() -> dict[str, Library]:
    """The libraries that are here, by name."""
    return {library.name: library for library in installed()}


def processor_flags() -> tuple[str, ...]:
    """What this processor can do, as ``/proc/cpuinfo`` names it."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return tuple(match[1].split()) if match else ()


# The name first, since a product may end the process. Sizes that fill no block of any kernel, and long sums.
_PROBE = """
import hashlib
from gluon_rnn.machine.blas import blas_in_use  # first: this package loads what MXNet is to use
import mxnet as mx
import numpy as np

print("blas", blas_in_use(), flush=True)
random, digest = np.random.RandomState(0), hashlib.sha1()
for rows, inner, columns in ((300, 200, 500), (700, 200, 3001), (7, 4099, 13), (64, 64, 64), (1, 77, 5)):
    a, b = random.normal(size=(rows, inner)).astype("f"), random.normal(size=(inner, columns)).astype("f")
    found = mx.nd.dot(mx.nd.array(a), mx.nd.array(b)).asnumpy()
    digest.update(found.tobytes())
    # By numpy's own loops: OPENBLAS_CORETYPE puts the BLAS that it carries on trial, too.
    expected = np.einsum("ij,jk->ik", a.astype("d"), b.astype("d"), optimize=False)
    # n products added up in float32, in any order, are off by at most n roundings of the sum of their magnitudes.
    bound = inner * 2.0**-24 * np.einsum("ij,jk->ik", abs(a).astype("d"), abs(b).astype("d"), optimize=False)
    if not (abs(found - expected) <= bound).all():
        print("trouble wrong products:", f"{rows} x {inner} x {columns} is off by {abs(found - expected).max():.3g}")
layer = mx.gluon.rnn.LSTM(8)
layer.initialize()
layer(mx.nd.ones((2, 1, 8))).wait_to_read()
print("products", digest.hexdigest()[:6], flush=True)
"""


@dataclass(frozen=True)
class Process:
    """What is left of one that has ended.

    Attributes:
        log: all that it printed.
        status: as `subprocess.Popen` has it; None where it did not end in time and was killed.
    """

    log: str
    status: int | None

    @property
    def ending(self) -> str:
        """How it ended, in a few words."""
        # MXNet says which signal it caught, and leaves with a status of its own; with threads it may hang in leaving.
        if "+ Timeout +" in self.log:  # pytest-timeout has ended it
            return "no end"
        caught = re.search(
            r"^(Segmentation fault|Floating point exception|Illegal instruction|Aborted)", self.log, re.MULTILINE
        )
        if caught:
            return caught[1].lower()
        if self.status is None:
            return "no end"
        if self.status < 0:
            return signal.Signals(-self.status).name
        last = next((line for line in reversed(self.log.splitlines()) if line.strip()), "no word")
        return f"exit status {self.status}: {last}"


def run_in_time(command: Sequence[str], environ: Mapping[str, str], *, seconds: float) -> Process:
    """Run to the end, or for so many seconds; then it is killed with all that it started."""
    # Into a file, since what outlives a crash would hold a pipe open.
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=dict(environ), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        status: int | None = None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        return Process(log.read(), status)


def probe(kernel: Kernel, threads: int, environ: Mapping[str, str]) -> Outcome:
    """Multiply in a process of its own: what answers, and whether the products are right."""
    done = run_in_time([sys.executable, "-I", "-c", _PROBE], {**environ, "DNNL_VERBOSE": "1"}, seconds=_PROBE_SECONDS)
    said = dict(re.findall(r"^(blas|products|trouble) (.*)$", done.log, re.MULTILINE))
    isa = re.search(r"^dnnl_verbose,info,cpu,isa:(.*)$", done.log, re.MULTILINE)
    return Outcome(
        kernel.name,
        threads,
        blas=said.get("blas", ""),
        instructions=isa[1] if isa else "",
        products=said.get("products", ""),
        trouble=said.get("trouble", "") if "products" in said else f"{done.ending} in a product",
    )


def run_tests(outcome: Outcome, environ: Mapping[str, str], selection: Sequence[str]) -> Outcome:
    """`outcome` with the results of the tests that pytest selects, run in a process of their own.

    Where a test ends the process, or hangs, another process continues with the next ones.
    """
    command = processes.command("pytest", "-p", "tests.kernels.plugin", "-p", "no:cacheprovider", *selection)
    # In a thread, since a signal does not reach Python while it waits for MXNet.
    command += [f"--timeout={_TEST_SECONDS}", "--timeout-method=thread"]
    ended: dict[str, str] = {}
    crashed: list[str] = []
    trouble = ""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        while not trouble:
            done = run_in_time(command, {**environ, REPORT_VARIABLE: str(report)}, seconds=_TESTS_SECONDS)
            results = [json.loads(line) for line in report.read_text().splitlines()]
            ended = {test: result for test, result, _ in results if result != "begun"}
            lost = [test for test, result, _ in results if result == "begun" and test not in ended]
            if len(lost) == len(crashed):
                if done.status not in (0, 1) and not (crashed and done.status == _NO_TESTS):
                    trouble = done.ending
                break
            crashed.append(f"{lost[-1]} ({done.ending})")
            if len(crashed) == _MOST_CRASHES:
                trouble = "no further tests were tried"
    failed = (*(test for test, result in ended.items() if result == "failed"), *crashed)
    passed = sum(result == "passed" for result in ended.values())
    left_out = Counter(reason for _, result, reason in results if result == "skipped")
    return replace(outcome, passed=passed, failed=failed, left_out=tuple(left_out.items()), trouble=trouble)
