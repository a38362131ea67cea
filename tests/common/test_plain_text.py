"""Where text in people's files begins, ends its lines and parts its words."""

from __future__ import annotations

import codecs

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.plain_text import decode, lines, was_read_otherwise, words

#: What `str.splitlines` or `str.split` cuts at, and an editor does not.
ODD = [
    character
    for character in map(chr, range(0x10000))
    if len(f"a{character}b".split()) > 1 or len(f"a{character}b".splitlines()) > 1
    if character not in " \t\n\r"
]


def test_these_are_all_that_python_cuts_at_beside_an_editor() -> None:
    codes = [0xB, 0xC, *range(0x1C, 0x20), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]
    assert list(map(ord, ODD)) == [*codes, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


@pytest.mark.parametrize("character", ODD)
def test_a_character_that_only_python_cuts_at_is_text(character: str) -> None:
    text = f"{character}a{character}b {character}\n{character}"
    assert lines(text) == [f"{character}a{character}b {character}", character]
    assert words(lines(text)[0]) == [f"{character}a{character}b", character]
    assert was_read_otherwise(f"a {character}")


def test_nothing_else_was_ever_cut_at() -> None:
    others = "".join(character for character in map(chr, range(0x10000)) if character not in ODD)
    assert not was_read_otherwise(others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\n\n", ["a", ""]),
        ("\n", [""]),
        ("a\nb\r\nc\rd", ["a", "b", "c", "d"]),
        ("a\r\r\n\n\rb\r", ["a", "", "", "", "b"]),
        ("a \n \tb\n ", ["a ", " \tb", " "]),
    ],
)
def test_lines_end_in_the_ways_of_unix_windows_and_old_macs_even_in_one_file(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


def test_words_stand_between_any_spaces_and_tabs() -> None:
    assert words("\t a  b\t\tc \t") == ["a", "b", "c"]
    assert words("") == words(" \t ") == []


def test_a_byte_order_mark_at_the_beginning_is_no_text() -> None:
    assert decode("\ufeffa\ufeff\n\ufeffb".encode(), "x") == "a\ufeff\n\ufeffb"
    assert decode("\ufeff".encode(), "x") == decode(b"", "x") == ""


@pytest.mark.parametrize(
    ("encoding", "mark", "named"),
    [
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "UTF-32"),
        ("utf-32-be", codecs.BOM_UTF32_BE, "UTF-32"),
    ],
)
def test_another_encoding_is_named_with_its_conversion(encoding: str, mark: bytes, named: str) -> None:
    for text in ("a b\né\n", ""):
        with pytest.raises(UserError) as refused:
            decode(mark + text.encode(encoding), "here/train.txt")
        assert str(refused.value) == (
            f"here/train.txt is not UTF-8 text: its byte-order mark is that of {named}; convert it, for instance with "
            f"iconv -f {named} -t UTF-8"
        )
    with pytest.raises(UserError, match=r"^x is not UTF-8 text: line 1 has a NUL character, as UTF-16 and binary"):
        decode("a b\né\n".encode(encoding), "x")


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"\0", 1), (b"a\nb\0", 2), (b"a\r\nb\rc\0\n", 3), (b"a\r\n\r\n\0\0", 3), (b"a\n\xff\n\0", 3), (b"\r\r\n\r\0", 4)],
)
def test_a_nul_is_refused_with_its_line(content: bytes, line: int) -> None:
    with pytest.raises(UserError) as refused:
        decode(content, "x")
    assert str(refused.value) == (
        f"x is not UTF-8 text: line {line} has a NUL character, as UTF-16 and binary files do; convert it, for "
        "instance with iconv -f UTF-16 -t UTF-8, or remove the character"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("é\r".encode() + b"\xe9", "byte 0xe9 in line 2, at offset 3"),
        ("\ufeffé\r\n\u2028".encode() + b"\x80", "byte 0x80 in line 2, at offset 10"),
        (b"a\n\nb\xc3", "byte 0xc3 in line 3, at offset 4"),
        (b"\xed\xa0\x80", "byte 0xed in line 1, at offset 0"),
    ],
)
def test_bytes_that_are_no_utf8_are_refused_with_their_line(content: bytes, told: str) -> None:
    with pytest.raises(UserError) as refused:
        decode(content, "x")
    assert str(refused.value) == f"x is not UTF-8 text: {told}; convert it, for instance with iconv -t UTF-8"
