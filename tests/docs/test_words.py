"""The spelling checker of `make check` refuses every word and phrase of words.txt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def found(text: str) -> set[str]:
    """What codespell finds in `text`, by the settings in pyproject.toml."""
    command = [sys.executable, "-m", "codespell_lib", "-"]
    done = subprocess.run(command, cwd=CHECKOUT, input=text, capture_output=True, encoding="utf-8")
    assert done.stderr == ""
    return {line.strip().partition(" ==> ")[0] for line in done.stdout.splitlines() if line.startswith("\t")}


def test_every_word_and_phrase_of_the_list_is_found() -> None:
    """A phrase has to be in the pattern in pyproject.toml as well."""
    entries = [line.split("->") for line in (CHECKOUT / "words.txt").read_text(encoding="utf-8").splitlines()]
    refused = [wrong for wrong, _ in entries]
    assert found("\n".join(f"it {wrong} it" for wrong in refused)) == set(refused)


def test_ordinary_spelling_is_checked_and_good_english_passes() -> None:
    wrong = {"separate".replace("ara", "era"), "receive".replace("ei", "ie")}  # spelled rightly, since this is checked
    assert found(" ".join(wrong)) == wrong
    assert found("there is no file; it is no longer here; the behaviour of mx.nd is labelled") == set()
