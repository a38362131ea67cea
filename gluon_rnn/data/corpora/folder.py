"""A user's own corpus: a folder with train.txt, valid.txt and test.txt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.files import read_whole
from gluon_rnn.common.printable import quoted
from gluon_rnn.data.corpora.content import SPLITS
from gluon_rnn.data.places import expand

FILES = {split: f"{split}.txt" for split in SPLITS}
WANTED = "a corpus of your own is a folder with train.txt, valid.txt and test.txt"


def find(dataset: str, *, names: Sequence[str]) -> tuple[str, Path, dict[str, bytes]]:
    """Return the corpus's name, its absolute folder and the bytes of its splits.

    ``names`` are the datasets known by name. A path that leads nowhere but looks like one of them gets a hint. A folder
    that is called like one of them is named ``<name> (folder)``, so that no table shows it as the real one.

    Raises `UserError` if the folder or a file is missing or cannot be read.
    """
    folder = expand(dataset)
    if not dataset or not os.path.isdir(folder):
        hint = did_you_mean(dataset.lower(), names).removeprefix("; ") or f"the names are {', '.join(names)};"
        raise UserError(f"dataset {quoted(dataset)} is neither a known name nor a folder: {hint} {WANTED}")
    try:
        contents = {split: read_whole(folder / name) for split, name in FILES.items()}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: {WANTED}") from None
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): {WANTED}") from None
    name = f"{folder.name} (folder)" if folder.name in names else folder.name
    return name, folder, contents
