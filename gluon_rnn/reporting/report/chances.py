"""Which points are better than others, given the spread of their repeats.

Speeds are compared as logarithms, losses in nats (of a perplexity, its logarithm). The probability that one point is at
least as good as another is the one-sided p-value of a t-test, which under a flat prior is just that:

- Student's two-sample test, where both have several seeds (two or three are too few to know each spread by itself, as
  Welch's test wants; of equally many seeds unequal spreads do little harm: Box, Annals of Mathematical Statistics 25
  (1954), 290);
- where one has a single seed, a test with the spread pooled over all points that have several, each about its own mean;
- where no point has several seeds the spread is unknown. Then the values alone decide, and reports say so.

A point dominates another with the product of its probabilities of being at least as good in loss and in speed, which
are measured independently of each other (Teich, Pareto-front exploration with uncertain objectives, EMO 2001; Hughes,
Evolutionary multi-objective ranking with uncertainty and noise, EMO 2001). With more than `CONFIDENCE` the other is
beaten; one that no point dominates with more than 1 - `CONFIDENCE` is on the Pareto front; between lies what is
undecided. Each pair is judged at this level by itself, so that among many points a few verdicts are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gluon_rnn.reporting.report.points import (
    CONFIDENCE,
    LOGARITHMIC,
    Point,
    comparable,
    is_positive,
    known,
    pareto_front,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Chances:
    """The probability that one of several points is at least as good as another in one column.

    Attributes:
        points: one or more, whose seeds all have a positive value there.
        spread_known: whether any of them has several seeds.
    """

    def __init__(self, points: Sequence[Point], column: str) -> None:
        import numpy as np

        self.points = tuple(points)
        sign = -1 if column == "tokens_per_second" else 1
        read = math.log if column in LOGARITHMIC else float
        # Less is better from here on.
        self._samples = [sorted(sign * read(value) for value in point.values(column)) for point in points]
        self._means = np.array([fmean(sample) for sample in self._samples])
        self._counts = np.array([len(sample) for sample in self._samples])
        self._deviations = np.array([np.std(sample, ddof=1) if len(sample) > 1 else 0.0 for sample in self._samples])
        self._freedom = int((self._counts - 1).sum())
        self.spread_known = self._freedom > 0

    def equal(self, point: Point) -> NDArray[Any]:
        """Whether each point has exactly the values of `point`, as where one timing stands for both."""
        import numpy as np

        sample = self._samples[self._place(point)]
        return np.array([other == sample for other in self._samples])

    def at_least_as_good_as(self, point: Point) -> NDArray[Any]:
        """The probability that each point is at least as good as `point`."""
        import numpy as np
        from scipy import stats

        place = self._place(point)
        differences = self._means - self._means[place]
        chances = (differences <= 0).astype(float)
        if self.spread_known:
            counts, deviations = self._counts, self._deviations
            pooled = math.sqrt(float(((counts - 1) * deviations**2).sum()) / self._freedom)
            both = (counts > 1) & (counts[place] > 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = differences / (pooled * np.sqrt(1 / counts + 1 / counts[place]))
                student = stats.ttest_ind_from_stats(
                    *(self._means, deviations, counts),
                    *(self._means[place], deviations[place], counts[place]),
                    equal_var=True,
                    alternative="greater",
                ).pvalue
            tested = np.where(both, student, stats.t.sf(ratios, self._freedom))
            # Repeats that agree to the bit leave nothing to chance.
            chances = np.where(np.isnan(tested), chances, tested)
        return np.where(self.equal(point), 1.0, chances)

    def _place(self, point: Point) -> int:
        return next(place for place, other in enumerate(self.points) if other is point)


def rivals_of(point: Point, points: Iterable[Point], column: str) -> list[Point] | None:
    """The points that may be as good as `point`, the best by value; chance may have put them behind it.

    None where the spread is unknown, or no test can reckon with what `point` has.
    """
    positive = [other for other in points if is_positive(other, column)]
    if not any(other is point for other in positive):
        return None
    chances = Chances(positive, column)
    if not chances.spread_known:
        return None
    probable = chances.at_least_as_good_as(point) > 1 - CONFIDENCE
    return [other for other, near in zip(positive, probable, strict=True) if near and other is not point]


@dataclass(frozen=True)
class Front:
    """The Pareto front of the comparable points of one place, given the spread of their repeats.

    Attributes:
        sure: the points that no other dominates, fastest first.
        undecided: those of which the spread does not say whether one does, fastest first.
        spread_known: whether any point has several seeds. Without, the values alone have decided.
    """

    sure: tuple[Point, ...]
    undecided: tuple[Point, ...]
    spread_known: bool


def front_of(points: Iterable[Point], loss: str) -> Front:
    """The `Front` of the comparable `points`, all of one place, in `loss` and speed."""
    candidates = sorted(
        comparable(points, loss), key=lambda point: (-known(point, "tokens_per_second"), known(point, loss))
    )
    if not candidates:
        return Front((), (), spread_known=False)
    losses, speeds = Chances(candidates, loss), Chances(candidates, "tokens_per_second")
    if not (losses.spread_known or speeds.spread_known):
        return Front(tuple(pareto_front(candidates, loss)), (), spread_known=False)
    sure, undecided = [], []
    for point in candidates:
        dominated = losses.at_least_as_good_as(point) * speeds.at_least_as_good_as(point)
        dominated[losses.equal(point) & speeds.equal(point)] = 0.0
        if dominated.max() <= 1 - CONFIDENCE:
            sure.append(point)
        elif dominated.max() <= CONFIDENCE:
            undecided.append(point)
    return Front(tuple(sure), tuple(undecided), spread_known=True)
