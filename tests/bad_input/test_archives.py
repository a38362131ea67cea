"""What a server sends in the place of an archive: nothing of it is written where it says, nor without an end."""

from __future__ import annotations

import io
import stat
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.corpora import published, wikitext2
from gluon_rnn.data.corpora.downloads import MOST_BYTES, Timeouts
from gluon_rnn.data.corpora.facts import Source
from tests.bad_input.harness import fresh_folder, snapshot

CONTENTS = {"train": b" a b c \n" * 200, "valid": b"a b\n\n", "test": b"c d\n"}
SHA1S = {split: sha1_of(content) for split, content in CONTENTS.items()}
HASTY = Timeouts(connect=2, read=5, whole=20)
#: Names that lead out of the folder that an archive is unpacked in.
OUTSIDE = ["../evil", "../../evil", "/tmp/evil", "//evil", "..\\evil", "C:\\evil", "a/../../../evil", "x\n/../../evil"]


class Server:
    """Serves one body at any path."""

    body = b""
    url = ""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(self.path.count("endless") * 10**6):
                    self.wfile.write(bytes(2**16))
                self.wfile.write(found.body)
            except OSError:
                pass  # who asked has gone, as it should

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{listening.server_port}/"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def archive(members: list[tuple[str, bytes]], *, mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return stream.getvalue()


WHOLE = [(f"wikitext-2/{wikitext2.FILES[split]}", content) for split, content in CONTENTS.items()]


def fetched(server: Server, body: bytes, *, path: str = "a.zip") -> str | None:
    """Why it was refused, with nothing left in the cache or outside of it; None where it was taken."""
    server.body = body
    with fresh_folder() as folder:
        cache = folder / "deep" / "cache"
        cache.mkdir(parents=True)
        source = Source(server.url + path)
        try:
            corpus = replace(wikitext2.CORPUS, sha1s=SHA1S, sources=(source,))
            _, found = published.find(corpus, None, cache=cache, timeouts=HASTY, notice=lambda line: None)
        except published.Unavailable as error:
            found = None
            (reason,) = error.failed.values()
            assert len(reason.splitlines()) == 1
        left = {name for name in snapshot(folder) if not name.endswith(".lock")} - {str(cache.parent), str(cache)}
        if found is None:
            assert left == set()
            return reason
        assert found == CONTENTS
        assert {Path(name).name for name in left} == set(wikitext2.FILES.values())
        return None


def test_the_archive_that_is_damaged_here_is_right_before(server: Server) -> None:
    assert fetched(server, archive(WHOLE)) is None


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_is_written_nowhere_but_in_the_cache(server: Server, name: str) -> None:
    """Beside the wanted ones it is passed over; under one of their names it is known by its content alone."""
    assert fetched(server, archive([(name, b"evil"), *WHOLE])) is None
    below = name.replace("evil", wikitext2.FILES["train"])
    reason = fetched(server, archive([*WHOLE[1:], (below, b"evil")]))
    assert reason is not None
    assert "wiki.train.tokens" in reason
    assert not Path("/tmp/evil").exists()


def test_a_link_in_an_archive_is_none(server: Server) -> None:
    members = [(wikitext2.FILES["train"], b"/etc/passwd"), *WHOLE[1:]]
    assert "has SHA-1" in (fetched(server, archive(members, mode=stat.S_IFLNK | 0o777)) or "")


@pytest.mark.parametrize("lie", [False, True])
def test_a_bomb_is_unpacked_no_further_than_a_corpus_goes(server: Server, lie: bool) -> None:
    size = 2**27 + 54_321
    body = archive([(WHOLE[0][0], bytes(size)), *WHOLE[1:]])
    assert len(body) < 2**20
    if lie:  # both where it stands before the member and in the directory at the end
        assert body.count(size.to_bytes(4, "little")) == 2
        body = body.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    tracemalloc.start()
    reason = fetched(server, body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason is not None
    assert "wiki.train.tokens has SHA-1" in reason or "Bad CRC-32" in reason
    assert most < size // 2


def test_a_file_without_end_is_given_up(server: Server) -> None:
    assert fetched(server, b"", path="endless.zip") == f"it has more than {MOST_BYTES:,} bytes"


@given(st.data())
def test_a_damaged_archive_is_refused_or_whole(server: Server, data: st.DataObject) -> None:
    body = archive([("../../evil", b"x"), *WHOLE])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        middle = data.draw(st.binary(max_size=4))
        body = body[:start] + middle + body[start + data.draw(st.sampled_from([len(middle), 0, 1, 100])) :]
    fetched(server, body)
