"""Finding files of vectors and reading their text; GluonNLP's own reader is the yardstick where it is right."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.vectors import FoundVectors, find_vectors, text
from tests.common.test_plain_text import ODD

#: What fixes a wrong header, or what it is right to miss.
HEADER = "get it again, or remove its first line if only that is wrong"
GLOVE = "the 0.5 -1.25e-1 3\ncat 1 2 3\nécole 1e-3 -2 +.5\n"


def write(folder: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def find(path: Path | str, **options: object) -> FoundVectors:
    found = find_vectors(str(path), notice=pytest.fail, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def rows(path: Path, *words: str) -> dict[str, list[float]]:
    return {word: row.tolist() for word, row in text.rows(path, find(path).size, words).items()}


@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        f"3 3\n{GLOVE}",
        "3 3\n" + GLOVE.replace("\n", " \n"),  # as word2vec writes it
        GLOVE.replace("\n", "\r\n"),
        GLOVE.rstrip(),
        f"\n{GLOVE}\n\n",
        f"\ufeff{GLOVE}",
        f"\ufeff3 3\n{GLOVE}",
        f"\ufeff3 3\r\n{GLOVE}",
        GLOVE.replace("\n", "\r"),
        "3 3\r" + GLOVE.replace("\n", "\r\n", 1).replace("3\nécole", "3\récole"),
    ],
    ids=[
        *("glove", "header", "word2vec", "windows", "no last end", "blank lines"),
        *("mark", "mark and header", "mark and header of windows", "old mac", "mixed ends"),
    ],
)
def test_both_formats_hold_the_same_vectors(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    sha1 = hashlib.sha1(content.removeprefix("\ufeff").encode()).hexdigest()
    assert find(path) == FoundVectors(name="vectors.txt", path=path, sha1=sha1, size=3)
    assert rows(path, "the", "école", "The", "3") == {
        "the": [0.5, -0.125, 3.0],
        "école": [float(np.float32(0.001)), -2.0, 0.5],
    }


@pytest.mark.parametrize("content", [GLOVE, f"3 3\n{GLOVE}", "<unk> 9 8\na 1 2\na 3 4\n.\u00a0. 0.1 1e-30\n"])
def test_gluonnlp_reads_the_same(content: str, tmp_path: Path) -> None:
    from gluonnlp.embedding import TokenEmbedding

    path = write(tmp_path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers and duplicates
        theirs = TokenEmbedding.from_file(str(path))
    ours = text.rows(path, find(path).size, theirs.idx_to_token)
    assert set(ours) | {"<unk>"} == set(theirs.idx_to_token)
    for word, row in ours.items():
        assert row.dtype == np.float32
        assert (row == theirs[word].asnumpy()).all()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_end_alike_wherever_they_begin_in_a_long_file(end: str, tmp_path: Path) -> None:
    """Longer than a line may be, with ends at every place of the blocks that it is read in."""
    count = 70_001
    path = write(tmp_path, end.join(f"word-{number} {number % 97} 7" for number in range(count)))
    assert path.stat().st_size > 2**20
    assert find(path).size == 2
    numbers = (0, count // 2, count - 1)
    assert rows(path, *(f"word-{number}" for number in numbers)) == {
        f"word-{number}": [number % 97, 7] for number in numbers
    }


@pytest.mark.parametrize("character", ODD)
def test_what_an_editor_takes_for_no_blank_or_line_end_is_part_of_a_word(character: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{character}a{character}b 1 2\n{character} 3 4\nb{character} 5 6\n")
    words = {f"{character}a{character}b": [1.0, 2.0], character: [3.0, 4.0], f"b{character}": [5.0, 6.0]}
    assert rows(path, *words, "a", "b") == words


def test_the_first_of_several_vectors_of_a_word_counts(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "a 1 2\nb 3 4\na 5 6\n"), "a", "b") == {"a": [1, 2], "b": [3, 4]}


def test_a_header_is_two_whole_numbers_and_a_line_of_its_kind_further_on_is_none(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "2 1\n7 3\n8 4\n"), "2", "7", "8") == {"7": [3], "8": [4]}
    assert rows(write(tmp_path, "2 1.5\n7 3\n"), "2", "7") == {"2": [1.5], "7": [3]}


def test_words_may_hold_blanks_but_no_number_at_their_end(tmp_path: Path) -> None:
    path = write(tmp_path, "a 1 2\n. . . 3 4\nat name@domain.com 5 6\n")
    assert rows(path, ". . .", ".", "at name@domain.com") == {". . .": [3, 4], "at name@domain.com": [5, 6]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", " holds no vectors: a file of vectors has"),
        ("\n \n", " holds no vectors"),
        ("2 3\n", " holds no vectors"),
        ("word\n", ", line 1: it has 0 numbers where some are needed; a file of vectors has"),
        ("once upon a time\n", ", line 1: 'upon' is not a number"),
        ("a 1 2\nb 3\n", ", line 2: it has 1 numbers where 2 are needed"),
        ("a 1 2\nb 3 4 5\n", ", line 2: it has 3 numbers where 2 are needed"),
        ("2 3\na 1 2\nb 1 2\n", ", line 2: it has 2 numbers where 3 are needed"),
        ("a 1 2\nb  3 4\n", ", line 2: it has 3 numbers where 2 are needed"),
        ("a\t1\t2\n", ", line 1: it has 0 numbers"),
        ("a 1 nan\n", ", line 1: 'nan' is not a number that can be computed with"),
        ("a 1 2\nb -inf 2\n", ", line 2: '-inf' is not a number"),
        ("a 1 2\nb 1 x\x1b[1m\n", r", line 2: 'x\x1b[1m' is not a number"),
        ("a 1e39 2\n", ", line 1: '1e39' is not a number"),
        ("3 2\na 1 2\nb 3 4\n", f" holds 2 vectors, and its first line says 3: {HEADER}"),
        ("1 2\na 1 2\nb 3 4\n", f" holds 2 vectors, and its first line says 1: {HEADER}"),
        ("\ufeff0 2\na 1 2\nb 3 4\n", f" holds 2 vectors, and its first line says 0: {HEADER}"),
        ("2 3\na 1 2\nb 3 4\n", f", line 2: it has 2 numbers where 3 are needed; its first line says so: {HEADER}"),
        ("2 1\na 1 2\nb 3 4\n", f", line 2: it has 2 numbers where 1 are needed; its first line says so: {HEADER}"),
        (
            "\ufeff2 300\r\n\r\na 1\r\n",
            f", line 3: it has 1 numbers where 300 are needed; its first line says so: {HEADER}",
        ),
        ("2 2\na 1 2\nb 3\n", ", line 3: it has 1 numbers where 2 are needed; a file of vectors has"),
        ("a 1 2\na\0 1 2\n", ", line 2: it has a NUL character, as UTF-16 and binary files do: unpack or convert"),
        ("a 1 2\rb 3 4\r\n\0", ", line 3: it has a NUL character"),
        ("a 1 2\n".encode("utf-16"), ", line 1: its byte-order mark is that of UTF-16: convert the file, for instance"),
        ("a 1 2\n".encode("utf-32"), ", line 1: its byte-order mark is that of UTF-32: convert the file, for instance"),
        (b"a 1 2\n\xe9 1 2\n", ", line 2: it is not UTF-8 text: unpack or convert the file"),
        (b"2 2\na \x00\x00\x80\x3f\x00\x00\x80\xff\n", ", line 2: it is not UTF-8 text"),
        (b"a 1 2\n" + b"b" * 2**20, ", line 2: it is longer than 1,048,576 bytes"),
        (b"a" * 2**20 + b" 1 2\n", ", line 1: it is longer than 1,048,576 bytes"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(content: str | bytes, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as raised:
        find(path)
    assert str(raised.value).startswith(f"{path}{reason}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("header", ["3 2", "1 2", "7 300", "2 1"])
def test_a_file_is_right_once_a_wrong_header_is_removed(header: str, tmp_path: Path) -> None:
    content = "a 1 2\nb 3 4\n"
    with pytest.raises(UserError, match="remove its first line"):
        find(write(tmp_path, f"{header}\n{content}"))
    assert rows(write(tmp_path, content), "a", "b") == {"a": [1, 2], "b": [3, 4]}


def test_a_number_that_only_looks_like_one_is_refused_where_its_word_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path, "a 1 2\nb 1-2 3\n")
    assert rows(path, "a") == {"a": [1, 2]}
    with pytest.raises(ValueError, match=r"^vectors.txt, line 2: '1-2' is not a number that can be computed with$"):
        rows(path, "a", "b")


def test_a_file_is_found_from_here_from_home_and_in_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here", "home", "data/vectors", "other"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    mine = write(tmp_path / "home", GLOVE, "a.txt")
    data = write(tmp_path / "data/vectors", GLOVE, "b.txt")
    assert find("~/a.txt").path == find("../home/a.txt").path == mine
    assert find("vectors/b.txt", data_dir=tmp_path / "data").path == data
    assert find("vectors/b.txt", data_dir=Path("../data")).path == data
    with pytest.raises(UserError, match=r"embedding 'vectors/b.txt' is neither a file nor a name"):
        find("vectors/b.txt", data_dir=tmp_path / "other")
    monkeypatch.setenv("GLUON_RNN_DATA", str(tmp_path / "data"))
    assert find("vectors/b.txt").path == data
    Path("vectors").mkdir()
    nearer = write(tmp_path / "here/vectors", GLOVE, "b.txt")
    assert find("vectors/b.txt").path == nearer


def test_what_leads_to_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that the names are short enough to be told whole
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(UserError, match=f"{name}' is not a file; name one of vectors, as text"):
            find(name)
    with pytest.raises(UserError, match=r"a.npz' is an archive; name a file of vectors as text"):
        find(write(tmp_path, GLOVE, "a.npz").name)
    with pytest.raises(UserError, match=r"is not UTF-8; rename it"):
        find(write(tmp_path, GLOVE, os.fsdecode(b"\xff.txt")))


@pytest.mark.parametrize(
    ("embedding", "meant"),
    [
        ("one-hot", "one_hot"),
        ("randm", "random"),
        ("glove:glove.6B.300", "glove:glove.6B.300d"),
        ("glvoe:glove.6B.300d", "glove:glove.6B.300d"),
        ("elsewhere/vectors.txt", None),
        ("vectors\n.txt", None),
    ],
)
def test_a_misspelt_name_is_told_which_is_near(embedding: str, meant: str | None) -> None:
    with pytest.raises(UserError) as raised:
        find(embedding)
    message = str(raised.value)
    assert message.startswith(f"embedding {embedding!r} is neither a file nor a name; ")
    assert ("did you mean" in message) == bool(meant)
    assert f"did you mean '{meant}'?; there are random, one_hot, the path" in message or not meant
    assert "\n" not in message


def test_what_is_made_here_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GLOVE, "random")
    assert find_vectors("random") is find_vectors("one_hot") is None


def test_nothing_of_it_imports_mxnet(tmp_path: Path) -> None:
    script = (
        "import sys; from gluon_rnn.data.vectors import find_vectors, loading, published; "
        f"find_vectors({str(write(tmp_path, GLOVE))!r}); assert published.sources(); "
        "sys.exit(any(name in sys.modules for name in ('mxnet', 'gluonnlp', 'pooch')))"
    )
    assert subprocess.run([sys.executable, "-I", "-c", script]).returncode == 0
