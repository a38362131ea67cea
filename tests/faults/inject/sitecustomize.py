"""Makes a process of a sweep fail at a chosen write; Python imports this module by its name when it starts.

``FAULT="worker kill 12"`` names the kind of process (``sweep`` or ``worker``), what befalls it and at which of its
writes, counted from 1, below the folder ``FAULT_FOLDER``. A write is the opening of a file for writing, a renaming, a
removal or a new folder: between two of them nothing on the disk changes. ``FAULT_COUNT`` names a file into which each
process puts how many writes it counted. ``FAULT_CLOCK`` makes the wall clock jump.
``FAULT_STAND_INS`` names directories of finished runs, as a PATH does: a worker of such a run leaves what it left.
"""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import signal
import sys
import time

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def kill() -> None:
    """As the kernel does, or a machine that loses its power."""
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    """A full disk: this write fails, and so does every later one."""
    raise OSError(28, "No space left on device")


def readonly() -> None:
    """A file system that the kernel has made read-only after an error."""
    raise OSError(30, "Read-only file system")


def hang() -> None:
    """No more work, no end."""
    time.sleep(3600)


def stop() -> None:
    """Stopped by someone with kill -STOP."""
    os.kill(os.getpid(), signal.SIGSTOP)


def leave() -> None:
    """An end that looks like success."""
    os._exit(0)


def flood() -> None:
    """A library that complains without end."""
    while True:
        os.write(1, b"a warning that nobody reads\n" * 10_000)


def starve() -> None:
    """As under ulimit -v: what is mapped stays, no more is given."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def deplete() -> None:
    """As under ulimit -n: what is open stays, no more is opened."""
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))


_LASTING = (full, readonly)


def _watch(role: str, fault: str, folder: str) -> None:
    wanted, _, rest = fault.partition(" ")
    name, _, number = rest.partition(" ")
    befall = globals()[name] if wanted == role else None
    writes = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal writes
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in WRITES:
            path = arguments[0]
        else:
            return
        if not os.path.abspath(path).startswith(folder) if isinstance(path, str | os.PathLike) else True:
            return
        writes += 1
        if befall and (writes == int(number) or (writes > int(number) and befall in _LASTING)):
            befall()

    sys.addaudithook(hook)
    if "FAULT_COUNT" in os.environ:

        def count() -> None:
            with open(os.environ["FAULT_COUNT"], "a") as file:
                file.write(f"{role} {writes}\n")

        atexit.register(count)


def _stand_in(finished: str, directory: str) -> None:
    """Leave in `directory` what a finished run left, without training: what the sweep does then is the same."""
    last = ("config.json", "log.txt", "record.json")
    shutil.copytree(finished, directory, ignore=shutil.ignore_patterns(*last), dirs_exist_ok=True)
    shutil.copy(f"{finished}/record.json", f"{directory}/.record.json.tmp")
    os.replace(f"{directory}/.record.json.tmp", f"{directory}/record.json")
    os._exit(0)


if "FAULT_FOLDER" in os.environ:
    _role = "worker" if "gluon_rnn.training.worker" in sys.orig_argv else "sweep"
    _watch(_role, os.environ.get("FAULT", "nobody"), os.environ["FAULT_FOLDER"])
    if _role == "worker":
        _directory = sys.orig_argv[sys.orig_argv.index("gluon_rnn.training.worker") + 1]
        for _finished in filter(None, os.environ.get("FAULT_STAND_INS", "").split(os.pathsep)):
            if os.path.basename(_finished) == os.path.basename(_directory):
                _stand_in(_finished, _directory)

if "FAULT_CLOCK" in os.environ:
    import datetime

    _true_time = time.time
    _calls = 0

    def _jumping() -> float:
        """A clock that is set forth and back at every look, by days; no two looks have the same error."""
        global _calls
        _calls += 1
        return _true_time() + 86_400 * (_calls if _calls % 2 else -_calls)

    class _Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(_jumping(), tz)

    time.time = _jumping
    datetime.datetime = _Jumping
