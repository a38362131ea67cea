"""Finding and fetching three small files whose SHA-1s stand in for WikiText-2's."""

from __future__ import annotations

import errno
import fcntl
import io
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.corpora import published, wikitext2
from gluon_rnn.data.corpora.downloads import MOST_BYTES, Timeouts
from gluon_rnn.data.corpora.facts import Published, Source
from tests.common.test_files import refuse

if TYPE_CHECKING:
    from tests.data.corpora.conftest import Site

CONTENTS = {"train": b" a b c \n" * 200, "valid": b"a b\n\n", "test": b"c d\n"}
SHA1S = {split: sha1_of(content) for split, content in CONTENTS.items()}
TEXT_FILES = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
HASTY = Timeouts(connect=1, read=0.3, whole=5)


def of(*sources: Source) -> Published:
    """Small files in the place of the corpus's own, served by ``sources``."""
    return replace(wikitext2.CORPUS, sha1s=SHA1S, sources=sources)


def fetch(corpus: Published, cache: Path, **options: Any) -> dict[str, bytes]:
    place, contents = published.find(corpus, None, cache=cache, **options)
    assert place == cache
    return contents


def archive(contents: dict[str, bytes] = CONTENTS, *, folder: str = "wikitext-2/") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{folder}README", "more than was asked for")
        for split, content in contents.items():
            file.writestr(f"{folder}wiki.{split}.tokens", content)
    return stream.getvalue()


