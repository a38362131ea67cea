"""Files of vectors of any bytes: read as they were measured, or refused in a line."""

from __future__ import annotations

import codecs

from hypothesis import example, given
from hypothesis import strategies as st

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.vectors import find_vectors, text
from tests.bad_input.harness import fresh_folder
from tests.common.test_plain_text import ODD

END = st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \r\n"])
#: What may be in a word, the first byte-order mark of a file aside.
WORD = st.lists(st.sampled_from(["a", "b", "é", "漢", "-", *ODD]), min_size=1, max_size=4).map("".join)
PIECE = st.sampled_from([b"a", b" ", b"1", b".5", b"\n", b"\r", b"\0", b"\xff", codecs.BOM_UTF8, b"2 1\n", b"a 1 2\n"])
ANY = st.builds(
    bytes.__add__,
    st.sampled_from([b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_BE]),
    st.lists(PIECE, max_size=12).map(b"".join) | st.binary(max_size=40),
)


@given(
    st.dictionaries(WORD, st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=1, max_size=6),
    st.lists(END, min_size=7, max_size=7),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
)
def test_marks_and_line_ends_of_any_kind_change_no_vector(
    vectors: dict[str, tuple[int, int]], ends: list[str], start: str, header: bool
) -> None:
    lines = [f"{word} {first} {second}" for word, (first, second) in vectors.items()]
    if header:
        lines.insert(0, f"{len(vectors)} 2")
    with fresh_folder() as folder:
        path = folder / "vectors.txt"
        content = "".join(line + end for line, end in zip(lines, ends, strict=False))
        path.write_bytes(f"{start}{content}".encode())
        found = find_vectors("vectors.txt")
        assert found
        assert found.size == 2
        rows = text.rows(path, 2, [*vectors, "\ufeffa", f"{start}{lines[0].partition(' ')[0]}"])
        assert {word: tuple(row) for word, row in rows.items() if word in vectors} == vectors
        assert set(rows) == set(vectors)


@given(ANY)
@example(b"\xef\xbb\xbf2 1\r\na 1\r\n")
@example(b"2 2\ra 1\r")
def test_what_is_measured_can_be_read(content: bytes) -> None:
    with fresh_folder() as folder:
        path = folder / "vectors.txt"
        path.write_bytes(content)
        said = ""
        try:
            found = find_vectors("vectors.txt")
        except UserError as error:
            found, said = None, str(error)
        assert len(said.splitlines()) == (found is None)
        if found is None:
            assert said.startswith(str(path))
            return
        assert b"\0" not in content
        words = {word for line in content.decode("utf-8-sig").split("\n") for word in (line.split(" ")[0], line)}
        try:
            rows = text.rows(path, found.size, words)
        except ValueError as error:
            rows, said = {}, str(error)
        assert not said or said.startswith("vectors.txt, line ")
        assert all(row.shape == (found.size,) for row in rows.values())
