"""What each kernel's process is told, what its outcome is worth, and the page that keeps a section for each machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.machine.blas import Library
from gluon_rnn.machine.hardware import Machine
from tests.kernels.kernels import (
    KERNELS,
    Kernel,
    Outcome,
    environment,
    lacks,
    probe,
    run_in_time,
    run_tests,
)
from tests.kernels.table import renewed, row

pytestmark = pytest.mark.cpu_only

SPINNING = {"OPENBLAS_THREAD_TIMEOUT": "14", "GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "active"}
LIBRARIES = {
    "mkl": Library("mkl", Path("/site/lib/libmkl_rt.so.3"), settings={"OMP_WAIT_POLICY": "passive"}),
    "openblas": Library("openblas", Path("/site/libopenblas.so"), folders=("/site/a", "/site/b"), settings=SPINNING),
    "mxnet": Library("mxnet", None, settings=SPINNING),
}
BY_NAME = {kernel.name: kernel for kernel in KERNELS}
ORDER = list(BY_NAME)
MACHINE = Machine("host", "x86_64", "a processor", 2, 8192, (), "0123456789ab", "glibc 2.36", "3.11.7")
PAGE = "# Kernels\n\n| kernel | by |\n| --- | --- |\n| `mkl` | MKL |\n"


def test_a_kernel_is_told_and_nothing_of_another_is_left() -> None:
    there = {
        "PATH": "/bin",
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENBLAS_L2_SIZE": "512",
        "MKL_CBWR": "AVX2",
        "OMP_PROC_BIND": "true",
        "LD_PRELOAD": "/own.so",
        "LD_LIBRARY_PATH": "/own",
        "GLUON_RNN_TUNING": "off",
        "GLUON_RNN_DATA": "/data",
    }
    same = {
        "PATH": "/bin",
        "GLUON_RNN_DATA": "/data",
        "LD_LIBRARY_PATH": "/own",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
    }
    found = {
        name: environment(BY_NAME[name], 2, libraries=LIBRARIES, environ=there)
        for name in ("mxnet", "mkl AVX2", "openblas Prescott", "onednn SSE41")
    }
    assert found["mxnet"] == {**same, **SPINNING, "GLUON_RNN_BLAS": "mxnet"}
    assert found["mkl AVX2"] == {
        **same,
        "GLUON_RNN_BLAS": "mkl",
        "LD_PRELOAD": "/site/lib/libmkl_rt.so.3",
        "OMP_WAIT_POLICY": "passive",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
    assert found["openblas Prescott"] == {
        **same,
        **SPINNING,
        "GLUON_RNN_BLAS": "openblas",
        "GLUON_RNN_BLAS_FILE": "/site/libopenblas.so",
        "LD_LIBRARY_PATH": "/site/a:/site/b:/own",
        "OPENBLAS_CORETYPE": "Prescott",
    }
    assert found["onednn SSE41"] == {
        **same,
        **SPINNING,
        "GLUON_RNN_BLAS": "mxnet",
        "OPENBLAS_CORETYPE": "Haswell",
        "DNNL_MAX_CPU_ISA": "SSE41",
    }


@pytest.mark.parametrize(
    ("kernel", "flags", "lack"),
    [
        ("mkl AVX512", "sse4_2 avx2 fma", "this processor has no avx512f, avx512dq, avx512bw, avx512vl"),
        ("mkl AVX2", "sse4_2 avx2 fma", ""),
        ("onednn AVX2", "avx2", "this processor has no fma"),
        ("openblas", "", "no openblas is installed here"),
        ("mxnet", "", ""),
    ],
)
def test_what_a_machine_cannot_run_is_said(kernel: str, flags: str, lack: str) -> None:
    libraries = {name: LIBRARIES[name] for name in ("mkl", "mxnet")}
    assert lacks(BY_NAME[kernel], flags=flags.split(), libraries=libraries) == lack


@pytest.mark.slow
def test_a_process_says_what_it_computes_with_and_a_failing_test_does_not_hide_the_others(tmp_path: Path) -> None:
    """With MXNet's own BLAS, as in every clone."""
    kernel = Kernel("own", "mxnet")
    environ = environment(kernel, 1, libraries=LIBRARIES)
    outcome = probe(kernel, 1, environ)
    assert outcome == Outcome("own", 1, outcome.blas, outcome.instructions, outcome.products)
    assert outcome.blas != "unknown"
    assert outcome.instructions
    assert len(outcome.products) == 6
    (tmp_path / "test_three.py").write_text(
        "import os, pytest\n"
        "def test_good(): assert os.environ['GLUON_RNN_BLAS'] == 'mxnet'\n"
        "@pytest.mark.parametrize('name', ['a|b'])\n"
        "def test_bad(name): assert 0\n"
        "@pytest.fixture\ndef broken(): raise OSError\n"
        "def test_of_it(broken): pass\n"
        "def test_left_out(): pytest.skip('it')\n"
        "def test_crash(): os.kill(os.getpid(), 11)\n"
        "def test_crash_not(): pass\n"
    )
    done = run_tests(outcome, environ, [str(tmp_path), "--rootdir", str(tmp_path), "-p", "no:faulthandler"])
    failed = ("test_three.py::test_bad[a|b]", "test_three.py::test_of_it", "test_three.py::test_crash (SIGSEGV)")
    assert done == replace(outcome, passed=2, failed=failed, left_out=(("it", 1),))
    none = run_tests(outcome, environ, [str(tmp_path), "--rootdir", str(tmp_path), "-k", "test_of_no_such_name"])
    assert "6 deselected" in none.trouble


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('Segmentation fault: 11', flush=True); import time; time.sleep(600)", "segmentation fault"),
        ("import time; time.sleep(600)", "no end"),
        ("import os; os.abort()", "SIGABRT"),
        ("print('+++++++ Timeout +++++++'); raise SystemExit(1)", "no end"),
        ("print('why'); print(); raise SystemExit(3)", "exit status 3: why"),
    ],
)
def test_how_a_process_ended_is_said(code: str, expected: str) -> None:
    """One that would hang after it has crashed, as OpenBLAS's threads do, is ended with what it started."""
    seconds = 3 if "sleep" in code else 60
    assert run_in_time([sys.executable, "-I", "-c", code], {}, seconds=seconds).ending == expected


