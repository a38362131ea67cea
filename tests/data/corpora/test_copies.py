"""A corpus on another machine than the one where it was found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.copies import bring, read_files
from gluon_rnn.data.corpora import CorpusFiles, find_corpus, wikitext2
from gluon_rnn.data.corpora.content import SPLITS, identity
from gluon_rnn.data.corpora.loading import load_corpus
from tests.conftest import write_folder


@pytest.fixture
def found(tmp_path: Path) -> CorpusFiles:
    return find_corpus(str(write_folder(tmp_path / "mine")))


def never() -> dict[str, bytes]:
    raise AssertionError("the text is here")


def test_what_is_not_here_is_written_and_loads(found: CorpusFiles, tmp_path: Path) -> None:
    contents = read_files(found)
    assert found.folder
    shutil.rmtree(found.folder)
    here = bring(found, tmp_path / "place", lambda: contents)
    assert here == replace(found, folder=tmp_path / "place")
    corpus = load_corpus(here)
    assert len(corpus.train) == found.train_tokens


def test_a_folder_that_is_shared_is_used_as_it_is(found: CorpusFiles, tmp_path: Path) -> None:
    assert bring(found, tmp_path / "place", never) is found
    assert not (tmp_path / "place").exists()


def test_another_text_in_a_folder_of_that_name_is_not_taken_for_it(found: CorpusFiles, tmp_path: Path) -> None:
    contents = read_files(found)
    assert found.folder
    (found.folder / "valid.txt").write_text("something else\n")
    assert bring(found, tmp_path / "place", lambda: contents).folder == tmp_path / "place"
    with pytest.raises(
        UserError,
        match=r"mine is not the one that was found: valid.txt has SHA-1 \w{40}, not \w{40}; start the sweep again$",
    ):
        read_files(found)


def test_the_built_in_corpus_needs_nothing(tmp_path: Path) -> None:
    found = find_corpus("synthetic")
    assert read_files(found) == {}
    assert bring(found, tmp_path / "place", never) is found


def test_wikitext2_gets_the_names_by_which_gluonnlp_knows_it(tmp_path: Path) -> None:
    contents = {split: f"{split} text\n".encode() for split in SPLITS}
    sha1 = identity({split: content.decode() for split, content in contents.items()}, "language_model", "word")
    files = {name: sha1_of(contents[split]) for split, name in wikitext2.FILES.items()}
    found = CorpusFiles(wikitext2.NAME, tmp_path / "nowhere", sha1, 3, 3, 3, files)
    served = {wikitext2.FILES[split]: content for split, content in contents.items()}
    here = bring(found, tmp_path / "place", lambda: served)
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == sorted(wikitext2.FILES.values())
    assert read_files(here) == served
