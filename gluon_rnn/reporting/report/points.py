"""The points of a sweep: runs that differ only in their seeds, and statistics of their results."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from gluon_rnn.config.run import PRESETS, RunConfig, unnumbered, varying_fields
from gluon_rnn.reporting.report.content import plain
from gluon_rnn.reporting.report.reading import Run
from gluon_rnn.runs.contents import DIGESTS, Names, label
from gluon_rnn.runs.metrics import SCORED_ON, outcome, rank
from gluon_rnn.runs.progress import perplexity
from gluon_rnn.runs.records import RunRecord

CONFIDENCE = 0.95

#: Settings that tell no points apart: repetition, where a run was, what its log looks like, and what is scored.
_NO_SETTING = frozenset({"seed", "device", "threads", "log_interval", *SCORED_ON})

#: What else a machine does slows some runs, some of them by half, and speeds none up.
TIMED = frozenset({"tokens_per_second", "step_ms_p50", "wall_seconds"})

#: Ratios tell these apart, so their intervals are those of their logarithms: of a perplexity, of the loss.
LOGARITHMIC = frozenset({"valid_perplexity", "test_perplexity", "tokens_per_second"})
#: What a run costs; it compares at one place only, and other runs of the same network may have been timed for it.
COSTS = TIMED | {"peak_mb", "peak_rss_mb", "peak_gpu_mb"}

_LARGEST = 1e300


def quantity(record: RunRecord, name: str) -> float | None:
    """The number in a column of `record`, or its ``peak_mb``.

    None where it is missing or not a number; infinities stay, and what is too large to be averaged is one.
    """
    value = getattr(record, name)
    if value is None or math.isnan(value):
        return None
    return math.copysign(math.inf, value) if abs(value) > _LARGEST else value


class Place(NamedTuple):
    """Where throughputs compare: one machine, kind and number of devices, and number of threads.

    Attributes:
        letter: A, B and so on, in a report; empty before it has one.
    """

    machine_id: str
    device: str
    device_name: str
    threads: int | None
    letter: str = ""

    @classmethod
    def of(cls, record: RunRecord) -> Place:
        """The place of a run, without its letter."""
        # A GPU's number decides nothing; its name does, where a machine has several kinds.
        config, origin = record.config, record.origin
        return cls(origin.machine_id, unnumbered(config.device), origin.device_name, config.threads)


@dataclass(frozen=True)
class Spread:
    """A sample's size, mean, standard deviation (n - 1) and the two-sided `CONFIDENCE` interval of the mean.

    The interval is Student's, mean ± t(n - 1) * deviation / sqrt(n); where ratios count, that of the logarithms,
    exponentiated. It and the deviation are None for a lone value and where a value is infinite.
    """

    count: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None


def spread(values: Sequence[float], *, logarithmic: bool = False) -> Spread | None:
    """The `Spread` of `values`; None if there are none.

    Args:
        values: of each seed.
        logarithmic: whether ratios count; all values are above 0 then.
    """
    if not values:
        return None
    mean = statistics.fmean(values)
    if len(values) < 2 or not math.isfinite(mean):
        return Spread(len(values), mean)
    from scipy.stats import t

    deviation = statistics.stdev(values)
    scaled = [math.log(value) for value in values] if logarithmic else values
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(scaled) / math.sqrt(len(values))
    ends = (statistics.fmean(scaled) - half, statistics.fmean(scaled) + half)
    return Spread(len(values), mean, deviation, *(map(perplexity, ends) if logarithmic else ends))


@dataclass(frozen=True)
class Point:
    """One configuration with the runs of each seed, from any folder and any place.

    Attributes:
        settings: everything that can tell it from others: the configuration's fields, where vectors or an own cell of
            one name are several with a digest behind it, and ``version``, which counts runs that agree in all but their
            run_id, as of an own cell in records that hold no digest of its sources.
        runs: by seed.
        timed: the runs that its speeds and memory come from; None: its own.
        place: whose speeds and memory are read; None: of the only one where there are any.
        number: place in the ranking, from 1; 0 before it has one.
    """

    settings: Mapping[str, Any]
    runs: tuple[Run, ...]
    timed: tuple[Run, ...] | None = None
    place: Place | None = None
    number: int = 0

    @cached_property
    def records(self) -> tuple[RunRecord, ...]:
        """The records of its runs."""
        return tuple(run.record for run in self.runs)

    @cached_property
    def counted_runs(self) -> tuple[Run, ...]:
        """The runs behind its numbers: those that ended well, or all if none did."""
        return tuple(run for run in self.runs if outcome(run.record) == "ok") or self.runs

    @cached_property
    def counted(self) -> tuple[RunRecord, ...]:
        """The records of `counted_runs`."""
        return tuple(run.record for run in self.counted_runs)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs behind its numbers."""
        return tuple(sorted({record.config.seed for record in self.counted}))

    @cached_property
    def seeds_ok(self) -> tuple[int, ...]:
        """The seeds of its runs that ended well."""
        return tuple(sorted({record.config.seed for record in self.records if outcome(record) == "ok"}))

    @cached_property
    def seeds_run(self) -> tuple[int, ...]:
        """The seeds of all its runs."""
        return tuple(sorted({record.config.seed for record in self.records}))

    @cached_property
    def places(self) -> frozenset[Place]:
        """Where its speeds and memory were measured, without letters; of runs whose speeds count, if there are any."""
        runs = self._costing
        return frozenset(Place.of(run.record) for run in [r for r in runs if r.speeds_count] or runs)

    def at(self, place: Place) -> Point:
        """The same point with the speeds and memory of one place."""
        return replace(self, place=place)

    @cached_property
    def _costing(self) -> list[Run]:
        """The runs that provide speeds and memory."""
        runs = [*(self.counted_runs if self.timed is None else self.timed)]
        if self.place is not None:
            runs = [run for run in runs if Place.of(run.record) == self.place._replace(letter="")]
        return runs

    def values(self, name: str) -> list[float]:
        """A `quantity` for each seed that has one, averaged over the seed's runs; costs for each run of its place.

        None of a cost at several places, no speeds or times that do not count, and no whole times of other runs.
        """
        if name in COSTS:
            if self.timed is not None and name == "wall_seconds":
                return []
            if self.place is None and len(self.places) > 1:
                return []
            runs = [run for run in self._costing if run.speeds_count or name not in TIMED]
            return [value for run in runs if (value := quantity(run.record, name)) is not None]
        seeds: dict[int, list[float]] = {}
        for record in self.counted:
            if (value := quantity(record, name)) is not None:
                seeds.setdefault(record.config.seed, []).append(value)
        return [statistics.fmean(values) for values in seeds.values()]

    def spread(self, name: str) -> Spread | None:
        """The `Spread` of a `quantity` over the seeds."""
        values = self.values(name)
        return spread(values, logarithmic=name in LOGARITHMIC and all(value > 0 for value in values))

    def average(self, name: str) -> float | None:
        """The average of a `quantity` over the seeds: the mean, or the median for `TIMED` columns."""
        values = self.values(name)
        return (statistics.median if name in TIMED else statistics.fmean)(values) if values else None

    @property
    def parameters(self) -> int | None:
        """The number of trained parameters."""
        return next((record.parameters for record in self.records if record.parameters), None)

    @property
    def ok(self) -> bool:
        """Whether every seed ended well and learned something."""
        return all(outcome(record) == "ok" for record in self.records)

    @property
    def status(self) -> str:
        """The `outcome`, such as ``ok`` or, for several seeds, ``2 ok, 1 worse than unigram``."""
        counts = Counter(map(outcome, self.records))
        if len(self.records) == 1 or len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1]))

    def label(self, names: Iterable[str]) -> str:
        """The point's name, such as ``cell=gru bptt=35``."""
        return label({name: plain(self.settings[name]) for name in names})


