"""Names of corpora, vectors and cells: those that need a digest have one, and no others do."""

from __future__ import annotations

import pytest

from gluon_rnn.runs.contents import DIGESTS, Names


def row(**columns: str | None) -> dict[str, str | None]:
    plain = {"dataset": "small", "embedding": "random", "cell": "lstm", "dataset_sha1": "d" * 40}
    return {**plain, "embedding_sha1": None, "cell_sha1": None, **columns}


@pytest.mark.parametrize(("column", "digest"), DIGESTS.items())
def test_a_name_of_several_contents_has_their_digests(column: str, digest: str) -> None:
    one, two, other = (row(**{column: n, digest: d * 40}) for n, d in (("a", "1"), ("a", "2"), ("b", "3")))
    names = Names([one, two, one, other])
    assert names
    assert [names.shown(item, column) for item in (one, two, other)] == ["a@1111111", "a@2222222", "b"]
    # Elsewhere nothing is shared.
    assert {names.shown(one, name) for name in DIGESTS if name != column} == {
        value for name, value in row().items() if name in DIGESTS and name != column
    }


def test_a_name_of_one_content_is_shown_as_it_is() -> None:
    rows = [row(embedding="a", embedding_sha1="1" * 40), row(embedding="b", embedding_sha1="1" * 40), row()]
    assert not Names(rows)
    assert [Names(rows).shown(item, "embedding") for item in rows] == ["a", "b", "random"]
    assert Names([]).suffix(row(), "cell") == ""


def test_a_digest_that_was_not_recorded_is_not_taken_for_another() -> None:
    old, new = row(cell="mine:Cell"), row(cell="mine:Cell", cell_sha1="9" * 40)
    names = Names([old, new])
    assert [names.shown(item, "cell") for item in (old, new)] == ["mine:Cell@unknown", "mine:Cell@9999999"]
    assert names.shown({**old, "seed": 3}, "seed") == 3
