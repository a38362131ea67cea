"""Corpora of any bytes: counted as they will be loaded, or refused in a line."""

from __future__ import annotations

import codecs
import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.content import SPLITS
from gluon_rnn.data.corpora.encoded import Sequences
from gluon_rnn.data.corpora.loading import load_corpus
from tests.bad_input.harness import FITTING, fresh_folder, refused
from tests.common.test_plain_text import ODD

#: White space and line ends of any kind, signs without width, what GluonNLP's vocabulary has a name for.
PIECES = ["a", "b", " ", "\n", "\r", "\r\n", "\t", *ODD, "\u200b", "\ufeff", "\ud7ff", "\U0010ffff", "é", "漢", "🙂"]
PIECES += ["<unk>", "<eos>", "<bos>", "<pad>", "<UNK>", "=", "x" * 5000]
MARK = st.sampled_from(["", "\ufeff"])
#: What begins files of other encodings, and what is all over them and binary files.
FOREIGN = st.sampled_from([codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE, b"\0", b"a\n\0b"])


def pieced(pieces: list[str]) -> st.SearchStrategy[bytes]:
    """A text of some such, with a byte-order mark or without."""
    return st.builds(str.__add__, MARK, st.lists(st.sampled_from(pieces), min_size=1, max_size=12).map("".join)).map(
        str.encode
    )


SPLIT = (
    pieced(PIECES)
    | pieced(PIECES)
    | st.builds(bytes.__add__, FOREIGN, pieced(PIECES))
    | st.text(max_size=40).map(str.encode)
    | st.binary(max_size=40)
)
USUAL = b"a b\nc\n"


@given(SPLIT, pieced(PIECES) | st.just(USUAL), SPLIT | st.just(USUAL))
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
            assert corpus.vocab.to_tokens(corpus.train.tolist()) == _tokens(train)
            assert len(corpus.train) == files.train_tokens
            assert len(corpus.valid) == files.valid_tokens
            assert len(corpus.test) == files.test_tokens
            assert min(map(min, (corpus.train, corpus.valid, corpus.test))) >= 0
            assert max(map(max, (corpus.train, corpus.valid, corpus.test))) < len(corpus.vocab)


def _is_no_text(content: bytes) -> bool:
    try:
        text = content.decode("utf-8-sig")
        return not text.strip() or "\0" in text
    except UnicodeDecodeError:
        return True


def _lines(content: bytes) -> list[str]:
    """By Python's text files, which end lines as editors do."""
    return [line.removesuffix("\n") for line in io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig")]


def _tokens(content: bytes) -> list[str]:
    return [token for line in _lines(content) for token in (*filter(None, line.replace("\t", " ").split(" ")), "<eos>")]


LABELLED = {"classification": b"x\ta\ny\tb\n", "tagging": b"a x\nb y\n"}
WORD = st.lists(st.sampled_from(["a", "b", "\ufeff", *ODD]), min_size=1, max_size=3).map("".join)
BLANK = st.sampled_from([" ", "\t", "  ", " \t"])
FORMED = {
    "classification": st.builds("{}\t{}{}{}{}".format, WORD, WORD, BLANK, WORD, BLANK),
    "tagging": st.builds("{}{}{}{}".format, WORD, BLANK, WORD, BLANK),
}


@st.composite
def labelled(draw: st.DrawFn) -> tuple[bytes, str]:
    """Lines in an objective's form and blank ones, or a text of any kind; and the objective."""
    objective = draw(st.sampled_from(sorted(LABELLED)))
    line = st.builds(
        str.__add__, FORMED[objective] | st.sampled_from(["", "\t "]), st.sampled_from(["\n", "\r", "\r\n"])
    )
    return draw(st.lists(line, max_size=6).map("".join).map(str.encode) | SPLIT), objective


@given(labelled(), MARK.map(str.encode))
def test_labelled_lines_are_counted_as_they_are_loaded_or_refused_by_number(
    drawn: tuple[bytes, str], mark: bytes
) -> None:
    content, objective = drawn
    usual = LABELLED[objective]
    whole = mark + usual + content
    with fresh_folder() as folder:
        for split, text in zip(SPLITS, (whole, usual, usual), strict=True):
            (folder / f"{split}.txt").write_bytes(text)
        try:
            files = find_corpus(str(folder), objective=objective, notice=lambda line: None)
        except UserError as error:
            said = str(error)
        else:
            said = ""
        assert len(said.splitlines()) <= 1
        if said and not _is_no_text(whole):
            number = int(said.split()[1])
            assert said.startswith(f"line {number} of {folder}/train.txt is not ")
            assert _lines(whole)[number - 1].strip(" \t")
        assert said or not _is_no_text(whole)
        if said:
            return
        corpus = load_corpus(files, objective=objective)
        assert isinstance(corpus.train, Sequences)
        fields = [[field for field in re.split("[ \t]+", line) if field] for line in _lines(whole)]
        if objective == "tagging":
            assert corpus.vocab.to_tokens(corpus.train.tokens.tolist()) == [pair[0] for pair in fields if pair]
        else:
            sizes = [len(re.findall("[^ \t]+", line.partition("\t")[2])) for line in _lines(whole)]
            assert corpus.train.lengths.tolist() == [size for size in sizes if size]
        assert len(corpus.train.tokens) == files.train_tokens


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
    with pytest.raises(UserError, match=rf"wiki.{split}.tokens cannot be read \(Is not a file\)"):
        find_corpus("wikitext-2", data_dir=tmp_path)
