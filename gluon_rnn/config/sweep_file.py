"""Sweeps: lists of run configurations, written as their differences, and the YAML files that hold them."""

from __future__ import annotations

import itertools
import math
import random
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.files import expand
from gluon_rnn.common.plain_text import decode
from gluon_rnn.common.printable import quoted
from gluon_rnn.config import ranges
from gluon_rnn.config.run import QUOTE_HINT, RunConfig, check_name, coerce, configure, fits, number_type
from gluon_rnn.config.search_space import SearchSettings, parse_search

#: What a sweep file may have.
KEYS = ("name", "set", "axes", "points", "overrides", "search", "notes", "speeds_count")
#: An item of a list in one, for messages.
_POINT = "'{field: value}'"
_OVERRIDE = "'when: {field: value}' and 'set: {field: value}' or 'axes: {field: [values]}'"

#: A pattern of what may be the name of a folder.
SWEEP_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"

#: The sweep files of the checkout, and their copies in an installed package.
SHIPPED = tuple(
    root / "benchmarks" for root in (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "gluon_rnn")
)
#: Of a sweep: planned in seconds, and at half a minute each they run for more than three days.
MOST_POINTS = 10_000
#: Of a sweep file, whose longest axis has no more than `MOST_POINTS` values.
_LONGEST_FILE = 2**18
#: Of any mapping in a sweep file. YAML's merge keys can ask for more of them than fit in memory.
_MOST_KEYS = 100


