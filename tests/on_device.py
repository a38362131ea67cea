"""``pytest`` on the device that ``GLUON_RNN_TEST_DEVICE`` names: ``python -m tests.on_device ARGUMENTS``.

A GPU's libraries, its number and the type of its products are settled before a process starts, as for a worker.
"""

from __future__ import annotations

import os
import sys

from gluon_rnn.common import processes
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import default_threads, describe_machine
from tests.device_name import VARIABLE, parse


def environment() -> dict[str, str]:
    """Of the process: this one's on a CPU, and on a GPU that of a worker which sees this GPU only."""
    kind, number = parse(os.environ.get(VARIABLE))
    if kind == "cpu":
        return dict(os.environ)
    threads = default_threads(describe_machine().cores, 1)
    return {**process_environment(f"gpu:{number}", threads), VARIABLE: "gpu"}


if __name__ == "__main__":
    os.execve(sys.executable, processes.command("pytest", *sys.argv[1:]), environment())
