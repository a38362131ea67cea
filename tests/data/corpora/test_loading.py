from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from gluon_rnn.common.files import cache_directory
from gluon_rnn.data.corpora import CorpusFiles, count_words, find_corpus
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.loading import load_corpus
from tests.common.test_plain_text import ODD


def write(folder: Path, train: str, valid: str = "a\n", test: str = "b\n") -> str:
    for name, text in (("train.txt", train), ("valid.txt", valid), ("test.txt", test)):
        (folder / name).write_bytes(text.encode())
    return str(folder)


def words(corpus: Corpus) -> list[list[str]]:
    return [corpus.vocab.to_tokens(split.tolist()) for split in (corpus.train, corpus.valid, corpus.test)]


def assert_agree(files: CorpusFiles, corpus: Corpus) -> None:
    assert len(corpus.train) == files.train_tokens
    assert len(corpus.valid) == files.valid_tokens
    assert len(corpus.test) == files.test_tokens


@pytest.mark.parametrize(
    ("train", "tokens"),
    [
        ("a b\nc\n", ["a", "b", "<eos>", "c", "<eos>"]),
        ("a b\n\n \n c ", ["a", "b", "<eos>", "<eos>", "<eos>", "c", "<eos>"]),
        ("a\r\nb\rc\r\r\n", ["a", "<eos>", "b", "<eos>", "c", "<eos>", "<eos>"]),
        ("a\x0bb\x0c c\x1cd\x1de\x1ef", ["a\x0bb\x0c", "c\x1cd\x1de\x1ef", "<eos>"]),
        ("a\x85b\u2028c \u2029\n", ["a\x85b\u2028c", "\u2029", "<eos>"]),
        ("a\u00a0b\u3000c\x1fd\te", ["a\u00a0b\u3000c\x1fd", "e", "<eos>"]),
        ("\u3000a\n \u3000 \n", ["\u3000a", "<eos>", "\u3000", "<eos>"]),
        ("\ufeffa \ufeffa\u200bb\n", ["a", "\ufeffa\u200bb", "<eos>"]),
        ("\ufeff\na", ["<eos>", "a", "<eos>"]),
        ("a\nb\rc\r\nd\n\r\n", ["a", "<eos>", "b", "<eos>", "c", "<eos>", "d", "<eos>", "<eos>"]),
        ("<eos> <unk>\n<pad> <bos>", ["<eos>", "<unk>", "<eos>", "<pad>", "<bos>", "<eos>"]),
    ],
)
def test_a_folders_tokens_and_counts(train: str, tokens: list[str], tmp_path: Path) -> None:
    files = find_corpus(write(tmp_path, train))
    corpus = load_corpus(files)
    known = [word if word in tokens else "<unk>" for word in ("a", "b")]
    assert words(corpus) == [tokens, [known[0], "<eos>"], [known[1], "<eos>"]]
    assert_agree(files, corpus)
    assert count_words(files) == len(corpus.vocab)
    assert [split.dtype for split in (corpus.train, corpus.valid, corpus.test)] == [np.int32] * 3


@pytest.mark.parametrize("character", ODD)
def test_what_an_editor_takes_for_no_blank_or_line_end_is_part_of_a_word(character: str, tmp_path: Path) -> None:
    files = find_corpus(write(tmp_path, "^a^b ^\n^\n\tc^ a\n ^ ".replace("^", character)))
    corpus = load_corpus(files)
    expected = ["^a^b", "^", "<eos>", "^", "<eos>", "c^", "a", "<eos>", "^", "<eos>"]
    assert words(corpus)[0] == [token.replace("^", character) for token in expected]
    assert_agree(files, corpus)


def sha1(*texts: str, reading: str = "") -> str:
    lines = [hashlib.sha1(text.encode()).hexdigest() for text in texts]
    return hashlib.sha1("".join(f"{line}\n" for line in [*lines, *([reading] if reading else [])]).encode()).hexdigest()


