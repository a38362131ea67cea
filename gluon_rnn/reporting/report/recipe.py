"""The settings that the runs of a group share, and the sweep file that repeats these runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import PRESETS, RunConfig, configure
from gluon_rnn.reporting.report.content import Column, Section, Table, plain
from gluon_rnn.reporting.report.group import Group
from gluon_rnn.runs.records import RunRecord

#: Settings by which runs are parted, each way of which is tried.
_MOST_KEYS = 4
#: More take seconds to be parted into grids.
_MOST_RUNS = 500
#: All but those that the machine decides, unless a user does.
_SETTINGS = tuple(name for name in RunConfig.model_fields if name not in ("device", "threads"))
#: Of runs, with what to call them.
_FACTS = {
    "vocab_size": "vocabulary",
    "parameters": "parameters",
    "device_name": "machines",
    "threads": "threads",
    "git_commit": "commits",
}
#: Digits of a commit that tell it from others.
_COMMIT = 12


def recipe(group: Group) -> Section:
    """The settings that all runs share, their content, and the sweep file that repeats them."""
    records = [record for point in group.points for record in point.records]
    rows = [["corpus", group.corpus or "unknown"]]
    for name, title in _FACTS.items():
        values = {value for record in records if (value := record.row[name]) not in (None, "")}
        shown = [f"{value:,}" if isinstance(value, int) else str(short_commit(value, name)) for value in sorted(values)]
        rows += [[title, _brief(shown)]] if shown else []
    common = {
        name: plain(getattr(records[0].config, name))
        for name in RunConfig.model_fields
        if len({plain(getattr(record.config, name)) for record in records}) == 1
    }
    sweeps: list[tuple[dict[str, Any], dict[str, list[Any]]]] = []
    if len(records) <= _MOST_RUNS:
        with suppress(UserError):  # of a record that no sweep could have made
            sweeps = [_sweep(part) for part in _grids(records)]
    if sweeps:
        shared = [f"{name}={plain(value)}" for name, value in _shared([given for given, _ in sweeps]).items()]
        rows.append(["settings beside the defaults", " ".join(shared) or "-"])
    varying = [*(group.names if len(group.points) > 1 else ()), *(["seed"] if group.seeded else [])]
    rows.append(["what varies", ", ".join(varying) or "-"])
    run_ids = sorted({record.run_id for record in records})
    rows += [["run_id", run_ids[0]]] if len(run_ids) == 1 else []
    logs = _file(sweeps)
    logs.append(("All common settings", "\n".join(f"{name}: {value}" for name, value in common.items())))
    table = Table([Column("of all runs"), Column("value")], rows)
    return Section("Common settings", tables=[table], logs=logs)


def short_commit(value: Any, name: str) -> Any:
    """The `value` of the column `name`; of a commit, the first digits."""
    return value[:_COMMIT] if name == "git_commit" and value else value


def _brief(values: Sequence[str]) -> str:
    """All values if they are few, else the first and the last."""
    return "; ".join(values) if len(values) < 5 else f"{values[0]} to {values[-1]}, {len(values)} values"


def _file(sweeps: Sequence[tuple[dict[str, Any], dict[str, list[Any]]]]) -> list[tuple[str, str]]:
    """The command and the sweep file of all `sweeps` together; nothing if there are none."""
    if not sweeps:
        return []
    text = yaml.safe_dump(
        {key: value for key, value in _together(sweeps).items() if value},
        allow_unicode=True,
        sort_keys=False,
        default_flow_style=None,
        width=100,
    )
    return [("Command", "gluon-rnn sweep again.yaml"), ("Sweep file again.yaml", text.rstrip("\n"))]


def _together(sweeps: Sequence[tuple[dict[str, Any], dict[str, list[Any]]]]) -> dict[str, Any]:
    """The content of one sweep file: shared settings and axes, and points for the rest of each of `sweeps`."""
    settings = _shared([given for given, _ in sweeps])
    axes = _shared([axes for _, axes in sweeps])
    points = []
    for given, varied in sweeps:
        fixed = {name: value for name, value in given.items() if name not in settings}
        free = {name: values for name, values in varied.items() if name not in axes}
        points += [{**fixed, **dict(zip(free, values, strict=True))} for values in itertools.product(*free.values())]
    return {
        "name": "again",
        "set": settings,
        "points": _whole(settings, points, axes) * (len(points) > 1),
        "axes": axes,
    }


def _whole(
    settings: Mapping[str, Any], points: Sequence[dict[str, Any]], axes: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """`points` that all have the same settings, in the order of the settings, so that they read as a table."""
    names = [name for name in _SETTINGS if any(name in point for point in points)]
    corners = _corners({name: values[0] for name, values in axes.items()}, axes)
    whole = []
    for point in points:
        configs = [configure({**settings, **point, **corner}) for corner in corners]
        full = {name: getattr(configs[0], name) for name in names}
        same = [configure({**settings, **full, **corner}) for corner in corners] == configs
        whole.append(full if same else point)
    return whole


def _shared(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that are the same in all `items`, in the order of the first."""
    return {name: value for name, value in items[0].items() if all(item.get(name, ...) == value for item in items)}


