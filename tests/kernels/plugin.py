"""A plugin of pytest's that writes down each test as it begins and ends, so that a crash loses no other's result.

A process that is started again leaves out what has begun before.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.kernels.kernels import REPORT_VARIABLE


def _report() -> Path:
    return Path(os.environ[REPORT_VARIABLE])


def _write(test: str, result: str, reason: str = "") -> None:
    with _report().open("a", encoding="utf-8") as report:
        report.write(json.dumps([test, result, reason]) + "\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As pytest calls it with the tests that it has found."""
    begun = {json.loads(line)[0] for line in _report().read_text(encoding="utf-8").splitlines()}
    items[:] = [item for item in items if item.nodeid not in begun]


def pytest_runtest_logstart(nodeid: str) -> None:
    """As pytest calls it before a test."""
    _write(nodeid, "begun")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """As pytest calls it after each of a test's three phases: it has passed with its call, and may fail in any."""
    if report.when == "call" or report.outcome != "passed":
        # (file, line, "Skipped: why") of what was skipped
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        _write(report.nodeid, report.outcome, reason.removeprefix("Skipped: "))