class TestIdentity:
    """The committed and kept results of a text that is read as it was stay its own; those of another reading do not."""

    @pytest.mark.parametrize("level", ["word", "character"])
    @pytest.mark.parametrize("train", ["a b\tc\n", "a\r\nb\rc\n\n", "a\ufeffb \u200b\u180e\x01\n", "\u3001\n"])
    def test_stays_where_the_reading_did_not_change(self, train: str, level: str, tmp_path: Path) -> None:
        assert find_corpus(write(tmp_path, train), level=level).sha1 == sha1(train, "a\n", "b\n")

    @pytest.mark.parametrize("character", ODD)
    def test_of_words_is_another_where_words_were_cut_and_of_characters_is_not(
        self, character: str, tmp_path: Path
    ) -> None:
        place = write(tmp_path, "a\n", valid=f"a{character}b\n")
        texts = ("a\n", f"a{character}b\n", "b\n")
        assert find_corpus(place).sha1 == sha1(*texts, reading="word 2") != sha1(*texts)
        assert find_corpus(place, level="character").sha1 == sha1(*texts)

    @pytest.mark.parametrize("level", ["word", "character"])
    def test_of_a_text_with_a_byte_order_mark_is_that_of_the_text(self, level: str, tmp_path: Path) -> None:
        files = find_corpus(write(tmp_path, "\ufeffa b\n", test="\ufeffb\n"), level=level)
        assert files.sha1 == sha1("a b\n", "a\n", "b\n") != sha1("\ufeffa b\n", "a\n", "\ufeffb\n")
        assert files.files["train.txt"] == hashlib.sha1("\ufeffa b\n".encode()).hexdigest()
        assert_agree(files, load_corpus(files, level=level))
        assert files.train_tokens == (3 if level == "word" else 4)

    def test_of_another_version_is_not_trained_on(self, tmp_path: Path) -> None:
        files = find_corpus(write(tmp_path, "a\u2028b\n"))
        found = dataclasses.replace(files, sha1=sha1("a\u2028b\n", "a\n", "b\n"))
        with pytest.raises(RuntimeError, match="as it is read here is not the one that was found: its SHA-1 is"):
            load_corpus(found)


def kept() -> Path:
    (path,) = cache_directory().glob("corpus-*")
    return path


def equal(one: Corpus, other: Corpus) -> bool:
    return (
        words(one) == words(other)
        and (repr(one.vocab), one.vocab.idx_to_token) == (repr(other.vocab), other.vocab.idx_to_token)
        and all((getattr(one, s) == getattr(other, s)).all() for s in ("train", "valid", "test"))
    )


def test_an_encoded_corpus_is_kept_by_content(tmp_path: Path) -> None:
    """The second time neither folder nor text is needed; another text with the same name is another corpus."""
    files = find_corpus(write(tmp_path, "a b\u2028c\n", valid="c \u00e9\n"))
    read = load_corpus(files)
    content = kept().read_bytes()
    restored = load_corpus(dataclasses.replace(files, folder=tmp_path / "gone"))
    assert equal(restored, read)
    assert restored.vocab[["\u00e9", "b"]] == read.vocab[["\u00e9", "b"]]
    assert kept().read_bytes() == content
    other = load_corpus(find_corpus(write(tmp_path, "a b b\n")))
    assert words(other)[0] == ["a", "b", "b", "<eos>"]
    assert len(list(cache_directory().glob("corpus-*"))) == 2


def test_a_damaged_encoded_corpus_is_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = find_corpus(write(tmp_path, "a b c d e f g\n" * 50))
    read = load_corpus(files)
    whole = kept().read_bytes()
    assert capsys.readouterr().out == ""
    for place in range(0, len(whole), 97):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :]):
            kept().write_bytes(damaged)
            assert equal(load_corpus(files), read), place
            assert capsys.readouterr().out == f"{kept()} is damaged: the text is read again\n"
            assert kept().read_bytes() == whole


