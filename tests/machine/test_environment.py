from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gluon_rnn import doctor
from gluon_rnn.doctor import Check, Driver, Worker
from gluon_rnn.machine import blas, hardware
from gluon_rnn.machine import environment as runtime
from gluon_rnn.machine.blas import Measured
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import Gpu, Machine
from gluon_rnn.machine.libmxnet import CU112, GpuCode, Library

FOR_CPU = Library(Path("libmxnet.so"))
FOR_CUDA = Library(Path("libmxnet.so"), CU112, ("libcudart.so.11.0", "libcudnn.so.8"))
FOR_HOPPER = Library(Path("libmxnet.so"), GpuCode(frozenset({(9, 0)}), frozenset({(9, 0)})))

BOARDS = (("GPU-aaaa", "Tesla V100", (7, 0)), ("GPU-aabb", "RTX A6000", (8, 6)), ("GPU-cccc", "H100", (9, 0)))


class FakeNvml:
    """As much of pynvml as is asked, for `BOARDS` of 16 GiB."""

    class NVMLError(Exception):
        pass

    def __init__(self, boards=BOARDS, *, cuda=12020, broken=False):
        self.boards, self.cuda, self.broken, self.open = boards, cuda, broken, False

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("Driver Not Loaded")
        self.open = True

    def nvmlShutdown(self):
        self.open = False

    def nvmlDeviceGetCount(self):
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.boards[index]

    def nvmlDeviceGetUUID(self, board):
        return board[0]

    def nvmlDeviceGetName(self, board):
        return board[1].encode()  # as older bindings do

    def nvmlDeviceGetCudaComputeCapability(self, board):
        return list(board[2])

    def nvmlDeviceGetMemoryInfo(self, board):
        return SimpleNamespace(total=16 << 30)

    def nvmlSystemGetDriverVersion(self):
        return "535.104.05"

    def nvmlSystemGetCudaDriverVersion(self):
        return self.cuda


def machine(*boards: tuple[str, str, tuple[int, int]]) -> Machine:
    gpus = tuple(Gpu(index, *board, memory_mb=16384) for index, board in enumerate(boards))
    return Machine("host", "x86_64", "Xeon", 4, 8192, gpus, "0123456789ab", "glibc 2.36", "3.11.7")


MEASURED = [Measured("mkl", 280.0, 900.0), Measured("openblas", 250.0), Measured("mxnet", error="took too long")]
HEALTHY = Worker("1.9.1", "0.10.0", ["MKLDNN"], "mkl 2026.2 (AVX-512)", 280.0)


# The environment of a worker


