"""What reaches a terminal and what does not."""

from __future__ import annotations

import pytest

from gluon_rnn.common.printable import for_terminal, printable


@pytest.mark.parametrize(
    "text", ["a\tb\n", "\u3000中\u200c文\u200d", "é\u00a0\u2028\u200e\u200f\u061c", "\ufeff\ue000🙂", ""]
)
def test_a_terminal_gets_text_as_it_is(text: str) -> None:
    assert for_terminal(text) == text


@pytest.mark.parametrize("code", [*range(0x9), *range(0xB, 0x20), *range(0x7F, 0xA0)])
def test_a_terminal_gets_no_control_character_but_tab_and_line_feed(code: int) -> None:
    assert for_terminal(f"a{chr(code)}b") == f"a{chr(code).encode('unicode_escape').decode()}b"


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_a_terminal_gets_nothing_that_turns_the_direction_of_writing(code: int) -> None:
    assert for_terminal(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_a_line_for_people_has_neither_tabs_nor_line_ends() -> None:
    assert printable("a\tb\nc\u3000\x1b[2J\u202e\udcffé") == r"a\tb\nc\u3000\x1b[2J\u202e\udcffé"
