"""Digests of corpora, word vectors and users' cells, which tell different contents with the same name apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The columns of names, each with the column of the SHA-1 of what the name stands for.
DIGESTS = {"dataset": "dataset_sha1", "embedding": "embedding_sha1", "cell": "cell_sha1"}

#: Enough to tell one content from another, as they are for Git's commits.
_SHOWN_DIGITS = 7


class Names:
    """How names are shown: with the first digits of the digest where a name has several contents.

    Args:
        rows: everything that is shown together, with the columns of `DIGESTS`.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        contents: dict[tuple[str, Any], set[str | None]] = {}
        for row in rows:
            for column, digest in DIGESTS.items():
                contents.setdefault((column, row[column]), set()).add(row[digest])
        self._shared = {name for name, digests in contents.items() if len(digests) > 1}

    def __bool__(self) -> bool:
        """Whether any name stands for several contents."""
        return bool(self._shared)

    def suffix(self, row: Mapping[str, Any], column: str) -> str:
        """The suffix of the name in `column` of `row`: ``@1a2b3c4`` where it is needed, otherwise empty.

        It is ``@unknown`` for rows of versions that did not record digests.
        """
        if (column, row[column]) not in self._shared:
            return ""
        return f"@{(row[DIGESTS[column]] or 'unknown')[:_SHOWN_DIGITS]}"

    def label(self, row: Mapping[str, Any], columns: Iterable[str]) -> str:
        """The label that distinguishes `row`: the `label` of its `columns` as they are `shown`."""
        return label({column: self.shown(row, column) for column in columns})

    def shown(self, row: Mapping[str, Any], column: str) -> Any:
        """The value in a `column` of `row`, with its `suffix` if it has one."""
        suffix = self.suffix(row, column) if column in DIGESTS else ""
        return f"{row[column]}{suffix}" if suffix else row[column]


def label(settings: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
    """``cell=gru bptt=35``: the `settings` with these `names`, or all of them."""
    return " ".join(f"{name}={settings[name]}" for name in (settings if names is None else names))