def lay(folder: Path, names: dict[str, str], **changed: bytes) -> Path:
    """Write the three files, some of them ``changed``."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in {**CONTENTS, **changed}.items():
        (folder / names[split]).write_bytes(content)
    return folder


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


class TestFetch:
    def test_takes_the_three_files_out_of_an_archive(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        source = Source(site.serve("a.zip", archive()))
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert visible(tmp_path) == set(wikitext2.FILES.values())
        assert (tmp_path / "wiki.train.tokens").read_bytes() == CONTENTS["train"]
        assert notices == [f"downloading {site.url}a.zip"]

    def test_takes_plain_files(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        for split, content in CONTENTS.items():
            site.serve(f"plain/{split}.txt", content)
        source = Source(f"{site.url}plain/", TEXT_FILES)
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert visible(tmp_path) == set(wikitext2.FILES.values())

    def test_asks_nobody_for_what_is_there(self, tmp_path: Path, notices: list[str]) -> None:
        lay(tmp_path, wikitext2.FILES)
        assert fetch(of(), tmp_path, notice=notices.append) == CONTENTS
        assert notices == []
        # nor is there a lock: the folder may be one that cannot be written
        assert {path.name for path in tmp_path.iterdir()} == set(wikitext2.FILES.values())

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ({"status": 403}, "HTTP 403"),
            ({"status": 404}, "HTTP 404"),
            ({"status": 500}, "HTTP 500"),
            ({"missing": 100}, "IncompleteRead"),
            ({"wait": 1.0}, "timed out"),
            ({"body": archive()[:-100]}, "File is not a zip file"),
            ({"body": b"<html>Please log in</html>"}, "File is not a zip file"),
            ({"body": b""}, "File is not a zip file"),
            ({"body": archive({**CONTENTS, "test": b"x\n"})}, "wiki.test.tokens has SHA-1"),
            ({"body": archive({"train": CONTENTS["train"]})}, "no wiki.valid.tokens in the archive"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_goes_on_to_the_next_source(
        self, fault: dict[str, Any], expected: str, site: Site, tmp_path: Path, notices: list[str]
    ) -> None:
        first = Source(site.serve("bad.zip", **{"body": archive(), **fault}))
        second = Source(site.serve("good.zip", archive(folder="")))

        options: dict[str, Any] = {"timeouts": HASTY, "notice": notices.append}
        with pytest.raises(published.Unavailable) as caught:
            fetch(of(first), tmp_path, **options)
        assert expected in caught.value.failed[first.url]
        assert visible(tmp_path) == set()
        assert fetch(of(first, second), tmp_path, **options) == CONTENTS
        assert visible(tmp_path) == set(wikitext2.FILES.values())
        assert site.asked == ["/bad.zip", "/bad.zip", "/good.zip"]

    def test_goes_on_when_refused(self, refused: str, site: Site, tmp_path: Path, notices: list[str]) -> None:
        sources = [Source(f"{refused}a.zip"), Source(site.serve("a.zip", archive()))]
        fetch(of(*sources), tmp_path, notice=notices.append)
        with pytest.raises(published.Unavailable) as caught:
            fetch(of(sources[0]), tmp_path / "b", notice=notices.append)
        assert caught.value.failed == {f"{refused}a.zip": "Connection refused"}

    def test_a_corrupt_plain_file_ends_that_source_at_once(
        self, site: Site, tmp_path: Path, notices: list[str]
    ) -> None:
        site.serve("train.txt", CONTENTS["train"].replace(b"a", b"A"))
        with pytest.raises(published.Unavailable, match=r"train.txt has SHA-1 \w{40}, not \w{40}"):
            fetch(of(Source(site.url, TEXT_FILES)), tmp_path, notice=notices.append)
        assert site.asked == ["/train.txt"]
        assert visible(tmp_path) == set()

    def test_does_not_wait_for_a_trickle(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        url = site.serve("slow.zip", bytes(25_600), pause=0.1)  # ten seconds in all, never silent for long
        started = monotonic()
        with pytest.raises(published.Unavailable, match=r"not done within 0.3 s"):
            fetch(of(Source(url)), tmp_path, timeouts=Timeouts(1, 1, 0.3), notice=notices.append)
        assert monotonic() - started < 3

    @pytest.mark.parametrize("damage", [b"", CONTENTS["train"][:-1], CONTENTS["train"] + b"\0"])
    def test_fixes_a_damaged_cache(self, damage: bytes, site: Site, tmp_path: Path, notices: list[str]) -> None:
        lay(tmp_path, wikitext2.FILES, train=damage)
        source = Source(site.serve("a.zip", archive()))
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert (tmp_path / "wiki.train.tokens").read_bytes() == CONTENTS["train"]
        assert notices[0] == f"{tmp_path}/wiki.train.tokens is damaged: downloading it again"

    def test_completes_a_cache_that_lacks_a_file(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        (lay(tmp_path, wikitext2.FILES) / "wiki.test.tokens").unlink()
        source = Source(site.serve("a.zip", archive()))
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert visible(tmp_path) == set(wikitext2.FILES.values())

    def test_clears_away_what_a_killed_process_left(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        (tmp_path / ".wiki.train.tokens.0123abcd.tmp").write_bytes(b"half")
        source = Source(site.serve("a.zip", archive()))
        fetch(of(source), tmp_path, notice=notices.append)
        assert visible(tmp_path) == set(wikitext2.FILES.values())

    def test_a_cache_without_locks_is_filled_beside_what_another_process_has_there(
        self, site: Site, tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
        others = tmp_path / ".wiki.train.tokens.0123abcd.tmp"
        others.write_bytes(b"half")
        source = Source(site.serve("a.zip", archive()))
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert visible(tmp_path) == {*wikitext2.FILES.values(), others.name}

    def test_a_file_that_is_right_is_not_written_again(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        right = lay(tmp_path, wikitext2.FILES, test=b"damaged") / "wiki.train.tokens"
        before = right.stat()
        source = Source(site.serve("a.zip", archive()))
        assert fetch(of(source), tmp_path, notice=notices.append) == CONTENTS
        assert (right.stat().st_ino, right.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_a_file_may_be_as_long_as_is_allowed(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        long = bytes(MOST_BYTES)
        for split in CONTENTS:
            site.serve(f"{split}.txt", long if split == "train" else CONTENTS[split])
        corpus = replace(of(Source(site.url, TEXT_FILES)), sha1s={**SHA1S, "train": sha1_of(long)})
        assert fetch(corpus, tmp_path, notice=notices.append)["train"] == long

    def test_several_threads_download_once(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        source = Source(site.serve("a.zip", archive(), wait=0.2))
        with ThreadPoolExecutor(4) as pool:
            fetched = pool.map(
                lambda _: fetch(of(source), tmp_path, notice=notices.append),
                range(4),
            )
            assert list(fetched) == [CONTENTS] * 4
        assert site.asked == ["/a.zip"]

    @pytest.mark.slow
    def test_several_processes_download_once(self, site: Site, tmp_path: Path) -> None:
        url = site.serve("a.zip", archive(), wait=0.5)
        program = (
            "from dataclasses import replace; from pathlib import Path;"
            "from gluon_rnn.data.corpora import facts, published, wikitext2;"
            f"corpus = replace(wikitext2.CORPUS, sources=[facts.Source({url!r})], sha1s={SHA1S!r});"
            f"published.find(corpus, None, cache=Path({str(tmp_path)!r}))"
        )
        processes = [subprocess.Popen([sys.executable, "-I", "-c", program]) for _ in "ab"]
        assert [process.wait(30) for process in processes] == [0, 0]
        assert site.asked == ["/a.zip"]
        assert visible(tmp_path) == set(wikitext2.FILES.values())

    def test_a_cache_that_cannot_be_made_is_a_reason(self, site: Site, tmp_path: Path, notices: list[str]) -> None:
        (tmp_path / "file").touch()
        cache = tmp_path / "file" / "cache"
        source = Source(site.serve("a.zip", archive()))
        with pytest.raises(published.Unavailable) as caught:
            fetch(of(source), cache, notice=notices.append)
        assert caught.value.failed == {str(cache): "Not a directory"}

    def test_asks_gluons_own_repository_first(
        self, site: Site, tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MXNET_GLUON_REPO", f"{site.url}mirror")
        site.serve("mirror/gluon/dataset/wikitext-2/wikitext-2-v1.zip", archive())
        fetch(of(*wikitext2.CORPUS.sources), tmp_path, notice=notices.append)
        assert site.asked == ["/mirror/gluon/dataset/wikitext-2/wikitext-2-v1.zip"]

    def test_tells_in_one_line_what_was_tried_and_what_to_do(
        self, site: Site, refused: str, tmp_path: Path, notices: list[str]
    ) -> None:
        sources = [Source(f"{refused}a.zip"), Source(f"{site.url}b.zip")]
        with pytest.raises(UserError) as caught:
            published.find(of(*sources), tmp_path, cache=tmp_path / "cache", notice=notices.append)
        assert str(caught.value) == (
            f"WikiText-2 is not in {tmp_path} or {tmp_path}/cache and could not be fetched "
            f"({refused}a.zip: Connection refused; {site.url}b.zip: HTTP 404): put wiki.train.tokens, "
            f"wiki.valid.tokens, wiki.test.tokens into {tmp_path}/cache, or name their folder with --data-dir"
        )


class TestFind:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        return folder

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        return tmp_path / "cache"

    @staticmethod
    def find(data: Path | None, cache: Path) -> tuple[Path, dict[str, bytes]]:
        return published.find(of(), data, cache=cache)

    @pytest.mark.parametrize("below", ["", "wikitext-2"])
    def test_gluonnlps_names_are_used_where_they_lie(self, below: str, data: Path, cache: Path) -> None:
        lay(data / below, wikitext2.FILES)
        assert self.find(data, cache) == (data / below, CONTENTS)
        assert not cache.exists()

    @pytest.mark.parametrize("below", ["", "wikitext-2"])
    def test_plain_names_are_copied_into_the_cache(self, below: str, data: Path, cache: Path) -> None:
        lay(data / below, TEXT_FILES)
        assert self.find(data, cache) == (cache, CONTENTS)
        assert visible(cache) == set(wikitext2.FILES.values())
        assert visible(data / below) == set(TEXT_FILES.values())
        assert self.find(None, cache) == (cache, CONTENTS)

    def test_the_data_folder_comes_before_the_cache(self, data: Path, cache: Path) -> None:
        lay(cache, wikitext2.FILES)
        assert self.find(data, cache) == (cache, CONTENTS)
        lay(data, wikitext2.FILES)
        assert self.find(data, cache) == (data, CONTENTS)

    def test_another_corpus_called_train_txt_is_passed_over(self, data: Path, cache: Path) -> None:
        lay(data, TEXT_FILES, train=b"other", valid=b"other", test=b"other")
        lay(cache, wikitext2.FILES)
        assert self.find(data, cache) == (cache, CONTENTS)

    @pytest.mark.parametrize("names", [wikitext2.FILES, TEXT_FILES], ids=["tokens", "txt"])
    def test_a_damaged_file_is_an_error_and_stays(self, names: dict[str, str], data: Path, cache: Path) -> None:
        lay(cache, wikitext2.FILES)
        path = lay(data, names, valid=b"damaged") / names["valid"]
        with pytest.raises(UserError) as caught:
            self.find(data, cache)
        assert not isinstance(caught.value, published.Unavailable)
        for part in (str(path), sha1_of(b"damaged"), SHA1S["valid"]):
            assert part in str(caught.value)
        assert path.read_bytes() == b"damaged"

    @pytest.mark.parametrize("names", [wikitext2.FILES, TEXT_FILES], ids=["tokens", "txt"])
    def test_a_missing_file_is_an_error(self, names: dict[str, str], data: Path, cache: Path) -> None:
        (lay(data, names) / names["test"]).unlink()
        with pytest.raises(UserError, match=f"{names['test']} is missing beside"):
            self.find(data, cache)

    def test_an_unreadable_file_is_an_error(self, data: Path, cache: Path) -> None:
        (data / "wiki.train.tokens").mkdir()
        with pytest.raises(UserError, match=r"wiki.train.tokens cannot be read \(Is a directory\)"):
            self.find(data, cache)

    def test_plain_names_and_a_cache_that_cannot_be_made(self, data: Path, tmp_path: Path) -> None:
        lay(data, TEXT_FILES)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot be copied to .*file/cache \(Not a directory\): set MXNET_HOME"):
            self.find(data, tmp_path / "file" / "cache")

    def test_the_cache_is_gluonnlps_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MXNET_HOME", "/some/where")
        assert wikitext2.CORPUS.cache == Path("/some/where/datasets/wikitext-2")
        monkeypatch.delenv("MXNET_HOME")
        monkeypatch.setenv("HOME", "/home/somebody")
        assert wikitext2.CORPUS.cache == Path("/home/somebody/.mxnet/datasets/wikitext-2")
        # Neither is the folder in which the sweep was started.
        monkeypatch.setenv("MXNET_HOME", "")
        assert wikitext2.CORPUS.cache == Path("/home/somebody/.mxnet/datasets/wikitext-2")
        monkeypatch.setenv("MXNET_HOME", "~/mx")
        assert wikitext2.CORPUS.cache == Path("/home/somebody/mx/datasets/wikitext-2")
        monkeypatch.setenv("MXNET_HOME", "~no-such-user/mx")
        with pytest.raises(UserError, match="there is no user no-such-user"):
            _ = wikitext2.CORPUS.cache

    def test_without_a_home_nothing_is_fetched_or_copied(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "nowhere")
        monkeypatch.delenv("MXNET_HOME")
        corpus = of(Source(site.serve("a.zip", archive())))
        with pytest.raises(published.Unavailable, match=r"set MXNET_HOME to a folder that can be written$") as caught:
            published.find(corpus, None)
        assert caught.value.failed == {"~/.mxnet": "this user has no home folder"}
        lay(tmp_path / "mine", wikitext2.FILES)
        assert published.find(corpus, tmp_path / "mine") == (tmp_path / "mine", CONTENTS)
        lay(tmp_path / "other", TEXT_FILES)
        with pytest.raises(
            UserError, match=r"be copied to ~/.mxnet \(this user has no home folder\): set MXNET_HOME to"
        ):
            published.find(corpus, tmp_path / "other")
        assert site.asked == []
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "other"}


def test_the_pinned_sha1s_are_those_of_the_real_files(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "wikitext-2"
    alone = replace(wikitext2.CORPUS, sources=())
    assert published.find(alone, real_data)[0] == folder
    for split, name in wikitext2.FILES.items():
        shutil.copy(folder / name, tmp_path / TEXT_FILES[split])
    assert published.find(alone, tmp_path, cache=tmp_path / "cache")[0] == tmp_path / "cache"
