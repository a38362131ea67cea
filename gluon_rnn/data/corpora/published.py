"""Published corpora: how their files are recognised, searched for and downloaded.

A file's name proves nothing: its SHA-1 is checked each time it is found (20 ms for WikiText-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import locked, read_whole, write_atomically
from gluon_rnn.common.printable import Notice
from gluon_rnn.data.corpora.downloads import Timeouts, fetch_first, reason
from gluon_rnn.data.corpora.facts import Published

# Parts of messages.
_DEFAULT_HOME = "~/.mxnet"
_NO_HOME = "this user has no home folder"
_WRITABLE_HOME = "MXNET_HOME to a folder that can be written"

PATIENT = Timeouts(connect=10, read=30, whole=600)
# For 'auto', which has something else to offer. Without a network all sources fail at once. Where packets vanish, it
# takes two seconds for each address of three hosts, or as long as the system's resolver tries.
BRIEF = Timeouts(connect=2, read=10, whole=60)


class Unavailable(UserError):
    """A corpus was found nowhere. ``failed`` holds each source with its reason, ``fix`` how to place the files by
    hand.
    """

    def __init__(self, corpus: Published, data_dir: Path | None, cache: Path | None, failed: Mapping[str, str]) -> None:
        self.failed = failed
        whose = "their" if len(corpus.files) > 1 else "its"
        if cache:
            self.fix = f"put {corpus.listed} into {cache}, or name {whose} folder with --data-dir"
        else:
            self.fix = f"name the folder of {corpus.listed} with --data-dir, or set {_WRITABLE_HOME}"
        looked_in = [data_dir, cache or _DEFAULT_HOME] if data_dir else [cache or _DEFAULT_HOME]
        super().__init__(
            f"{corpus.title} is not in {' or '.join(map(str, looked_in))} and could not be fetched "
            f"({'; '.join(f'{place}: {why}' for place, why in failed.items())}): {self.fix}"
        )


def find(
    corpus: Published,
    data_dir: Path | None,
    *,
    cache: Path | None = None,
    timeouts: Timeouts = PATIENT,
    notice: Notice = print,
) -> tuple[Path, dict[str, bytes]]:
    """Return the absolute folder that holds the verified files under their own names, and the bytes of each part.

    ``data_dir`` comes first, then ``cache`` (default: GluonNLP's), then a download into it. What ``data_dir`` holds
    under other names or in another form is copied into the cache; nothing is ever written into ``data_dir``. Where
    there is no cache, since the user has no home folder, nothing is downloaded or copied.

    Raises `UserError` for a file in ``data_dir`` that is not what it should be, and `Unavailable` when nothing worked.
    """
    cache = cache or corpus.cache
    below = dict.fromkeys((corpus.name, corpus.cache_name or corpus.name, ""))
    places = [data_dir / name for name in below] if data_dir else []
    for names, telling in ((corpus.files, corpus.telling), (corpus.plain_names or {}, False)):
        for place in places:
            if contents := _look_in(corpus, place, names, telling=telling):
                restored = _restored(corpus, contents)
                if names is not corpus.files or restored != contents:
                    place = _copy(corpus, restored, place, cache)
                return place, restored
    if cache is None:
        raise Unavailable(corpus, data_dir, None, {_DEFAULT_HOME: _NO_HOME})
    contents, failed = _fetch(corpus, cache, timeouts, notice)
    if contents is None:
        raise Unavailable(corpus, data_dir, cache, failed)
    return cache, contents


def _fetch(
    corpus: Published, cache: Path, timeouts: Timeouts, notice: Notice
) -> tuple[dict[str, bytes] | None, dict[str, str]]:
    """Return the bytes of each part from ``cache``, filled or repaired from the first source that works.

    Of several processes that want it at once, one downloads and the others wait for its lock. None if no source works
    or the cache cannot be written; and why.
    """
    failed: dict[str, str] = {}
    try:
        # Without the lock, since the cache may be one that cannot be written.
        if corpus.is_whole(there := _read(cache, corpus.files)):
            return there, failed
        with locked(cache):
            restored = _restored(corpus, _read(cache, corpus.files))
            if corpus.is_whole(restored):
                fetched: dict[str, bytes] | None = restored
            else:
                for part in corpus.wrong(restored):
                    notice(f"{cache / corpus.files[part]} is damaged: downloading it again")
                fetched, failed = fetch_first(corpus, timeouts=timeouts, notice=notice)
            if fetched:
                _install(corpus, fetched, cache)
            return fetched, failed
    except OSError as error:
        return None, {**failed, str(cache): reason(error)}


def _look_in(corpus: Published, place: Path, names: Mapping[str, str], *, telling: bool) -> dict[str, bytes] | None:
    """Return the bytes of the corpus at ``place`` under ``names``, None if it is not there; a `UserError` if part is.

    Any corpus may have a train.txt: under names that tell nothing it is this one gone wrong only if part of it is
    right.
    """
    try:
        contents = _read(place, names)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): fix or move it") from error
    wrong = corpus.wrong(_restored(corpus, contents))
    if not contents or (not telling and len(wrong) == len(contents)):
        return None
    for part, found in wrong.items():
        raise UserError(
            f"{place / names[part]} is not {corpus.title}'s: its SHA-1 is {found}, not {corpus.sha1s[part]}; "
            "replace it or move it away"
        )
    for part in corpus.files:
        if part not in contents:
            raise UserError(f"{place / names[part]} is missing beside the other files of {corpus.title}: add it")
    return contents


def _copy(corpus: Published, contents: Mapping[str, bytes], origin: Path, cache: Path | None) -> Path:
    """Put `contents` into ``cache`` unless they are there, and return that."""
    try:
        if cache is None:
            raise FileNotFoundError(_NO_HOME)
        if _read(cache, corpus.files) != contents:
            with locked(cache):
                _install(corpus, contents, cache)
        return cache
    except OSError as error:
        fix = f", or rename the files to {corpus.listed}" if corpus.plain_names else ""
        raise UserError(
            f"{corpus.title} in {origin} cannot be copied to {cache or _DEFAULT_HOME} ({reason(error)}): "
            f"set {_WRITABLE_HOME}{fix}"
        ) from error


def _read(place: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return the bytes of those files that are there."""
    contents = {}
    for part, name in names.items():
        with suppress(FileNotFoundError, NotADirectoryError):
            contents[part] = read_whole(place / name)
    return contents


def _restored(corpus: Published, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    return {part: corpus.restore(content) for part, content in contents.items()}


def _install(corpus: Published, contents: Mapping[str, bytes], cache: Path) -> None:
    """Put the parts into ``cache``, whose lock the caller must hold; a correct file stays as it is."""
    there = _read(cache, corpus.files)
    for part, content in contents.items():
        if there.get(part) != content:
            write_atomically(cache / corpus.files[part], content)
