"""Download verified files from the first of several sources that serves them completely."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from time import monotonic
from typing import Any, NamedTuple

from gluon_rnn.common import errors
from gluon_rnn.common.printable import Notice
from gluon_rnn.data.corpora.facts import Published
from gluon_rnn.data.places import gluon_repository

MOST_BYTES = 2**24  # of any file, fetched or unpacked: the largest of WikiText-2 has 10.8 MB
CHUNK = 256  # bytes between two looks at the clock: small, as each may take a stalling server some seconds


class Timeouts(NamedTuple):
    """Seconds: for a connection (to each address of a host), for silence while reading, and for one whole file."""

    connect: float
    read: float
    whole: float


def fetch_first(
    corpus: Published, *, timeouts: Timeouts, notice: Notice
) -> tuple[dict[str, bytes] | None, dict[str, str]]:
    """Return the bytes of each part from the first source whose files have the expected SHA-1s (None if there is no
    such source), and a short reason for the URL of each source that failed.

    Proxies are those of the environment (``https_proxy`` and so on).
    """
    failed: dict[str, str] = {}
    for source in corpus.sources:
        url = source.url.replace("{repo}", gluon_repository())
        notice(f"downloading {url}")
        try:
            contents = {}
            served = _plain(url, source.files, timeouts) if source.files else _unpacked(url, corpus.files, timeouts)
            for part, name, content in served:
                contents[part] = corpus.restore(content)
                for found in corpus.wrong({part: contents[part]}).values():
                    raise ValueError(f"{name} has SHA-1 {found}, not {corpus.sha1s[part]}")
            return contents, failed
        except Exception as error:  # the next server may succeed where this one failed
            failed[url] = reason(error)
    return None, failed


def reason(error: BaseException) -> str:
    """Return one short line: requests and urllib3 wrap the cause in several others, each quoting the next."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status:
        return f"HTTP {status}"
    while cause := error.__cause__ or error.__context__:
        error = cause
    return errors.reason(error)


def _plain(url: str, files: Mapping[str, str], timeouts: Timeouts) -> Iterator[tuple[str, str, bytes]]:
    """Each part, the name of its file and what that holds."""
    for part, name in files.items():
        yield part, name, _download(url + name, timeouts).getvalue()


def _unpacked(url: str, names: Mapping[str, str], timeouts: Timeouts) -> Iterator[tuple[str, str, bytes]]:
    """The same of an archive."""
    with zipfile.ZipFile(_download(url, timeouts)) as archive:
        members = {PurePosixPath(info.filename).name: info for info in archive.infolist()}
        for part, name in names.items():
            if name not in members:
                raise ValueError(f"no {name} in the archive")
            with archive.open(members[name]) as member:
                # Whatever the archive says of its size.
                yield part, name, member.read(MOST_BYTES)


def _download(url: str, timeouts: Timeouts) -> io.BytesIO:
    import pooch

    content = _Limited(timeouts.whole)
    pooch.HTTPDownloader(chunk_size=CHUNK, timeout=(timeouts.connect, timeouts.read))(url, content, None)
    return content


class _Limited(io.BytesIO):
    """Receives a file in chunks and stops a transfer that takes too long.

    ``timeouts.read`` alone would not, because it restarts with each byte.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._end = monotonic() + seconds

    def write(self, chunk: Any, /) -> int:
        if self.tell() + len(chunk) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        if monotonic() > self._end:
            raise TimeoutError(f"not done within {self._seconds:g} s")
        return super().write(chunk)
