"""A command line answered in this process, and what every answer must be like."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from gluon_rnn import cli

#: What else is in a sweep file whose points fit the smallest corpus.
FITTING = {"bptt": 5, "batch_size": 4, "eval_batch_size": 3, "device": "cpu"}

#: Of all of Unicode, and of what has gone wrong somewhere more often than a character in a thousand would.
TEXT = st.text() | st.sampled_from(
    [
        "",
        "\0",
        "\x1b[31mred\x1b]0;title\x07",
        "a\nb\r\nc\u2028d",
        "\udcff",
        "\u202etxt.exe",
        "\ufeff",
        "..",
        "../../x",
        "/etc/passwd",
        "~nobody-here/x",
        "x" * 300,
        "9" * 5000,
        "-" + "9" * 5000,
        "1e400",
        "-inf",
        "nan",
        "none",
        "true",
        "²",
        "٣",
        "1_0",
        "0x10",
        " 7 ",
        "gpu:" + "9" * 5000,
        "gpu:٣",
        "[red]:cat:",
        "%s%n{0}",
        "$(touch ran)",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**9, 2**31, 10**12, 10**400, -(10**400), 0, 1, 2])
    | st.sampled_from([5000]).map(lambda digits: 10**digits)
    | st.floats()
    | TEXT
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes()
)


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def answer(*arguments: str) -> Answer:
    """What the command line says and leaves as its status; it must be readable."""
    # As strict as a terminal: what cannot be encoded raises.
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main(arguments)
        except SystemExit as left:  # --help
            status = int(left.code or 0)
    said, warned = (stream.buffer.getvalue().decode() for stream in (out, err))
    assert status in (0, 1, 2), status
    for text in (said, warned):
        assert all(character.isprintable() for character in text.replace("\n", "")), ascii(text)
    assert "Traceback" not in warned
    errors = [line for line in warned.split("\n") if line.startswith("error: ")]
    if status == 2 and not said:
        assert errors == warned.split("\n")[-2:-1], ascii(warned)
    else:
        assert errors == []
    return Answer(status, said, warned)


def refused(*arguments: str) -> str | None:
    """The one line by which a command line is refused, having made nothing; None where it is not refused."""
    before = snapshot(Path())
    found = answer(*arguments)
    if found.status != 2:
        return None
    assert snapshot(Path()) == before
    assert found.err.count("\n") == 1, found.err
    return found.err


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder, with what is in it."""
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty current folder for one example."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)