def test_threads_are_said_to_every_library_and_the_rest_is_kept():
    environment = process_environment("cpu", 3, environ={"HOME": "/home/me", "OMP_NUM_THREADS": "8"})
    assert [environment[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")] == ["3", "3", "3"]
    assert environment["HOME"] == "/home/me"
    assert environment["PYTHONHASHSEED"] == "0"


@pytest.mark.parametrize("library", blas.installed(), ids=lambda library: library.name)
def test_preloaded_libraries_come_after_the_blas_and_only_once(library: blas.Library) -> None:
    before = {"LD_PRELOAD": "/own/libown.so", "GLUON_RNN_BLAS": library.name}
    once = process_environment("cpu", 1, environ=before)
    assert once["LD_PRELOAD"] == ":".join([*map(str, filter(None, [library.preloaded])), "/own/libown.so"])
    assert once.get("GLUON_RNN_BLAS_FILE") == (str(library.path) if library.name == "openblas" else None)
    assert process_environment("cpu", 1, environ=once) == once


@pytest.mark.skipif(not runtime.huge_pages_available(), reason="needs glibc 2.35 and transparent huge pages")
def test_tunables_are_merged_and_the_user_has_the_last_word():
    given = "glibc.malloc.arena_max=4:glibc.malloc.check=3"
    merged = process_environment("cpu", 1, environ={"GLIBC_TUNABLES": given})["GLIBC_TUNABLES"].split(":")
    assert merged[:2] == given.split(":")
    assert {"glibc.malloc.hugetlb=1", "glibc.malloc.tcache_count=0", "glibc.malloc.mxfast=0"} <= {*merged}
    assert [entry for entry in merged if "arena_max" in entry] == ["glibc.malloc.arena_max=4"]


@pytest.mark.parametrize("name", ["MXNET_OPTIMIZER_AGGREGATION_SIZE", "MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD"])
def test_operators_run_one_by_one_on_a_cpu_and_in_groups_on_a_gpu(name: str):
    assert process_environment("cpu", 1, environ={})[name] == "1"
    assert process_environment("cpu", 1, environ={name: "4"})[name] == "4"
    assert name not in process_environment("gpu:0", 1, environ={})


@pytest.mark.parametrize("library", blas.installed(), ids=lambda library: library.name)
@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_WAIT_POLICY", "active"), ("MKL_THREADING_LAYER", "SEQUENTIAL"), ("OPENBLAS_THREAD_TIMEOUT", "20")],
)
def test_a_setting_of_the_users_own_stays(library: blas.Library, name: str, value: str) -> None:
    environment = process_environment("cpu", 1, environ={name: value, "GLUON_RNN_BLAS": library.name})
    assert environment[name] == value
    # One of the two says how GNU OpenMP's threads wait; the user's must not be overruled by the other.
    assert name != "OMP_WAIT_POLICY" or "GOMP_SPINCOUNT" not in environment


@pytest.mark.parametrize("user", [{}, {"NVIDIA_TF32_OVERRIDE": "1"}, {"NVIDIA_TF32_OVERRIDE": "0"}])
def test_float32_is_float32_on_a_gpu_and_tf32_is_allowed_where_it_is_asked_for(user: dict[str, str]) -> None:
    asked = {**user, "GLUON_RNN_BLAS": "mxnet"}
    assert process_environment("gpu:0", 1, environ=asked)["NVIDIA_TF32_OVERRIDE"] == "0"
    assert process_environment("gpu:0", 1, precision="bfloat16", environ=asked)["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in process_environment("gpu:0", 1, precision="tf32", environ=asked)


def test_a_gpus_recurrent_layers_are_reproducible() -> None:
    name = "CUBLAS_WORKSPACE_CONFIG"
    user = {"GLUON_RNN_BLAS": "mxnet"}
    assert process_environment("gpu:0", 1, environ=user)[name] == ":4096:2"
    assert process_environment("gpu:0", 1, environ={**user, name: ":16:8"})[name] == ":16:8"
    assert name not in process_environment("cpu", 1, environ=user)


def test_operators_are_fused_on_a_gpu_unless_the_user_or_a_graph_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for tuning in ("on", "off"):
        environ = {"GLUON_RNN_TUNING": tuning}
        assert process_environment("gpu:0", 1, environ=environ)["MXNET_USE_FUSION"] == "1"
        assert "MXNET_USE_FUSION" not in process_environment("cpu", 1, environ=environ)
    asked = {"GLUON_RNN_TUNING": "off", "MXNET_USE_FUSION": "0"}
    assert process_environment("gpu:0", 1, environ=asked)["MXNET_USE_FUSION"] == "0"
    for before in ("0", "1"):
        monkeypatch.setenv("MXNET_USE_FUSION", before)
        with runtime.unfused():
            assert os.environ["MXNET_USE_FUSION"] == "0"
        assert os.environ["MXNET_USE_FUSION"] == before
    monkeypatch.delenv("MXNET_USE_FUSION")
    with runtime.unfused():
        assert "MXNET_USE_FUSION" not in os.environ


def test_one_switch_leaves_out_all_tuning():
    environment = process_environment("cpu", 2, environ={"GLUON_RNN_TUNING": "off", "OPENBLAS_CORETYPE": "Haswell"})
    environment.pop("LD_LIBRARY_PATH", None)
    assert environment == {
        "GLUON_RNN_TUNING": "off",
        "OPENBLAS_CORETYPE": "Haswell",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "PYTHONHASHSEED": "0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.mark.parametrize(
    ("device", "visible"),
    [("cpu", ""), ("gpu:0", "0"), ("gpu:GPU-aabb", "GPU-aabb"), ("gpu:2", "2"), ("gpu:GPU-b,GPU-a", "GPU-b,GPU-a")],
)
def test_a_worker_sees_its_own_gpu_and_no_other(device, visible):
    environment = process_environment(device, 1, environ={"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["CUDA_DEVICE_ORDER"]) == (visible, "PCI_BUS_ID")


@pytest.mark.parametrize(("device", "threads"), [("gpu", 1), ("tpu", 1), ("cpu:0", 1), ("", 1), ("cpu", 0)])
def test_an_impossible_worker_is_refused(device, threads):
    with pytest.raises(ValueError, match="no environment"):
        process_environment(device, threads, environ={})


def test_cuda_libraries_of_wheels_are_found_in_order(tmp_path):
    for package in ("cudnn", "cublas"):
        (tmp_path / "nvidia" / package / "lib").mkdir(parents=True)
    (tmp_path / "nvidia" / "headers").mkdir()
    assert runtime.cuda_library_folders(tmp_path) == [f"{tmp_path}/nvidia/{name}/lib" for name in ("cublas", "cudnn")]


def test_a_record_holds_settings_but_no_folders():
    environ = {"OMP_NUM_THREADS": "2", "LD_PRELOAD": "/a/libmkl_rt.so.3:/b/libown.so", "SECRET": "x"}
    environ |= {"GLUON_RNN_BLAS": "/my own/libblas.so", "GLUON_RNN_BLAS_FILE": "/my own/libblas.so"}
    assert runtime.recorded_environment(environ) == {
        "GLUON_RNN_BLAS": "libblas.so",
        "GLUON_RNN_BLAS_FILE": "libblas.so",
        "OMP_NUM_THREADS": "2",
        "LD_PRELOAD": "libmkl_rt.so.3 libown.so",
    }


# The machine


def test_gpus_are_read_from_nvml_and_it_is_closed_again():
    nvml = FakeNvml()
    assert hardware.list_gpus(nvml)[1] == Gpu(1, "GPU-aabb", "RTX A6000", (8, 6), 16384)
    assert not nvml.open


def test_without_a_driver_there_are_no_gpus():
    assert hardware.list_gpus(FakeNvml(broken=True)) == []


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("0,7,1", [0]),  # as CUDA does: what follows an unknown one is not seen
        ("GPU-cccc,0", [2, 0]),
        ("GPU-aa", []),  # the beginning of two
        ("GPU-aab", [1]),
        ("1,1", [1]),
    ],
)
def test_cuda_visible_devices_is_an_outer_limit(visible, indices):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = hardware.describe_machine(environ=environ, nvml=FakeNvml())
    assert [gpu.index for gpu in found.gpus] == indices


def test_the_machines_identity_is_its_hardware():
    first = hardware.describe_machine(environ={}, nvml=FakeNvml())
    hidden = hardware.describe_machine(environ={"CUDA_VISIBLE_DEVICES": ""}, nvml=FakeNvml())
    other = hardware.describe_machine(environ={}, nvml=FakeNvml(BOARDS[:1]))
    assert len(first.machine_id) == 12
    assert int(first.machine_id, 16) >= 0
    assert first.machine_id == hidden.machine_id != other.machine_id


def cpuinfo(name: str, family: int, model: int) -> str:
    """As the kernel writes it on x86, of two cores."""
    core = f"cpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\nstepping\t: 1\npower management:\n\n"
    return f"processor\t: 0\n{core}processor\t: 1\n{core}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (cpuinfo("AMD EPYC", 25, 1), "AMD EPYC (family 25, model 1)"),
        (cpuinfo("AMD EPYC", 26, 2), "AMD EPYC (family 26, model 2)"),
        (cpuinfo("Intel(R) Xeon(R) CPU @ 2.20GHz", 6, 79), "Intel(R) Xeon(R) CPU @ 2.20GHz (family 6, model 79)"),
        (cpuinfo("AMD EPYC 7763  64-Core Processor", 25, 1), "AMD EPYC 7763 64-Core Processor"),
        (cpuinfo("Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 6, 85), "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz"),
        ("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B\n", "Raspberry Pi 4 Model B"),
        ("Hardware\t: Board\n", "Board"),
    ],
)
def test_processors_of_other_models_have_other_names(monkeypatch, tmp_path, text, name):
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(text)
    assert hardware.cpu_name() == name


def test_machines_whose_processors_share_a_name_are_not_one(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    machines = []
    for family, model in ((25, 1), (26, 2)):
        (tmp_path / "cpuinfo").write_text(cpuinfo("AMD EPYC", family, model))
        machines.append(hardware.describe_machine(environ={}, nvml=FakeNvml()))
    assert machines[0].machine_id != machines[1].machine_id


def test_the_machines_identity_is_not_its_name(tmp_path):
    # A new UTS namespace would need rights; the host's name is asked in one place, which a start-up file replaces.
    (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.node = lambda: 'elsewhere'\n")
    code = "from gluon_rnn.machine.hardware import describe_machine as d; m = d(); print(m.host, m.machine_id)"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["elsewhere", hardware.describe_machine().machine_id]


def test_cores_and_memory_are_those_of_this_process():
    found = hardware.describe_machine()
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
    assert 0 < found.memory_mb <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def test_control_groups_of_both_versions_limit(tmp_path):
    own, parent, old = tmp_path / "own", tmp_path / "parent", tmp_path / "old"
    for folder in (own, parent, old):
        folder.mkdir()
    (own / "cpu.max").write_text("max 100000\n")
    (own / "memory.max").write_text("max\n")
    assert hardware.cpu_quota([own]) == hardware.memory_limit([own]) == float("inf")
    (parent / "cpu.max").write_text("150000 100000\n")
    (parent / "memory.max").write_text(f"{2 << 30}\n")
    assert (hardware.cpu_quota([own, parent]), hardware.memory_limit([own, parent])) == (1.5, 2 << 30)
    (old / "cpu.cfs_quota_us").write_text("50000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    (old / "memory.limit_in_bytes").write_text(f"{1 << 30}\n")
    assert (hardware.cpu_quota([own, parent, old]), hardware.memory_limit([old])) == (0.5, 1 << 30)
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert hardware.cpu_quota([old]) == float("inf")


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (4, 0, 4)])
def test_cores_are_shared_among_jobs(cores, jobs, threads):
    assert hardware.default_threads(cores, jobs) == threads


def test_versions_are_known_without_importing():
    assert hardware.library_versions() == {"gluonnlp": "0.10.0", "mxnet": "1.9.1", "numpy": "1.23.5"}
    code = (
        "import sys, gluon_rnn.machine.hardware as h; h.library_versions(); print({'mxnet', 'numpy'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


# A worker as it is


@pytest.mark.slow
def test_a_worker_multiplies_with_the_library_that_its_environment_names():
    for library in blas.installed():
        worker = doctor.ask_worker(
            process_environment("cpu", 1, environ={**os.environ, "LD_PRELOAD": "", "GLUON_RNN_BLAS": library.name})
        )
        assert (worker.mxnet, worker.gluonnlp, worker.error) == ("1.9.1", "0.10.0", "")
        began = {"mkl": "mkl 20", "openblas": "openblas 0.3.2", "mxnet": "openblas 0.3.13 "}[library.name]
        assert worker.blas.startswith(began)
        assert worker.gflops > 0
    plain = doctor.ask_worker(
        process_environment("cpu", 1, environ={**os.environ, "LD_PRELOAD": "", "GLUON_RNN_TUNING": "off"})
    )
    assert plain.blas.startswith("openblas 0.3.13 ")


def test_a_worker_that_cannot_start_is_told_in_one_line(tmp_path):
    (tmp_path / "mxnet.py").write_text(
        "raise OSError('libquadmath.so.0: cannot open shared object file: No such file')"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    worker = doctor.ask_worker(environ)
    assert worker.mxnet is None
    assert worker.error == "OSError: libquadmath.so.0: cannot open shared object file: No such file"
    assert doctor.ask_worker(environ, timeout_seconds=0.001).error.startswith("importing")


def test_no_blas_is_named_before_mxnet_is_loaded():
    code = "from gluon_rnn.machine.blas import blas_in_use; print(blas_in_use())"
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "unknown"


# The diagnosis


def checks_of(tmp_path: Path, **given) -> dict[str, Check]:
    settings = {
        "results_dir": tmp_path / "results",
        "environ": {},
        "machine": machine(),
        "worker": HEALTHY,
        "driver": None,
        "measured": MEASURED,
        "version_of": {"numpy": "1.23.5"}.get,
        "distributions": ["mxnet"],
        "library": FOR_CPU,
    }
    return doctor.diagnose(tmp_path, **{**settings, **given})


def test_a_healthy_machine_without_a_gpu_has_no_problem(tmp_path):
    checks = checks_of(tmp_path)
    assert {name for name, check in checks.items() if check.level != "ok"} == {"data"}
    assert checks["MXNet"].text == "mxnet 1.9.1 (CUDA off, oneDNN on)"
    assert checks["BLAS"].text == (
        "mkl 2026.2 (AVX-512), 280 GFLOP/s with 4 threads; measured in a decoder's products: mkl 280, openblas 250, "
        "mxnet took too long"
    )
    assert checks["bfloat16"].text == "offered on the CPU"


def test_a_measurement_beside_other_work_is_a_warning(tmp_path: Path) -> None:
    check = checks_of(tmp_path, measured=[*MEASURED[:2], Measured("mxnet", 30.0, waited=1.3)])["BLAS"]
    assert (check.level, check.fix) == ("warning", "make doctor again when the machine is idle")
    lone = checks_of(tmp_path, measured=[Measured("mxnet", 30.0)])["BLAS"]
    assert (lone.level, lone.fix.partition(",")[0]) == ("warning", "make install")
    asked = checks_of(tmp_path, environ={"GLUON_RNN_BLAS": "mkl"})["BLAS"]
    assert asked.text.endswith("(GLUON_RNN_BLAS=mkl)")


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (
            "OSError: libgomp.so.1: cannot open shared object file: No such file",
            "apt-get install libgomp1 libquadmath0",
        ),
        ("OSError: libcuda.so.1: cannot open shared object file: No such file", "install NVIDIA's driver"),
        ("OSError: libcudnn.so.8: cannot open shared object file: No such file", "make install EXTRA=cu112"),
        ("AttributeError: module 'numpy' has no attribute 'bool'", "make clean install"),
    ],
)
def test_a_failed_import_names_what_is_missing_and_the_fix(tmp_path, error, fix):
    checks = checks_of(tmp_path, worker=Worker(error=error))
    assert (checks["MXNet"].level, checks["GluonNLP"].level, checks["BLAS"].level) == ("problem",) * 3
    assert error in checks["MXNet"].text
    assert checks["MXNet"].fix.startswith(fix)


def test_two_builds_of_mxnet_side_by_side_are_a_problem(tmp_path):
    check = checks_of(tmp_path, distributions=["mxnet", "mxnet-cu112"])["MXNet"]
    assert (check.level, check.fix) == ("problem", "make clean install")
    assert check.text.startswith("mxnet and mxnet-cu112 are all installed")
    # A build of one's own may lie on Python's path without being a distribution.
    assert checks_of(tmp_path, distributions=[])["MXNet"].level == "ok"
    assert checks_of(tmp_path, version_of={"numpy": "1.24.0"}.get)["NumPy"].level == "problem"


def test_each_missing_cuda_library_is_named_with_its_distribution(tmp_path):
    worker = Worker(missing_libraries=["libcudnn.so.8", "libown.so.1"], error="OSError")
    check = checks_of(tmp_path, worker=worker, library=FOR_CUDA)["CUDA libraries"]
    assert check.level == "problem"
    assert check.fix == "make install EXTRA=cu112; add the folder of the others to LD_LIBRARY_PATH"
    assert check.text == "missing: libcudnn.so.8 (nvidia-cudnn-cu11), libown.so.1"
    assert checks_of(tmp_path, library=FOR_CUDA)["CUDA libraries"] == Check("ok", "all 2 found")
    assert "CUDA libraries" not in checks_of(tmp_path)


@pytest.mark.parametrize(
    ("board", "library", "text", "fix"),
    [
        (BOARDS[1], FOR_CUDA, "compute capability 8.6", ""),
        (BOARDS[1], FOR_CPU, "8.6; the installed MXNet is for the CPU", "make install EXTRA=cu112"),
        (BOARDS[2], FOR_CUDA, "9.0; the installed MXNet has code for 5.0, 6.0, 7.0, 8.0, 8.6, no PTX only", "gpus.md"),
        (BOARDS[2], FOR_CPU, "9.0; MXNet's CUDA builds on PyPI have code for 5.0, 6.0, 7.0, 8.0, 8.6", "docs/gpus.md"),
        (BOARDS[2], FOR_HOPPER, "compute capability 9.0", ""),
        (BOARDS[1], FOR_HOPPER, "8.6; the installed MXNet has code for 9.0, PTX 9.0 only", "docs/gpus.md"),
    ],
)
def test_a_gpu_is_held_against_what_the_library_carries(tmp_path, board, library, text, fix):
    check = checks_of(tmp_path, machine=machine(board), driver=Driver("535", (12, 2)), library=library)["GPU 0"]
    assert check.level == ("warning" if fix else "ok")
    assert text in check.text
    assert check.fix.endswith(fix)


def test_a_library_of_ones_own_is_named_and_one_that_mxnet_ignores_is_a_warning(tmp_path):
    own = tmp_path / "libmxnet.so"
    own.touch()
    assert "own build" not in checks_of(tmp_path)
    check = checks_of(tmp_path, environ={"MXNET_LIBRARY_PATH": str(own)})["own build"]
    assert check == Check("ok", f"{own} (MXNET_LIBRARY_PATH)")
    for ignored in ("libmxnet.so", str(tmp_path / "missing.so")):
        check = checks_of(tmp_path, environ={"MXNET_LIBRARY_PATH": ignored})["own build"]
        assert (check.level, check.fix) == ("warning", "correct or unset MXNET_LIBRARY_PATH")
        assert ignored in check.text
    assert "code for 9.0, PTX 9.0" in checks_of(tmp_path, library=FOR_HOPPER)["MXNet"].text


@pytest.mark.parametrize(("cuda", "level"), [(11010, "problem"), (11040, "warning"), (11080, "ok"), (12020, "ok")])
def test_an_old_driver_is_noticed(tmp_path, cuda, level):
    driver = doctor.find_driver(FakeNvml(cuda=cuda))
    assert checks_of(tmp_path, machine=machine(BOARDS[0]), driver=driver)["driver"].level == level
    # A build of one's own for CUDA 12 needs a driver of that major version.
    library = replace(FOR_CUDA, needed=("libcudart.so.12",))
    newer = checks_of(tmp_path, machine=machine(BOARDS[0]), driver=driver, library=library)["driver"]
    assert newer.level == ("ok" if cuda >= 12000 else "problem")


def test_a_slow_blas_is_a_warning_unless_it_was_asked_for(tmp_path):
    slow = Worker("1.9.1", "0.10.0", [], "openblas 0.3.13 (Prescott)", 37.0)
    assert checks_of(tmp_path, worker=slow, measured=MEASURED[2:])["BLAS"].level == "warning"
    assert checks_of(tmp_path, worker=slow, environ={"GLUON_RNN_TUNING": "off"})["BLAS"].level == "ok"


def test_a_missing_compiler_matters_only_until_gluonnlp_is_there(tmp_path):
    assert doctor.check_compiler(HEALTHY, None, tmp_path).level == "ok"
    check = doctor.check_compiler(Worker(), None, tmp_path)
    assert (check.level, check.text.startswith("no C compiler and no Python.h")) == ("problem", True)


def test_results_that_cannot_be_written_are_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.check_results(tmp_path / "file" / "results").level == "problem"
    assert doctor.check_results(tmp_path / "new" / "results").level == "ok"


def test_data_are_looked_for_and_never_downloaded(tmp_path):
    assert doctor.check_data(tmp_path / "none", {}).level == "problem"
    (tmp_path / "wiki.train.tokens").write_text("not it")
    check = doctor.check_data(None, {"GLUON_RNN_DATA": str(tmp_path)})
    assert (check.level, "wiki.train.tokens" in check.text) == ("problem", True)


def test_checks_are_laid_out_with_their_fixes_below():
    text = doctor.format_checks({"Python": Check("ok", "3.11"), "C compiler": Check("problem", "none", "install one")})
    assert text.splitlines() == [
        "ok       Python      3.11",
        "problem  C compiler  none",
        "                     -> install one",
    ]


def test_what_a_worker_prints_is_what_is_read():
    fields = json.loads(json.dumps(vars(HEALTHY)))
    assert Worker(**fields) == HEALTHY


@pytest.fixture
def installed(tmp_path):
    """A folder into which this suite is installed with some others; and one with other versions of these."""
    for name in ("site/numpy/__init__.py", "site/yaml.py", "other/numpy/__init__.py", "other/json.py", "other/mine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "site" / "gluon_rnn-0.1.0.dist-info").mkdir()
    return str(tmp_path / "site"), str(tmp_path / "other")


def test_modules_that_come_from_elsewhere_are_named_with_what_to_unset(tmp_path, installed):
    own, other = installed
    broken = Worker(error="AttributeError: module 'numpy' has no attribute 'bool'")
    checks = checks_of(tmp_path, worker=broken, path=[other, own], environ={"PYTHONPATH": other})
    assert checks["modules"] == Check(
        "problem", f"json, numpy from {other}; not what was installed", "unset PYTHONPATH"
    )
    # An installation would fix nothing.
    assert (checks["MXNet"].fix, checks["GluonNLP"].fix) == ("unset PYTHONPATH", "unset PYTHONPATH")
    several = checks_of(tmp_path, worker=broken, path=[other, own], environ={"PYTHONPATH": f"/a:{other}/"})
    assert several["modules"].fix == f"take {other} out of PYTHONPATH, or unset it"
    assert checks_of(tmp_path, path=[other, own])["modules"].fix == f"take {other} off Python's path"
    # Other versions may do, too.
    assert checks_of(tmp_path, path=[other, own])["modules"].level == "warning"


def test_modules_from_a_users_own_folder_and_from_another_python_are_named(tmp_path, installed, monkeypatch):
    own, other = installed
    monkeypatch.setattr("site.getusersitepackages", lambda: other)
    assert checks_of(tmp_path, path=[other, own])["modules"].fix == "set PYTHONNOUSERSITE=1"
    check = checks_of(tmp_path, path=[own], environ={"PYTHONHOME": "/usr"})["modules"]
    assert (check.text, check.fix) == ("Python's own from PYTHONHOME=/usr; not what was installed", "unset PYTHONHOME")


def test_modules_behind_those_that_were_installed_are_no_matter(tmp_path, installed):
    own, other = installed
    standard = [str(Path(os.__file__).parent), str(Path(json.__file__).parents[1] / "lib-dynload")]
    assert checks_of(tmp_path, path=[*standard, own, other])["modules"] == Check("ok", f"from {own}")
    assert checks_of(tmp_path)["modules"].level == "ok"


def test_data_are_looked_for_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    assert doctor.check_data(None, {"GLUON_RNN_DATA": "~/data"}).level == "warning"
    check = doctor.check_data(None, {"GLUON_RNN_DATA": "~no-such-user/data"})
    assert (check.level, check.text) == ("problem", "~no-such-user/data is not a folder")
