"""Labelled corpora in plain text: a user's own folder, the built-in ones, and what is made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import cache_directory
from gluon_rnn.data.corpora import CorpusFiles, find_corpus, synthetic
from gluon_rnn.data.corpora.content import SPLITS, identity
from gluon_rnn.data.corpora.encoded import Corpus, Sequences
from gluon_rnn.data.corpora.labelled import Sequence, parse, write
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.data.corpora.splitting import split
from tests.common.test_plain_text import ODD

CLASSES = {"train": "bad\ta B a\ngood\tb c\nbad\ta\n", "valid": "good\tc d\n", "test": "bad\tb\n\nbad\tB\n"}
TAGS = {"train": "a X\nb Y\n\nA X\n\n\nc X\nd Z\n", "valid": "b X\nc W\n", "test": "\na X\n"}
TEXTS = {"classification": CLASSES, "tagging": TAGS}


def folder(place: Path, contents: dict[str, str]) -> str:
    place.mkdir(exist_ok=True)
    for name, content in contents.items():
        (place / f"{name}.txt").write_bytes(content.encode())
    return str(place)


def found(place: Path, objective: str, **changed: str) -> CorpusFiles:
    return find_corpus(folder(place, {**TEXTS[objective], **changed}), objective=objective)


def plain(corpus: Corpus, name: str) -> list[tuple[list[str], list[str]]]:
    """A split in words again, each sequence with its label or labels."""
    part = getattr(corpus, name)
    assert isinstance(part, Sequences)
    assert corpus.labels is not None
    assert [array.dtype for array in (part.tokens, part.lengths, part.labels)] == [np.int32] * 3
    ends = np.cumsum(part.lengths)
    words = [corpus.vocab.to_tokens(tokens.tolist()) for tokens in np.split(part.tokens, ends[:-1])]
    labels = np.split(part.labels, ends[:-1]) if len(part.labels) == len(part.tokens) else part.labels[:, None]
    return list(zip(words, (corpus.labels.to_tokens(those.tolist()) for those in labels), strict=True))


def test_a_label_for_each_sequence(tmp_path: Path) -> None:
    files = found(tmp_path / "mine", "classification")
    assert (files.dataset, files.train_tokens, files.valid_tokens, files.test_tokens) == ("mine", 6, 2, 2)
    corpus = load_corpus(files, objective="classification")
    assert plain(corpus, "train") == [(["a", "B", "a"], ["bad"]), (["b", "c"], ["good"]), (["a"], ["bad"])]
    assert plain(corpus, "valid") == [(["c", "<unk>"], ["good"])]
    assert plain(corpus, "test") == [(["b"], ["bad"]), (["B"], ["bad"])]
    assert corpus.vocab.idx_to_token == ["<unk>", "a", "B", "b", "c"]
    assert corpus.labels is not None
    assert corpus.labels.idx_to_token == ["bad", "good"]


def test_a_label_for_each_token(tmp_path: Path) -> None:
    files = found(tmp_path, "tagging")
    assert (files.train_tokens, files.valid_tokens, files.test_tokens) == (5, 2, 1)
    corpus = load_corpus(files, objective="tagging")
    assert plain(corpus, "train") == [(["a", "b"], ["X", "Y"]), (["A"], ["X"]), (["c", "d"], ["X", "Z"])]
    assert plain(corpus, "valid") == [(["b", "c"], ["X", "<unk>"])]
    assert corpus.labels is not None
    assert corpus.labels.idx_to_token == ["<unk>", "X", "Y", "Z"]


def test_rare_words_and_tags_are_unknown_and_classes_never(tmp_path: Path) -> None:
    tagged = load_corpus(found(tmp_path / "t", "tagging"), objective="tagging", min_freq=2, lower=True)
    assert plain(tagged, "train")[0] == (["a", "<unk>"], ["X", "<unk>"])
    assert (tagged.vocab.idx_to_token, tagged.labels and len(tagged.labels)) == (["<unk>", "a"], 2)
    files = found(tmp_path / "c", "classification")
    classified = load_corpus(files, objective="classification", min_freq=2, padding=True)
    assert classified.vocab.idx_to_token == ["<unk>", "<pad>", "a"]
    assert classified.labels is not None
    assert classified.labels.idx_to_token == ["bad", "good"]


@pytest.mark.parametrize(
    ("most", "lengths"), [(None, [3, 2, 1]), (6, [3, 2, 1]), (5, [3, 2]), (4, [3]), (3, [3]), (1, [3])]
)
def test_shortening_keeps_whole_sequences_and_one_at_least(
    most: int | None, lengths: list[int], tmp_path: Path
) -> None:
    files = found(tmp_path, "classification")
    corpus = load_corpus(files, objective="classification", max_train_tokens=most, max_eval_tokens=1)
    whole = load_corpus(files, objective="classification")
    assert plain(corpus, "train") == plain(whole, "train")[: len(lengths)]
    assert [len(words) for words, _ in plain(corpus, "train")] == lengths
    assert plain(corpus, "test") == [(["b"], ["bad"])]
    assert len(corpus.vocab) == len(whole.vocab)
    tags = load_corpus(found(tmp_path, "tagging"), objective="tagging", max_train_tokens=4)
    assert plain(tags, "train") == [(["a", "b"], ["X", "Y"]), (["A"], ["X"])]


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_a_kept_one_is_the_same_and_known_by_how_it_was_read(objective: str, tmp_path: Path) -> None:
    files = found(tmp_path, objective)
    read = load_corpus(files, objective=objective)
    other = load_corpus(files, objective=objective, lower=True)
    assert len(other.vocab) < len(read.vocab)
    assert len(list(cache_directory().glob("corpus-*"))) == 2
    for name in SPLITS:
        (tmp_path / f"{name}.txt").unlink()
    kept = load_corpus(files, objective=objective)
    assert [plain(kept, name) for name in SPLITS] == [plain(read, name) for name in SPLITS]
    assert read.labels is not None
    assert kept.labels is not None
    assert kept.labels.idx_to_token == read.labels.idx_to_token


@pytest.mark.parametrize(
    ("objective", "changed", "message"),
    [
        ("classification", {"train": "good\ta\nbad b\n"}, r"^line 2 of .*/train.txt is not label, tab and words, as"),
        ("classification", {"test": "\ta\n"}, r"^line 1 of .*/test.txt is not label"),
        ("classification", {"test": "good\t \n"}, r"^line 1 of .*/test.txt is not label"),
        ("classification", {"valid": "ugly\ta\n"}, r"/valid.txt has the label ugly, which the training text has not"),
        ("classification", {"train": "bad\ta\nbad\tb\n"}, r"/train.txt has one label only, bad"),
        ("tagging", {"valid": "a X\n\nb Y Z\n"}, r"^line 3 of .*/valid.txt is not word, blank and tag, as"),
        ("tagging", {"train": "a X\nb\n"}, r"^line 2 of .*/train.txt is not word"),
        ("tagging", {"test": "\n"}, r"/test.txt holds no words"),
    ],
)
def test_what_is_not_in_its_form_is_told_by_file_and_line(
    objective: str, changed: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        found(tmp_path, objective, **changed)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("character", ODD)
def test_only_spaces_and_tabs_part_words_and_labels_and_only_line_ends_end_lines(
    character: str, tmp_path: Path
) -> None:
    changes = {"train": f"good\ta{character}b {character}\r\nbad\tc\rgood \t{character}bad\td\n"}
    files = found(tmp_path / "c", "classification", **changes)
    corpus = load_corpus(files, objective="classification")
    assert plain(corpus, "train") == [
        ([f"a{character}b", character], ["good"]),
        (["c"], ["bad"]),
        ([f"{character}bad", "d"], ["good"]),
    ]
    assert (files.train_tokens, corpus.labels and len(corpus.labels)) == (5, 2)
    files = found(tmp_path / "t", "tagging", train=f"a{character}b\tX\r\rc {character}Y\n\n\n{character} X")
    assert plain(load_corpus(files, objective="tagging"), "train") == [
        ([f"a{character}b"], ["X"]),
        (["c"], [f"{character}Y"]),
        ([character], ["X"]),
    ]
    assert files.train_tokens == 3
    with pytest.raises(UserError, match=r"^line 3 of .*/valid.txt is not label"):
        found(tmp_path / "c", "classification", valid=f"good\t{character}{character}c\n\r{character}\n")
    with pytest.raises(UserError, match=r"^line 2 of .*/valid.txt is not word"):
        found(tmp_path / "t", "tagging", valid=f"a{character}b X\r{character}\n")


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_a_byte_order_mark_is_part_of_no_label_and_no_word(objective: str, tmp_path: Path) -> None:
    marked = {split: f"\ufeff{text}" for split, text in TEXTS[objective].items()}
    files, same = found(tmp_path / "a", objective, **marked), found(tmp_path / "b", objective)
    assert (files.sha1, files.train_tokens) == (same.sha1, same.train_tokens)
    assert files.files != same.files
    read = load_corpus(files, objective=objective)
    for path in cache_directory().glob("corpus-*"):
        path.unlink()
    other = load_corpus(same, objective=objective)
    assert [plain(read, name) for name in SPLITS] == [plain(other, name) for name in SPLITS]


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_a_nul_and_another_encoding_are_refused_by_file_and_line(objective: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/valid.txt is not UTF-8 text: line 2 has a NUL character"):
        found(tmp_path, objective, valid="\r\na\0\tb\n")
    place = folder(tmp_path, TEXTS[objective])
    (tmp_path / "test.txt").write_text(TEXTS[objective]["test"], encoding="utf-16")
    with pytest.raises(UserError, match=r"/test.txt is not UTF-8 text: .* of UTF-16; convert it, .* -f UTF-16 -t"):
        find_corpus(place, objective=objective)


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_the_identity_is_another_where_the_reading_is_another(objective: str) -> None:
    def sha1(reading: int, text: str) -> str:
        lines = [*(hashlib.sha1(text.encode()).hexdigest() for _ in SPLITS), f"{objective} {reading}"]
        return hashlib.sha1("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    for reading, text in [(1, "a b\r\nc\td\re\n"), (2, "a\u00a0b c\n"), (2, "a b\u2028"), (2, "a\u3000\tb")]:
        assert identity(dict.fromkeys(SPLITS, text), objective, "word") == sha1(reading, text)


def test_a_folder_is_another_corpus_for_another_objective(tmp_path: Path) -> None:
    both = dict.fromkeys(SPLITS, "good\ta\nbad\tb\n")
    place = folder(tmp_path, both)
    sha1s = {find_corpus(place, objective=objective).sha1 for objective in ("classification", "tagging")}
    sha1s |= {find_corpus(place, objective=objective).sha1 for objective in ("language_model", "next_token")}
    assert len(sha1s) == 3


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_what_is_written_is_read_back(objective: str) -> None:
    labels = [["x"], ["y"]] if objective == "classification" else [["x", "y"], ["z"]]
    sequences = [Sequence(["a", "é\u2028\u00a0"], labels[0]), Sequence(["\u3000b"], labels[1])]
    assert parse(write(sequences, objective).decode(), objective, "here") == sequences


class TestSplit:
    def test_holds_out_each_classs_share(self) -> None:
        strata = [0] * 10 + [1] * 20
        kept, held_out = split(list(range(30)), 0.3, seed=1, strata=strata)
        assert sorted(kept + held_out) == list(range(30))
        assert sum(place < 10 for place in held_out) == 3
        assert sum(place >= 10 for place in held_out) == 6

    def test_is_at_random_but_always_the_same_and_leaves_the_runs_chance_alone(self) -> None:
        np.random.seed(7)
        expected = np.random.random_sample(2).tolist()
        np.random.seed(7)
        drawn = [np.random.random_sample()]
        first = split(list(range(50)), 0.1, seed=1)
        drawn.append(np.random.random_sample())
        assert drawn == expected
        assert first == split(list(range(50)), 0.1, seed=1) != split(list(range(50)), 0.1, seed=2)
        assert len(first[1]) == 5
        assert first[0] != sorted(first[0])


class TestSynthetic:
    def test_is_the_same_everywhere(self) -> None:
        classes, tags = (find_corpus("synthetic", objective=objective) for objective in ("classification", "tagging"))
        assert classes.sha1 == "c0069e738fefb842c903f45c688c7e1c78859cef"
        assert tags.sha1 == "8e9258130269be92723e88f51bc939ef7742dc44"
        for files in (classes, tags):
            assert (files.train_tokens, files.valid_tokens, files.test_tokens) == (23_456, 4_715, 4_694)

    def test_a_sentences_topic_can_be_made_out_but_not_always(self) -> None:
        """Naive Bayes, which knows all that a bag of words tells: guessing gets a third."""
        train, test = self.counted("train"), self.counted("test")
        likelihood = np.log((train[0].T @ train[1] + 1).T)
        likelihood -= np.log((train[0].T @ train[1] + 1).sum(axis=0))[:, None]
        guesses = (test[0] @ likelihood.T).argmax(axis=1)
        assert 0.75 < (guesses == test[1].argmax(axis=1)).mean() < 0.97

    @staticmethod
    def counted(name: str) -> tuple[np.ndarray, np.ndarray]:
        """Counts of words (sequences, words), and the label of each as (sequences, 3) zeros and a one."""
        corpus = load_corpus(find_corpus("synthetic", objective="classification"), objective="classification")
        part = getattr(corpus, name)
        counts = np.zeros((len(part.lengths), len(corpus.vocab)))
        np.add.at(counts, (np.repeat(np.arange(len(part.lengths)), part.lengths), part.tokens), 1)
        return counts, np.eye(3)[part.labels]

    def test_a_words_class_is_told_by_its_surroundings(self) -> None:
        """The most likely class of a word alone is often wrong; with the word before it is right more often."""
        splits = {
            name: parse(content.decode(), "tagging", name) for name, content in synthetic.generate("tagging").items()
        }

        def accuracy(context: int) -> float:
            counts: dict[tuple[str, ...], dict[str, int]] = {}

            def pairs(name: str) -> list[tuple[tuple[str, ...], str]]:
                return [
                    (tuple(words[max(0, place - context) : place + 1]), tag)
                    for words, tags in splits[name]
                    for place, tag in enumerate(tags)
                ]

            for key, tag in pairs("train"):
                counts.setdefault(key, {}).setdefault(tag, 0)
                counts[key][tag] += 1
            right = [
                tag == max(counts.get(key, {"noun": 1}).items(), key=lambda item: item[1])[0]
                for key, tag in pairs("test")
            ]
            return sum(right) / len(right)

        assert 0.7 < accuracy(0) < accuracy(1) - 0.03
        assert accuracy(1) < 0.97
