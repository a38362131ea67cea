"""The rows of an embedding, from text and from GluonNLP's archives."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gluonnlp
import numpy as np
import pytest
from mxnet import nd

from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.data.vectors import FoundVectors, find_vectors, published
from gluon_rnn.data.vectors.loading import load_vectors


@pytest.fixture
def found(tmp_path: Path) -> FoundVectors:
    """Of four words, two of which are in `vocab`."""
    (tmp_path / "some.txt").write_text("cat 1 8\nThe 100 100\nzebra 100 100\nthe 3 4\n<pad> 7 7\n")
    vectors = find_vectors(str(tmp_path / "some.txt"))
    assert vectors
    return vectors


def vocab(*words: str, padding: str | None = "<pad>") -> gluonnlp.Vocab:
    """``<unk>``, padding and ``<eos>`` come first, then the words."""
    return gluonnlp.Vocab(gluonnlp.data.Counter(words), padding_token=padding, bos_token=None)


WORDS = vocab("the", "cat", "sat")


def test_words_have_their_vectors_and_others_are_drawn_like_them(found: FoundVectors) -> None:
    table, without = load_vectors(found, WORDS, seed=3)
    assert WORDS.idx_to_token == ["<unk>", "<pad>", "<eos>", "cat", "sat", "the"]
    assert (table.dtype, table.shape, without) == (np.float32, (6, 2), 4)
    assert table[WORDS["cat"]].tolist() == [1, 8]
    assert table[WORDS["the"]].tolist() == [3, 4]
    assert table[WORDS["<pad>"]].tolist() == [0, 0]
    # Mean and deviation of each component over the two vectors that are used.
    drawn = np.random.RandomState(3).normal([2, 6], [1, 2], (6, 2)).astype(np.float32)
    for word in ("<unk>", "<eos>", "sat"):
        assert (table[WORDS[word]] == drawn[WORDS[word]]).all()


def test_a_seed_draws_the_same_rows_and_another_seed_others(found: FoundVectors) -> None:
    one, again, other = (load_vectors(found, WORDS, seed=seed)[0] for seed in (0, 0, 1))
    assert (one == again).all()
    same = (one == other).all(axis=1)
    assert [word for word, equal in zip(WORDS.idx_to_token, same, strict=True) if equal] == ["<pad>", "cat", "the"]


def test_without_padding_the_word_is_one_as_any_other(found: FoundVectors) -> None:
    words = vocab("the", "<pad>", padding=None)
    table, without = load_vectors(found, words, seed=0)
    assert table[words["<pad>"]].tolist() == [7, 7]
    assert without == 2


def test_a_vector_for_unknown_words_is_theirs(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text("the 3 4\n<unk> 5 6\n")
    vectors = find_vectors(str(path))
    assert vectors
    table, without = load_vectors(vectors, WORDS, seed=0)
    assert table[0].tolist() == [5, 6]
    assert without == 4


def test_a_byte_order_mark_is_part_of_no_word(tmp_path: Path) -> None:
    tables = []
    for name, start in (("plain.txt", ""), ("marked.txt", "\ufeff")):
        (tmp_path / name).write_text(f"{start}the 3 4\ncat 1 8\n", encoding="utf-8")
        vectors = find_vectors(str(tmp_path / name))
        assert vectors
        tables.append((vectors.sha1, *load_vectors(vectors, WORDS, seed=0)))
    (plain, expected, without), (marked, table, as_well) = tables
    assert (marked, as_well) == (plain, without)
    assert (table == expected).all()


def test_vectors_of_no_word_are_refused(found: FoundVectors) -> None:
    with pytest.raises(RuntimeError, match=r"^some.txt has no vector for any of the 3 words; is lower=true missing\?$"):
        load_vectors(found, vocab("CAT"), seed=0)


def test_a_file_that_is_no_longer_the_one_that_was_found_is_refused(found: FoundVectors) -> None:
    found.path.write_text("the 3 4\n")
    with pytest.raises(
        RuntimeError, match=r"the vectors in .*some.txt are not those that were found: SHA-1 \w{40}, not"
    ):
        load_vectors(found, WORDS, seed=0)
    found.path.unlink()
    with pytest.raises(RuntimeError, match=r"some.txt was found earlier and cannot be read now: No such file"):
        load_vectors(found, WORDS, seed=0)


# What `gluonnlp.embedding.create` reads.


def archive(folder: Path, vectors: dict[str, list[float]], *, unknown: str | None = "<unk>") -> FoundVectors:
    path = folder / "some.npz"
    gluonnlp.embedding.TokenEmbedding(
        unknown_token=unknown, idx_to_token=list(vectors), idx_to_vec=nd.array(list(vectors.values()))
    ).serialize(str(path))
    return FoundVectors("glove:some", path, sha1_of_file(path), published.measure(path))


class Bomb:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self._does = (call, arguments)

    def __reduce__(self) -> Any:
        return self._does


@pytest.mark.parametrize("protocol", [2, 4])
def test_words_of_an_archive_can_be_words_only(tmp_path: Path, protocol: int) -> None:
    found = archive(tmp_path, {"cat": [1, 8, 0.1], "the": [3, 4, 1e-9]})
    with zipfile.ZipFile(found.path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (3,)})

    def rewritten(words: Any) -> None:
        pickled = pickle.dumps(words, protocol=protocol)
        with zipfile.ZipFile(found.path, "w") as whole:
            for name, content in members.items():
                whole.writestr(name, header.getvalue() + pickled if name == "idx_to_token.npy" else content)

    rewritten(np.array(["<unk>", "cat", "the"], dtype=object))
    assert sorted(published.rows(found.path, ["cat", "the"])) == ["cat", "the"]
    mark = tmp_path / "mark"
    for bomb in (Bomb(os.mkdir, str(mark)), Bomb(eval, f"__import__('os').mkdir({str(mark)!r})")):
        rewritten(np.array(["<unk>", "cat", bomb], dtype=object))
        with pytest.raises(ValueError, match=r"words that ask for \w+\.(mkdir|eval)"):
            published.rows(found.path, ["cat"])
    assert not mark.exists()


def test_an_archive_has_the_rows_that_gluonnlp_reads(tmp_path: Path) -> None:
    found = archive(tmp_path, {"cat": [1, 8, 0.1], "zebra": [5, 5, 5], "the": [3, 4, 1e-9]})
    assert found.size == 3
    theirs = gluonnlp.embedding.TokenEmbedding.from_file(str(found.path))
    table, without = load_vectors(found, WORDS, seed=0)
    assert without == 4
    for word in ("cat", "the"):
        assert (table[WORDS[word]] == theirs[word].asnumpy()).all()


def test_zeros_in_an_archive_for_unknown_words_are_no_vector(tmp_path: Path) -> None:
    vectors = {"the": [3.0, 4.0], "cat": [1.0, 8.0]}
    assert set(published.rows(archive(tmp_path, vectors).path, ["<unk>", "the", "sat"])) == {"the"}
    real = archive(tmp_path, {**vectors, "<unk>": [5.0, 6.0]})
    assert published.rows(real.path, ["<unk>"])["<unk>"].tolist() == [5, 6]
    # Any other word may have zeros.
    assert set(published.rows(archive(tmp_path, {"a": [0.0, 0.0]}, unknown=None).path, ["a"])) == {"a"}
