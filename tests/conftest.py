"""Shared by the tests of several subpackages: how they run, small corpora, configurations that train in a second."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gluon_rnn.config.run import RunConfig, configure
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.machine.blas import BLAS_VARIABLE, blas_in_use, choose
from gluon_rnn.machine.hardware import describe_machine
from tests.device_name import VARIABLE, is_gpu, parse

# No repository is that of a hook which runs the tests, and the user's configuration of Git holds in none.
for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
# Before MXNet is imported, which would take half of the machine's cores: how many there are decides no test.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Until all tests are collected: what is imported stays, MXNet's hundred thousand objects among it.
gc.disable()
# A shell that starts the tests in the background has them ignore Ctrl-C, and so does all that they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "one", "dog", "ran", "far", "from", "its", "red", "house"]

#: Holds the real WikiText-2 as wikitext-2/wiki.*.tokens where that is at hand.
REAL_DATA = Path(os.environ.get("GLUON_RNN_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()

#: In which the tests of pages look at them.
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NO_CHROMIUM = "there is no Chromium; apt-get install chromium"

#: Which the extra ``export`` installs.
HAS_ONNX = bool(find_spec("onnx") and find_spec("onnxruntime"))
NO_ONNX = "there is no onnx and onnxruntime; run: make dev"

# Waits for most of its two minutes, in which other processes have the cores.
_FIRST = "test_ray.py"
# A process of tests takes a gigabyte, and a file that takes a minute decides how long all of them take.
_MOST_PROCESSES = 4

# Of the property-based tests in tests/bad_input: the same few examples at every run of the suite, or many new ones.
# The fixtures above every test only set the environment, for all examples alike.
_SHARED = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("short", max_examples=24, derandomize=True, **_SHARED)
settings.register_profile("long", max_examples=600, print_blob=True, **_SHARED)
settings.load_profile("short")


def pytest_xdist_auto_num_workers() -> int:
    """The processes of ``-n auto``: one more than cores, since some tests wait; on a single core, pytest's own."""
    cores = describe_machine().cores
    return min(cores + 1, _MOST_PROCESSES) if cores > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process begins one when the others have nothing left to do.

    The longest of them comes before all others.
    """
    if is_gpu():
        for item in items:
            if item.get_closest_marker("cpu_only"):
                item.add_marker(pytest.mark.skip(reason="is about a CPU"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name != _FIRST, item.path not in slow))


def pytest_collection_finish() -> None:
    """Take all that is imported for what stays: statsmodels collects garbage at every call."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say loudly, after all else, that a part of the tests was left out."""
    yield
    unknown = {
        "browser": ("IN A BROWSER", f"Whether the pages of reports work is not known: {NO_CHROMIUM}"),
        "onnx": ("OF ONNX FILES", f"Whether exported models work is not known: {NO_ONNX}"),
    }
    for marker, (what, why) in unknown.items():
        skipped = [report for report in terminalreporter.getreports("skipped") if marker in report.keywords]
        if skipped:
            terminalreporter.section(f"{len(skipped)} TESTS {what} WERE SKIPPED", yellow=True, bold=True)
            terminalreporter.write_line(why)


def small_config(**settings: object) -> RunConfig:
    """A configuration that trains in about a second on `small_folder`."""
    small = {
        "device": "cpu",
        "hidden_size": 8,
        "bptt": 5,
        "batch_size": 4,
        "learning_rate": 1.0,
        "epochs": 2,
        "eval_bptt": 7,
        "eval_batch_size": 3,
        "log_interval": 10,
        "warmup_steps": 2,
    }
    return configure({**small, **settings})


#: The dropouts and penalties of AWD-LSTM, none of which is on in scoring or generating.
AWD = {
    **{"dropout_input": 0.3, "dropout_hidden": 0.4, "dropout_embedding": 0.3, "weight_drop": 0.5},
    **{"alpha": 2.0, "beta": 1.0},
}


def write_folder(folder: Path, *, lines: int = 60) -> Path:
    """A corpus of three files of made-up sentences, the same at every call."""
    folder.mkdir(parents=True)
    for place, split in enumerate(("train", "valid", "test")):
        text = [
            " ".join(WORDS[(line * 7 + word * (line % 3 + 1) + place) % len(WORDS)] for word in range(4 + line % 5))
            for line in range(lines if split == "train" else lines // 4)
        ]
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


def has_real_data() -> bool:
    """Whether `REAL_DATA` holds it."""
    return (REAL_DATA / "wikitext-2" / "wiki.train.tokens").is_file()


@pytest.fixture(autouse=True, scope="session")
def _isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor does a fixture that outlives a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Every sweep ends with a report; its fonts need be found once only.
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        # Each test has a cache of its own, in which its workers would measure again, beside other work.
        patch.setenv(BLAS_VARIABLE, choose("any", os.environ).name)
        yield


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's data or cache, and each begins in the same folder."""
    monkeypatch.chdir(Path.cwd())  # undone afterwards, whatever the test changes it to
    monkeypatch.delenv("GLUON_RNN_DATA", raising=False)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _inputs_of_an_operator_share_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other devices than cpu(0), which is what MXNet takes for an array that is made without a context.

    MXNet 1.9.1 says nothing of inputs on two contexts of one CPU, outside hybridized graphs.
    """
    if parse(os.environ.get(VARIABLE)) == ("cpu", 0):
        return
    from mxnet.ndarray import register

    invoke = register._imperative_invoke

    def checked(operator: Any, arrays: list[Any], *rest: Any) -> Any:
        contexts = {array.context for array in arrays}
        assert len(contexts) < 2, f"inputs of one operator on {contexts}"
        return invoke(operator, arrays, *rest)

    monkeypatch.setattr(register, "_imperative_invoke", checked)


@pytest.fixture(autouse=True)
def _skip_where_openblas_deadlocks(request: pytest.FixtureRequest) -> None:
    """MXNet 1.9.1's own OpenBLAS, compiled by GCC 4.8, deadlocks when two multi-threaded products meet.

    The second waits in ``exec_blas`` in a jump to itself, seen in a debugger and in the machine code.
    """
    if (
        request.node.get_closest_marker("several_contexts")
        and blas_in_use().startswith("openblas 0.3.13 ")
        and os.environ["OMP_NUM_THREADS"] != "1"
    ):
        pytest.skip("OpenBLAS 0.3.13 deadlocks when two multi-threaded products meet")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds the real WikiText-2 as wikitext-2/wiki.*.tokens."""
    if not has_real_data():
        pytest.skip(f"needs the real WikiText-2 in {REAL_DATA}/wikitext-2; set GLUON_RNN_DATA to where it is")
    return REAL_DATA


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of about 400 training tokens and 17 words."""
    return write_folder(tmp_path_factory.mktemp("corpora") / "small")


@pytest.fixture(scope="session")
def small_corpus(small_folder: Path) -> CorpusFiles:
    """`small_folder`, found."""
    return find_corpus(str(small_folder))