def _grids(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs divided into few full grids of their settings."""
    configs = _configs(records)
    varying = [name for name in _SETTINGS if len({plain(getattr(config, name)) for config in configs}) > 1]
    free = [name for name in varying if not _follows(name, configs)]
    if _is_grid(records, free):
        return [list(records)]
    grids = []
    for name in free[:_MOST_KEYS]:
        parts: dict[str, list[RunRecord]] = {}
        for record in records:
            parts.setdefault(plain(getattr(record.config, name)), []).append(record)
        if len(parts) > 1:
            grids.append([grid for part in parts.values() for grid in _grids(part)])
    return min(grids, key=len, default=[[record] for record in records])


def _configs(records: Sequence[RunRecord]) -> list[RunConfig]:
    """The distinct configurations of `records`, as a sweep would specify them."""
    settings = {
        tuple(plain(getattr(record.config, name)) for name in _SETTINGS): {
            name: getattr(record.config, name) for name in _SETTINGS
        }
        for record in records
    }
    models = {item["model"] for item in settings.values()}
    if models & PRESETS.keys() and models - PRESETS.keys():
        # A preset's name stands for settings that its runs have as well, so they are those of a network without a name.
        for item in settings.values():
            item["model"] = "rnn_lm" if item["model"] in PRESETS else item["model"]
    return [configure(item) for item in settings.values()]


def _follows(name: str, configs: Sequence[RunConfig]) -> bool:
    """Whether all of `configs` have the default of a setting that depends on others, such as `embed_size`."""
    return all(_without(config, name) == config for config in configs)


def _without(config: RunConfig, name: str) -> RunConfig | None:
    given = {other: getattr(config, other) for other in _SETTINGS if other != name}
    try:
        return configure(given)
    except UserError:
        return None


def _is_grid(records: Sequence[RunRecord], names: Sequence[str]) -> bool:
    points = {tuple(plain(getattr(record.config, name)) for name in names) for record in records}
    return math.prod(map(len, map(set, zip(*points, strict=True)))) == len(points)


def _sweep(records: Sequence[RunRecord]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The settings and axes of a grid, without those that have their defaults.

    Raises:
        UserError: a setting is one that no run could have.
    """
    configs = _configs(records)
    distinct = {name: _distinct(getattr(config, name) for config in configs) for name in _SETTINGS}
    axes = {
        name: sorted(values, key=_order)
        for name, values in distinct.items()
        if len(values) > 1 and not _follows(name, configs)
    }
    given = {name: values[0] for name, values in distinct.items() if len(values) == 1}
    varied = {name: values[0] for name, values in axes.items()}
    configure({**given, **varied})
    for name in list(given):
        fewer = {key: value for key, value in given.items() if key != name}
        try:
            if all(configure({**fewer, **other}) == configure({**given, **other}) for other in _corners(varied, axes)):
                given = fewer
        except UserError:
            continue
    return given, axes


def _corners(varied: dict[str, Any], axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Points with each value of each axis once and the other axes at their first values, to test defaults on."""
    return [{**varied, name: value} for name, values in axes.items() for value in values] or [varied]


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({plain(value): value for value in values}.values())
