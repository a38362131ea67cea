"""Facts about a published corpus: its files, their SHA-1s, its sources and its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gluon_rnn.common.files import sha1_of
from gluon_rnn.data.corpora.content import TEXT_OBJECTIVES
from gluon_rnn.data.places import mxnet_home


@dataclass(frozen=True)
class Source:
    """A place that serves a corpus's files."""

    url: str
    """Of a zip archive with the files in any of its folders; or, with ``files``, of their folder, slash included.

    ``{repo}`` in it stands for `gluon_repository`.
    """
    files: Mapping[str, str] | None = None
    """What each part's file is called there."""


@dataclass(frozen=True)
class Labelled:
    """The form of a published corpus once its files are read for its labelled objective.

    Reading takes GluonNLP and seconds, and its outcome is as fixed as the files are: so it is stated here.
    Planning relies on it, and training checks it against what was read.
    """

    objective: str
    sha1: str
    """`gluon_rnn.data.corpora.content.identity` of the three splits."""
    tokens: tuple[int, int, int]
    """Of train, valid and test."""
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
    """Whether these names tell the corpus: else a file of another content is something else, not damaged."""
    plain_names: Mapping[str, str] | None = None
    """Other names, which tell nothing, under which a user may have the same files."""
    forms: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    """Makes a file of what was published elsewhere, by the SHA-1 of that."""
    labelled: Labelled | None = None
    """None for a text."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives that the corpus supports."""
        return (self.labelled.objective,) if self.labelled else TEXT_OBJECTIVES

    @property
    def listed(self) -> str:
        """The names of its files, as messages show them."""
        return ", ".join(self.files.values())

    @property
    def pinned(self) -> dict[str, str]:
        """The SHA-1 of each file by its name."""
        return {name: self.sha1s[part] for part, name in self.files.items()}

    @property
    def cache(self) -> Path | None:
        """Where GluonNLP keeps it: ``datasets/<name>`` in `mxnet_home`, if there is one."""
        home = mxnet_home()
        return home / "datasets" / (self.cache_name or self.name) if home else None

    def restore(self, content: bytes) -> bytes:
        """The expected bytes of a part that is in one of the other `forms`; any other part unchanged."""
        make = self.forms.get(sha1_of(content)) if self.forms else None
        return make(content) if make else content

    def wrong(self, contents: Mapping[str, bytes]) -> dict[str, str]:
        """The files whose SHA-1 is wrong."""
        found = {part: sha1_of(content) for part, content in contents.items()}
        return {part: sha1 for part, sha1 in found.items() if sha1 != self.sha1s[part]}

    def is_whole(self, contents: Mapping[str, bytes]) -> bool:
        """Whether all parts exist and have the right SHA-1."""
        return len(contents) == len(self.files) and not self.wrong(contents)