@dataclass(frozen=True)
class Override:
    """Settings and axes for only those points where every field of `when` has the given value.

    Attributes:
        when: values by field.
        settings: of the points that it fits.
        axes: values by field; each point that it fits becomes one for each combination of them.
    """

    when: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def fits(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` is one of them; see `gluon_rnn.config.run.fits`."""
        return fits(self.when, point)

    def without(self, names: Collection[str]) -> Override:
        """This override without the fields in `names`."""
        return replace(self, settings=_without(self.settings, names), axes=_without(self.axes, names))


@dataclass(frozen=True)
class Sweep:
    """A list of run configurations, written as their differences.

    Later ones win: the defaults, `settings`, `listed`, `axes`, `overrides`, `pinned`.

    Attributes:
        name: of its folder in results/.
        settings: of every point, where they differ from the defaults.
        axes: values by field; the points are their product, the first axis varying slowest.
        overrides: applied in order to the points they match. `when` sees settings, listed points, and axes, those of
            earlier overrides included; it does not see what overrides set.
        pinned: settings of the command line's ``--set``.
        search: proposes the points in place of `axes`, which are choices of its space; None: the points are fixed.
        listed: settings of points that are written out, which the axes multiply; empty: one point without any.
        sample: how many points to draw at random; None: all.
        sample_seed: of the draw. With the same seed a larger sample contains the smaller one.
        notes: what readers of the results should know; reports show it on top.
        speeds_count: whether the speeds of its runs may be compared; not where the machine has other work to do.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    pinned: Mapping[str, Any] = field(default_factory=dict)
    search: SearchSettings | None = None
    listed: Sequence[Mapping[str, Any]] = ()
    sample: int | None = None
    sample_seed: int = 0
    notes: str = ""
    speeds_count: bool = True

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings of every point, before overrides."""
        return {**self.settings, **self.pinned}

    def with_arguments(
        self,
        pinned: Mapping[str, Any],
        axes: Mapping[str, str | Sequence[Any]],
        *,
        name: str | None = None,
        sample: int | None = None,
        sample_seed: int = 0,
    ) -> Sweep:
        """This sweep under a command line's ``--set`` (`pinned`), ``--axis`` (`axes`), ``--name`` and ``--sample``.

        A pinned field loses its axis; an axis given here replaces the sweep's own of that field. Either way the command
        line wins over the sweep's listed points and overrides of that field.

        Raises:
            UserError: a field is unknown, a value is not of its type, an axis is empty, a field is given both ways, no
                folder can have the name, or no such sample can be drawn.
        """
        for key in pinned:
            if key in axes:
                raise UserError(f"{key} is given both to --set and to --axis; keep one of them")
        pinned = {key: coerce(key, value) for key, value in pinned.items()}
        given = {key: _axis(key, values) for key, values in axes.items()}
        said = {*pinned, *given}
        if sample is not None and not 1 <= sample <= MOST_POINTS:
            raise UserError(f"--sample {sample} must be from 1 to {MOST_POINTS:,}")
        if sample is not None and self.search:
            raise UserError("--sample is not allowed with a search; set its trials and 'sampler: random'")
        idle = self.unmatched()
        changed = replace(
            self,
            name=self.name if name is None else _folder_name(name),
            axes={**_without(self.axes, pinned), **given},
            pinned={**self.pinned, **pinned},
            listed=tuple(_without(point, said) for point in self.listed),
            sample=sample or self.sample,
            sample_seed=sample_seed if sample else self.sample_seed,
        )
        if self.search:
            changed = replace(changed, axes={}, search=self.search.with_arguments(pinned, given))
        # A sweep with fewer points does not need every override. One that never fitted stays, to be remarked on.
        moot = [item for item in changed.unmatched() if item not in idle]
        return replace(changed, overrides=tuple(item.without(said) for item in self.overrides if item not in moot))

    def points(self) -> list[RunConfig]:
        """Every configuration of the sweep, in order, without duplicates.

        Of a sample those that are drawn, of a search those at the ends of its space.

        Raises:
            UserError: a point's settings contradict each other, or there are more than `MOST_POINTS` points.
        """
        if self.search:
            return list(dict.fromkeys(map(self.at, self._corners(self.search))))
        if self.sample is not None:
            return self._draw(self.sample)
        return list(dict.fromkeys(configure(settings) for settings in self._all_settings()))

    def at(self, point: Mapping[str, Any]) -> RunConfig:
        """The configuration of a search's point whose settings are `point` and what is `fixed`, after overrides.

        Raises:
            UserError: they contradict each other.
        """
        ((_, settings),) = self._expand({**self.settings, **point, **self.pinned}, set())
        return configure(settings)

    def count(self) -> int:
        """How many points it has, those that turn out equal counted apart.

        Raises:
            UserError: there are more than `MOST_POINTS`.
        """
        return len(self._all_settings()) if self.sample is None else len(self.points())

    def unmatched(self) -> list[Override]:
        """The overrides that match no point; empty for a sweep with too many points to check."""
        if not self.overrides or self._count() > MOST_POINTS:
            return []
        used: set[int] = set()
        expanded = 0
        if self.search:
            before = [{**self.settings, **corner, **self.pinned} for corner in self._corners(self.search)]
        else:
            before = [self._before_overrides(number) for number in range(self._count())]
        for point in before:
            expanded += len(self._expand(point, used))
            if expanded > MOST_POINTS:
                return []
        return [override for number, override in enumerate(self.overrides) if number not in used]

    def _corners(self, search: SearchSettings) -> list[dict[str, Any]]:
        """The points at the ends of the space of `search`, and one that each override matches, if there is one."""
        found = list(search.corners(self.fixed))
        for override in self.overrides:
            wanted = {name: value for name, value in override.when.items() if name in search.fields}
            points = ({**corner, **wanted} for corner in found)
            found += [point for point in points if search.parameters(point, self.fixed) is not None][:1]
        return found

    def varied(self) -> dict[str, list[Any]]:
        """The values of each field that has an axis or stands in a listed point."""
        found: dict[str, list[Any]] = {}
        for axes in (self.axes, *(override.axes for override in self.overrides)):
            for name, values in axes.items():
                found.setdefault(name, []).extend(values)
        for point in self.listed:
            for name, value in point.items():
                found.setdefault(name, []).append(value)
        return found

    def _count(self) -> int:
        """The points that overrides apply to."""
        return math.prod(len(values) for values in self.axes.values()) * max(1, len(self.listed))

    def _before_overrides(self, number: int) -> dict[str, Any]:
        """The settings of point `number` as overrides see them; listed points vary slowest, then the first axis."""
        chosen: dict[str, Any] = {}
        for name, values in list(self.axes.items())[::-1]:
            number, place = divmod(number, len(values))
            chosen[name] = values[place]
        return {**self.settings, **(self.listed[number] if self.listed else {}), **chosen, **self.pinned}

    def _expand(self, point: Mapping[str, Any], used: set[int]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Apply the overrides to a point: the fields they see, and the settings. `used` gets the overrides' numbers."""
        found = [(point, point)]
        for number, override in enumerate(self.overrides):
            before, found = found, []
            for seen, settings in before:
                if not override.fits(seen):
                    found.append((seen, settings))
                    continue
                used.add(number)
                for values in itertools.product(*override.axes.values()):
                    chosen = dict(zip(override.axes, values, strict=True))
                    found.append(({**seen, **chosen}, {**settings, **chosen, **override.settings}))
                    _check_count(len(found))
        return found

    def _all_settings(self) -> list[Mapping[str, Any]]:
        """The settings of all points, in order. Points along an axis that an override replaces are one."""
        if self._count() > MOST_POINTS:
            raise UserError(
                f"the axes make {self._count():,} points, and a sweep has up to {MOST_POINTS:,}; shorten them"
            )
        replacing = any(override.axes for override in self.overrides)
        found: dict[Any, Mapping[str, Any]] = {}
        for number in range(self._count()):
            for seen, settings in self._expand(self._before_overrides(number), set()):
                found.setdefault(str(sorted(seen.items())) if replacing else number, settings)
            _check_count(len(found))
        return list(found.values())

    def _draw(self, count: int) -> list[RunConfig]:
        """Up to `count` points at random, without duplicates, in the sweep's order."""
        found: dict[RunConfig, int] = {}
        for place, settings in self._shuffled(random.Random(self.sample_seed)):
            found.setdefault(configure(settings), place)
            if len(found) == count:
                break
        return sorted(found, key=lambda config: found[config])

    def _shuffled(self, generator: random.Random) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The places and settings of points in random order: all of them, or `MOST_POINTS` of a larger sweep.

        There one is drawn of what overrides make of each point.
        """
        if self._count() <= MOST_POINTS:
            everything = list(enumerate(self._all_settings()))
            yield from generator.sample(everything, len(everything))
            return
        drawn: set[int] = set()
        while len(drawn) < MOST_POINTS:
            number = generator.randrange(self._count())
            if number not in drawn:
                drawn.add(number)
                yield number, generator.choice(self._expand(self._before_overrides(number), set()))[1]


def _check_count(points: int) -> None:
    if points > MOST_POINTS:
        raise UserError(f"axes and overrides make more than {MOST_POINTS:,} points; shorten them")


def shipped_sweep(name: str) -> Path:
    """The sweep file ``benchmarks/NAME.yaml`` of the checkout, or its copy in an installed package.

    Raises:
        UserError: it is not there.
    """
    for folder in SHIPPED:
        if (path := folder / f"{name}.yaml").exists():
            return path
    raise UserError(f"benchmarks/{name}.yaml is missing; name a sweep file")


def load_sweep(path: Path | str) -> Sweep:
    """Load a sweep from a YAML file with ``name`` (default: the file's) and the other `KEYS`.

    ``notes`` and ``speeds_count`` say what readers of its results should know.

    Raises:
        UserError: the file cannot be read, is not such a mapping, or holds an unknown field or a wrong value.
    """
    path = expand(path)
    read = _read(path)
    wrong = "is empty; write" if read is None else "is not"
    content = _mapping(read, f"{path} {wrong} a mapping with {', '.join(KEYS[:-1])} and {KEYS[-1]}")
    try:
        _check_keys(content, KEYS)
        axes = _axes(content.get("axes") or {})
        listed = tuple(_listed_point(point, axes) for point in _list(content.get("points"), "points", _POINT))
        sweep = Sweep(
            name=_folder_name(content.get("name", path.stem)),
            settings=_settings(content.get("set") or {}, "set must be a mapping of field: value"),
            axes=axes,
            overrides=tuple(_override(item) for item in _list(content.get("overrides"), "overrides", _OVERRIDE)),
            listed=listed,
            notes=_notes(content.get("notes")),
            speeds_count=_speeds_count(content.get("speeds_count", True)),
        )
        return _searching(sweep, content["search"]) if "search" in content else sweep
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _searching(sweep: Sweep, search: Any) -> Sweep:
    """`sweep` as the search that a file describes."""
    if sweep.listed:
        raise UserError("points are not allowed with search, which proposes them; drop one of them")
    if any(override.axes for override in sweep.overrides):
        raise UserError("axes of an override are not allowed with search; move them to its conditions")
    return replace(sweep, axes={}, search=parse_search(search, sweep.axes))


def _read(path: Path) -> Any:
    """The content of a YAML file."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE + 1)
        if len(text) > _LONGEST_FILE:
            raise UserError(f"cannot read the sweep file {path}: it is longer than {_LONGEST_FILE:,} bytes")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a path that none can be
        hint = "; name a file such as benchmarks/quick.yaml" if isinstance(error, IsADirectoryError) else ""
        raise UserError(f"cannot read the sweep file {path}: {reason}{hint}") from None
    decoded = decode(text, f"cannot read the sweep file {path}: it")
    try:
        return yaml.load(decoded.translate(_NO_LINE_END), _Loader)
    except Exception as error:  # whatever goes wrong in PyYAML 6 after a tag such as "!!bool 5"
        told = str(error) if isinstance(error, yaml.YAMLError | ValueError) else repr(error)
        reason = " ".join(told.translate(_GUISES).split())
        raise UserError(f"{path} is not valid YAML: {reason}") from None


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


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _folder_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(SWEEP_NAME, name):
        hint = "" if isinstance(name, str) else f"; {QUOTE_HINT}"
        raise UserError(f"name {quoted(name)} must be letters, digits, '.', '_' and '-', since it names a folder{hint}")
    return name


def _notes(value: Any) -> str:
    if not isinstance(value, str | None):
        raise UserError(f"notes must be text, not {quoted(value)}; {QUOTE_HINT}")
    return (value or "").strip()


def _speeds_count(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"speeds_count must be true or false, not {quoted(value)}")
    return value


def _mapping(value: Any, otherwise: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UserError(otherwise)
    return value


def _list(value: Any, name: str, form: str) -> list[Any] | tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} must be a list of {form}")
    return value


def _check_keys(content: Mapping[Any, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"unknown key {quoted(key)}{did_you_mean(key, known)}; choose from {', '.join(known)}")


def _settings(value: Any, otherwise: str) -> dict[str, Any]:
    return {name: coerce(name, item) for name, item in _mapping(value, otherwise).items()}


def _axes(value: Any) -> dict[str, tuple[Any, ...]]:
    return {
        name: _axis(name, values) for name, values in _mapping(value, "axes must map fields to lists of values").items()
    }


def _axis(name: Any, given: Any) -> tuple[Any, ...]:
    """The values of an axis, given as a list of values and ranges, or as a range."""
    check_name(name)
    if ranges.is_range(name, given):
        given = [given]
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        hint = " or a range such as 0..4" if number_type(name) else ""
        raise UserError(f"axis {name} must be a list of values{hint}")
    values = [value for item in given for value in ranges.expand(name, item, most=MOST_POINTS)]
    if not values:
        raise UserError(f"axis {name} has no values; give at least one or leave the axis out")
    return tuple(coerce(name, value) for value in values)


def _listed_point(item: Any, axes: Mapping[str, Any]) -> dict[str, Any]:
    point = _settings(item, f"points must be a list of {_POINT}")
    if both := [name for name in point if name in axes]:
        raise UserError(f"{both[0]} is both in points and in axes; keep one of them")
    return point


def _override(item: Any) -> Override:
    problem = f"an override is a mapping with {_OVERRIDE}"
    content = _mapping(item, problem)
    _check_keys(content, ("when", "set", "axes"))
    if "when" not in content or len(content) < 2:
        raise UserError(problem)
    override = Override(
        _settings(content["when"], problem),
        _settings(content.get("set", {}), problem),
        _axes(content.get("axes", {})),
    )
    if both := [name for name in override.axes if name in override.when]:
        raise UserError(f"an override cannot vary {both[0]}, which its 'when' gives; list the values in axes")
    return override
