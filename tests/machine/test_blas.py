"""Which BLAS is chosen, by what measurement, and what is kept of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.machine import blas
from gluon_rnn.machine.blas import Library, Measured

NAMES = [library.name for library in blas.installed()]


class Probe:
    """Says what each library does, and counts how often it was asked."""

    def __init__(self, **rates: float | Measured) -> None:
        self.rates = rates
        self.calls: list[str] = []

    def __call__(self, library: Library, environ: Mapping[str, str]) -> Measured:
        self.calls.append(library.name)
        rate = self.rates.get(library.name, 1.0)
        return rate if isinstance(rate, Measured) else Measured(library.name, rate)


def measure(folder: Path, probe: Probe, *, processor: str = "p", threads: int = 2, anew: bool = False) -> str:
    """The choice by `probe`, in a process that has measured nothing yet."""
    blas._kept.clear()
    environ = {"OMP_NUM_THREADS": str(threads)}
    return blas.fastest(blas.measure(processor, environ, folder=folder, probe=probe, anew=anew))


@pytest.mark.parametrize("name", NAMES)
def test_the_fastest_is_chosen_whatever_its_name(tmp_path: Path, name: str) -> None:
    assert measure(tmp_path, Probe(**{name: 300.0})) == name


def test_a_verdict_is_kept_under_what_decides_it(tmp_path: Path) -> None:
    probe = Probe(**{NAMES[0]: 300.0})
    assert measure(tmp_path, probe) == measure(tmp_path, probe) == NAMES[0]
    assert probe.calls == NAMES
    for other in ({"processor": "another"}, {"threads": 1}):
        measure(tmp_path, probe, **other)  # type: ignore[arg-type]
    assert probe.calls == NAMES * 3


def test_a_choice_changes_for_a_clearly_faster_library_alone(tmp_path: Path) -> None:
    first, last = NAMES[0], NAMES[-1]
    assert measure(tmp_path, Probe(**{first: 300.0, last: 200.0})) == first
    assert measure(tmp_path, Probe(**{first: 300.0, last: 320.0}), anew=True) == first
    assert measure(tmp_path, Probe(**{first: 300.0, last: 340.0}), anew=True) == last
    assert measure(tmp_path, Probe()) == last


def test_what_was_measured_beside_other_work_is_not_kept(tmp_path: Path) -> None:
    first, last = NAMES[0], NAMES[-1]
    busy = Probe(**{first: Measured(first, 20.0, waited=1.2), last: 30.0})
    assert measure(tmp_path, busy) == last
    assert measure(tmp_path, Probe(**{first: 300.0, last: 200.0})) == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "blas").write_text("no folder")
    probe = Probe(**{NAMES[0]: 300.0})
    assert measure(tmp_path, probe) == NAMES[0]
    # This process remembers.
    blas.measure("p", {"OMP_NUM_THREADS": "2"}, folder=tmp_path, probe=probe)
    assert probe.calls == NAMES


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"measured": 5}', b'{"measured": [{"name": 1, "what": 2}]}']
)
def test_a_damaged_verdict_counts_as_none(tmp_path: Path, content: bytes) -> None:
    measure(tmp_path, Probe(**{NAMES[0]: 300.0}))
    (kept,) = (tmp_path / "blas").iterdir()
    kept.write_bytes(content)
    assert measure(tmp_path, Probe(**{NAMES[-1]: 300.0})) == NAMES[-1]


def test_a_library_that_fails_is_not_chosen(tmp_path: Path) -> None:
    first, last = NAMES[0], NAMES[-1]
    assert measure(tmp_path, Probe(**{first: Measured(first, error="it multiplies wrongly"), last: 2.0})) == last
    assert blas.fastest([Measured(name, error="x") for name in NAMES]) == "mxnet"


@pytest.mark.parametrize("library", blas.installed(), ids=lambda library: library.name)
def test_a_probe_multiplies_rightly_with_each_library_that_is_here(library: Library) -> None:
    if library.path is None:
        pytest.skip("MXNet's own BLAS has no file of its own here")
    found = blas.run_probe(library, {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    assert found.error == ""
    assert found.float32 is not None
    assert found.float32 > 0.1
    assert (found.bfloat16 is not None) == (library.name == "mkl")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("void cblas_sgemm(void) {}", "it multiplies wrongly: 0 where"),
        ("int nothing;", "undefined symbol: cblas_sgemm"),
        ("#include <stdlib.h>\nvoid cblas_sgemm(void) { abort(); }", "its process ended with status -6"),
    ],
)
def test_a_probe_says_what_is_wrong_with_a_library(tmp_path: Path, source: str, error: str) -> None:
    (tmp_path / "own.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "libown.so", "own.c"], cwd=tmp_path, check=True)
    found = blas.run_probe(Library("own", tmp_path / "libown.so"), dict(os.environ))
    assert found.float32 is None
    assert error in found.error


BESIDE_NUMPYS = """
import ctypes, sys
from pathlib import Path
import gluon_rnn
import numpy as np
import mxnet as mx
from gluon_rnn.machine.blas import blas_in_use

(numpys,) = Path(np.__file__).parents[1].glob("numpy.libs/libopenblas64_*.so")
mine, other = ctypes.CDLL(str(numpys)), ctypes.CDLL(sys.argv[1])
mine.openblas_set_num_threads64_(2)
if hasattr(other, "openblas_set_num_threads"):
    other.openblas_set_num_threads(1)
