"""Searches for good settings: Optuna proposes points and learns from their validation losses.

The records of the sweep's folder are the only truth. The study lives in memory and is rebuilt from them, in the order
in which the points were proposed, so a search that was stopped proposes the points that it would have proposed. (With
several runs at a time a proposal also depends on which of them have ended.)
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import read_whole
from gluon_rnn.common.printable import Notice
from gluon_rnn.config.run import RunConfig, coerce
from gluon_rnn.config.search_space import (
    MOST_TRIALS,
    Choice,
    Dimension,
    Range,
    SearchSettings,
    check_size,
    parse_search,
)
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import ProgressWatch, finished_epochs
from gluon_rnn.runs.metrics import SCORED_ON
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.runs.records import RunRecord

#: Successive halving keeps one in so many at epochs 1, 3, 9...
_REDUCTION = 3
#: Runs that median pruning and the sampler tpe see before they decide anything: Optuna 5.0's own defaults.
_STARTUP_PRUNER, _STARTUP_SAMPLER = 5, 10
#: Proposals in a row of points that are known or cannot be run, after which the space counts as exhausted.
_MOST_IDLE = 100
#: Of a run with a time budget, where pruning compares losses: tenths of the budget, not epochs.
_RUNGS = 10


@dataclass(frozen=True)
class Proposal:
    """A proposed point, as `Search` keeps it in ``sweep.json``.

    Attributes:
        run_id: its run.
        point: what the search chose, by setting.
    """

    run_id: str
    point: Mapping[str, Any]


@dataclass
class _Trial:
    """One of Optuna's trials with its run; the study knows its `reported` epochs."""

    trial: Any
    budget: float | None
    reported: int = 0
    rung: int = 0


