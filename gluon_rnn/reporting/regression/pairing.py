"""Pairs the runs of two tables by configuration and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig, unnumbered, varying_fields
from gluon_rnn.runs.contents import DIGESTS, Names, label
from gluon_rnn.runs.tables import load_results, table_rows

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
_Key = tuple[tuple[str, Any], ...]
_Points = dict[_Key, dict[int, Row]]

#: Where a run happens and what is printed of it; and the seed, by which the repeats of one point are told apart.
_NOT_THE_POINT = frozenset({"seed", "dataset", "device", "threads", "log_interval"})
#: Digests that tables of earlier versions do not have.
_WHERE_KNOWN = ("embedding_sha1", "cell_sha1")
#: The usable range of losses, in nats a target. After a divergence a loss may also be infinite.
_MEASURABLE = {
    **dict.fromkeys(("valid_loss", "test_loss"), (-700.0, 1e100)),
    **dict.fromkeys(("valid_accuracy", "test_accuracy"), (0.0, 1.0)),
    "tokens_per_second": (1e-100, 1e100),
}


@dataclass(frozen=True)
class Match:
    """The runs of one configuration in two tables, by seed.

    Attributes:
        label: what tells the configuration from the others, as ``cell=gru bptt=35``.
        settings: the fields that the runs were matched by.
        before: the baseline's runs; empty where it has none.
        after: the candidate's.
    """

    label: str
    settings: Row
    before: Mapping[int, Row]
    after: Mapping[int, Row]


def match_runs(
    baseline: Path | str | pd.DataFrame, candidate: Path | str | pd.DataFrame, *, ignore: Collection[str] = ()
) -> list[Match]:
    """Every configuration of two tables of results: the baseline's in its order, then those that are new.

    Configurations are compared as the rows have them, not by run_id, which another version may make otherwise. The
    corpus counts by its content, whatever it is called, word vectors by name and content, devices by their kind and
    how many they are. `threads` counts only where rows of a table differ in nothing else: a value that the machine
    chose is not a setting. Versions of a user's cell within one table are points of their own. Between two tables a
    version is compared with another, as versions of this package are: whether code made results worse is the question.
    A digest that a table of an earlier version lacks is not asked for.

    Args:
        baseline: a sweep's folder, its ``runs.csv``, or `gluon_rnn.load_results` of one.
        candidate: likewise.
        ignore: fields in which runs of one configuration may differ; with a name goes its digest.

    Raises:
        UserError: a table cannot be read, or has two runs of one configuration and seed.
    """
    ignored = frozenset({*ignore, *(digest for name, digest in DIGESTS.items() if name in ignore)})
    rows = [read_rows(table) for table in (baseline, candidate)]
    key_of = _matching(rows, ignored)
    before, after = (
        _by_point(side, name, key_of) for side, name in zip(rows, ("the baseline", "the candidate"), strict=True)
    )
    labels = _labels({key_of(row): row for side in reversed(rows) for row in reversed(side)}, ignored)
    keys = list(before | after)
    return [Match(labels[key], dict(key), before.get(key, {}), after.get(key, {})) for key in keys]


def differing_fields(matches: Iterable[Match]) -> list[str]:
    """The fields in which one table has a value and the other has none."""
    before = [match.settings for match in matches if match.before]
    after = [match.settings for match in matches if match.after]
    return [name for name in before[0] if not {row[name] for row in before} & {row[name] for row in after}]


def read_rows(table: Path | str | pd.DataFrame) -> list[dict[str, Any]]:
    """A table's runs, an empty cell as None; a column that an older table lacks has its field's default."""
    frame = load_results(table) if isinstance(table, Path | str) else table
    if "status" not in frame:
        raise UserError("a table of results has a column status, as gluon_rnn.load_results makes it")
    rows = table_rows(frame)
    for row in rows:
        for name, (least, most) in _MEASURABLE.items():
            value = row[name]
            if value is not None and not least <= value <= most and not (value == math.inf and "loss" in name):
                raise UserError(f"run {row['run_id']} has {name}={value}, which nothing measures: its table is damaged")
    return rows


def _matching(sides: Sequence[Sequence[Row]], ignored: Collection[str]) -> Callable[[Row], _Key]:
    """What the runs of two tables are matched by; what is ignored and a digest that does not count are None in it."""
    threads = ("threads",) if any(_differ_in_threads_alone(side) for side in sides) else ()
    contents: dict[tuple[_Key, str], tuple[set[str | None], set[str | None]]] = {}
    for place, side in enumerate(sides):
        for row in side:
            key = _key(row, *threads, ignored=ignored)
            for digest in _WHERE_KNOWN:
                found = contents.setdefault((key, digest), (set(), set()))
                found[place].add(row[digest])

    def counts(key: _Key, digest: str) -> bool:
        before, after = contents[key, digest]
        if digest in ignored:
            return False
        several_in_one = max(len(before), len(after)) > 1
        return several_in_one or before == after or (digest == "embedding_sha1" and None not in before | after)

    def key_of(row: Row) -> _Key:
        key = _key(row, *threads, ignored=ignored)
        return (*key, *((digest, row[digest] if counts(key, digest) else None) for digest in _WHERE_KNOWN))

    return key_of


def _key(row: Row, *more: str, ignored: Collection[str] = ()) -> _Key:
    """The settings of `row` that tell points apart, with `more` of its columns; what is ignored is None."""
    settings = {name: row[name] for name in RunConfig.model_fields if name not in _NOT_THE_POINT}
    if settings["embed_size"] is None and settings["embedding"] == "random" and "hidden_size" not in ignored:
        settings["embed_size"] = settings["hidden_size"]
    settings |= {"device": unnumbered(str(row["device"])), "dataset_sha1": row["dataset_sha1"]}
    settings |= {name: row[name] for name in more}
    return tuple((name, None if name in ignored else value) for name, value in settings.items())


def _differ_in_threads_alone(rows: Iterable[Row]) -> bool:
    without, within = ({(_key(row, *_WHERE_KNOWN, *more), row["seed"]) for row in rows} for more in ((), ("threads",)))
    return len(without) < len(within)


def _by_point(rows: Iterable[Row], name: str, key_of: Callable[[Row], _Key]) -> _Points:
    points: _Points = {}
    for row in rows:
        runs = points.setdefault(key_of(row), {})
        other = runs.setdefault(row["seed"], row)
        if other is not row:
            ids = f"{other['run_id']} and {row['run_id']}"
            raise UserError(
                f"{name} has two runs of one configuration and seed, {ids}; keep one of them: the sweep's command with "
                "--prune moves runs that it no longer contains out of its tables"
            )
    return points


def _labels(rows: Mapping[_Key, Row], ignored: Collection[str]) -> dict[_Key, str]:
    """What tells each point from the others, by name; `rows` has a run of each."""
    columns = [name for name in (*DIGESTS, *DIGESTS.values()) if name not in ignored]
    settings = {key: {"dataset": "", **dict(key), **{name: row[name] for name in columns}} for key, row in rows.items()}
    names = Names(settings.values())
    shown = {
        key: {name: names.shown(row, name) for name in row if name not in DIGESTS.values()}
        for key, row in settings.items()
    }
    varying = [name for name in varying_fields(list(shown.values())) if name not in ignored] if shown else []
    return {key: label(row, varying) for key, row in shown.items()}
