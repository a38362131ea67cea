"""Sweeps: lists of run configurations, written as their differences, and the YAML files that hold them."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.plain_text import decode
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import QUOTE_HINT, RunConfig, check_name, coerce, configure
from gluon_rnn.config.search_space import SearchSettings, parse_search

_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

#: Of a sweep: planned in seconds, and at half a minute each they run for more than three days.
MOST_POINTS = 10_000
#: Of a sweep file, whose longest axis has no more than `MOST_POINTS` values.
_LONGEST_FILE = 2**18
#: Of any mapping in a sweep file. YAML's merge keys can ask for more of them than fit in memory.
_MOST_KEYS = 100


@dataclass(frozen=True)
class Override:
    """Settings for only those points where every field of `when` has the given value."""

    when: Mapping[str, Any]
    settings: Mapping[str, Any]

    def fits(self, point: Mapping[str, Any]) -> bool:
        """Whether every field of `when` has its value at `point`, whose settings are given or are defaults."""
        return all(point.get(name, RunConfig.model_fields[name].default) == value for name, value in self.when.items())


@dataclass(frozen=True)
class Sweep:
    """A list of run configurations, written as their differences.

    Later ones win: the defaults, `settings`, `axes`, `overrides`, `pinned`.

    Attributes:
        name: of its folder in results/.
        settings: of every point, where they differ from the defaults.
        axes: values by field; the points are their product, the first axis varying slowest.
        overrides: applied in order to the points they match.
        pinned: settings of the command line's ``--set``.
        search: proposes the points in place of `axes`, which are choices of its space; None: the points are fixed.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    pinned: Mapping[str, Any] = field(default_factory=dict)
    search: SearchSettings | None = None

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings of every point, before overrides."""
        return {**self.settings, **self.pinned}

    def with_arguments(
        self, pinned: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], *, name: str | None = None
    ) -> Sweep:
        """This sweep under a command line's ``--set`` (`pinned`), ``--axis`` (`axes`) and ``--name``.

        A pinned field loses its axis; an axis given here replaces the sweep's own of that field. Either way the command
        line wins over the sweep's overrides of that field.

        Raises:
            UserError: a field is unknown, a value is not of its type, an axis is empty, a field is given both ways, or
                no folder can have the name.
        """
        for key in pinned:
            if key in axes:
                raise UserError(f"{key} is given both to --set and to --axis; keep one of them")
        pinned = {key: coerce(key, value) for key, value in pinned.items()}
        axes = {key: _axis(key, values) for key, values in axes.items()}
        said = {*pinned, *axes}
        idle = self.unmatched()
        changed = replace(
            self,
            name=self.name if name is None else _folder_name(name),
            axes={**{key: values for key, values in self.axes.items() if key not in pinned}, **axes},
            pinned={**self.pinned, **pinned},
        )
        if self.search:
            changed = replace(changed, axes={}, search=self.search.with_arguments(pinned, axes))
        # A sweep with fewer points does not need every override. One that never fitted stays, to be remarked on.
        moot = [item for item in changed.unmatched() if item not in idle]
        return replace(
            changed,
            overrides=tuple(
                Override(item.when, {key: value for key, value in item.settings.items() if key not in said})
                for item in self.overrides
                if item not in moot
            ),
        )

    def points(self) -> list[RunConfig]:
        """Every configuration of the sweep, in order, without duplicates; of a search those at the ends of its space.

        Raises:
            UserError: a point's settings contradict each other, or there are more than `MOST_POINTS` points.
        """
        if self._count() > MOST_POINTS:
            raise UserError(
                f"the axes make {self._count():,} points, and a sweep has up to {MOST_POINTS:,}; shorten them"
            )
        points = self.search.corners(self.fixed) if self.search else self._before_overrides()
        return list(dict.fromkeys(map(self.at, points)))

    def at(self, point: Mapping[str, Any]) -> RunConfig:
        """The configuration of a point whose settings are `point` and what is `fixed`, after overrides.

        Raises:
            UserError: they contradict each other.
        """
        before = {**self.settings, **point, **self.pinned}
        settings = dict(before)
        for override in self.overrides:
            if override.fits(before):
                settings |= override.settings
        return configure(settings)

    def unmatched(self) -> list[Override]:
        """The overrides that match no point; empty for a sweep with too many points to check."""
        if not self.overrides or self._count() > MOST_POINTS:
            return []
        points = list(self._before_overrides())
        return [override for override in self.overrides if not any(map(override.fits, points))]

    def _count(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def _before_overrides(self) -> Iterator[dict[str, Any]]:
        """The settings of each point as overrides see them."""
        for values in itertools.product(*self.axes.values()):
            yield {**self.settings, **dict(zip(self.axes, values, strict=True)), **self.pinned}


def shipped_sweep(name: str) -> Path:
    """The sweep file ``benchmarks/NAME.yaml`` of the checkout, or its copy in an installed package.

    Raises:
        UserError: it is not there.
    """
    for root in (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "gluon_rnn"):
        if (path := root / "benchmarks" / f"{name}.yaml").exists():
            return path
    raise UserError(f"benchmarks/{name}.yaml is missing; name a sweep file")


def load_sweep(path: Path) -> Sweep:
    """Load a sweep from a YAML file with ``name`` (default: the file's), ``set``, ``axes`` and ``overrides``.

    Raises:
        UserError: the file cannot be read, is not such a mapping, or holds an unknown field or a wrong value.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE + 1)
        if len(text) > _LONGEST_FILE:
            raise UserError(f"cannot read the sweep file {path}: it is longer than {_LONGEST_FILE:,} bytes")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a path that none can be
        raise UserError(f"cannot read the sweep file {path}: {reason}") from None
    decoded = decode(text, f"cannot read the sweep file {path}: it")
    try:
        content = yaml.load(decoded.translate(_NO_LINE_END), _Loader)
    except Exception as error:  # whatever goes wrong in PyYAML 6 after a tag such as "!!bool 5"
        told = str(error) if isinstance(error, yaml.YAMLError | ValueError) else repr(error)
        reason = " ".join(told.translate(_GUISES).split())
        raise UserError(f"{path} is not valid YAML: {reason}") from None
    content = _mapping(content, f"{path} is not a mapping with name, set, axes and overrides")
    known = ("name", "set", "axes", "overrides", "search")
    for key in content:
        if key not in known:
            raise UserError(
                f"{path}: unknown key {quoted(key)}{did_you_mean(key, known)}; choose from {', '.join(known)}"
            )
    try:
        name = _folder_name(content.get("name", path.stem))
        overrides = content.get("overrides") or ()
        if not isinstance(overrides, list | tuple):
            raise UserError("overrides must be a list of 'when: {field: value}' and 'set: {field: value}'")
        sweep = Sweep(
            name=name,
            settings=_settings(content.get("set") or {}, "set must be a mapping of field: value"),
            axes={
                key: _axis(key, values)
                for key, values in _mapping(
                    content.get("axes") or {}, "axes must map fields to lists of values"
                ).items()
            },
            overrides=tuple(_override(item) for item in overrides),
        )
        if "search" in content:
            sweep = replace(sweep, axes={}, search=parse_search(content["search"], sweep.axes))
        return sweep
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


