"""Where results come from: the machine, the libraries, and the commit of this suite."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gluon_rnn.machine.hardware import Machine, library_versions
from gluon_rnn.runs.job import Origin

#: The folder of this package's checkout, if it is run from one.
_CHECKOUT = Path(__file__).resolve().parents[2]


def git_state(root: Path = _CHECKOUT) -> tuple[str | None, bool | None]:
    """The commit of the checkout that this package runs from, and whether it has changes outside results/.

    (None, None) if `root` is not a checkout of this project or Git is not installed.
    """
    if not (root / ".git").exists() or not (root / "setup.py").exists():
        return None, None
    try:
        changed = git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", ":!results")
        return git(root, "rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None


def git(root: Path, *arguments: str) -> str:
    """The output of a Git command in `root`.

    Raises:
        OSError, subprocess.SubprocessError: it is not installed, or it failed.
    """
    # Git's own variables may name another repository: a hook's do.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The checkout may be another user's, as in a container. Its code is already running, so this adds no risk.
    options = ("-C", str(root), "-c", "safe.directory=*", "--no-optional-locks")
    return subprocess.run(
        ["git", *options, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def describe_origin(machine: Machine) -> Origin:
    """The origin that records of runs on `machine` state."""
    versions, (commit, dirty) = library_versions(), git_state()
    return Origin(
        device_name=machine.cpu_name,
        machine_id=machine.machine_id,
        mxnet_version=versions.get("mxnet"),
        gluonnlp_version=versions.get("gluonnlp"),
        numpy_version=versions.get("numpy"),
        git_commit=commit,
        git_dirty=dirty,
        host=machine.host,
    )
