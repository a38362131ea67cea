"""Characters and words of texts: three splits, one text that is cut, an alphabet; and which corpus is for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import configure
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.data.corpora.content import cut, describe
from gluon_rnn.data.corpora.encoded import Corpus, Reading, restore
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.sweeps.checks import check_fit


def folder(place: Path, train: str, valid: str = "a\n", test: str = "b\n") -> str:
    for name, text in (("train", train), ("valid", valid), ("test", test)):
        (place / f"{name}.txt").write_bytes(text.encode())
    return str(place)


def tokens(corpus: Corpus) -> list[list[str] | None]:
    return [
        None if part is None else corpus.vocab.to_tokens(part.tolist())  # type: ignore[union-attr]
        for part in (corpus.train, corpus.valid, corpus.test)
    ]


def counts(files: CorpusFiles) -> tuple[int, int, int]:
    return files.train_tokens, files.valid_tokens, files.test_tokens


def test_characters_are_as_they_stand(tmp_path: Path) -> None:
    files = find_corpus(folder(tmp_path, "ab\r\n\nÄa", "aé\n", "İ"), level="character")
    assert counts(files) == (7, 3, 1)
    corpus = load_corpus(files, level="character")
    assert tokens(corpus) == [list("ab\r\n\nÄa"), ["a", "<unk>", "\n"], ["<unk>"]]
    assert set(corpus.vocab.idx_to_token) == {"<unk>", *"ab\r\nÄ"}


def test_a_byte_order_mark_is_no_character_and_every_other_one_is(tmp_path: Path) -> None:
    files = find_corpus(folder(tmp_path, "\ufeffa\ufeff\u2028\x0c\u3000", "\ufeff a"), level="character")
    assert counts(files) == (5, 2, 2)
    corpus = load_corpus(files, level="character")
    assert tokens(corpus)[:2] == [list("a\ufeff\u2028\x0c\u3000"), ["<unk>", "a"]]


def test_lower_case_changes_no_count(tmp_path: Path) -> None:
    """A capital I with a dot has two small letters."""
    files = find_corpus(folder(tmp_path, "Ä İ\ni̇", "A", "İ"), level="character")
    corpus = load_corpus(files, level="character", lower=True)
    assert counts(files) == tuple(map(len, (corpus.train, corpus.valid, corpus.test)))  # type: ignore[arg-type]
    assert tokens(corpus)[0] == ["ä", " ", "i̇", "\n", "i", "̇"]
    words = load_corpus(find_corpus(str(tmp_path)), lower=True)
    assert tokens(words) == [["ä", "i̇", "<eos>", "i̇", "<eos>"], ["<unk>", "<eos>"], ["i̇", "<eos>"]]


def test_rare_tokens_are_unknown_and_padding_has_an_id(tmp_path: Path) -> None:
    files = find_corpus(folder(tmp_path, "a b a\nb a c\n"))
    assert load_corpus(files, min_freq=2).vocab.idx_to_token == ["<unk>", "<eos>", "a", "b"]
    assert load_corpus(files, min_freq=3, padding=True).vocab.idx_to_token == ["<unk>", "<pad>", "<eos>", "a"]
    assert tokens(load_corpus(files, min_freq=3))[0] == ["a", "<unk>", "a", "<eos>", "<unk>", "a", "<unk>", "<eos>"]


def test_each_way_of_reading_is_kept_for_itself(tmp_path: Path) -> None:
    files = find_corpus(folder(tmp_path, "A b a\n"))
    read = load_corpus(files)
    reading = Reading("language_model", "word", lower=False, min_freq=1, padding=False)
    kept = restore(files, reading)
    assert kept is not None
    assert tokens(kept) == tokens(read)
    others: list[dict[str, Any]] = [{"objective": "next_token"}, {"level": "character"}, {"lower": True}]
    for other in [*others, {"min_freq": 2}, {"padding": True}]:
        assert restore(files, reading._replace(**other)) is None


@pytest.mark.parametrize(
    ("objective", "sizes"), [("language_model", (480_714, 60_089, 60_090)), ("next_token", (600_893, 0, 0))]
)
def test_one_text_is_cut_in_three_or_all_train(objective: str, sizes: tuple[int, int, int]) -> None:
    assert cut(600_893, objective) == sizes
    described = describe(
        "nietzsche", None, {"text": b"a\n" * 300_446 + b"a"}, files={}, objective=objective, level="character"
    )
    assert counts(described) == sizes


class TestHihello:
    def test_is_an_alphabet_of_five(self) -> None:
        corpus = load_corpus(find_corpus("hihello", level="character"), level="character")
        assert tokens(corpus) == [list("hihello")] * 3
        assert sorted(corpus.vocab.idx_to_token) == sorted("helio")

    def test_with_a_least_frequency_the_rest_is_unknown(self) -> None:
        corpus = load_corpus(find_corpus("hihello", level="character"), level="character", min_freq=2)
        assert tokens(corpus)[0] == ["h", "<unk>", "h", "<unk>", "l", "l", "<unk>"]


class TestNietzsche:
    @pytest.fixture
    def data(self, real_data: Path) -> Path:
        if not (real_data / "nietzsche.txt").exists():
            pytest.skip(f"needs nietzsche.txt in {real_data}")
        return real_data

    def test_characters(self, data: Path) -> None:
        files = find_corpus("nietzsche", level="character", data_dir=data)
        corpus = load_corpus(files, level="character")
        assert counts(files) == (480_714, 60_089, 60_090)
        assert (len(corpus.vocab), corpus.vocab.unknown_token, corpus.vocab.padding_token) == (85, None, "<pad>")
        parts = tokens(corpus)
        text = (data / "nietzsche.txt").read_bytes().decode()
        assert "".join("".join(part or []) for part in parts) == text
        whole = load_corpus(
            find_corpus("auto", objective="next_token", level="character", data_dir=data),
            objective="next_token",
            level="character",
        )
        assert tokens(whole)[1:] == [None, None]
        assert "".join(tokens(whole)[0] or []) == text

    def test_words(self, data: Path) -> None:
        files = find_corpus("nietzsche", data_dir=data)
        corpus = load_corpus(files)
        assert counts(files) == tuple(map(len, (corpus.train, corpus.valid, corpus.test)))  # type: ignore[arg-type]
        assert corpus.vocab.unknown_token == "<unk>"


class TestKinds:
    @pytest.mark.parametrize(
        ("dataset", "objective", "own"),
        [
            ("airline-tweets", "language_model", "wikitext-2"),
            ("airline-tweets", "tagging", "conll-2000"),
            ("conll-2000", "next_token", "nietzsche"),
            ("wikitext-2", "classification", "airline-tweets"),
            ("hihello", "tagging", "conll-2000"),
        ],
    )
    def test_a_corpus_of_another_kind_is_refused_with_the_fix(self, dataset: str, objective: str, own: str) -> None:
        with pytest.raises(UserError) as caught:
            find_corpus(dataset, objective=objective)
        message = str(caught.value)
        assert message.startswith(f"dataset {dataset} is for objective=")
        assert message.endswith(f"not for {objective}, whose own is {own}; set another of the two")

    def test_labelled_words_have_no_characters(self) -> None:
        with pytest.raises(UserError, match="level=character needs a text, and objective=tagging reads words; leave"):
            find_corpus("synthetic", objective="tagging", level="character")

    @pytest.mark.usefixtures("no_network")
    @pytest.mark.parametrize(
        ("objective", "title", "files"),
        [
            ("next_token", "Nietzsche", "nietzsche.txt into"),
            ("classification", "Twitter US Airline Sentiment", "Tweets.csv into"),
            ("tagging", "CoNLL-2000", "train.txt.gz, test.txt.gz into"),
        ],
    )
    def test_auto_falls_back_to_what_has_such_labels(
        self, objective: str, title: str, files: str, notices: list[str]
    ) -> None:
        found = find_corpus("auto", objective=objective, notice=notices.append)
        assert found == find_corpus("synthetic", objective=objective)
        assert notices[-1].startswith(
            f"using the built-in synthetic corpus: {title} was not found and could not be downloaded ("
        )
        assert f"put {files}" in notices[-1]


class TestFit:
    @pytest.mark.parametrize(
        ("sizes", "settings", "message"),
        [
            ((7, 0, 0), {}, ""),
            ((6, 0, 0), {}, "the training text of x has 6 tokens, and a window of bptt=6"),
            ((9, 0, 0), {"max_train_tokens": 5}, "the training text of x has 5 tokens"),
            ((9, 6, 9), {}, "the validation text of x has 6 tokens"),
            ((9, 9, 9), {"max_eval_tokens": 2}, "the validation text of x has 2 tokens"),
            ((9, 9, 1), {}, "the test text of x has 1 tokens.* needs 7; lower bptt or give more text"),
        ],
    )
    def test_each_text_that_is_there_holds_a_window_and_the_token_after(
        self, sizes: tuple[int, int, int], settings: dict[str, int], message: str
    ) -> None:
        config = configure({"objective": "next_token", "bptt": 6, "batch_size": 512, **settings})
        files = CorpusFiles("x", None, "0" * 40, *sizes)
        if message:
            with pytest.raises(UserError, match=message):
                check_fit(config, files)
        else:
            check_fit(config, files)

    @pytest.mark.parametrize("objective", ["classification", "tagging"])
    def test_one_sequence_will_do(self, objective: str) -> None:
        check_fit(configure({"objective": objective}), CorpusFiles("x", None, "0" * 40, 1, 1, 1))
