"""The space and the method of a search: the mapping ``search`` of a sweep file."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import check_name, coerce, fits, number_type

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["none", "median", "successive_halving"]

#: What ``search`` of a sweep file may have.
KEYS = ("space", "conditions", "trials", "sampler", "pruner", "seed")
#: Trials of a search, as many as a sweep may have points.
MOST_TRIALS = 10_000
#: Of a real number that is drawn from a range. More would say nothing, and make tables hard to read.
_DIGITS = 3
#: Of one that is reached in steps: 0 + 3 * 0.1 is 0.30000000000000004.
_DIGITS_OF_STEPS = 12
_RANGE = re.compile(r"(uniform|log)\(([^()]*)\)")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the lowest.
        high: the highest.
        log: drawn evenly on a logarithmic scale.
        step: from one to the next; None: any number of its kind.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        if not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (self.step is None or _divides(self.step, value - self.low))

    def rounded(self, value: float) -> float:
        """`value` in few digits; of steps, without the rounding errors of their sum."""
        if self.whole:
            return value
        digits = _DIGITS_OF_STEPS if self.step else _DIGITS
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    @property
    def written(self) -> str:
        """As a sweep file has it."""
        return str(self)

    def __str__(self) -> str:
        step = f", {self.step:.15g}" if self.step else ""
        return f"{'log' if self.log else 'uniform'}({self.low:.15g}, {self.high:.15g}{step})"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        return value in self.values

    @property
    def written(self) -> list[Any]:
        """As a sweep file has it."""
        return list(self.values)

    def __str__(self) -> str:
        return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in self.values)


Dimension = Range | Choice


@dataclass(frozen=True)
class Condition:
    """Dimensions that exist only at points where every field of `when` has the given value."""

    when: Mapping[str, Any]
    space: Mapping[str, Dimension]

    def fits(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` is one of them; see `gluon_rnn.config.run.fits`."""
        return fits(self.when, point)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.when.items())