def test_what_a_killed_process_left_in_the_cache_goes(tmp_path: Path) -> None:
    cache_directory().mkdir(parents=True)
    (cache_directory() / ".corpus-x.npz.abc.tmp").touch()
    load_corpus(find_corpus(write(tmp_path, "a b c\n")))
    assert sorted(path.name for path in cache_directory().iterdir()) == [".lock", kept().name]


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    files = find_corpus(write(tmp_path, "a b\n"))
    assert words(load_corpus(files))[0] == ["a", "b", "<eos>"]
    assert "the encoded corpus cannot be kept for the next run: " in capsys.readouterr().out


def test_the_vocabulary_has_no_padding_and_the_most_frequent_words_first(tmp_path: Path) -> None:
    vocab = load_corpus(find_corpus(write(tmp_path, "b c b a a b\n", valid="z\n"))).vocab
    assert vocab.idx_to_token == ["<unk>", "<eos>", "b", "a", "c"]
    assert vocab[["z"]] == [0]
    assert (vocab.padding_token, vocab.bos_token) == (None, None)


def test_shortening_leaves_the_vocabulary_whole(tmp_path: Path) -> None:
    files = find_corpus(write(tmp_path, "a b\nc d\n", valid="a b c\n", test="d c\n"))
    short = load_corpus(files, max_train_tokens=2, max_eval_tokens=3)
    assert words(short) == [["a", "b"], ["a", "b", "c"], ["d", "c", "<eos>"]]
    assert len(short.vocab) == 6


def test_the_built_in_corpus() -> None:
    files = find_corpus("synthetic")
    corpus = load_corpus(files)
    assert_agree(files, corpus)
    assert words(corpus)[0][-1] == "<eos>"


def test_a_folder_that_has_changed_or_gone(tmp_path: Path) -> None:
    files = find_corpus(write(tmp_path, "a\n"))
    (tmp_path / "test.txt").write_text("changed\n")
    with pytest.raises(RuntimeError, match="is not the one that was found"):
        load_corpus(files)
    (tmp_path / "test.txt").unlink()
    with pytest.raises(RuntimeError, match=r"/test.txt was found earlier and cannot be read now: No such file"):
        load_corpus(files)


def test_a_built_in_corpus_of_another_version() -> None:
    with pytest.raises(RuntimeError, match="is not the one that was found"):
        load_corpus(dataclasses.replace(find_corpus("synthetic"), sha1="0" * 40))


class TestWikiText2:
    @pytest.mark.slow
    def test_numbers(self, real_data: Path) -> None:
        files = find_corpus("wikitext-2", data_dir=real_data)
        corpus = load_corpus(files, max_train_tokens=1000)
        assert len(corpus.train) == 1000
        assert_agree(dataclasses.replace(files, train_tokens=1000), corpus)
        assert (len(corpus.vocab), len(corpus.valid), len(corpus.test)) == (33_278, 217_646, 245_569)
        assert words(corpus)[0][:8] == ["<eos>", "=", "Valkyria", "Chronicles", "III", "=", "<eos>", "<eos>"]

    @pytest.mark.usefixtures("no_network")
    def test_never_downloads(self, tmp_path: Path) -> None:
        files = CorpusFiles("wikitext-2", tmp_path / "gone", "0" * 40, 1, 1, 1)
        with pytest.raises(RuntimeError, match="cannot be read now"):
            load_corpus(files)
        assert not (tmp_path / "gone").exists()
        for split in ("train", "valid", "test"):
            (tmp_path / f"wiki.{split}.tokens").write_text("damaged\n")
        with pytest.raises(RuntimeError, match="is not the one that was found"):
            load_corpus(dataclasses.replace(files, folder=tmp_path))
        assert (tmp_path / "wiki.train.tokens").read_text() == "damaged\n"
