"""What published corpora other than WikiText-2 add: one file, another form of it, names that tell nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.corpora import airline_tweets, conll2000, find_corpus, known, nietzsche, published
from gluon_rnn.data.corpora.content import identity
from gluon_rnn.data.corpora.facts import Published, Source
from gluon_rnn.data.corpora.labelled import parse

if TYPE_CHECKING:
    from tests.data.corpora.conftest import Site

TEXT = b"Thus spoke\nnobody.\n"
KEPT, PUBLISHED = b"kept\n", b"kept and more\n"
GZIPPED = {"train": b"train, zipped", "test": b"test, zipped"}


def text(*sources: Source) -> Published:
    return replace(nietzsche.CORPUS, sha1s={"text": sha1_of(TEXT)}, sources=sources)


def tweets(*sources: Source) -> Published:
    """Kept with less than is published."""
    forms = {sha1_of(PUBLISHED): lambda content: content.replace(b" and more", b"")}
    return replace(airline_tweets.CORPUS, sha1s={"tweets": sha1_of(KEPT)}, forms=forms, sources=sources)


def tagged() -> Published:
    return replace(conll2000.CORPUS, sha1s={part: sha1_of(content) for part, content in GZIPPED.items()}, sources=())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("below", ["", "nietzsche"])
def test_one_file_is_used_where_it_lies(below: str, data: Path, cache: Path) -> None:
    put(data / below / "nietzsche.txt", TEXT)
    assert published.find(text(), data, cache=cache) == (data / below, {"text": TEXT})
    assert not cache.exists()


def test_one_file_is_fetched_into_gluonnlps_cache(site: Site, tmp_path: Path) -> None:
    site.serve("nietzsche.txt", TEXT)
    place, contents = published.find(text(Source(site.url, nietzsche.FILES)), None, notice=lambda _: None)
    assert (place, contents) == (tmp_path / "mxnet" / "datasets" / "nietzsche", {"text": TEXT})
    assert (place / "nietzsche.txt").read_bytes() == TEXT


def test_what_is_missing_is_told_in_a_line(refused: str, data: Path, cache: Path) -> None:
    with pytest.raises(published.Unavailable) as caught:
        published.find(text(Source(refused, nietzsche.FILES)), data, cache=cache, notice=lambda _: None)
    assert str(caught.value) == (
        f"Nietzsche is not in {data} or {cache} and could not be fetched ({refused}: Connection refused): "
        f"put nietzsche.txt into {cache}, or name its folder with --data-dir"
    )


@pytest.mark.parametrize("content", [KEPT, PUBLISHED], ids=["kept", "published"])
def test_the_published_form_is_taken_from_each_place(content: bytes, site: Site, data: Path, cache: Path) -> None:
    site.serve("Tweets.csv", content)
    served = tweets(Source(site.url, airline_tweets.FILES))
    fetched = cache / "fetched"
    assert published.find(served, None, cache=fetched, notice=lambda _: None) == (fetched, {"tweets": KEPT})
    by_hand = put(cache / "by hand" / "Tweets.csv", content)
    assert published.find(tweets(), None, cache=by_hand.parent) == (by_hand.parent, {"tweets": KEPT})
    assert by_hand.read_bytes() == (fetched / "Tweets.csv").read_bytes() == KEPT

    mine = put(data / "Tweets.csv", content)
    place = data if content == KEPT else cache / "copied"
    assert published.find(tweets(), data, cache=cache / "copied") == (place, {"tweets": KEPT})
    assert mine.read_bytes() == content
    assert (place / "Tweets.csv").read_bytes() == KEPT


def test_a_file_that_is_neither_form_is_an_error(data: Path, cache: Path) -> None:
    put(data / "Tweets.csv", b"of something else")
    with pytest.raises(UserError, match=r"Tweets.csv is not Twitter US Airline Sentiment's: its SHA-1 is \w{40}, not"):
        published.find(tweets(), data, cache=cache)


@pytest.mark.parametrize("below", ["", "conll2000", "conll-2000"])
def test_two_files_in_the_folders_that_people_give_them(below: str, data: Path, cache: Path) -> None:
    for part, content in GZIPPED.items():
        put(data / below / f"{part}.txt.gz", content)
    assert published.find(tagged(), data, cache=cache) == (data / below, GZIPPED)


def test_names_that_tell_nothing_may_be_of_something_else(data: Path, cache: Path) -> None:
    put(data / "train.txt.gz", b"of something else")
    with pytest.raises(published.Unavailable):
        published.find(tagged(), data, cache=cache)
    put(data / "test.txt.gz", GZIPPED["test"])
    with pytest.raises(UserError, match=r"train.txt.gz is not CoNLL-2000's"):
        published.find(tagged(), data, cache=cache)
    (data / "train.txt.gz").unlink()
    with pytest.raises(UserError, match=r"train.txt.gz is missing beside the other files of CoNLL-2000"):
        published.find(tagged(), data, cache=cache)


def test_kaggles_columns_become_five() -> None:
    kaggles = (
        b"tweet_id,airline_sentiment,confidence,airline,name,retweet_count,text,user_timezone\n"
        b'1,neutral,1.0,Delta,me,0,"two\nlines, ""quoted""",\n2,negative,,United,,3,late,Quito\n'
    )
    assert airline_tweets.five_columns(kaggles) == (
        b"tweet_id,airline_sentiment,airline,retweet_count,text\r\n"
        b'1,neutral,Delta,0,"two\nlines, ""quoted"""\r\n2,negative,United,3,late\r\n'
    )


def test_tweets_are_tokens_in_lower_case_without_stop_words(tmp_path: Path) -> None:
    moods = ["negative"] * 10 + ["neutral"] * 10
    rows = [f'{mood},"@United WHY is the {mood} bag\n(no. {place}) LATE?? :("\n' for place, mood in enumerate(moods)]
    (tmp_path / "Tweets.csv").write_text("airline_sentiment,text\n" + "".join(rows))
    contents = airline_tweets.read(tmp_path)
    splits = {split: parse(content.decode(), "classification", split) for split, content in contents.items()}
    # Of each class 3 of 10, then 3 (2.1, rounded up) of 7.
    assert {split: len(sequences) for split, sequences in splits.items()} == {"train": 8, "valid": 6, "test": 6}
    assert all(
        words[:4] == ["@united", labels[0], "bag", "("] and words[-4:] == ["late", "?", "?", ":("]
        for sequences in splits.values()
        for words, labels in sequences
    )
    assert contents == airline_tweets.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("corpus", [airline_tweets.CORPUS, conll2000.CORPUS], ids=lambda corpus: corpus.name)
def test_real_files_are_read_as_they_are_known(corpus: Published, real_data: Path) -> None:
    if not any((real_data / name).exists() for name in ("Tweets.csv", "conll2000")):
        pytest.skip(f"needs Tweets.csv and conll2000/ in {real_data}")
    assert corpus.labelled
    found = find_corpus(corpus.name, objective=corpus.labelled.objective, data_dir=real_data)
    contents = corpus.labelled.read(published.find(corpus, real_data)[0])
    texts = {split: content.decode() for split, content in contents.items()}
    assert identity(texts, corpus.labelled.objective, "word") == found.sha1
    assert [
        sum(len(sequence.words) for sequence in parse(text, corpus.labelled.objective, split))
        for split, text in texts.items()
    ] == [found.train_tokens, found.valid_tokens, found.test_tokens]


def test_every_corpus_is_known_by_its_own_name_and_objective() -> None:
    assert all(name == corpus.name for name, corpus in known.PUBLISHED.items())
    assert all(objective in corpus.objectives for objective, corpus in known.OWN.items())
