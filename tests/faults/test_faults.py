"""A sweep loses nothing, whatever befalls it: a few of the trials of `benchmarks/fault_trials.py`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.trials import (
    MID_WRITE,
    Befall,
    Site,
    Trial,
    at_write,
    damaged,
    jumping_clock,
    killed_over_a_hanging_worker,
    may_mount,
    small_disk,
    two_sweeps_at_once,
    workers_killed,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def trial(site: Site, tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(site, tmp_path.name)
    yield trial
    trial.clear()


GENERATOR = random.Random(5)


@pytest.mark.parametrize(
    # Where a worker is disturbed one of the two is real, and none where only the sweep is.
    ("befall", "stand_ins"),
    [
        pytest.param(killed_over_a_hanging_worker, 0, id="the sweep is killed"),
        pytest.param(workers_killed, 0, id="workers are killed in a write"),
        pytest.param(at_write("sweep", "kill", 20), 2, id="the sweep is killed in a write"),
        pytest.param(at_write("worker", "full", MID_WRITE), 1, id="the disk fills up"),
        pytest.param(
            small_disk, 0, id="a real disk is full", marks=pytest.mark.skipif(not may_mount(), reason="mounts a disk")
        ),
        pytest.param(at_write("worker", "stop", 12, "--stall-timeout", "3"), 1, id="workers are stopped"),
        pytest.param(at_write("worker", "starve", 1), 1, id="memory runs out"),
        pytest.param(at_write("sweep", "deplete", 15), 2, id="no more files can be opened"),
        pytest.param(damaged("results/tiny/runs/*/record.json", GENERATOR, cut=False), 0, id="a record is damaged"),
        pytest.param(damaged("results/tiny/runs/*/checkpoint/*", GENERATOR, cut=True), 0, id="a checkpoint is cut"),
        pytest.param(two_sweeps_at_once, 2, id="two sweeps start"),
        pytest.param(jumping_clock, 1, id="the clock jumps"),
    ],
)
def test_nothing_is_lost_when(site: Site, befall: Befall, stand_ins: int) -> None:
    assert site.trial(befall, stand_ins=stand_ins) == []