@dataclass
class Search:
    """Proposes points and learns from their results.

    Attributes:
        settings: the space, and how it is searched.
        fixed: settings of every point, by name.
        make_job: makes the job of a point; raises a `UserError` if it cannot run.
        notice: called with one-line messages for the user.
        proposals: every point so far, in order.
    """

    settings: SearchSettings
    fixed: Mapping[str, Any]
    make_job: Callable[[Mapping[str, Any]], Job]
    notice: Notice = print
    proposals: list[Proposal] = field(default_factory=list)
    _trials: dict[str, _Trial] = field(default_factory=dict)
    _watch: ProgressWatch = field(default_factory=ProgressWatch)

    def __post_init__(self) -> None:
        self._optuna = import_optuna()
        self._study = self._optuna.create_study(sampler=self._random(), pruner=self._pruner())

    @cached_property
    def total(self) -> int:
        """How many points there are to try, at most."""
        most = self.settings.trials or MOST_TRIALS
        if self.settings.sampler != "grid":
            return most
        return sum(1 for _ in itertools.islice(self.settings.grid(self.fixed), most))

    @property
    def run_ids(self) -> list[str]:
        """The runs of all proposals, in order."""
        return [proposal.run_id for proposal in self.proposals]

    @property
    def points(self) -> list[dict[str, Any]]:
        """All proposals, in order, as `read_proposals` reads them."""
        return [
            {"run_id": proposal.run_id, "label": described(proposal.point), "set": dict(proposal.point)}
            for proposal in self.proposals
        ]

    def summary(self) -> Iterator[str]:
        """Lines that describe the space and how it is searched."""
        settings = self.settings
        for _, parameter, dimension in settings.dimensions():
            yield f"search over {parameter}: {dimension}"
        yield f"sampler={settings.sampler} pruner={settings.pruner} seed={settings.seed}"

    @property
    def prunes(self) -> bool:
        """Whether runs may end early."""
        return self.settings.pruner != "none"

    def restore(self, proposals: Iterable[Proposal]) -> list[Job]:
        """Propose again what earlier sessions proposed, in order; the jobs of these points.

        Points that the space no longer holds are left out.
        """
        jobs = (self._propose(proposal.point, proposal.run_id) for proposal in proposals)
        return [job for job in jobs if job]

    def jobs(self, known: Mapping[str, RunRecord], proposed: Callable[[], None]) -> Iterator[Job]:
        """Propose points until there are as many as the settings ask for; each is chosen when it is pulled.

        Args:
            known: records by run_id; a point that has one already is learned from, not run.
            proposed: called after each proposal, before its job is given out.
        """
        for job in self._of_grid() if self.settings.sampler == "grid" else self._sampled():
            proposed()
            if record := known.get(job.run_id):
                self.tell(record)
            else:
                yield job

    def _of_grid(self) -> Iterator[Job]:
        for values in self.settings.grid(self.fixed):
            point = {name: coerce(name, value) for name, value in values.items()}
            if len(self.proposals) < self.total and (job := self._propose(point)):
                yield job

    def _sampled(self) -> Iterator[Job]:
        idle = 0
        while len(self.proposals) < self.total:
            # What was proposed so far decides the stream of random numbers, so that a stop changes none.
            stream = random.Random(f"{self.settings.seed} {len(self.proposals)} {idle}")
            self._study.sampler = self._sampler(stream.getrandbits(32))
            if job := self._propose(self._sample()):
                idle = 0
                yield job
            elif (idle := idle + 1) == _MOST_IDLE:
                self.notice(f"the search ends after {len(self.proposals)} points: it finds no others in its space")
                return

    def prunable(self, jobs: Sequence[Job], runs: Path) -> dict[str, str]:
        """Why runs should end early, by run_id: those that the pruner gives up after their newest epoch.

        Args:
            jobs: running.
            runs: the folder of their directories.
        """
        reasons = {}
        for job in jobs if self.prunes else ():
            directory, known = runs / job.run_id, self._trials.get(job.run_id)
            live = self._watch.news(directory) if known else None
            if live and known and live.epochs_done > known.reported:
                try:
                    history = finished_epochs(directory, live)
                except ValueError:
                    continue
                # A run whose last epoch was reported has ended, whenever its record comes.
                if self._report(known, history) and live.fraction < 1:
                    reasons[job.run_id] = f"after epoch {known.reported}, by pruner={self.settings.pruner}"
        return reasons

    def tell(self, record: RunRecord) -> None:
        """Learn from a run that has ended. A diverged run counts as the worst; a failed run teaches nothing."""
        known = self._trials.get(record.run_id)
        if known is None or known.trial is None:
            return
        self._report(known, record.history)
        states = self._optuna.trial.TrialState
        if record.status == "ok":
            self._study.tell(known.trial, record.valid_loss)
        elif record.status == "diverged":
            self._study.tell(known.trial, math.inf)
        else:
            pruned = record.status == "pruned" and known.reported
            self._study.tell(known.trial, state=states.PRUNED if pruned else states.FAIL)
        known.trial = None

    def _report(self, known: _Trial, history: Sequence[EpochResult]) -> bool:
        """Report the new epochs of `history`; returns whether the pruner would end the run after the last."""
        prune, spent = False, sum(epoch.total_seconds for epoch in history[: known.reported])
        for epoch in history[known.reported :]:
            known.reported, spent = epoch.epoch, spent + epoch.total_seconds
            # Runs with a time budget have epochs of all lengths: they compare at equal shares of it.
            step = int(spent / known.budget * _RUNGS) if known.budget else epoch.epoch
            if step > known.rung:
                known.rung = step
                known.trial.report(epoch.valid_loss, step)
                # Asked for each: successive halving notes who has come to which rung.
                prune = known.trial.should_prune()
        return prune

    def _sample(self) -> dict[str, Any]:
        """The sampler's next suggestion, rounded; the sampler does not remember it."""
        trial, point = self._study.ask(), dict[str, Any]()
        fitting = self.settings.dimensions(lambda condition: condition.fits({**self.fixed, **point}))
        for name, parameter, dimension in fitting:  # conditions see what is filled in meanwhile
            value = _suggest(trial, parameter, dimension)
            point[name] = coerce(name, dimension.rounded(value) if isinstance(dimension, Range) else value)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return point

    def _propose(self, point: Mapping[str, Any], run_id: str | None = None) -> Job | None:
        """Begin the trial of `point`; None if it was tried, cannot run or has another name than `run_id`."""
        parameters = self.settings.parameters(point, self.fixed)
        try:
            job = self.make_job(point)
        except UserError as error:
            self.notice(f"cannot run {described(point)}: {error}")
            return None
        if parameters is None or job.run_id in self._trials or run_id not in (None, job.run_id):
            return None
        self._trials[job.run_id] = _Trial(begin_trial(self._study, parameters), job.config.time_budget)
        self.proposals.append(Proposal(job.run_id, point))
        return job

    def _random(self, seed: int | None = None) -> Any:
        return self._optuna.samplers.RandomSampler(seed=seed)

    def _sampler(self, seed: int) -> Any:
        if self.settings.sampler == "tpe":
            return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_SAMPLER)
        return self._random(seed)

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        if self.settings.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=_STARTUP_PRUNER)
        if self.settings.pruner == "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_REDUCTION)
        return pruners.NopPruner()