@dataclass(frozen=True)
class SearchSettings:
    """How a search chooses its points.

    Attributes:
        space: what varies, by setting.
        conditions: what else varies at some points only, in order; later ones win.
        trials: points to try, those without a result included; with the sampler grid None: all.
        sampler: tpe (by the results so far: a tree-structured Parzen estimator), random, or grid (every combination).
        pruner: which runs end early: none; median (those whose best validation loss so far is worse than the median of
            the others' after as many epochs); or successive_halving (all but the best third at epochs 1, 3, 9, 27...).
        seed: of the sampler.
    """

    space: Mapping[str, Dimension]
    conditions: Sequence[Condition] = ()
    trials: int | None = None
    sampler: Sampler = "tpe"
    pruner: Pruner = "none"
    seed: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Every setting that varies anywhere."""
        conditional = itertools.chain.from_iterable(condition.space for condition in self.conditions)
        return tuple(dict.fromkeys([*self.space, *conditional]))

    def dimensions(
        self, fits: Callable[[Condition], bool] = lambda condition: True
    ) -> Iterator[tuple[str, str, Dimension]]:
        """Each dimension whose condition `fits`, in order: its setting, a name of its own, and itself."""
        for condition in (Condition({}, self.space), *self.conditions):
            if fits(condition):
                for name, dimension in condition.space.items():
                    yield name, f"{name} ({condition})" if condition.when else name, dimension

    def parameters(self, point: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, tuple[Dimension, Any]] | None:
        """The dimension and the value of all that varies at `point`, by the names of `dimensions`.

        Args:
            point: values by setting.
            fixed: settings of every point.

        Returns:
            None if the space does not hold the point.
        """
        fitting = self.dimensions(lambda condition: condition.fits({**fixed, **point}))
        last = {name: (parameter, dimension) for name, parameter, dimension in fitting}
        if not all(name in point and dimension.holds(point[name]) for name, (_, dimension) in last.items()):
            return None
        return {parameter: (dimension, point[name]) for name, (parameter, dimension) in last.items()}

    @property
    def written(self) -> dict[str, Any]:
        """As `parse_search` reads it again."""

        def space(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
            return {name: dimension.written for name, dimension in dimensions.items()}

        return {
            "trials": self.trials,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "seed": self.seed,
            "space": space(self.space),
            "conditions": [{"when": dict(item.when), "space": space(item.space)} for item in self.conditions],
        }

    def grid(self, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every combination, for the sampler grid; `fixed` are settings of every point."""
        seen = set()
        for values in itertools.product(*map(_values, self.space.values())):
            point = dict(zip(self.space, values, strict=True))
            fitting = (condition for condition in self.conditions if condition.fits({**fixed, **point}))
            inner = {name: dimension for condition in fitting for name, dimension in condition.space.items()}
            for more in itertools.product(*map(_values, inner.values())):
                found = {**point, **dict(zip(inner, more, strict=True))}
                # A condition that replaces values makes points of several values equal.
                if (key := tuple(sorted(found.items()))) not in seen:
                    seen.add(key)
                    yield found

    def corners(self, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Points that together have each value at an end of a dimension, or among its choices.

        In all else they have the first value of each dimension, and what their condition says.

        Args:
            fixed: settings of every point.
        """
        firsts = {name: _ends(dimension)[0] for name, dimension in self.space.items()}
        for condition in (Condition({}, self.space), *self.conditions):
            for name, dimension in condition.space.items():
                for value in _ends(dimension):
                    point = {**firsts, **condition.when, name: value}
                    for other in self.conditions:
                        if other is not condition and other.fits({**fixed, **point}):
                            point |= {k: _ends(v)[0] for k, v in other.space.items() if k != name}
                    yield {name: coerce(name, value) for name, value in point.items()}

    def with_arguments(self, pinned: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> SearchSettings:
        """These settings under a command line's ``--set`` (`pinned`) and ``--axis`` (`axes`), whose values are choices.

        Conditions that fit no point any more are left out.

        Raises:
            UserError: nothing is left to search.
        """
        said = {*pinned, *axes}
        space = {name: dimension for name, dimension in self.space.items() if name not in said}
        space |= {name: Choice(tuple(values)) for name, values in axes.items()}
        conditions = [
            Condition(item.when, {name: values for name, values in item.space.items() if name not in said})
            for item in self.conditions
            if all(pinned.get(name, value) == value for name, value in item.when.items())
            and all(value in axes.get(name, (value,)) for name, value in item.when.items())
        ]
        conditions = [item for item in conditions if item.space]
        if not space and not conditions:
            raise UserError("--set leaves nothing to search; keep one setting of the space")
        return replace(self, space=space, conditions=tuple(conditions))


def _values(dimension: Dimension) -> tuple[Any, ...]:
    if isinstance(dimension, Choice):
        return dimension.values
    step = dimension.step or 1
    steps = range(round((dimension.high - dimension.low) / step) + 1)
    return tuple(dimension.rounded(dimension.low + place * step) for place in steps)


def _divides(step: float, distance: float) -> bool:
    return math.isclose(round(distance / step) * step, distance, abs_tol=1e-9 * step)


def _ends(dimension: Dimension) -> tuple[Any, ...]:
    return dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)


def parse_search(value: Any, axes: Mapping[str, Sequence[Any]]) -> SearchSettings:
    """The mapping ``search`` of a sweep file.

    Args:
        value: has ``space``, and may have ``conditions``, ``trials``, ``sampler``, ``pruner`` and ``seed``.
        axes: of the same file; their values are choices.

    Raises:
        UserError: it is not such a mapping, or a value in it is wrong.
    """
    if not isinstance(value, dict):
        raise UserError("search is a mapping with 'space: {setting: values}'")
    for key in value:
        if key not in KEYS:
            raise UserError(f"search has no {quoted(key)}{did_you_mean(key, KEYS)}; it has {', '.join(KEYS)}")
    space = {name: Choice(tuple(values)) for name, values in axes.items()} | _space(value.get("space", {}), "space")
    sampler = _one_of(value, "sampler", "tpe", get_args(Sampler))
    pruner = _one_of(value, "pruner", "none", get_args(Pruner))
    conditions = value.get("conditions") or ()
    if not isinstance(conditions, list | tuple):
        raise UserError("conditions of search are a list of mappings with 'when' and 'space'")
    conditions = tuple(map(_condition, conditions))
    if not space and not conditions:
        raise UserError("search has no space; give it 'space: {setting: values}'")
    trials = _trials(value.get("trials"), sampler)
    seed: int = coerce("seed", value.get("seed", 0))
    settings = SearchSettings(space, conditions, trials, sampler, pruner, seed)
    if sampler == "grid":
        _check_grid(settings)
    return settings


def _one_of(value: Mapping[str, Any], name: str, default: str, choices: Sequence[str]) -> Any:
    found = value.get(name, default)
    if found not in choices:
        hint = did_you_mean(str(found), choices)
        raise UserError(f"search {name}={quoted(found)} is not one of {', '.join(choices)}{hint}")
    return found


def _trials(value: Any, sampler: str) -> int | None:
    if value is None:
        if sampler == "grid":
            return None
        raise UserError("search needs 'trials: N', the number of points to try")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_TRIALS:
        raise UserError(f"search trials={quoted(value)} is not a whole number from 1 to {MOST_TRIALS:,}")
    return value


def _condition(item: Any) -> Condition:
    if not isinstance(item, dict) or {*item} != {"when", "space"} or not isinstance(item["when"], dict):
        raise UserError("a condition of search is a mapping with 'when: {field: value}' and 'space: {field: values}'")
    when = {name: coerce(name, value) for name, value in item["when"].items()}
    return Condition(when, _space(item["space"], "the space of a condition"))


def _space(value: Any, what: str) -> dict[str, Dimension]:
    if not isinstance(value, dict):
        raise UserError(f"{what} of search must be a mapping of settings to ranges or lists of values")
    return {name: parse_dimension(name, item) for name, item in value.items()}


def parse_dimension(name: str, value: Any) -> Dimension:
    """``uniform(0, 0.5)``, ``uniform(100, 400, 50)``, ``log(1, 40)`` or a list of values, for the setting `name`.

    Raises:
        UserError: it is none of these, or not for this setting.
    """
    check_name(name)
    if isinstance(value, list):
        if not value:
            raise UserError(f"search over {name} has no values")
        return Choice(tuple(coerce(name, item) for item in value))
    match = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise UserError(
            f"search over {name}: {quoted(value)} is neither a list of values nor a range such as uniform(0, 0.5), "
            "uniform(100, 400, 50) or log(1, 40)"
        )
    low, high, *step = _numbers(name, match[2])
    whole = _is_whole(name)
    if match[1] == "log" and (low <= 0 or step):
        raise UserError(f"search over {name}: {value} must be log(LOW, HIGH) with LOW above 0")
    if not low < high or (step and (step[0] <= 0 or not _divides(step[0], high - low))):
        raise UserError(f"search over {name}: {value} must rise, in whole steps")
    if whole and not all(number == int(number) for number in (low, high, *step)):
        raise UserError(f"search over {name}: {value} must have whole numbers")
    for end in (low, high):
        coerce(name, int(end) if whole else end)
    return Range(low, high, match[1] == "log", step[0] if step else None, whole)


def _numbers(name: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(map(math.isfinite, numbers)):
        raise UserError(f"search over {name}: ({text}) must hold two numbers, low and high, and perhaps a step")
    return numbers


def _is_whole(name: str) -> bool:
    """Whether a setting takes whole numbers only.

    Raises:
        UserError: it does not take numbers.
    """
    kind = number_type(name)
    if kind is None:
        raise UserError(f"search over {name}: it does not take numbers; give it a list of values")
    return kind is int


def _check_grid(settings: SearchSettings) -> None:
    spaces = (settings.space, *(condition.space for condition in settings.conditions))
    for name, dimension in itertools.chain.from_iterable(space.items() for space in spaces):
        if isinstance(dimension, Range) and not (dimension.step or dimension.whole):
            raise UserError(f"search over {name}: sampler=grid needs a list of values or a step, not {dimension}")
    check_size(settings, {})


def check_size(settings: SearchSettings, fixed: Mapping[str, Any]) -> None:
    """Refuse a grid with too many points; `fixed` are settings of every point.

    Raises:
        UserError: it has more than `MOST_TRIALS`.
    """
    if (
        settings.sampler == "grid"
        and sum(1 for _ in itertools.islice(settings.grid(fixed), MOST_TRIALS + 1)) > MOST_TRIALS
    ):
        raise UserError(f"the grid has more than {MOST_TRIALS:,} points; shorten it, or choose another sampler")
