"""The importance of a search's settings: Optuna's PED-ANOVA on the validation losses of its runs."""

from __future__ import annotations

import math
import random
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gluon_rnn.config.search_space import Dimension, SearchSettings
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.search import Proposal, begin_trial, import_optuna

#: The best share of the runs, which is compared with all of them.
_BEST_SHARE = 0.25
#: Runs among the best that it takes, as Optuna's documentation of the evaluator asks, and so many of all.
LEAST_BEST = 5
LEAST_RUNS = int(LEAST_BEST / _BEST_SHARE)
#: Times that losses are dealt out anew. Chance reaches the second of 39 in one case of 20 (Barnard, 1963).
_SHUFFLES, _EXCEEDED = 39, 2
#: Of a run that is worse than every complete one. PED-ANOVA asks for the order alone, and leaves out infinities.
_WORST = sys.float_info.max


@dataclass(frozen=True)
class Importance:
    """How much a setting matters for being among the best runs.

    Attributes:
        parameter: the setting, with its condition behind it if it has one: ``learning_rate (cell=gru)``.
        share: of the importances of all settings, which add up to 1.
        chance: what `share` would be exceeded in one case of 20 if the setting did not matter.
        runs: in which it varied.
    """

    parameter: str
    share: float
    chance: float
    runs: int

    @property
    def sure(self) -> bool:
        """Whether the importance exceeds what chance produces."""
        return self.share > self.chance


def counted_runs(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The `records` that tell how good their settings are: complete, diverged and pruned runs."""
    return [r for r in records if r.status in ("diverged", "pruned") or is_complete(r)]


def is_complete(record: RunRecord) -> bool:
    """Whether a run was scored and ended by itself, without diverging."""
    return record.status == "ok" and record.valid_loss is not None


def importances(
    settings: SearchSettings, proposals: Sequence[Proposal], records: Sequence[RunRecord]
) -> list[Importance]:
    """How much each setting matters, the most important first.

    PED-ANOVA (Watanabe, Bansal and Hutter, 2023, arXiv:2304.10255) compares the values of a setting among the best
    quarter of the runs with those among all: the more they differ, in Pearson's divergence, the more it matters.
    Conditional settings count in the runs that have them (arXiv:2601.20800).

    It reads validation losses, and of them the order alone. Losses of pruned runs are of fewer epochs, so they compare
    with no others: such a run is worse than every complete one, as it is for Optuna's sampler tpe, and so is a diverged
    one. Leaving them out would leave out what tells good settings from bad ones. The best are complete runs only,
    fewer than a quarter if need be.

    The losses are then dealt out to the runs at random, to see what importance a setting has by chance.

    Args:
        settings: of the search.
        proposals: its points.
        records: of their runs, in any order; `counted_runs` of them count.

    Returns:
        Nothing if there are fewer than `LEAST_RUNS` of them or fewer than `LEAST_BEST` complete ones, or if their
        losses tell nothing.
    """
    trials = _trials(settings, proposals, records)
    losses = [loss for _, loss in trials]
    best = min(math.ceil(_BEST_SHARE * len(losses)), sum(loss < _WORST for loss in losses))
    if len(losses) < LEAST_RUNS or best < LEAST_BEST:
        return []
    optuna = import_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    for parameters, loss in trials:
        study.tell(begin_trial(study, parameters), loss)
    # Half a run below, so that rounding takes none more.
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=(best - 0.5) / len(losses))
    found = _divergences(optuna, evaluator, study, losses)
    total = sum(found.values())
    if not total > 0:
        return []
    dealt = random.Random(0)
    by_chance = [_divergences(optuna, evaluator, study, dealt.sample(losses, len(losses))) for _ in range(_SHUFFLES)]
    counts = Counter(name for parameters, _ in trials for name in parameters)
    return [
        Importance(name, value / total, sorted(one[name] for one in by_chance)[-_EXCEEDED] / total, counts[name])
        for name, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]


def _trials(
    settings: SearchSettings, proposals: Sequence[Proposal], records: Sequence[RunRecord]
) -> list[tuple[dict[str, tuple[Dimension, Any]], float]]:
    """The varied parameters of each run that counts (`SearchSettings.parameters`), and its loss."""
    known = {record.run_id: record for record in counted_runs(records)}
    trials = []
    for proposal in proposals:
        if record := known.get(proposal.run_id):
            loss = record.valid_loss if is_complete(record) else None
            if parameters := settings.parameters(proposal.point, record.config.model_dump()):
                trials.append((parameters, _WORST if loss is None or not math.isfinite(loss) else loss))
    return trials


def _divergences(optuna: Any, evaluator: Any, study: Any, losses: Sequence[float]) -> Mapping[str, float]:
    """The importances of the parameters of `study`, with `losses` in place of its trials' own."""
    with warnings.catch_warnings():
        # That lower is better, and that a setting was in one run only.
        warnings.simplefilter("ignore")
        found: Mapping[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: losses[trial.number], normalize=False
        )
    return found
