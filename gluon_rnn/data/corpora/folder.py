"""A user's own corpus: a folder with train.txt, valid.txt and test.txt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from gluon_rnn.common import files
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import read_whole
from gluon_rnn.common.plain_text import decode
from gluon_rnn.common.printable import quoted
from gluon_rnn.data.corpora.content import SPLITS

FILES = {split: f"{split}.txt" for split in SPLITS}
WANTED = "a corpus of your own is a folder with train.txt, valid.txt and test.txt"


def find(dataset: str, *, names: Sequence[str]) -> tuple[str, Path, dict[str, bytes]]:
    """Return the corpus's name, its absolute folder and the bytes of its splits, which are UTF-8 and hold words.

    ``names`` are the datasets known by name. A path that leads nowhere but looks like one of them gets a hint. A folder
    that is called like one of them is named ``<name> (folder)``, so that no table shows it as the real one.

    Raises `UserError` if the folder or a file is missing, empty, unreadable or not UTF-8 text.
    """
    folder = expand(dataset)
    if not dataset or not os.path.isdir(folder):
        near = get_close_matches(dataset.lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(names)};"
        raise UserError(f"dataset {quoted(dataset)} is neither a known name nor a folder: {hint} {WANTED}")
    contents = {split: _read(folder / name) for split, name in FILES.items()}
    name = f"{folder.name} (folder)" if folder.name in names else folder.name
    return name, folder, contents


def expand(path: Path | str) -> Path:
    """Return ``path`` absolute, with ``~`` expanded and links followed; as it is where that cannot be done."""
    try:
        return files.expand(path).resolve()
    except (UserError, OSError, RuntimeError, ValueError):  # no such ~user; links in a circle; a NUL character
        return Path(path)


def _read(path: Path) -> bytes:
    try:
        content = read_whole(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {WANTED}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {WANTED}") from None
    text = decode(content, str(path))
    if not text or text.isspace():
        raise UserError(f"{path} holds no words: each of the three files needs some text")
    return content
