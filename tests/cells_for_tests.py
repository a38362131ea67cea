"""Cells as a user might write them: one that works, and some that do not."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from gluon_rnn.networks.layers import RNNCell


class OwnCell(RNNCell):
    """Works."""


class NoCell:
    """Has nothing of a cell."""


def _in_a_run() -> bool:
    """Whether this is a worker; elsewhere the cells below work, so that a sweep's check lets them pass."""
    return sys.argv[0].endswith("worker.py")


class Crashing(RNNCell):
    """Takes its process along, as a fault in MXNet's own code would."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        if _in_a_run():
            os.kill(os.getpid(), signal.SIGSEGV)
        super().__init__(*sizes, **kwargs)


class Greedy(RNNCell):
    """Asks for more memory than there is."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        if _in_a_run():
            raise MemoryError("no room for the weights")
        super().__init__(*sizes, **kwargs)


class Telling(RNNCell):
    """Fails with a path of this machine in its message."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        if _in_a_run():
            raise FileNotFoundError(f"no weights in '{os.getcwd()}/my weights.bin' nor in {os.getcwd()}/others")
        super().__init__(*sizes, **kwargs)
