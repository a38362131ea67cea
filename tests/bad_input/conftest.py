"""Each test begins in an empty folder; and what is read without an end must cost a test, not the machine."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Bytes on top of what the process has: more than any of these tests needs.
_ROOM = 4 * 2**30


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a refused command made is looked for in the folder in which it was given."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
