"""Cells as a user might write them: one that works, and some that do not."""

from __future__ import annotations

import os
import signal
from typing import Any

from gluon_rnn.networks.layers import RNNCell


class OwnCell(RNNCell):
    """Works."""


class NoCell:
    """Has nothing of a cell."""


class Crashing(RNNCell):
    """Takes its process along, as a fault in MXNet's own code would."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Greedy(RNNCell):
    """Asks for more memory than there is."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        raise MemoryError("no room for the weights")


class Telling(RNNCell):
    """Fails with a path of this machine in its message."""

    def __init__(self, *sizes: int, **kwargs: Any) -> None:
        raise FileNotFoundError(f"no weights in '{os.getcwd()}/my weights.bin' nor in {os.getcwd()}/others")
