"""Significance: whether repeats show a change beyond a threshold, and how small a change they could have shown.

The question is not whether something changed at all (with enough repeats everything does) but whether it changed by
more than is tolerated: a t-test whose hypothesis is that the true change lies within the threshold ("minimum-effect
test": Murphy and Myors, Journal of Applied Psychology 84 (1999), 234). So a tolerated change raises no more false
alarms than no change. There are two kinds of samples:

- `Sample`, of losses: the repeats are paired by their seed, and their differences are independent of each other.
- `Sittings`, of speeds: a machine that is slow for an hour slows all that is measured in that hour. Repeats within one
  session share this, however many they are, and say nothing about it ("pseudoreplication": Hurlbert, Ecological
  Monographs 54 (1984), 187). The unit of replication is the highest level at which there is noise (Kalibera and Jones,
  Rigorous benchmarking in reasonable time, ISMM 2013), and that is the session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev, variance
from typing import Any, Literal

#: The probability that any sample raises an alarm although none has changed by more than its threshold.
ALPHA = 0.05
#: How often, at least, a change of the smallest size that is claimed to be found is found.
POWER = 0.9
#: What is aimed at for that, since spreads are not quite normal.
_AIM = 0.92
#: Into which the distribution of a spread is cut to average over it; five times as many change less than a thousandth.
_SLICES = 300
#: Nats that are rounding: losses are means of float32.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Sample:
    """The changes of one quantity, by repeat.

    Attributes:
        differences: nats, one for each pair of repeats, positive where it got worse.
        threshold: nats that a change may have.
        two_sided: whether getting better by more than the threshold counts, too.
    """

    differences: tuple[float, ...]
    threshold: float
    two_sided: bool = False

    @property
    def mirrored(self) -> Sample:
        """The same with better for worse: of a change beyond its threshold, the results improved."""
        return Sample(tuple(-difference for difference in self.differences), self.threshold)

    @property
    def mean(self) -> float:
        """Nats."""
        return fmean(self.differences)

    @property
    def beyond(self) -> bool:
        """Whether the mean, as it is, lies beyond the threshold."""
        return (abs(self.mean) if self.two_sided else self.mean) > self.threshold + _ROUNDING

    @property
    def is_repeated(self) -> bool:
        """Whether there is a spread to be known."""
        return len(self.differences) > 1

    @property
    def is_constant(self) -> bool:
        """Whether the repeats agree to the bit, which leaves nothing to chance."""
        return max(self.differences) - min(self.differences) <= _ROUNDING

    def p_value(self) -> float:
        """The p-value: the probability of such a change by chance if the true change is as large as tolerated."""
        if self.is_constant:
            return 0.0 if self.beyond else 1.0
        worse = self._chance(self.threshold, "greater")
        return min(1.0, 2 * min(worse, self._chance(-self.threshold, "less"))) if self.two_sided else worse

    def is_within(self) -> bool:
        """Whether the repeats show that the true change is tolerated, either way if both count (Schuirmann's test)."""
        if not self.is_repeated or self.is_constant:
            return not self.beyond
        upper = self._chance(self.threshold, "less") < ALPHA
        return upper and (not self.two_sided or self._chance(-self.threshold, "greater") < ALPHA)

    def smallest(self, alpha: float) -> float:
        """The change in nats that would have been found nine times in ten at the corrected level `alpha`."""
        if self.is_constant:
            return self.threshold
        effect = smallest_effect(len(self.differences), alpha / 2 if self.two_sided else alpha)
        return self.threshold + effect * stdev(self.differences)

    def interval(self) -> tuple[float, float] | None:
        """Between which nats the true mean lies, 19 times in 20; None where no spread is known."""
        count = len(self.differences)
        return _interval(self.mean, count - 1, stdev(self.differences) / math.sqrt(count)) if count > 1 else None

    def _chance(self, mean: float, alternative: Literal["greater", "less"]) -> float:
        """The p-value of Student's one-sample test; SciPy's `ttest_1samp` takes a millisecond to come to the same."""
        from scipy import special

        repeats = len(self.differences)
        t = (self.mean - mean) / (stdev(self.differences) / math.sqrt(repeats))
        return float(special.stdtr(repeats - 1, -t if alternative == "greater" else t))


@dataclass(frozen=True)
class Sittings:
    """Measurements of one quantity in several unpaired sessions of each side, for Student's two-sample test with a
    common variance: both sides run on the same machine, so its noise is the same.

    Each side needs two sessions; otherwise one slow hour would look like slower code.

    Attributes:
        before: nats, one for each session of the baseline, more being worse.
        after: and of the candidate.
        threshold: nats that a change may have.
        two_sided: as of `Sample`.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    threshold: float
    two_sided: bool = False

    @property
    def mirrored(self) -> Sittings:
        """The same with better for worse."""
        return Sittings(self.after, self.before, self.threshold)

    @property
    def mean(self) -> float:
        """Nats of the change."""
        return fmean(self.after) - fmean(self.before)

    @property
    def beyond(self) -> bool:
        """Whether the change, as it is, lies beyond the threshold."""
        return (abs(self.mean) if self.two_sided else self.mean) > self.threshold + _ROUNDING

    @property
    def is_repeated(self) -> bool:
        """Whether both sides were measured in several sessions."""
        return min(len(self.before), len(self.after)) > 1

    @property
    def is_constant(self) -> bool:
        """Whether the sessions of each side agree to the bit."""
        return all(max(side) - min(side) <= _ROUNDING for side in (self.before, self.after))

    def p_value(self) -> float:
        """The p-value: the probability of such a change by chance if the true change is as large as tolerated."""
        if self.is_constant:
            return 0.0 if self.beyond else 1.0
        worse, better = self._chances()
        return min(1.0, 2 * min(worse, better)) if self.two_sided else worse

    def is_within(self) -> bool:
        """Whether the sessions show that the true change is tolerated, either way if both count."""
        if not self.is_repeated or self.is_constant:
            return self.is_repeated and not self.beyond
        worse, better = self._chances()
        return worse > 1 - ALPHA and (not self.two_sided or better > 1 - ALPHA)

    def smallest(self, alpha: float) -> float:
        """The change in nats that would have been found nine times in ten at the corrected level `alpha`."""
        freedom, error = self._spread()
        return self.threshold + _smallest_ratio(freedom, alpha / 2 if self.two_sided else alpha) * error

    def interval(self) -> tuple[float, float] | None:
        """Between which nats the true change lies, 19 times in 20; None where no spread is known."""
        return _interval(self.mean, *self._spread()) if self.is_repeated else None

    def _chances(self) -> tuple[float, float]:
        """How often chance would show as much for the worse, or for the better, were the change the threshold."""
        worse = sittings_p_value(self.before, self.after, self.threshold)
        return float(worse), float(sittings_p_value(self.after, self.before, self.threshold))

    def _spread(self) -> tuple[int, float]:
        """Degrees of freedom, and the standard error of the mean in nats."""
        counts = [len(self.before), len(self.after)]
        freedom = sum(counts) - 2
        squares = sum(
            (count - 1) * variance(side) for count, side in zip(counts, (self.before, self.after), strict=True)
        )
        return freedom, math.sqrt(squares / freedom * sum(1 / count for count in counts))


def _interval(mean: float, freedom: int, error: float) -> tuple[float, float]:
    """The confidence interval of Student's t at `ALPHA`, two-sided."""
    from scipy import stats

    half = float(stats.t.isf(ALPHA / 2, freedom)) * error
    return mean - half, mean + half


def sittings_p_value(before: Any, after: Any, threshold: float) -> Any:
    """Of `Sittings`; of arrays, whose last axis is the sessions, one for each of the others."""
    import numpy as np
    from scipy import stats

    return stats.ttest_ind(after, np.add(before, threshold), axis=-1, alternative="greater").pvalue


@dataclass(frozen=True)
class Finding:
    """What a sample shows.

    Attributes:
        changed: beyond the threshold, and not by chance.
        within: not beyond the threshold, and not by chance. What is neither is undecided.
        p_value: of the test, corrected for the number of samples; None where there is no spread. Of a single
            difference the threshold alone then decides; of a single session nothing does.
        smallest: nats of the smallest change that would have been found nine times in ten, threshold included.
    """

    changed: bool
    within: bool
    p_value: float | None
    smallest: float


def judge(samples: Sequence[Sample | Sittings]) -> list[Finding]:
    """What each of `samples` shows, in their order.

    Those that are repeated are tested together, corrected by Holm's method: whatever their spreads and however
    they hang together, one of them or more is wrongly found changed in at most `ALPHA` of all calls.
    """
    from statsmodels.stats.multitest import multipletests

    tested = [place for place, sample in enumerate(samples) if sample.is_repeated]
    findings = [_untested(sample) for sample in samples]
    if tested:
        rejected, p_values, _, _ = multipletests([samples[p].p_value() for p in tested], ALPHA, method="holm")
        for place, changed, p_value in zip(tested, rejected, p_values, strict=True):
            sample = samples[place]
            smallest = sample.smallest(ALPHA / len(tested))
            findings[place] = Finding(bool(changed), sample.is_within(), float(p_value), smallest)
    return findings


def _untested(sample: Sample | Sittings) -> Finding:
    """What a sample without a spread shows."""
    if isinstance(sample, Sittings):
        return Finding(False, False, None, math.inf)
    return Finding(sample.beyond, sample.is_within(), None, sample.threshold)


def smallest_effect(repeats: int, alpha: float) -> float:
    """The effect that a one-sided one-sample t-test at level `alpha` finds with a probability of `POWER` or a bit more.

    Args:
        repeats: the size of the sample, at least 2.
        alpha: the level, correction included.

    Returns:
        The excess of the mean over the threshold, in standard deviations as a sample of this size shows them.
    """
    return _smallest_ratio(repeats - 1, alpha) / math.sqrt(repeats)


@cache
def _smallest_ratio(freedom: int, alpha: float) -> float:
    """The same of any one-sided t-test of so many degrees of freedom, in standard errors as a sample shows them.

    A few repeats show them badly, so that the power is averaged over what another sample of the same size and of the
    same true spread may show ("assurance": O'Hagan et al., Pharmaceutical Statistics 4 (2005), 187). Without this, the
    change claimed from three to five repeats would be found only 7 or 8 times in 10.
    """
    import numpy as np
    from scipy import optimize, special, stats

    critical = stats.t.isf(alpha, freedom)
    # Estimated over true spread: the middles of equally likely slices of its distribution.
    ratios = np.sqrt(stats.chi2.ppf((np.arange(_SLICES) + 0.5) / _SLICES, freedom) / freedom)

    def lack(noncentrality: float) -> float:
        # A noncentral t is (Z + noncentrality) / ratio; here the spread that the claim was made from has a ratio, too.
        # SciPy's own noncentral t takes seconds at the sizes that two repeats lead to.
        return float(_AIM - special.ndtr(noncentrality * ratios[:, np.newaxis] - critical * ratios).mean())

    enough = critical
    while lack(enough) > 0:
        enough *= 2
    return float(optimize.brentq(lack, 0.0, enough))