def places_of(runs: Iterable[Run]) -> list[Place]:
    """The places of `runs`, with letters in the order of their names."""
    distinct = sorted({Place.of(run.record) for run in runs}, key=lambda place: tuple(map(str, place)))
    return [place._replace(letter=_letter(number)) for number, place in enumerate(distinct)]


def _letter(number: int) -> str:
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("A") + last)


def points_of(runs: Iterable[Run], names: Names | None = None, *, timed: Iterable[Run] | None = None) -> list[Point]:
    """Group `runs` into points. Runs of different content are never grouped, whatever their names.

    The folder and the place of a run do not matter: neither changes what a configuration learns.

    Args:
        runs: of any folders and places.
        names: of whatever is shown together with the points; None: of them alone.
        timed: runs whose speeds and memory stand for those of the points of the same network, in place of their own;
            None: each point has its own.
    """
    runs = list(runs)
    shown = names or Names(run.record.row for run in runs)
    fields = [name for name in RunConfig.model_fields if name not in _NO_SETTING]
    seen: Counter[Any] = Counter()
    gathered: dict[Any, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.record.config.seed, run.record.started_at, run.record.run_id)):
        row = run.record.row
        # A preset's name stands for settings that the row has as well.
        plain = {**row, "model": "rnn_lm"} if row["model"] in PRESETS else row
        settings = tuple(shown.shown(plain, name) for name in fields)
        contents = tuple(row[digest] for digest in DIGESTS.values())
        origin = (run.folder, Place.of(run.record), row["seed"])
        version = seen[settings, contents, origin] = seen[settings, contents, origin] + 1
        gathered.setdefault((contents, (*settings, version)), []).append(run)
    networks: dict[Any, list[Run]] = {}
    for run in timed or ():
        networks.setdefault(_network(run.record), []).append(run)
    return [
        Point(
            dict(zip((*fields, "version"), settings, strict=True)),
            tuple(group),
            None if timed is None else tuple(networks.get(_network(group[0].record), ())),
        )
        for (_, settings), group in gathered.items()
    ]


