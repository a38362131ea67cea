"""Imports Matplotlib, whatever the environment variables say.

Its import fails where ``MPLBACKEND`` names no backend, which is not needed here, and where the user has no home folder,
in which it would keep a list of fonts; where it cannot write there it says so in four lines on standard error.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory

_BACKEND, _FOLDER = "MPLBACKEND", "MPLCONFIGDIR"


@contextmanager
def _without_surprises() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (_BACKEND, _FOLDER)}
    logger = logging.getLogger("matplotlib")
    level = logger.level
    with TemporaryDirectory(prefix="gluon-rnn-") as folder:
        try:
            os.environ.pop(_BACKEND, None)
            if not (before[_FOLDER] or (_names_a_folder("XDG_CONFIG_HOME") and _names_a_folder("XDG_CACHE_HOME"))):
                os.environ[_FOLDER] = folder
            logger.setLevel(logging.ERROR)
            yield
        finally:
            logger.setLevel(level)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _names_a_folder(variable: str) -> bool:
    """Whether the variable or, without it, the user's home names an absolute path."""
    return os.path.isabs(os.environ.get(variable) or os.environ.get("HOME", os.path.expanduser("~")))


_is_first = "matplotlib" not in sys.modules
with _without_surprises():
    import matplotlib
    import matplotlib.figure
if _is_first and _BACKEND in os.environ:
    # For other plots of this process.
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = os.environ[_BACKEND]

__all__ = ["matplotlib"]
