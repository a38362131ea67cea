"""Corpora of any bytes: counted as they will be loaded, or refused in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gluon_rnn.corpora import find_corpus
from gluon_rnn.corpora.content import SPLITS
from gluon_rnn.corpora.loading import load_corpus
from gluon_rnn.errors import UserError
from tests.bad_input.harness import FITTING, fresh_folder, refused

#: White space and line ends of any kind, signs without width, what GluonNLP's vocabulary has a name for.
PIECES = ["a", "b", " ", "\n", "\r", "\r\n", "\t", "\0", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0"]
PIECES += ["\u1680", "\u200b", "\u2028", "\u2029", "\u3000", "\ufeff", "\ud7ff", "\U0010ffff", "é", "漢", "🙂"]
PIECES += ["<unk>", "<eos>", "<bos>", "<pad>", "<UNK>", "=", "x" * 5000]
SPLIT = (
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "".join(pieces).encode())
    | st.text(max_size=40).map(str.encode)
    | st.binary(max_size=40)
)
USUAL = b"a b\nc\n"


@given(SPLIT, SPLIT | st.just(USUAL), SPLIT | st.just(USUAL))
@example(b"", b"a", b"a")
@example(b"a", b"a", b"a")
@example("\ufeff".encode(), b"a\r", b"\na")
def test_what_is_taken_is_counted_as_it_is_loaded(train: bytes, valid: bytes, test: bytes) -> None:
    with fresh_folder() as folder:
        for split, content in zip(SPLITS, (train, valid, test), strict=True):
            (folder / f"{split}.txt").write_bytes(content)
        try:
            files = find_corpus(str(folder), notice=lambda line: None)
        except UserError as error:
            said = str(error)
        else:
            said = ""
        assert len(said.splitlines()) == any(_is_no_text(content) for content in (train, valid, test))
        if said:
            return
        # From its text, then as it was kept.
        for corpus in (load_corpus(files), load_corpus(files)):
            assert len(corpus.train) == files.train_tokens
            assert len(corpus.valid) == files.valid_tokens
            assert len(corpus.test) == files.test_tokens
            assert min(map(min, (corpus.train, corpus.valid, corpus.test))) >= 0
            assert max(map(max, (corpus.train, corpus.valid, corpus.test))) < len(corpus.vocab)


def _is_no_text(content: bytes) -> bool:
    try:
        return not content.decode().strip()
    except UnicodeDecodeError:
        return True


@given(SPLIT)
def test_a_sweep_on_it_is_planned_or_refused(content: bytes) -> None:
    with fresh_folder() as folder:
        (folder / "corpus").mkdir()
        for split in SPLITS:
            (folder / "corpus" / f"{split}.txt").write_bytes(content)
        refused("sweep", "--set", "dataset=corpus", "--dry-run", *(f"{key}={value}" for key, value in FITTING.items()))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "endless", "sparse"])
def test_a_split_that_is_no_file(tmp_path: Path, split: str, kind: str) -> None:
    for name in SPLITS:
        (tmp_path / f"{name}.txt").write_bytes(USUAL)
    path = tmp_path / f"{split}.txt"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to({"loop": path, "device": "/dev/null", "endless": "/dev/zero"}[kind])
    with pytest.raises(UserError, match=rf"{split}.txt cannot be read \((Is|Too many levels)"):
        find_corpus(str(tmp_path))
    if kind == "folder":
        path.rmdir()
    else:
        path.unlink()
    (tmp_path / f"wiki.{split}.tokens").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=rf"wiki.{split}.tokens cannot be read \(Is no file\)"):
        find_corpus("wikitext-2", data_dir=tmp_path)
