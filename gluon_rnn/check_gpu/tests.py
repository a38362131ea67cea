"""The part ``tests``: the numerical tests of the checkout, on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request

#: What computes on the device that ``GLUON_RNN_TEST_DEVICE`` names, in order of worth.
FOLDERS = ("networks", "training", "data/test_batches.py", "trained")


class _Plugin:
    """Writes down each test as it begins and ends, so that a crash loses no other's result."""

    def __init__(self, report: Report, done: tuple[str, ...]) -> None:
        self._report = report
        self._done = frozenset(done)
        self._began = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._report.write(planned=[item.nodeid for item in items])
        items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._report.write(begun=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            found: dict[str, Any] = {"outcome": report.outcome, "seconds": report.duration}
            if report.outcome != "skipped":
                found["ok"] = report.passed
            if report.failed and report.longrepr:
                found["error"] = str(report.longrepr).strip().splitlines()[-1]
            self._report.write(item=report.nodeid, **found)


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    folder = Path(__file__).parents[2] / "tests"
    names = [str(folder / name) for name in FOLDERS]
    arguments = ["-m", "numerical and not slow", "-n", "0", "-p", "no:cacheprovider", f"--rootdir={folder.parent}"]
    status = pytest.main([*arguments, *names], plugins=[_Plugin(report, request.done)])
    expected = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    if request.done:  # After a crash, none may be left.
        expected.add(pytest.ExitCode.NO_TESTS_COLLECTED)
    if status not in expected:
        raise SystemExit(f"pytest ended with status {int(status)}, without having run the tests")
