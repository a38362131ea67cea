"""The lock that a sweep and its workers hold on their folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import try_lock
from gluon_rnn.common.printable import Notice

# The workers of a killed sweep live for a few more milliseconds.
_LOCK_PATIENCE_SECONDS = 2.0


@contextmanager
def locked_sweep(directory: Path, notice: Notice) -> Iterator[None]:
    """Lock `directory` against other sweeps, if its file system has locks.

    Workers inherit the lock. However a sweep ends, the folder is free only when the last of them has ended.
    """
    with (directory / ".lock").open("a") as file:
        os.set_inheritable(file.fileno(), True)
        patience = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while (held := try_lock(file.fileno())) is False:
            if time.monotonic() > patience:
                raise UserError(
                    f"another sweep is running in {directory}; wait for it, or give --results another folder"
                )
            time.sleep(0.05)
        if held is None:
            notice(
                f"warning: the file system of {directory} has no locks, so a second sweep there would not be "
                "refused: do not start one while this one runs"
            )
        yield


def is_locked(directory: Path) -> bool | None:
    """Whether a sweep is running in `directory`; None if that is unknown."""
    try:
        with (directory / ".lock").open("rb") as file:
            free = try_lock(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return None if free is None else not free