print(mine.openblas_get_num_threads64_(), blas_in_use().partition(" (")[0])
"""


def test_a_measurement_that_is_not_started_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else MXNet's own library would be chosen, and stay so."""
    library = Library("own", tmp_path / "libown.so")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"^cannot start a measurement of a BLAS: .*python: No such file or directory$"):
        blas.run_probe(library, dict(os.environ))


@pytest.mark.slow
@pytest.mark.parametrize("library", blas.installed(), ids=lambda library: library.name)
def test_numpy_keeps_its_own_blas_beside_the_one_that_mxnet_is_given(library: Library) -> None:
    """Two OpenBLAS whose inner functions are mistaken for each other's have one number of threads."""
    if library.path is None:
        pytest.skip("MXNet's own BLAS has no file of its own here")
    environment = library.environment({**os.environ, "LD_PRELOAD": "", "GLUON_RNN_BLAS": library.name})
    command = [sys.executable, "-I", "-c", BESIDE_NUMPYS, str(library.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    began = {"mkl": "2 mkl 20", "openblas": "2 openblas 0.3.2", "mxnet": "2 openblas 0.3.13"}
    assert done.stdout.startswith(began[library.name])


def test_a_library_that_cannot_be_loaded_is_said_and_done_without(tmp_path: Path, capsys: Any) -> None:
    blas.load_chosen({"GLUON_RNN_BLAS_FILE": str(tmp_path / "none.so")})
    assert capsys.readouterr().err.startswith("cannot load the chosen BLAS, so MXNet uses its own: ")


def test_the_probe_needs_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(blas._PROBE), "/nowhere/libblas.so"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "error": "/nowhere/libblas.so: cannot open shared object file: No such file or directory"
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_variable_overrides_the_measurement(tmp_path: Path, name: str) -> None:
    probe = Probe()
    assert blas.choose("p", {"GLUON_RNN_BLAS": name}, folder=tmp_path).name == name
    assert probe.calls == [] == list(tmp_path.iterdir())


def test_the_variable_may_be_a_path(tmp_path: Path) -> None:
    blas._kept.clear()
    (tmp_path / "libown.so").write_bytes(b"")
    library = blas.choose("p", {"GLUON_RNN_BLAS": str(tmp_path / "libown.so")})
    environment = library.environment({"LD_PRELOAD": "/other.so"})
    assert (environment["LD_PRELOAD"], environment["GLUON_RNN_BLAS_FILE"]) == ("/other.so", f"{tmp_path}/libown.so")
    # It is measured beside the others, for the doctor's table.
    measured = blas.measure("p", {"GLUON_RNN_BLAS": str(tmp_path / "libown.so")}, folder=tmp_path, probe=Probe())
    assert [each.name for each in measured] == [*NAMES, f"{tmp_path}/libown.so"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "atlas",
            "GLUON_RNN_BLAS='atlas' is not a library: choose mkl, openblas, mxnet or the path of a shared library",
        ),
        ("/nowhere/lib.so", "is not a library"),
        ("MKL", "is not a library"),
    ],
)
def test_a_variable_that_names_no_library_is_refused(value: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        blas.asked_for({"GLUON_RNN_BLAS": value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["libmkl_rt.so.2 copy", "a:b.so", "a;b.so"])
def test_a_path_that_no_variable_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="which separate paths in environment variables; link to it"):
        blas.asked_for({"GLUON_RNN_BLAS": str(tmp_path / name)})


@pytest.mark.skipif("openblas" not in NAMES, reason="SciPy's wheel has an OpenBLAS on Linux")
def test_a_library_may_lie_in_a_folder_with_blanks(tmp_path: Path) -> None:
    (own,) = (library for library in blas.installed() if library.name == "openblas")
    assert own.path
    path = tmp_path / "my libraries" / own.path.name
    path.parent.mkdir()
    path.symlink_to(own.path)
    library = blas.asked_for({"GLUON_RNN_BLAS": str(path)})
    assert library
    environment = library.environment({"OPENBLAS_NUM_THREADS": "1", "LD_LIBRARY_PATH": ":".join(own.folders)})
    command = [sys.executable, "-I", "-c", "import gluon_rnn; print(open('/proc/self/maps').read())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(own.path) in done.stdout
    assert done.stderr == ""
    assert (blas.run_probe(library, environment).float32 or 0) > 0


@pytest.mark.parametrize(
    ("measured", "lack"),
    [
        ([Measured("mkl", 300.0, 900.0), Measured("openblas", 250.0)], ""),
        (
            [Measured("mkl", 170.0, 141.0), Measured("openblas", 370.0)],
            "not faster here (141 GFLOP/s) than float32 (370 GFLOP/s)",
        ),
        ([Measured("mkl", 300.0, 320.0)], "not faster here (320 GFLOP/s) than float32 (300 GFLOP/s)"),
        ([Measured("openblas", 250.0)], "Intel's MKL"),
        ([], "Intel's MKL"),
    ],
)
def test_bfloat16_is_offered_where_it_gains(measured: list[Measured], lack: str) -> None:
    found = blas.lacks_for_bfloat16(measured)
    assert lack in found
    assert bool(found) == bool(lack)
