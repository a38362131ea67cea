"""What chance can do: whether repeats show a change beyond a threshold, and how small a change they could have shown.

A sample is what repeats of one thing changed by, in nats. The question is not whether it changed at all (with enough
repeats everything has) but whether it changed by more than is tolerated: a one-sample t-test of the differences, whose
hypothesis is that their true mean lies within the threshold ("minimum-effect test": Murphy and Myors, Journal of
Applied Psychology 84 (1999), 234). So a change that is tolerated alarms no more often than none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

#: How often all samples together may raise an alarm although none has changed by more than its threshold.
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
    """What the repeats of one thing changed by.

    Attributes:
        differences: nats, one for each pair of repeats, positive where it got worse.
        threshold: nats that a change may have.
        two_sided: whether getting better by more than the threshold counts, too.
    """

    differences: tuple[float, ...]
    threshold: float
    two_sided: bool = False

    @property
    def mean(self) -> float:
        """Nats."""
        return fmean(self.differences)

    @property
    def beyond(self) -> bool:
        """Whether the mean, as it is, lies beyond the threshold."""
        return (abs(self.mean) if self.two_sided else self.mean) > self.threshold + _ROUNDING

    @property
    def is_constant(self) -> bool:
        """Whether the repeats agree to the bit, which leaves nothing to chance."""
        return max(self.differences) - min(self.differences) <= _ROUNDING


@dataclass(frozen=True)
class Finding:
    """What a sample shows.

    Attributes:
        changed: beyond the threshold, and not by chance.
        p_value: of the test, corrected for the number of samples; None for a single difference, which has no spread:
            there the threshold alone decides.
        smallest: nats of the smallest change that would have been found nine times in ten, threshold included.
    """

    changed: bool
    p_value: float | None
    smallest: float


def judge(samples: Sequence[Sample]) -> list[Finding]:
    """What each of `samples` shows, in their order.

    Those of several differences are tested together, corrected by Holm's method: whatever their spreads and however
    they hang together, one of them or more is wrongly found changed in at most `ALPHA` of all calls.
    """
    from statsmodels.stats.multitest import multipletests

    tested = [place for place, sample in enumerate(samples) if len(sample.differences) > 1]
    findings = [Finding(sample.beyond, None, sample.threshold) for sample in samples]
    if tested:
        rejected, p_values, _, _ = multipletests([_p_value(samples[p]) for p in tested], ALPHA, method="holm")
        for place, changed, p_value in zip(tested, rejected, p_values, strict=True):
            findings[place] = Finding(bool(changed), float(p_value), _smallest(samples[place], ALPHA / len(tested)))
    return findings


def _p_value(sample: Sample) -> float:
    """How often chance alone would show as much, were the true change as large as is tolerated."""
    from scipy import stats

    if sample.is_constant:
        return 0.0 if sample.beyond else 1.0
    worse = stats.ttest_1samp(sample.differences, sample.threshold, alternative="greater").pvalue
    if not sample.two_sided:
        return float(worse)
    better = stats.ttest_1samp(sample.differences, -sample.threshold, alternative="less").pvalue
    return float(min(1.0, 2 * min(worse, better)))


def _smallest(sample: Sample, alpha: float) -> float:
    """Nats, at the level `alpha`, which is corrected."""
    if sample.is_constant:
        return sample.threshold
    effect = smallest_effect(len(sample.differences), alpha / 2 if sample.two_sided else alpha)
    return sample.threshold + effect * stdev(sample.differences)


@cache
def smallest_effect(repeats: int, alpha: float) -> float:
    """The effect that a one-sided one-sample t-test at level `alpha` finds with a probability of `POWER` or a bit more.

    Args:
        repeats: the size of the sample, at least 2.
        alpha: the level, correction included.

    Returns:
        The excess of the mean over the threshold, in standard deviations as a sample of this size shows them. A few
        repeats show them badly, so that the power is averaged over what another sample of the same size and of the same
        true spread may show ("assurance": O'Hagan et al., Pharmaceutical Statistics 4 (2005), 187). Were the estimate
        taken for the truth, what three to five repeats claim would be found 7 or 8 times in 10.
    """
    import numpy as np
    from scipy import optimize, special, stats

    freedom = repeats - 1
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
    return float(optimize.brentq(lack, 0.0, enough)) / math.sqrt(repeats)
