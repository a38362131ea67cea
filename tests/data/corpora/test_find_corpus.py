from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import CorpusFiles, find_corpus

WIKITEXT2_COUNTS = (2_088_628, 217_646, 245_569)


def counts(files: CorpusFiles) -> tuple[int, int, int]:
    return files.train_tokens, files.valid_tokens, files.test_tokens


def write(folder: Path, train: bytes = b"a b\n", valid: bytes = b"a\n", test: bytes = b"b\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("train.txt", train), ("valid.txt", valid), ("test.txt", test)):
        (folder / name).write_bytes(content)
    return folder


def test_neither_mxnet_nor_anything_heavy_is_imported() -> None:
    program = (
        "import sys, gluon_rnn.data.corpora as c;"
        "print(sorted({'numpy', 'pooch', 'requests', 'mxnet', 'gluonnlp'} & set(sys.modules)));"
        "c.find_corpus('synthetic');"
        "print(sorted({'mxnet', 'gluonnlp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


class TestWikiText2:
    def test_by_path_argument_and_by_variable(self, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started = monotonic()
        files = find_corpus("wikitext-2", data_dir=real_data)
        assert monotonic() - started < 3
        assert (files.dataset, files.folder) == ("wikitext-2", real_data / "wikitext-2")
        assert counts(files) == WIKITEXT2_COUNTS
        assert files.sha1 == "38398dcb588c83d16ae6f813f954535c7558a86e"
        monkeypatch.setenv("GLUON_RNN_DATA", str(real_data))
        assert find_corpus("auto") == files

    def test_the_argument_wins_over_the_variable(self, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GLUON_RNN_DATA", "/nowhere")
        assert counts(find_corpus("wikitext-2", data_dir=real_data)) == WIKITEXT2_COUNTS

    @pytest.mark.usefixtures("no_network")
    def test_by_name_nothing_else_will_do(self, tmp_path: Path, notices: list[str]) -> None:
        with pytest.raises(UserError) as caught:
            find_corpus("wikitext-2", notice=notices.append)
        message = str(caught.value)
        assert "\n" not in message
        for part in (
            f"put wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens into {tmp_path}/mxnet/datasets/wikitext-2",
            "amazonaws.com/gluon/dataset/wikitext-2/wikitext-2-v1.zip: Connection refused",
            "https://wikitext.smerity.com/wikitext-2-v1.zip: Connection refused",
            "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/: ",
        ):
            assert part in message
        assert len(notices) == 3

    @pytest.mark.usefixtures("no_network")
    def test_auto_falls_back_and_says_so(self, tmp_path: Path, notices: list[str]) -> None:
        assert find_corpus("auto", notice=notices.append) == find_corpus("synthetic")
        assert notices[-1] == (
            "using the built-in synthetic corpus: WikiText-2 was not found and could not be downloaded (Connection "
            "refused); put wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens into "
            f"{tmp_path}/mxnet/datasets/wikitext-2, "
            "or name their folder with --data-dir"
        )

    @pytest.mark.parametrize("dataset", ["auto", "wikitext-2"])
    def test_a_data_folder_must_be_one(self, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"^--data-dir .*/nowhere does not exist"):
            find_corpus(dataset, data_dir=tmp_path / "nowhere")
        monkeypatch.setenv("GLUON_RNN_DATA", str(tmp_path / "file"))
        with pytest.raises(UserError, match=r"^GLUON_RNN_DATA .*/file is not a folder"):
            find_corpus(dataset)

    @pytest.mark.parametrize("dataset", ["auto", "wikitext-2"])
    def test_a_damaged_file_in_the_data_folder_is_an_error(self, dataset: str, tmp_path: Path) -> None:
        (tmp_path / "wiki.test.tokens").write_bytes(b"short")
        with pytest.raises(UserError, match=r"wiki.test.tokens is not WikiText-2's: its SHA-1 is a0f4ea7d9"):
            find_corpus(dataset, data_dir=tmp_path)


class TestFolder:
    def test_is_measured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "mine", b"a b <unk>\n\na c\n", b"a\n", b"x y\nz")
        monkeypatch.chdir(tmp_path)
        files = find_corpus("mine")
        assert (files.dataset, files.folder) == ("mine", tmp_path / "mine")
        assert counts(files) == (8, 2, 5)
        assert find_corpus("./mine/../mine") == files

    def test_the_home_folder_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        write(tmp_path / "mine")
        assert find_corpus("~/mine").folder == tmp_path / "mine"

    def test_the_sha1_depends_on_the_content_alone(self, tmp_path: Path) -> None:
        one, other = (find_corpus(str(write(tmp_path / name))).sha1 for name in ("one", "other"))
        lines = "".join(f"{hashlib.sha1(content).hexdigest()}\n" for content in (b"a b\n", b"a\n", b"b\n"))
        assert one == other == hashlib.sha1(lines.encode()).hexdigest()
        assert find_corpus(str(write(tmp_path / "swapped", valid=b"b\n", test=b"a\n"))).sha1 != one

    @pytest.mark.parametrize("name", ["wikitext-2", "synthetic", "auto"])
    def test_is_never_shown_as_a_corpus_known_by_name(self, name: str, tmp_path: Path) -> None:
        assert find_corpus(str(write(tmp_path / name))).dataset == f"{name} (folder)"

    @pytest.mark.parametrize(
        ("dataset", "hint"),
        [
            ("wikitext2", "did you mean 'wikitext-2'?"),
            ("WIKITEXT-2", "did you mean 'wikitext-2'?"),
            ("sythetic", "did you mean 'synthetic'?"),
            (
                "no/such/folder",
                "the names are wikitext-2, nietzsche, airline-tweets, conll-2000, hihello, synthetic, auto;",
            ),
            ("", "the names are wikitext-2, nietzsche, airline-tweets, conll-2000, hihello, synthetic, auto;"),
            ("\0", "the names are"),
            ("x" * 5000, "the names are"),
            ("~nobody-of-that-name/x", "the names are"),
        ],
    )
    def test_that_is_not_there(self, dataset: str, hint: str) -> None:
        with pytest.raises(UserError) as caught:
            find_corpus(dataset)
        assert hint in str(caught.value)
        assert "a folder with train.txt, valid.txt and test.txt" in str(caught.value)

    def test_needs_every_file(self, tmp_path: Path) -> None:
        (write(tmp_path) / "valid.txt").unlink()
        with pytest.raises(UserError, match=r"/valid.txt is missing: .* train.txt, valid.txt and test.txt"):
            find_corpus(str(tmp_path))
        (tmp_path / "valid.txt").mkdir()
        with pytest.raises(UserError, match=r"/valid.txt cannot be read \(Is a directory\)"):
            find_corpus(str(tmp_path))

    @pytest.mark.parametrize(
        "nothing", [b"", b"\n", b" \n\t\n", "\u2028\u00a0".encode(), b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]
    )
    def test_needs_words(self, nothing: bytes, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"/test.txt holds no words"):
            find_corpus(str(write(tmp_path, test=nothing)))

    def test_must_be_utf8(self, tmp_path: Path) -> None:
        write(tmp_path, train="naïve\nnaïve\n".encode() + "naïve".encode("latin-1"))
        with pytest.raises(UserError, match=r"/train.txt is not UTF-8 text: byte 0xef in line 3, at offset 16"):
            find_corpus(str(tmp_path))

    @pytest.mark.parametrize("level", ["word", "character"])
    def test_must_be_neither_binary_nor_of_another_encoding(self, level: str, tmp_path: Path) -> None:
        write(tmp_path, test=b"a\r\nb\rc\0\n")
        with pytest.raises(UserError, match=r"/test.txt is not UTF-8 text: line 3 has a NUL character, .*iconv -f"):
            find_corpus(str(tmp_path), level=level)
        for encoding in ("UTF-16", "UTF-32"):
            write(tmp_path, train="naïve\n".encode(encoding))
            with pytest.raises(UserError, match=rf"/train.txt is not UTF-8 text: .* of {encoding}; .*-f {encoding} -t"):
                find_corpus(str(tmp_path), level=level)
