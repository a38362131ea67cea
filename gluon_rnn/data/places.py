"""Where corpora and vectors lie: in folders that the user names, and where MXNet and GluonNLP keep what they fetch."""

from __future__ import annotations

import os
from pathlib import Path

from gluon_rnn.common import files
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import printable

DATA_VARIABLE = "GLUON_RNN_DATA"


def expand(path: Path | str) -> Path:
    """Return ``path`` absolute, with ``~`` expanded and links followed; as it is where that cannot be done."""
    try:
        return files.expand(path).resolve()
    except (UserError, OSError, RuntimeError, ValueError):  # no such ~user; links in a circle; a NUL character
        return Path(path)


def given_folder(data_dir: Path | None) -> tuple[str, Path | None]:
    """Return what names the folder of data, ``--data-dir`` before the variable, and the folder; None if none does."""
    if data_dir is not None:
        return "--data-dir", data_dir
    value = os.environ.get(DATA_VARIABLE)
    return DATA_VARIABLE, Path(value) if value else None


def check_name(path: Path, kind: str) -> None:
    """Raise `UserError` if the path of a ``kind`` is not UTF-8, since the worker gets it in a file of JSON."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of the {kind} {printable(str(path))} is not UTF-8; rename it") from None


def mxnet_home() -> Path | None:
    """Where MXNet and GluonNLP keep what they download: ``$MXNET_HOME``, else ``~/.mxnet``; None without a home.

    Raises `UserError` if MXNET_HOME begins with a ``~`` that stands for no folder.
    """
    if given := os.environ.get("MXNET_HOME"):
        return files.expand(given).absolute()
    home = files.home_directory()
    return home / ".mxnet" if home else None


def gluon_repository() -> str:
    """Where they download from, without a slash: ``mxnet.gluon.utils._get_repo_url`` of MXNet 1.9.1."""
    default = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
    return (os.environ.get("MXNET_GLUON_REPO") or default).rstrip("/")