def test_failures_and_crashes_are_red() -> None:
    good = Outcome("openblas Prescott", 2, passed=3)
    assert not good.is_red
    assert replace(good, passed=0, trouble="segmentation fault in a product").is_red
    assert replace(good, failed=("test_x",)).is_red
    assert not Outcome("mkl", 1, skipped="no mkl is installed here").is_red


def test_a_row_says_what_failed_and_why_what_was_not_tried() -> None:
    outcome = Outcome(
        "mkl", 2, "mkl 1", "Intel AVX2", "abcdef", 10, ("tests/x.py::a[1|2]", "tests/x.py::b"), (("no data", 7),)
    )
    assert row(outcome) == (
        "| mkl | 2 | mkl 1 | Intel AVX2 | abcdef | 10 | 2 | tests/x.py::a[1/2]; tests/x.py::b; 7 not tried: no data |"
    )
    skipped = Outcome("mkl AVX2", 1, skipped="this processor has no fma")
    assert row(skipped) == "| mkl AVX2 | 1 |  |  |  |  |  | not tried: this processor has no fma |"


def test_a_machines_rows_are_renewed_and_others_stay() -> None:
    first = [Outcome("mxnet", 2, "b", passed=1), Outcome("mkl", 1, "a", passed=2), Outcome("mkl", 2, "a", passed=3)]
    page = renewed(PAGE, MACHINE, first, order=ORDER)
    assert page.startswith(PAGE + "\n## a processor, 2 cores, glibc 2.36 (`0123456789ab`)\n\n| kernel | threads |")
    assert page.splitlines()[-3:] == [row(first[1]), row(first[2]), row(first[0])]
    other = replace(MACHINE, cpu_name="another", machine_id="b" * 12)
    both = renewed(page, other, [Outcome("mkl", 1, "c", passed=4)], order=ORDER)
    assert both.startswith(page + "\n## another, 2 cores")
    # The first machine again, with a newer C library: one row is new, those of others and of the other machine stay.
    again = Outcome("mkl", 2, "a", passed=5)
    third = renewed(both, replace(MACHINE, libc="glibc 2.41"), [again], order=ORDER)
    assert third == both.replace(row(first[2]), row(again)).replace("glibc 2.36 (`0123", "glibc 2.41 (`0123")
    assert renewed(third, other, [], order=["mxnet"]) == third.replace(row(Outcome("mkl", 1, "c", passed=4)) + "\n", "")
