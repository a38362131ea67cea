"""Standard streams that are closed, full, gone or slow, of processes that are started with them so."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common import streams

#: The module by itself, since a whole package takes longer to import.
GUARDED = f"import os, runpy, subprocess, sys\nstreams = runpy.run_path({streams.__file__!r})\nstreams['guard']()\n"
#: Says on standard error what became of standard output.
CHATTY = (
    f"{GUARDED}print('one')\nprint('two')\nprint(repr(streams['failure'](sys.stdout)), file=sys.stderr)\nprint(3)\n"
)


def run(code: str, *arguments: object, redirections: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Python's `code`, started by a shell that redirects its streams."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", code, *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, text=True, check=False, **options)


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_is_closed(tmp_path: Path, redirections: str) -> None:
    code = (
        f"{GUARDED}file = open(sys.argv[1], 'w')\n"
        "print('said')\nprint('warned', file=sys.stderr)\nsubprocess.run(['sh', '-c', 'echo child; echo warns >&2'])\n"
        "print(file.fileno(), sys.stdin.read(), file=file)\n"
    )
    done = run(code, tmp_path / "log.txt", redirections=redirections, stdin=subprocess.DEVNULL)
    number, _, more = (tmp_path / "log.txt").read_text().partition(" ")
    assert (int(number) > 2, more, done.returncode) == (True, "\n", 0)
    assert sorted(done.stdout.split()) == ([] if ">&-" in redirections.split() else ["child", "said"])
    assert sorted(done.stderr.split()) == ([] if "2>&-" in redirections else ["warned", "warns"])


@pytest.mark.parametrize(
    ("redirections", "why"),
    [
        ("> /dev/full", "OSError(28, 'No space left on device')"),
        ("> /dev/full 2>&1", ""),
        ("1< /dev/null", "OSError(9, 'Bad file descriptor')"),
    ],
)
def test_a_stream_that_cannot_be_written_falls_silent(redirections: str, why: str) -> None:
    done = run(CHATTY, redirections=redirections)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", why)


def test_a_file_that_may_not_grow_falls_silent(tmp_path: Path) -> None:
    code = CHATTY.replace("print('one')", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2, 2))")
    with (tmp_path / "out").open("w") as out:
        done = run(code, stdout=out)
    assert (done.returncode, done.stderr.strip()) == (0, "OSError(27, 'File too large')")
    assert (tmp_path / "out").read_text() == "tw"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_not_missed(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(CHATTY, stdout=writing, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    os.close(writing)
    assert (done.returncode, done.stderr.strip()) == (0, "BrokenPipeError(32, 'Broken pipe')")


def test_a_terminal_that_has_gone_is_not_missed() -> None:
    primary, secondary = os.openpty()
    os.close(primary)
    done = run(CHATTY, stdout=secondary, start_new_session=True)
    os.close(secondary)
    assert (done.returncode, done.stderr.strip()) == (0, "OSError(5, 'Input/output error')")


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    code = f"{GUARDED}print('x' * 300_000)\nprint(streams['failure'](sys.stdout), file=sys.stderr)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            # Meanwhile the pipe fills up: it holds 64 KiB.
            assert file.read(1) == b"x"
            time.sleep(0.1)
            assert b"x" + file.read() == b"x" * 300_000 + b"\n"
        assert process.stderr
        assert process.stderr.read() == b"None\n"


def test_what_was_put_in_the_place_of_a_stream_is_left_there() -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        streams.guard()
        assert sys.stdout is text
        assert streams.failure(sys.stdout) is None
