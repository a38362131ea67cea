"""How this suite starts a Python process: as ``python -m MODULE``, but with the current folder last on Python's path.

``python -m`` and ``python -c`` put the current folder first. A ``random.py`` or a folder ``mxnet`` that happens to lie
there would then be imported in place of the module of that name. The folder must be on the path, since a user's own
cell may lie in it; so it is last. Python 3.11 can leave it out (``-P``, ``PYTHONSAFEPATH``), Python 3.10 cannot, and
neither makes a difference here.

The command is ``python gluon_rnn/common/processes.py MODULE ARGUMENTS``.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs `module` as a program, with this Python."""
    return [sys.executable, os.path.realpath(__file__), module, *arguments]


def python_path() -> list[str]:
    """This process's ``sys.path`` with the current folder last, which is where a started process has it."""
    here = _current_folder()
    return [*(entry for entry in sys.path if entry and os.path.realpath(entry) != here), *([here] if here else [])]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with a ``PYTHONPATH`` that does not put the current folder first; an empty entry in it would, too."""
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    here = _current_folder()
    kept = os.pathsep.join(entry for entry in entries if entry and os.path.realpath(entry) != here)
    return {**environ, "PYTHONPATH": kept} if kept else {k: v for k, v in environ.items() if k != "PYTHONPATH"}


@contextmanager
def importing() -> Iterator[None]:
    """A context without garbage collections, in which to import MXNet.

    It makes some hundred thousand objects, all of which stay. Looking through them again and again took 0.4 of its
    import's 1.6 s (MXNet 1.9.1, Python 3.11).
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def take_faults_back() -> None:
    """Let a crash end the process by its signal, with the Python traceback in the log; call it after importing MXNet.

    MXNet 1.9.1 answers SIGSEGV, SIGFPE and SIGBUS with a trace of its own functions and exit status 255, so that
    the process that started it could not tell a crash (seen by killing a run with SIGSEGV).
    """
    for sign in (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS):
        signal.signal(sign, signal.SIG_DFL)
    faulthandler.enable()


def _current_folder() -> str | None:
    """Its absolute path; None if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


if __name__ == "__main__":
    # Python puts a script's own folder first, unless it is told not to.
    this_folder = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != this_folder]
    sys.path[:] = python_path()
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
