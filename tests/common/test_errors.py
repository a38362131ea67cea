"""What the operating system refuses, in one line that names it and the fix."""

from __future__ import annotations

import errno
import os

import pytest

from gluon_rnn.common.errors import UserError, is_limit, refusal, shortage, starting


def refused(number: int, *names: object) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (refused(errno.EMFILE, "a/b"), "a/b: Too many open files; raise the limit of open files (ulimit -n)"),
        (refused(errno.ENOSPC, "a/b"), "a/b: No space left on device"),
        (refused(errno.EFBIG, b"a/b"), "a/b: File too large; raise the limit of a file's size (ulimit -f)"),
        (
            refused(errno.EAGAIN),
            "Resource temporarily unavailable; end other programs, or raise the limit of processes (ulimit -u)",
        ),
        (
            refused(errno.ENOMEM),
            "Cannot allocate memory; end other programs, or raise the limit of memory (ulimit -v)",
        ),
        (OSError("the terminal\nis gone"), "the terminal is gone"),
        (OSError(), "OSError"),
        (MemoryError(), "out of memory; end other programs, or raise the limit of memory (ulimit -v)"),
        (
            ImportError("\n\nadvice\n\nOriginal error was: libx.so: failed to map segment\n"),
            "cannot load a library: Original error was: libx.so: failed to map segment; end other programs, or raise "
            "the limit of memory (ulimit -v)",
        ),
        (
            RuntimeError("can't start new thread"),
            "cannot start a thread; end other programs, or raise the limit of processes (ulimit -u)",
        ),
    ],
)
def test_a_shortage_is_a_line_with_its_fix(error: Exception, line: str) -> None:
    assert shortage(error) == line


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), ModuleNotFoundError("No module"), ValueError("x")])
def test_a_mistake_in_the_code_is_no_shortage(error: Exception) -> None:
    assert shortage(error) is None


def test_limits_are_told_from_what_is_wrong_with_a_file() -> None:
    limits = [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM]
    others = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EFBIG]
    assert [is_limit(refused(number)) for number in limits + others] == [True] * 4 + [False] * 6


def test_a_process_that_is_not_started_is_named() -> None:
    with pytest.raises(UserError) as raised, starting("a worker"):
        raise refused(errno.ENOENT, "/usr/bin/no-python")
    assert str(raised.value) == "cannot start a worker: /usr/bin/no-python: No such file or directory"
    assert refusal(refused(errno.ENOENT, "x")) == "x: No such file or directory"
