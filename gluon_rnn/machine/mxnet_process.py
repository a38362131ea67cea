"""Runs programs that import MXNet in processes of their own, because commands do not import it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from gluon_rnn.common import processes
from gluon_rnn.common.errors import UserError, starting
from gluon_rnn.machine.environment import process_environment


def ask(
    module: str, request: Mapping[str, Any], *, subject: object, threads: int, shows_progress: bool = False
) -> dict[str, Any]:
    """The answer of `module` to `request`, both as JSON.

    Args:
        module: a program that reads the request from standard input and writes the answer as its last line.
        request: its arguments.
        subject: a run's directory, or what else the request is about, for the message.
        threads: CPU threads of the process.
        shows_progress: print what it writes to standard error at once; False: when it has ended.

    Raises:
        UserError: it answered with an error, or not at all.
    """
    with starting("MXNet's process"):
        done = subprocess.run(
            processes.command(module),
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=None if shows_progress else subprocess.PIPE,
            text=True,
            errors="replace",
            env=process_environment("cpu", threads),
            # Ctrl-C reaches this process alone, which then ends that one.
            start_new_session=True,
            check=False,
        )
    try:
        # Before it a user's own cell may have said something.
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        said = "".join(f" ({line.strip()})" for line in (done.stderr or "").splitlines()[-1:])
        raise UserError(f"MXNet ended with {ended}{said} for {subject}; see gluon-rnn doctor") from None
    sys.stderr.write(done.stderr or "")
    if "error" in answer:
        raise UserError(answer["error"])
    return answer
