"""Fetch verified files from the first of several sources that serves them whole."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

from gluon_rnn.data.corpora.content import sha1_of

Notice = Callable[[str], None]
MOST_BYTES = 2**24  # of any file, fetched or unpacked: the largest of WikiText-2 has 10.8 MB
CHUNK = 256  # bytes between two looks at the clock: small, as each may take a stalling server some seconds


@dataclass(frozen=True)
class Source:
    """A place that serves a corpus's files."""

    url: str
    """Of a zip archive with the files in any of its folders; or, with ``files``, of their folder, slash included."""
    files: Mapping[str, str] | None = None
    """What each part's file is called there."""


class Timeouts(NamedTuple):
    """Seconds: for a connection (to each address of a host), for silence while reading, and for one whole file."""

    connect: float
    read: float
    whole: float


def fetch_first(
    sources: Iterable[Source],
    *,
    names: Mapping[str, str],
    sha1s: Mapping[str, str],
    restore: Callable[[bytes], bytes],
    scratch: Path,
    timeouts: Timeouts,
    notice: Notice,
) -> tuple[dict[str, bytes] | None, dict[str, str]]:
    """Return the bytes of each part from the first source whose files have the expected SHA-1s (None if there is no
    such source), and a short reason for the URL of each source that failed.

    ``names`` are the files to take from archives. ``restore`` makes of a file that is served in another form what it
    should be. ``scratch`` is a folder for unfinished files; it is left as it was found. Proxies are those of the
    environment (``https_proxy`` and so on).
    """
    failed: dict[str, str] = {}
    for source in sources:
        notice(f"downloading {source.url}")
        try:
            with TemporaryDirectory(dir=scratch) as folder:
                return _fetch(source, names, sha1s, restore, Path(folder), timeouts), failed
        except Exception as error:  # whatever a server does wrong, the next one may do right
            failed[source.url] = reason(error)
    return None, failed


def reason(error: BaseException) -> str:
    """Return one short line: requests and urllib3 wrap the cause in several others, each quoting the next."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status:
        return f"HTTP {status}"
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _fetch(
    source: Source,
    names: Mapping[str, str],
    sha1s: Mapping[str, str],
    restore: Callable[[bytes], bytes],
    folder: Path,
    timeouts: Timeouts,
) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    if source.files:
        for part, name in source.files.items():
            contents[part] = restore(_download(source.url + name, folder / name, timeouts))
            _check(name, contents[part], sha1s[part])
        return contents
    _download(source.url, folder / "archive.zip", timeouts)
    with zipfile.ZipFile(folder / "archive.zip") as archive:
        members = {PurePosixPath(info.filename).name: info for info in archive.infolist()}
        for part, name in names.items():
            if name not in members:
                raise ValueError(f"no {name} in the archive")
            with archive.open(members[name]) as member:
                # Whatever the archive says of its size; and nothing of it is written under a name that it chose.
                contents[part] = restore(member.read(MOST_BYTES))
            _check(name, contents[part], sha1s[part])
    return contents


def _check(name: str, content: bytes, expected: str) -> None:
    if (found := sha1_of(content)) != expected:
        raise ValueError(f"{name} has SHA-1 {found}, not {expected}")


def _download(url: str, path: Path, timeouts: Timeouts) -> bytes:
    import pooch

    download = pooch.HTTPDownloader(
        progressbar=_Limits(timeouts.whole),
        chunk_size=CHUNK,
        timeout=(timeouts.connect, timeouts.read),
    )
    download(url, str(path), None)
    return path.read_bytes()


class _Limits:
    """A progress bar to pooch, which tells it of each chunk; it ends a transfer that goes on and on.

    ``timeouts.read`` alone would not: it starts anew with each byte.
    """

    total = 0  # bytes; pooch sets it

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = monotonic() + seconds
        self._left = MOST_BYTES

    def update(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        if monotonic() > self._end:
            raise TimeoutError(f"not done within {self._seconds:g} s")

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass
