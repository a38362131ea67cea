"""The vectors that GluonNLP knows by name, fetched from a web server on the loopback interface."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.vectors import FoundVectors, find_vectors, published
from gluon_rnn.data.vectors.published import Source, fetch, sources
from tests.data.corpora.conftest import notices, refused, site, surroundings  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from tests.data.corpora.conftest import Site


def archive() -> bytes:
    """As GluonNLP writes it: two vectors of three numbers."""
    file = io.BytesIO()
    words = np.array(["<unk>", "the"], dtype="O")
    np.savez_compressed(file, unknown_token=np.array("<unk>"), idx_to_token=words, idx_to_vec=np.ones((2, 3), "f4"))
    return file.getvalue()


CONTENT = archive()
SOURCE = Source("glove", "some.npz", sha1_of(CONTENT))
PLACE = "gluon/embeddings/glove/some.npz"


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:  # noqa: F811
    """Where `SOURCE` is served."""
    monkeypatch.setenv("MXNET_GLUON_REPO", site.url)
    site.serve(PLACE, CONTENT)
    return site


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_sources_are_those_of_gluonnlp() -> None:
    import gluonnlp

    found = sources()
    theirs = {
        f"{kind}:{source}": Source(kind, file, sha1)
        for kind in gluonnlp.embedding.list_sources()
        for source, (file, sha1) in getattr(gluonnlp.embedding, KINDS[kind]).source_file_hash.items()
    }
    assert found == theirs
    assert found["glove:glove.6B.300d"].sha1 == "1db264aa936be62f055dfb72854204450bdf4399"


KINDS = {"glove": "GloVe", "word2vec": "Word2Vec", "fasttext": "FastText"}


def test_files_are_where_gluonnlp_keeps_and_fetches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gluonnlp.embedding import GloVe

    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    source = sources()["glove:glove.6B.50d"]
    assert source.url == GloVe._get_file_url("glove", GloVe.source_file_hash, "glove.6B.50d")
    assert source.folder == tmp_path / "embedding" / "glove"


def test_a_name_is_downloaded_once_and_measured(
    server: Site,
    notices: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "sources", lambda: {"glove:some": SOURCE})
    path = SOURCE.folder / "some.npz"
    expected = FoundVectors(name="glove:some", path=path, sha1=SOURCE.sha1, size=3)
    assert find_vectors("GloVe:some", notice=notices.append) == expected
    assert notices == [f"downloading {server.url}{PLACE}"]
    assert find_vectors("glove:some", notice=pytest.fail) == expected
    assert server.asked == [f"/{PLACE}"]
    assert visible(SOURCE.folder) == ["some.npz"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"body": CONTENT[:-1]}, "SHA1 hash of downloaded file"),
        ({"body": b""}, "SHA1 hash of downloaded file"),
        ({"missing": 5}, "IncompleteRead"),
    ],
    ids=["absent", "short", "empty", "cut off"],
)
def test_a_download_that_fails_is_one_line_and_leaves_nothing(
    fault: dict[str, Any],
    reason: str,
    server: Site,
    notices: list[str],  # noqa: F811
) -> None:
    server.serve(PLACE, **{"body": CONTENT, **fault})
    with pytest.raises(UserError) as raised:
        fetch(SOURCE, notice=notices.append)
    message = str(raised.value)
    assert message.startswith(
        f"some.npz is not in {SOURCE.folder} and could not be fetched ({server.url}{PLACE}: {reason}"
    )
    assert message.endswith("): put it there, or name a file of vectors as text")
    assert "\n" not in message
    assert visible(SOURCE.folder) == []


def test_no_network_and_no_room_are_one_line(
    refused: str,  # noqa: F811
    tmp_path: Path,
    notices: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", refused)
    with pytest.raises(UserError, match="Connection refused"):
        fetch(SOURCE, notice=notices.append)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Not a directory"):
        fetch(SOURCE, notice=notices.append)


def test_a_damaged_file_is_fetched_again(server: Site, notices: list[str]) -> None:  # noqa: F811
    SOURCE.folder.mkdir(parents=True)
    (SOURCE.folder / "some.npz").write_bytes(CONTENT[:-1])
    assert fetch(SOURCE, notice=notices.append).read_bytes() == CONTENT
    assert len(notices) == len(server.asked) == 1


def test_of_several_at_once_one_downloads(server: Site, notices: list[str]) -> None:  # noqa: F811
    server.serve(PLACE, CONTENT, wait=0.2)
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda _: fetch(SOURCE, notice=notices.append), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.asked == [f"/{PLACE}"]


def test_without_a_home_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("pwd.getpwuid", lambda number: SimpleNamespace(pw_dir=""))
    monkeypatch.delenv("MXNET_HOME")
    with pytest.raises(
        UserError, match=r"^glove\.6B\.50d\.npz cannot be fetched, as this user has no home folder .*MXNET_HOME"
    ):
        find_vectors("glove:glove.6B.50d")
    assert list(tmp_path.iterdir()) == []
