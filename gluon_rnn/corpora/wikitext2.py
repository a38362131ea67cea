"""WikiText-2 at word level: how to know its three files, where they may lie and who serves them.

No file is believed by its name: it counts only if its SHA-1 is right, checked each time it is found (20 ms).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from gluon_rnn.corpora import folder
from gluon_rnn.corpora.content import SPLITS, sha1_of
from gluon_rnn.corpora.downloads import Notice, Source, Timeouts, fetch_first, reason
from gluon_rnn.errors import UserError
from gluon_rnn.files import read_whole

NAME = "wikitext-2"
# What the original archive, and so GluonNLP, calls the files.
FILES = {"train": "wiki.train.tokens", "valid": "wiki.valid.tokens", "test": "wiki.test.tokens"}
# The values that GluonNLP 0.10 checks (gluonnlp/data/corpora/wikitext.py).
SHA1S = {
    "train": "863f29c46ef9d167fff4940ec821195882fe29d1",
    "valid": "0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422",
    "test": "c7b8ce0aa086fb34dab808c5c49224211eb2b172",
}

# In the order in which they are tried. The address that the corpus was published at answers 403 since 2024.
SOURCES = (
    # Where GluonNLP 0.10 looks. {repo} is the variable MXNET_GLUON_REPO, by default GLUON_REPO.
    Source("{repo}gluon/dataset/wikitext-2/wikitext-2-v1.zip"),
    # A copy kept by one of the corpus's authors, Stephen Merity.
    Source("https://wikitext.smerity.com/wikitext-2-v1.zip"),
    # The data of PyTorch's word_language_model example: the same bytes under other names.
    Source(
        "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/", folder.FILES
    ),
)
# mxnet.gluon.utils._get_repo_url of MXNet 1.9.1
GLUON_REPO = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"

PATIENT = Timeouts(connect=10, read=30, whole=600)
# For 'auto', which has something else to offer. Without a network all sources fail at once. Where packets vanish, it
# takes two seconds for each address of three hosts, or as long as the system's resolver tries.
BRIEF = Timeouts(connect=2, read=10, whole=60)


class Unavailable(UserError):
    """WikiText-2 is nowhere. ``failed`` holds each source with its reason, ``mend`` how to place the files by hand."""

    def __init__(self, looked_in: Sequence[Path], failed: Mapping[str, str]) -> None:
        self.failed = failed
        self.mend = f"put {', '.join(FILES.values())} into {looked_in[-1]}, or name their folder with --data-dir"
        super().__init__(
            f"WikiText-2 is not in {' or '.join(map(str, looked_in))} and could not be fetched "
            f"({'; '.join(f'{place}: {why}' for place, why in failed.items())}): {self.mend}"
        )


def find(
    data_dir: Path | None,
    *,
    cache: Path | None = None,
    sources: Sequence[Source] = SOURCES,
    timeouts: Timeouts = PATIENT,
    sha1s: Mapping[str, str] = SHA1S,
    notice: Notice = print,
) -> tuple[Path, dict[str, bytes]]:
    """Return the absolute folder that holds the verified files under GluonNLP's names, and the bytes of each split.

    ``data_dir`` comes first, then ``cache`` (default: `cache_folder`), then a download into it. WikiText-2 that is
    called train.txt, valid.txt and test.txt in ``data_dir`` is copied into the cache; nothing is ever written into
    ``data_dir``.

    Raises `UserError` for a file in ``data_dir`` that is not what it should be, and `Unavailable` when nothing worked.
    """
    cache = cache or cache_folder()
    places = [data_dir / NAME, data_dir] if data_dir else []
    for place in places:
        if contents := _look_in(place, FILES, sha1s):
            return place, contents
    for place in places:
        if contents := _look_in(place, folder.FILES, sha1s):
            _copy(contents, place, cache, sha1s)
            return cache, contents
    try:
        return cache, fetch_wikitext2(cache, sources=sources, timeouts=timeouts, sha1s=sha1s, notice=notice)
    except Unavailable as error:
        looked_in = [data_dir, cache] if data_dir else [cache]
        raise Unavailable(looked_in, error.failed) from error


def cache_folder() -> Path:
    """Return where GluonNLP keeps WikiText-2: ``$MXNET_HOME/datasets/wikitext-2``; MXNET_HOME defaults to ~/.mxnet."""
    return Path(os.path.expanduser(os.environ.get("MXNET_HOME", "~/.mxnet"))).absolute() / "datasets" / NAME


def fetch_wikitext2(
    cache: Path,
    *,
    sources: Sequence[Source] = SOURCES,
    timeouts: Timeouts = PATIENT,
    sha1s: Mapping[str, str] = SHA1S,
    notice: Notice = print,
) -> dict[str, bytes]:
    """Return the bytes of each split from ``cache``, filled or mended from the first of ``sources`` that works.

    Of several processes that want it at once, one downloads and the others wait for its lock. Raises `Unavailable` if
    no source works or the cache cannot be written.
    """
    failed: dict[str, str] = {}
    try:
        if _is_whole(contents := _read(cache, FILES), sha1s):
            return contents
        with _writing(cache) as scratch:
            if _is_whole(contents := _read(cache, FILES), sha1s):  # another process was quicker
                return contents
            for split in _wrong(contents, sha1s):
                notice(f"{cache / FILES[split]} is damaged: downloading it again")
            repo = os.environ.get("MXNET_GLUON_REPO") or GLUON_REPO
            sources = [replace(source, url=source.url.replace("{repo}", f"{repo.rstrip('/')}/")) for source in sources]
            fetched, failed = fetch_first(
                sources, names=FILES, sha1s=sha1s, scratch=scratch, timeouts=timeouts, notice=notice
            )
            if fetched:
                _install(fetched, scratch, cache)
                return fetched
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        failed[str(cache)] = reason(error)
    raise Unavailable([cache], failed)


def _look_in(place: Path, names: Mapping[str, str], sha1s: Mapping[str, str]) -> dict[str, bytes] | None:
    """Return the bytes of WikiText-2 at ``place`` under ``names``, None if it is not there; a `UserError` if part is.

    Any corpus may have a train.txt: under those names it is WikiText-2 gone wrong only if part of it is right.
    """
    try:
        contents = _read(place, names)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): mend or move it") from error
    wrong = _wrong(contents, sha1s)
    if not contents or (names == folder.FILES and len(wrong) == len(contents)):
        return None
    for split, found in wrong.items():
        raise UserError(
            f"{place / names[split]} is not WikiText-2's: its SHA-1 is {found}, not {sha1s[split]}; "
            "replace it or move it away"
        )
    for split in SPLITS:
        if split not in contents:
            raise UserError(f"{place / names[split]} is missing beside the other files of WikiText-2: add it")
    return contents


def _copy(contents: Mapping[str, bytes], origin: Path, cache: Path, sha1s: Mapping[str, str]) -> None:
    try:
        if not _is_whole(_read(cache, FILES), sha1s):
            with _writing(cache) as scratch:
                _install(contents, scratch, cache)
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"WikiText-2 in {origin} cannot be copied to {cache} ({reason(error)}): "
            f"set MXNET_HOME to a folder that can be written, or rename the files to {', '.join(FILES.values())}"
        ) from error


def _read(place: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return the bytes of those files that are there."""
    contents = {}
    for split in SPLITS:
        with suppress(FileNotFoundError, NotADirectoryError):
            contents[split] = read_whole(place / names[split])
    return contents


def _wrong(contents: Mapping[str, bytes], sha1s: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-1s that are not as they should be."""
    found = {split: sha1_of(content) for split, content in contents.items()}
    return {split: sha1 for split, sha1 in found.items() if sha1 != sha1s[split]}


def _is_whole(contents: Mapping[str, bytes], sha1s: Mapping[str, str]) -> bool:
    return len(contents) == len(SPLITS) and not _wrong(contents, sha1s)


@contextmanager
def _writing(cache: Path) -> Iterator[Path]:
    """Hold the lock of ``cache`` and yield an empty folder in it for unfinished files, which is removed at the end."""
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        scratch = cache / ".incomplete"
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed: nobody else holds the lock
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _install(contents: Mapping[str, bytes], scratch: Path, cache: Path) -> None:
    for split, name in FILES.items():
        (scratch / name).write_bytes(contents[split])
        os.replace(scratch / name, cache / name)
