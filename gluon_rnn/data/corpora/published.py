"""Published corpora: how their files are known, where they may lie, how they are fetched; the same for all.

No file is believed by its name: it counts only if its SHA-1 is right, checked each time it is found (20 ms for
WikiText-2).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand, home_directory, locked, read_whole
from gluon_rnn.data.corpora.content import TEXT_OBJECTIVES, sha1_of
from gluon_rnn.data.corpora.downloads import Notice, Source, Timeouts, fetch_first, reason

# Words for people.
_DEFAULT_HOME = "~/.mxnet"
_NO_HOME = "this user has no home folder"
_WRITABLE_HOME = "MXNET_HOME to a folder that can be written"

# mxnet.gluon.utils._get_repo_url of MXNet 1.9.1
GLUON_REPO = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"

PATIENT = Timeouts(connect=10, read=30, whole=600)
# For 'auto', which has something else to offer. Without a network all sources fail at once. Where packets vanish, it
# takes two seconds for each address of three hosts, or as long as the system's resolver tries.
BRIEF = Timeouts(connect=2, read=10, whole=60)


@dataclass(frozen=True)
class Labelled:
    """What a published corpus is once its files are read for the objective that it has labels for.

    Reading takes GluonNLP and seconds, and its outcome is as fixed as the files are: so it is stated here, for whoever
    plans, and held against what was read by whoever trains.
    """

    objective: str
    sha1: str
    """`gluon_rnn.data.corpora.labelled.labelled_sha1` of the three splits."""
    train_tokens: int
    valid_tokens: int
    test_tokens: int
    read: Callable[[Path], dict[str, bytes]]
    """Makes of the folder of the files the splits, as `gluon_rnn.data.corpora.labelled.parse` reads them."""


@dataclass(frozen=True)
class Published:
    """The facts of a corpus; its parts are ``train``, ``valid`` and ``test``, or those that it was published in."""

    name: str
    title: str
    """What people call it."""
    files: Mapping[str, str]
    """What the file of each part is called."""
    sha1s: Mapping[str, str]
    """Of each part's file."""
    sources: tuple[Source, ...]
    """In the order in which they are tried."""
    cache_name: str | None = None
    """Its folder in GluonNLP's cache; ``name`` unless said."""
    telling: bool = True
    """Whether these names tell the corpus: else a file of another content is no damage, but of something else."""
    plain_names: Mapping[str, str] | None = None
    """Other names, which tell nothing, under which a user may have the same files."""
    forms: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    """Makes a file of what was published elsewhere, by the SHA-1 of that."""
    labelled: Labelled | None = None
    """None for a text."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """What can be learnt from it."""
        return (self.labelled.objective,) if self.labelled else TEXT_OBJECTIVES

    @property
    def listed(self) -> str:
        """The names of its files, for people."""
        return ", ".join(self.files.values())

    @property
    def cache(self) -> Path | None:
        """Where GluonNLP keeps it: ``datasets/<name>`` in `mxnet_home`, if there is one."""
        home = mxnet_home()
        return home / "datasets" / (self.cache_name or self.name) if home else None

    def restored(self, contents: Mapping[str, bytes]) -> dict[str, bytes]:
        """Each part as it should be, where it is in one of the other `forms`; else as it is."""
        return {part: self.restore(content) for part, content in contents.items()}

    def restore(self, content: bytes) -> bytes:
        """One part of `restored`."""
        make = self.forms.get(sha1_of(content)) if self.forms else None
        return make(content) if make else content

    def wrong(self, contents: Mapping[str, bytes]) -> dict[str, str]:
        """The SHA-1s that are not as they should be."""
        found = {part: sha1_of(content) for part, content in contents.items()}
        return {part: sha1 for part, sha1 in found.items() if sha1 != self.sha1s[part]}

    def is_whole(self, contents: Mapping[str, bytes]) -> bool:
        """Whether all parts are there and right."""
        return len(contents) == len(self.files) and not self.wrong(contents)


def mxnet_home() -> Path | None:
    """Where MXNet and GluonNLP keep what they download: ``$MXNET_HOME``, else ``~/.mxnet``; None without a home.

    Raises `UserError` if MXNET_HOME begins with a ``~`` that stands for no folder.
    """
    if given := os.environ.get("MXNET_HOME"):
        return expand(given).absolute()
    home = home_directory()
    return home / ".mxnet" if home else None


class Unavailable(UserError):
    """A corpus is nowhere. ``failed`` holds each source with its reason, ``mend`` how to place the files by hand."""

    def __init__(self, corpus: Published, data_dir: Path | None, cache: Path | None, failed: Mapping[str, str]) -> None:
        self.failed = failed
        whose = "their" if len(corpus.files) > 1 else "its"
        if cache:
            self.mend = f"put {corpus.listed} into {cache}, or name {whose} folder with --data-dir"
        else:
            self.mend = f"name the folder of {corpus.listed} with --data-dir, or set {_WRITABLE_HOME}"
        looked_in = [data_dir, cache or _DEFAULT_HOME] if data_dir else [cache or _DEFAULT_HOME]
        super().__init__(
            f"{corpus.title} is not in {' or '.join(map(str, looked_in))} and could not be fetched "
            f"({'; '.join(f'{place}: {why}' for place, why in failed.items())}): {self.mend}"
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
                restored = corpus.restored(contents)
                if names is corpus.files and restored == contents:
                    return place, contents
                return _copy(corpus, restored, place, cache), restored
    if cache is None:
        raise Unavailable(corpus, data_dir, None, {_DEFAULT_HOME: _NO_HOME})
    try:
        return cache, fetch(corpus, cache, timeouts=timeouts, notice=notice)
    except Unavailable as error:
        raise Unavailable(corpus, data_dir, cache, error.failed) from error


def fetch(corpus: Published, cache: Path, *, timeouts: Timeouts = PATIENT, notice: Notice = print) -> dict[str, bytes]:
    """Return the bytes of each part from ``cache``, filled or mended from the first of its sources that works.

    Of several processes that want it at once, one downloads and the others wait for its lock. Raises `Unavailable` if
    no source works or the cache cannot be written.
    """
    failed: dict[str, str] = {}
    try:
        if corpus.is_whole(contents := _read(cache, corpus.files)):
            return contents
        with _writing(cache) as scratch:
            contents = _read(cache, corpus.files)
            restored = corpus.restored(contents)
            if corpus.is_whole(restored):
                if restored != contents:  # put there by hand; else another process was quicker
                    _install(corpus, restored, scratch, cache)
                return restored
            for part in corpus.wrong(restored):
                notice(f"{cache / corpus.files[part]} is damaged: downloading it again")
            repo = os.environ.get("MXNET_GLUON_REPO") or GLUON_REPO
            fetched, failed = fetch_first(
                [replace(at, url=at.url.replace("{repo}", f"{repo.rstrip('/')}/")) for at in corpus.sources],
                names=corpus.files,
                sha1s=corpus.sha1s,
                restore=corpus.restore,
                scratch=scratch,
                timeouts=timeouts,
                notice=notice,
            )
            if fetched:
                _install(corpus, fetched, scratch, cache)
                return fetched
    except OSError as error:
        failed[str(cache)] = reason(error)
    raise Unavailable(corpus, None, cache, failed)


def _look_in(corpus: Published, place: Path, names: Mapping[str, str], *, telling: bool) -> dict[str, bytes] | None:
    """Return the bytes of the corpus at ``place`` under ``names``, None if it is not there; a `UserError` if part is.

    Any corpus may have a train.txt: under names that tell nothing it is this one gone wrong only if part of it is
    right.
    """
    try:
        contents = _read(place, names)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): mend or move it") from error
    wrong = corpus.wrong(corpus.restored(contents))
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
        if not corpus.is_whole(_read(cache, corpus.files)):
            with _writing(cache) as scratch:
                _install(corpus, contents, scratch, cache)
        return cache
    except OSError as error:
        mend = f", or rename the files to {corpus.listed}" if corpus.plain_names else ""
        raise UserError(
            f"{corpus.title} in {origin} cannot be copied to {cache or _DEFAULT_HOME} ({reason(error)}): "
            f"set {_WRITABLE_HOME}{mend}"
        ) from error


def _read(place: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return the bytes of those files that are there."""
    contents = {}
    for part, name in names.items():
        with suppress(FileNotFoundError, NotADirectoryError):
            contents[part] = read_whole(place / name)
    return contents


@contextmanager
def _writing(cache: Path) -> Iterator[Path]:
    """Hold the lock of ``cache`` and yield an empty folder in it for unfinished files, which is removed at the end."""
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / ".lock") as alone:
        # Without a lock there may be others, with folders of their own.
        scratch = cache / (".incomplete" if alone else f".incomplete-{secrets.token_hex(4)}")
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed: nobody else holds the lock
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _install(corpus: Published, contents: Mapping[str, bytes], scratch: Path, cache: Path) -> None:
    for part, name in corpus.files.items():
        (scratch / name).write_bytes(contents[part])
        os.replace(scratch / name, cache / name)