#: PyYAML 6 ends lines at these, as YAML 1.1 did and YAML 1.2 does not. While it reads, noncharacters of Unicode, which
#: no text has, stand for them.
_NO_LINE_END = {0x85: 0xFDD0, 0x2028: 0xFDD1, 0x2029: 0xFDD2}
_GUISES = {guise: character for character, guise in _NO_LINE_END.items()}

#: Which scalars without quotes are not text: YAML 1.2's core schema (section 10.3.2) and the merge key. PyYAML 6
#: follows YAML 1.1, where 2:0.001 is the number 120.001, 010 is 8 and 1e3 is text.
_CORE_SCHEMA = {
    "null": "null|Null|NULL|~|",
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}


class _Loader(yaml.SafeLoader):
    """Loads plain data only, never Python objects."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A scalar with the characters that the file has."""
        node = super().compose_scalar_node(anchor)
        node.value = node.value.translate(_GUISES)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number; leading zeros do not make it octal."""
        value = self.construct_scalar(node)
        if value.startswith("0o"):
            return int(value, 8)
        return int(value) if value.lstrip("+-").isdigit() else super().construct_yaml_int(node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping with distinct keys, as YAML 1.2 requires; PyYAML 6 silently keeps the last of equal ones."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(f"{quoted(key.value)} is there twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve a mapping's merge keys, unless they expand without bound."""
        super().flatten_mapping(node)
        if len(node.value) > _MOST_KEYS:
            raise yaml.YAMLError(f"a mapping has more than {_MOST_KEYS} keys")


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {  # None: whatever a scalar begins with
    None: [(f"tag:yaml.org,2002:{tag}", re.compile(rf"({form})\Z")) for tag, form in _CORE_SCHEMA.items()]
}


def _folder_name(name: Any) -> str:
    if not isinstance(name, str) or not _SWEEP_NAME.fullmatch(name):
        hint = "" if isinstance(name, str) else f"; {QUOTE_HINT}"
        raise UserError(f"name {quoted(name)} must be letters, digits, '.', '_' and '-', since it names a folder{hint}")
    return name


def _mapping(value: Any, otherwise: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UserError(otherwise)
    return value


def _settings(value: Any, otherwise: str) -> dict[str, Any]:
    return {name: coerce(name, item) for name, item in _mapping(value, otherwise).items()}


def _axis(name: Any, values: Any) -> tuple[Any, ...]:
    check_name(name)
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise UserError(f"axis {name} must be a list of values")
    if not values:
        raise UserError(f"axis {name} has no values; give at least one or leave the axis out")
    return tuple(coerce(name, value) for value in values)


def _override(item: Any) -> Override:
    problem = "an override is a mapping with 'when: {field: value}' and 'set: {field: value}'"
    if set(_mapping(item, problem)) != {"when", "set"}:
        raise UserError(problem)
    return Override(_settings(item["when"], problem), _settings(item["set"], problem))
