"""The parts that are runs as users start them: ``resume`` and ``epoch``, through ``gluon-rnn sweep``."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.common import processes
from gluon_rnn.common.files import sha256_of
from gluon_rnn.runs.live import read_progress
from gluon_rnn.runs.records import RunRecord, read_records

#: How often a run's folder is looked at.
_LOOK_SECONDS = 0.02
#: Of an epoch, what the seed decides.
_DECIDED = ("learning_rate", "train_loss", "valid_loss", "test_loss")


def start(
    request: Request, results: Path, settings: dict[str, Any], sweep: Path | None = None
) -> subprocess.Popen[bytes]:
    """A sweep of one point in the background; what it says goes where the part's own words go."""
    arguments = [
        "sweep",
        *([str(sweep)] if sweep else []),
        *("--name", "check", "--results", str(results), "--device", request.device, "--quiet"),
        *(["--data-dir", request.data_dir] if request.data_dir else []),
        "--set",
        *(f"{name}={value}" for name, value in settings.items()),
    ]
    return subprocess.Popen(
        processes.command("gluon_rnn", *arguments),
        stdin=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[bytes], results: Path, report: Report) -> RunRecord:
    """Wait for a sweep of one point, and report how far it is.

    Raises:
        RuntimeError: there is no record, or not one of a run that went well.
    """
    said = ""
    while (status := process.poll()) is None:
        for directory in (results / "check" / "runs").glob("*"):
            live = read_progress(directory)
            if live and live.doing != said:
                said = live.doing
                report.write(progress=said)
        time.sleep(_LOOK_SECONDS)
    records, _ = read_records(results / "check")
    if len(records) != 1 or records[0].status != "ok":
        why = records[0].reason if records else f"the sweep ended with status {status}"
        raise RuntimeError(why or f"the run ended as {records[0].status}")
    return records[0]


def kill_after_an_epoch(process: subprocess.Popen[bytes], results: Path) -> int:
    """Kill a sweep once its run has a checkpoint; the number of its epochs by then. Linux ends its worker with it."""
    while process.poll() is None:
        for table in (results / "check" / "runs").glob("*/epochs.csv"):
            lines = len(table.read_text(encoding="utf-8").splitlines())
            if lines > 1:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return lines - 1
        time.sleep(_LOOK_SECONDS)
    raise RuntimeError(f"the sweep ended with status {process.returncode} before it could be killed")


def outcome(results: Path, record: RunRecord) -> dict[str, Any]:
    """The results of a run without its speed: losses of each epoch, and a digest of the parameters."""
    epochs = [{name: getattr(epoch, name) for name in _DECIDED} for epoch in record.history]
    parameters = (results / "check" / "runs" / record.run_id / "best.params").read_bytes()
    return {"epochs": epochs, "parameters": sha256_of(parameters)}