#: What makes a network and its batches, and so its speed.
NETWORK = (
    *("objective", "cell", "cell_sha1", "bidirectional", "hidden_size", "embed_size", "num_layers", "tie_weights"),
    *("embedding", "train_embedding", "dropout", "dropout_input", "dropout_hidden", "dropout_embedding", "weight_drop"),
    *("alpha", "beta", "precision", "vocab_size", "bptt", "random_bptt", "batch_size", "last_batch", "stride"),
    *("optimizer", "sampled_softmax"),
)


def _network(record: RunRecord) -> tuple[Any, ...]:
    return tuple(record.row[name] for name in NETWORK)


def varying(points: Sequence[Point]) -> tuple[str, ...]:
    """The settings in which `points` differ, or those that describe a single point."""
    return varying_fields([point.settings for point in points])


def axes(points: Sequence[Point], names: Sequence[str]) -> list[str]:
    """The `names` that were swept, without those that follow from another, as a learning rate for each cell does."""
    swept: list[str] = []
    for name in names:
        values = {point.settings[name] for point in points}
        follows = any(
            len({(point.settings[other], point.settings[name]) for point in points})
            == len({point.settings[other] for point in points})
            for other in swept
        )
        if len(values) > 1 and not follows:
            swept.append(name)
    return swept


def ranked(points: Iterable[Point], loss: str) -> list[Point]:
    """The points, best first by `rank`, from average validation `loss` (a column) and tokens/s."""

    def key(point: Point) -> tuple[int, float, float, str]:
        outcomes = {*map(outcome, point.records)}
        place = rank(outcomes, point.average(loss), point.average("tokens_per_second"))
        return *place, str(point.settings)

    return [replace(point, number=number) for number, point in enumerate(sorted(points, key=key), 1)]


def comparable(points: Iterable[Point], loss: str) -> list[Point]:
    """The points whose `loss` and speed can both be plotted, even on a logarithmic axis."""
    return [
        point for point in points if point.ok and all(is_positive(point, name) for name in (loss, "tokens_per_second"))
    ]


def is_positive(point: Point, name: str) -> bool:
    """Whether the values of all seeds are positive and finite, so that they have a logarithm."""
    values = point.values(name)
    return bool(values) and all(0 < value < math.inf for value in values)


def pareto_front(points: Iterable[Point], loss: str) -> list[Point]:
    """The `comparable` points of one place that no other beats in `loss` without being slower; fastest first.

    By their averages; what chance may have to do with it is `chances.front_of`'s business.
    """
    front: list[Point] = []
    least = math.inf
    measured = [(known(p, "tokens_per_second"), known(p, loss), p) for p in comparable(points, loss)]
    for _, value, point in sorted(measured, key=lambda item: (-item[0], item[1])):
        if value < least:
            least = value
            front.append(point)
    return front


def compromise(front: Sequence[Point], loss: str) -> Point | None:
    """The point of a Pareto front that is nearest to both its best `loss` and its best throughput.

    Both are taken as logarithms and scaled to 0 .. 1 over the front, so that neither unit decides. None of a front of
    fewer than three points, which has no middle.
    """
    if len(front) < 3:
        return None
    losses = [math.log(known(point, loss)) for point in front]
    speeds = [math.log(known(point, "tokens_per_second")) for point in front]

    def distance(number: int) -> float:
        return math.hypot(
            (losses[number] - losses[-1]) / (losses[0] - losses[-1]),
            (speeds[0] - speeds[number]) / (speeds[0] - speeds[-1]),
        )

    return front[min(range(len(front)), key=distance)]


def fastest_within(points: Iterable[Point], share: float, loss: str) -> Point | None:
    """The fastest `comparable` point whose `loss` is at most `share` above the lowest."""
    return max(within(points, share, loss), key=lambda point: known(point, "tokens_per_second"), default=None)


def within(points: Iterable[Point], share: float, loss: str) -> list[Point]:
    """The `comparable` points whose `loss` is at most `share` above the lowest."""
    measured = comparable(points, loss)
    bound = (1 + share) * min((known(point, loss) for point in measured), default=0.0)
    return [point for point in measured if known(point, loss) <= bound]


def known(point: Point, name: str) -> float:
    """The average of a point that has one."""
    value = point.average(name)
    assert value is not None
    return value