def begin_trial(study: Any, parameters: Mapping[str, tuple[Dimension, Any]]) -> Any:
    """A trial of Optuna's `study` with these `SearchSettings.parameters`."""
    study.enqueue_trial({parameter: value for parameter, (_, value) in parameters.items()})
    trial = study.ask()
    for parameter, (dimension, _) in parameters.items():
        _suggest(trial, parameter, dimension)
    return trial


def _suggest(trial: Any, parameter: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(parameter, list(dimension.values))
    suggest = trial.suggest_int if dimension.whole else trial.suggest_float
    step = {} if dimension.step is None else {"step": dimension.step}
    return suggest(parameter, dimension.low, dimension.high, log=dimension.log, **step)


#: In ``sweep.json``, what `read_search` finds of a search that the plan of today is not.
EARLIER = "earlier_search"


def read_search(directory: Path) -> dict[str, Any]:
    """``search`` and the proposed ``points`` in the ``sweep.json`` of a sweep's `directory`; empty without them."""
    try:
        content = json.loads(read_whole(directory / "sweep.json"))
        content = content if "search" in content else content[EARLIER]
        return {"search": content["search"], "points": list(content["points"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def read_proposals(directory: Path) -> list[Proposal]:
    """The proposals of the search in a sweep's `directory`; empty if unknown."""
    try:
        points = read_search(directory).get("points", ())
        return [Proposal(str(point["run_id"]), dict(point["set"])) for point in points]
    except (ValueError, KeyError, TypeError):
        return []


def read_settings(directory: Path) -> SearchSettings | None:
    """The search settings of a sweep's `directory`, from ``sweep.json``; None if it is not a search.

    Raises:
        UserError: it cannot be read, as one that an earlier version wrote.
    """
    found = read_search(directory).get("search")
    return None if found is None else parse_search(found, {})


def check_search(settings: SearchSettings, fixed: Mapping[str, Any], configs: Iterable[RunConfig]) -> None:
    """Check that the losses of a search's points compare.

    Args:
        settings: of the search.
        fixed: settings of every point.
        configs: of the points at the ends of the space.

    Raises:
        UserError: they do not, or none is measured, or a condition fits no point.
    """
    check_size(settings, fixed)
    for name in settings.fields:
        if name in SCORED_ON:
            raise UserError(f"search over {name} would compare losses of different texts; search them one by one")
        if name in ("max_steps", "seed"):
            raise UserError(f"search over {name} finds nothing: it is not a setting that makes a model better")
    if fixed.get("max_steps") is not None:
        raise UserError(f"search needs validation losses, which max_steps={fixed['max_steps']} does not measure")
    for condition in settings.conditions:
        for name, value in condition.when.items():
            dimension = settings.space.get(name)
            given = fixed.get(name, RunConfig.model_fields[name].default)
            if given != value if dimension is None else not dimension.holds(value):
                raise UserError(f"the condition for {condition} fits no point; add {name}={value} to the space")
    if settings.pruner != "none" and "time_budget" in settings.fields:
        raise UserError(
            f"pruner={settings.pruner} would compare runs with unequal time_budget; take time_budget out of the space, "
            "or set pruner: none"
        )
    for config in configs:
        if settings.pruner != "none" and config.lr_schedule != "plateau" and "epochs" in settings.fields:
            raise UserError(
                f"lr_schedule={config.lr_schedule} spans the whole run, so losses after as many epochs are comparable "
                "only between runs with equal epochs; take epochs out of the space, or set pruner: none"
            )


def described(point: Mapping[str, Any]) -> str:
    """A point as text, such as ``cell=gru learning_rate=5``."""
    return " ".join(f"{name}={value}" for name, value in point.items())


def import_optuna() -> Any:
    """Import Optuna, silenced; only searches import it, since that takes half a second."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
