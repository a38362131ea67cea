"""Searches on losses that are worked out by hand: no run is started."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.search_space import parse_search
from gluon_rnn.config.sweep_file import Override, Sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.runs.epochs import write_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import EpochResult, Progress
from gluon_rnn.runs.records import RunRecord, write_record
from gluon_rnn.runs.tables import load_results, planned_points, read_points
from gluon_rnn.sweeps.running import run_sweep
from gluon_rnn.sweeps.search import Proposal, Search, check_search
from tests.conftest import small_config
from tests.runs.test_records import make_done, make_job
from tests.sweeps.test_sweep import FakeExecutor, Script, ignore, plan

LEARNING_RATE = {"learning_rate": "log(0.1, 100)"}


def history(*losses: float, seconds: float = 10.0) -> list[EpochResult]:
    return [
        EpochResult(n, 1.0, 5.0, loss, math.exp(loss), None, None, None, seconds) for n, loss in enumerate(losses, 1)
    ]


def record_of(job: Job, *losses: float, status: str = "ok") -> RunRecord:
    return make_done(job).model_copy(
        update={"status": status, "valid_loss": min(losses, default=None), "history": tuple(history(*losses))}
    )


def quadratic(job: Job) -> RunRecord:
    """Best at a learning rate of 10."""
    return record_of(job, 4 + math.log10(job.config.learning_rate / 10) ** 2)


@pytest.fixture
def search(small_corpus: CorpusFiles) -> Callable[..., Search]:
    def make(fixed: Mapping[str, Any] | None = None, **settings: Any) -> Search:
        def job(point: Mapping[str, Any]) -> Job:
            text = json.dumps({**(fixed or {}), **point}, sort_keys=True)
            run_id = hashlib.sha1(text.encode()).hexdigest()[:12]
            return make_job(small_corpus, run_id, **{**(fixed or {}), **point})

        return Search(parse_search({"space": LEARNING_RATE, **settings}, {}), fixed or {}, job, notice=print)

    return make


def searched(
    search: Search, outcome: Callable[[Job], RunRecord], known: Mapping[str, RunRecord] | None = None
) -> Iterator[Job]:
    """Each job in its turn, after which it has the record of `outcome`."""
    for job in search.jobs(known or {}, lambda: None):
        yield job
        search.tell(outcome(job))


def rates(search: Search) -> list[float]:
    return [proposal.point["learning_rate"] for proposal in search.proposals]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_seed_decides_the_points(search: Callable[..., Search], sampler: str) -> None:
    def found(**settings: Any) -> list[float]:
        one = search(trials=14, sampler=sampler, **settings)
        list(searched(one, quadratic))
        return rates(one)

    assert found() == found(seed=0) != found(seed=1)
    assert len({*found()}) == 14
    assert all(0.1 <= rate <= 100 for rate in found())
    assert all(float(f"{rate:.3g}") == rate for rate in found())


def test_tpe_comes_nearer_to_the_best_rate_than_chance(search: Callable[..., Search]) -> None:
    def distance(sampler: str) -> float:
        found = []
        for seed in range(3):
            one = search(trials=30, sampler=sampler, seed=seed)
            list(searched(one, quadratic))
            found += [abs(math.log10(rate / 10)) for rate in rates(one)[10:]]
        return sum(found) / len(found)

    assert distance("tpe") < 0.6 * distance("random")


@pytest.mark.parametrize("stop", [1, 6, 13])
def test_a_search_that_was_killed_proposes_what_it_would_have(search: Callable[..., Search], stop: int) -> None:
    whole = search(trials=16)
    list(searched(whole, quadratic))
    records: dict[str, RunRecord] = {}
    killed = search(trials=16)
    for n, job in enumerate(killed.jobs({}, lambda: None), 1):
        if n == stop:  # it was proposed, and its run has not ended
            break
        records[job.run_id] = quadratic(job)
        killed.tell(records[job.run_id])
    again = search(trials=16)
    for job in again.restore(killed.proposals):
        again.tell(records.get(job.run_id, quadratic(job)))
    assert again.proposals == killed.proposals
    list(searched(again, quadratic))
    assert again.proposals == whole.proposals


def test_points_that_have_a_record_are_learned_from_and_not_run(search: Callable[..., Search]) -> None:
    whole = search(trials=12)
    records = {job.run_id: quadratic(job) for job in searched(whole, quadratic)}
    known = dict([*records.items()][:5])
    again = search(trials=12)
    assert [job.run_id for job in searched(again, quadratic, known)] == [*records][5:]
    assert again.proposals == whole.proposals


def test_a_grid_tries_every_point_once_and_goes_on_after_a_stop(search: Callable[..., Search]) -> None:
    grid = {"sampler": "grid", "space": {"learning_rate": [1, 2, 3], "cell": ["lstm", "gru"]}}
    one = search(**grid)
    jobs = one.jobs({}, lambda: None)
    first = next(jobs)
    again = search(**grid)
    assert again.restore(one.proposals) == [first]
    rest = list(searched(again, quadratic))
    points = [(job.config.learning_rate, job.config.cell) for job in (first, *rest)]
    assert points == [(rate, cell) for rate in (1, 2, 3) for cell in ("lstm", "gru")]


def test_a_grid_has_no_more_points_than_it_has(search: Callable[..., Search]) -> None:
    grid = {"sampler": "grid", "space": {"learning_rate": [1, 2, 3], "cell": ["lstm", "gru"]}}
    assert [search(**grid, trials=trials).total for trials in (None, 4, 100)] == [6, 4, 6]


def test_the_other_ranges_of_a_condition_are_searched(search: Callable[..., Search]) -> None:
    one = search(
        trials=12,
        space={"cell": ["lstm", "gru"], "learning_rate": "log(10, 40)"},
        conditions=[{"when": {"cell": "gru"}, "space": {"learning_rate": "log(1, 5)"}}],
    )
    jobs = list(searched(one, quadratic))
    assert {job.config.cell for job in jobs} == {"lstm", "gru"}
    assert all((job.config.learning_rate <= 5) == (job.config.cell == "gru") for job in jobs)


def test_a_space_without_other_points_ends_the_search(search: Callable[..., Search], capsys: Any) -> None:
    one = search(trials=9, space={"cell": ["lstm", "gru"]})
    assert len(list(searched(one, lambda job: record_of(job, 5.0)))) == 2
    assert capsys.readouterr().out == "the search ends after 2 points: it finds no others in its space\n"


def test_conditions_apply_at_their_points(search: Callable[..., Search]) -> None:
    one = search(
        trials=12,
        sampler="random",
        space={"cell": ["lstm", "gru"]},
        conditions=[
            {"when": {"cell": "lstm"}, "space": {"learning_rate": "log(10, 40)"}},
            {"when": {"cell": "gru"}, "space": {"learning_rate": "log(1, 5)"}},
        ],
    )
    jobs = list(searched(one, quadratic))
    assert {job.config.cell for job in jobs} == {"lstm", "gru"}
    for job in jobs:
        low, high = (10, 40) if job.config.cell == "lstm" else (1, 5)
        assert low <= job.config.learning_rate <= high


def test_points_that_the_space_no_longer_holds_are_left_out(search: Callable[..., Search]) -> None:
    old = [Proposal("a" * 12, {"learning_rate": 1000.0}), Proposal("b" * 12, {"cell": "gru"})]
    one = search(trials=3)
    assert one.restore(old) == []
    assert one.proposals == []


def test_a_diverged_run_is_the_worst_and_a_failed_one_teaches_nothing(search: Callable[..., Search]) -> None:
    """With every rate above 1 diverging, later proposals stay below."""

    def outcome(job: Job) -> RunRecord:
        if job.config.learning_rate > 1:
            return record_of(job, status="diverged")
        return record_of(job, 5.0 + math.log10(job.config.learning_rate / 0.3) ** 2)

    one = search(trials=40)
    list(searched(one, outcome))
    assert sum(rate <= 1 for rate in rates(one)[20:]) >= 15
    failing = search(trials=12)
    list(searched(failing, lambda job: record_of(job, status="failed")))
    assert len(failing.proposals) == 12


def live(directory: Path, epochs: list[EpochResult], *, fraction: float = 0.5) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    progress = LiveProgress(doing="training", fraction=fraction, progress=Progress(history=epochs))
    (directory / "progress.json").write_text(progress.model_dump_json())


def test_median_pruning_ends_runs_that_are_behind_the_others(search: Callable[..., Search], tmp_path: Path) -> None:
    one = search(trials=9, pruner="median", sampler="random")
    jobs = one.jobs({}, lambda: None)
    for place in range(5):
        one.tell(record_of(next(jobs), 6.0 + place / 10, 5.0 + place / 10))
    worse, better = next(jobs), next(jobs)
    for job, loss in ((worse, 6.21), (better, 6.19)):
        live(tmp_path / job.run_id, history(loss))
    assert one.prunable([worse, better], tmp_path) == {worse.run_id: "after epoch 1, by pruner=median"}
    # Nothing new, nothing to decide.
    assert one.prunable([worse, better], tmp_path) == {}
    live(tmp_path / better.run_id, history(6.19, 5.21))
    assert one.prunable([better], tmp_path) == {better.run_id: "after epoch 2, by pruner=median"}
    one.tell(record_of(worse, 6.21, status="pruned"))


def test_a_run_that_has_trained_to_its_end_is_not_pruned(search: Callable[..., Search], tmp_path: Path) -> None:
    one = search(trials=9, pruner="median", sampler="random")
    jobs = one.jobs({}, lambda: None)
    for place in range(5):
        one.tell(record_of(next(jobs), 6.0 + place / 10, 5.0 + place / 10))
    worse = next(jobs)
    live(tmp_path / worse.run_id, history(7.0, 7.0), fraction=1.0)
    assert one.prunable([worse], tmp_path) == {}


def test_successive_halving_keeps_the_best_third_at_each_rung(search: Callable[..., Search], tmp_path: Path) -> None:
    one = search(trials=9, pruner="successive_halving", sampler="random")
    running = list(one.jobs({}, lambda: None))
    pruned = []
    for place, job in enumerate(running):
        live(tmp_path / job.run_id, history(5.0 - place / 10))
        pruned += one.prunable([job], tmp_path)
    # Each was the best so far.
    assert pruned == []
    worst_first = search(trials=9, pruner="successive_halving", sampler="random")
    running = list(worst_first.jobs({}, lambda: None))
    for place, job in enumerate(running):
        live(tmp_path / job.run_id, history(5.0 + place / 10, seconds=11.0))
        pruned += worst_first.prunable([job], tmp_path)
    assert pruned == [job.run_id for job in running[1:]]


def test_runs_with_a_time_budget_compare_at_equal_shares_of_it(search: Callable[..., Search], tmp_path: Path) -> None:
    one = search(fixed={"time_budget": 100.0}, trials=9, pruner="median", sampler="random")
    jobs = one.jobs({}, lambda: None)
    for _ in range(5):
        one.tell(record_of(next(jobs), 7.0, 6.0, 5.0))  # epochs of 10 s
    slow = next(jobs)
    # After 30 s the others had 5.0; this run is better than they were after one epoch, and worse than after three.
    live(tmp_path / slow.run_id, history(5.5, seconds=30.0))
    assert one.prunable([slow], tmp_path) == {slow.run_id: "after epoch 1, by pruner=median"}


def check(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    found = parse_search({"trials": 3, "space": LEARNING_RATE, **settings}, {})
    sweep = Sweep("one", settings=fixed, search=found)
    check_search(found, fixed, sweep.points())


@pytest.mark.parametrize(
    ("settings", "fixed", "message"),
    [
        ({"space": {"min_freq": [1, 5]}}, {}, "search over min_freq would compare losses of different texts"),
        ({"space": {"seed": [1, 5]}}, {}, "search over seed finds nothing"),
        ({}, {"max_steps": 100}, "search needs validation losses, which max_steps=100 does not measure"),
        ({"space": {"momentum": [0.5]}}, {"optimizer": "rmsprop"}, "momentum=0.5 needs optimizer=sgd"),
        (
            {"space": {"epochs": [3, 6]}, "pruner": "median"},
            {"lr_schedule": "cosine"},
            "losses after as many epochs are comparable only between runs with equal epochs",
        ),
        (
            {"space": {"time_budget": [60, 600]}, "pruner": "median"},
            {},
            "pruner=median would compare runs with unequal time_budget; take time_budget out of the space",
        ),
        (
            {"conditions": [{"when": {"cell": "gru"}, "space": {"dropout": [0.1]}}]},
            {},
            "the condition for cell=gru fits no point",
        ),
    ],
)
def test_a_search_that_would_mislead_is_refused(settings: Any, fixed: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        check(settings, fixed)
    assert message in str(raised.value)


def test_a_search_that_would_not_is_allowed() -> None:
    check({"space": {"epochs": [3, 6]}, "pruner": "median"}, {})
    check({"pruner": "median"}, {"lr_schedule": "cosine"})


def test_an_override_that_a_combination_meets_is_planned_for() -> None:
    found = parse_search({"trials": 3, "space": {"cell": ["lstm", "gru"], "num_layers": "uniform(1, 3)"}}, {})
    override = Override({"cell": "gru", "num_layers": 2}, {"bptt": 99})
    never = Override({"cell": "gru", "num_layers": 4}, {"bptt": 98})
    sweep = Sweep("one", search=found, overrides=(override, never))
    assert sweep.unmatched() == [never]
    assert [config.num_layers for config in sweep.points() if config.bptt == 99] == [2]


def by_rate(job: Job, directory: Path) -> tuple[str | None, str]:
    """A worker whose losses are best at a learning rate of 10, and which has told of one epoch of two."""
    first = 5 + math.log10(job.config.learning_rate / 10) ** 2
    live(directory, history(first))
    epochs = history(first, first - 1)
    write_epochs(directory, job.run_id, epochs)
    write_record(directory, make_done(job, epochs))
    return None, ""


def test_a_search_is_a_sweep_that_prunes_and_resumes(small_folder: Path, tmp_path: Path) -> None:
    settings = small_config(dataset=str(small_folder)).model_dump(exclude={"learning_rate"}, exclude_unset=True)
    found = parse_search({"trials": 12, "pruner": "median", "space": LEARNING_RATE}, {})
    sweep = Sweep("found", settings=settings, search=found)

    def go(folder: Path, script: Script = by_rate) -> list[str]:
        planned = plan(sweep, folder)
        records = run_sweep(planned, executor=FakeExecutor(script), notice=ignore)
        assert planned.search
        assert [record.run_id for record in records] == planned.search.run_ids
        return [record.run_id for record in records]

    whole = go(tmp_path / "whole")
    assert len(whole) == 12
    table = load_results(tmp_path / "whole" / "found").set_index("run_id").loc[whole]
    pruned = table["status"] == "pruned"
    assert 0 < pruned.sum() < 8
    assert not pruned.iloc[:5].any()
    # What was pruned was no better after one epoch than the median of those that ran to their end before it.
    assert table["valid_loss"][pruned].min() > table["valid_loss"][~pruned].median()
    assert set(table["reason"][pruned]) == {"after epoch 1, by pruner=median"}

    ran = []

    def stopped(job: Job, directory: Path) -> tuple[str | None, str]:
        ran.append(job.run_id)
        if len(ran) == 7:
            raise KeyboardInterrupt
        return by_rate(job, directory)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", stopped)
    folder = tmp_path / "stopped" / "found"
    assert planned_points(folder) == 12
    assert [point["run_id"] for point in read_points(folder)] == ran == whole[:7]
    again = plan(sweep, tmp_path / "stopped")
    assert (again.total, again.to_run, [job.run_id for job in again.missing]) == (12, 6, ran[6:])
    assert go(tmp_path / "stopped") == whole
    # Fewer trials undo nothing.
    fewer = replace(sweep, search=replace(found, trials=5))
    assert (plan(fewer, tmp_path / "stopped").total, plan(fewer, tmp_path / "stopped").to_run) == (12, 0)
    # Nothing is left to do, and a sweep of a pruned point resumes it.
    assert plan(sweep, tmp_path / "stopped").to_run == 0
    rate = float(table["learning_rate"][pruned].iloc[0])
    one = Sweep("found", settings={**settings, "learning_rate": rate})
    planned = plan(one, tmp_path / "stopped")
    assert len(planned.missing) == 1
    # What the search has proposed stays known, and is not of the plan.
    run_sweep(planned, executor=FakeExecutor(by_rate), notice=ignore)
    assert [point["run_id"] for point in read_points(folder)] == [planned.jobs[0].run_id]
    assert planned_points(folder) == 1
    assert plan(sweep, tmp_path / "stopped").to_run == 0
    assert len(read_folders([folder]).searches[0].proposals) == 12
    (folder / "sweep.json").unlink()
    forgotten = plan(sweep, tmp_path / "stopped")
    with pytest.raises(UserError, match=r"--prune would move every run out of .*, because nothing there says"):
        run_sweep(forgotten, executor=FakeExecutor(by_rate), prune=True, notice=ignore)
    assert not (folder / "sweep.json").exists()
    assert len(load_results(folder)) == 12
