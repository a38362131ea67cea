"""`train` and `run_sweep` as Python calls them: where somebody watches, they show how far they are."""

from __future__ import annotations

from pathlib import Path

from gluon_rnn.common.printable import Notice, warn
from gluon_rnn.config.run import RunConfig
from gluon_rnn.reporting.notebook import NotebookDisplay
from gluon_rnn.reporting.terminal.console import make_console
from gluon_rnn.reporting.terminal.displays import choose_display
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.runs.results import Results
from gluon_rnn.sweeps import running
from gluon_rnn.sweeps.executors import Executor
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display


def run_sweep(
    plan: Plan,
    *,
    executor: Executor | None = None,
    fail_fast: bool = False,
    prune: bool = False,
    display: Display | None = None,
    progress: bool | None = None,
    notice: Notice = warn,
) -> Results:
    """Run the missing points of `plan`; the tables are up to date after every run.

    Args:
        plan: from `plan_sweep`.
        executor: where to run; None: on this machine.
        fail_fast: stop the sweep at the first run that fails.
        prune: first move runs that are not points of the plan out of the tables.
        display: shows the progress.
        progress: whether to show progress where there is no `display`; None: in a terminal and in a notebook.
        notice: called with one-line messages for the user.

    Returns:
        The records of the plan's points, in its order. Points that were not reached are missing or as before.

    Raises:
        UserError: another sweep is running in this folder, it cannot be written, or the operating system refuses
            something that a sweep needs. The workers are stopped, and all finished runs are in the tables.
        KeyboardInterrupt: likewise.
    """
    return Results(
        running.run_sweep(
            plan,
            executor=executor,
            fail_fast=fail_fast,
            prune=prune,
            display=display or display_for(progress),
            notice=notice,
        )
    )


def train(
    config: RunConfig,
    *,
    data_dir: Path | str | None = None,
    directory: Path | str | None = None,
    progress: bool | None = None,
) -> RunRecord:
    """Train one configuration in its own worker process and return its record.

    Args:
        config: what to run.
        data_dir: folder to search first for corpora; None: ``GLUON_RNN_DATA``, the cache, a download.
        directory: where to keep the run, as a sweep named ``train``, and to resume it; None: nothing is kept.
        progress: whether to show progress; None: in a terminal and in a notebook.

    Raises:
        UserError: the corpus or the device is not available.
        RuntimeError: the run failed; the message is the record's reason and the end of the log.
    """
    return running.train(config, data_dir=data_dir, directory=directory, display=display_for(progress))


def display_for(progress: bool | None) -> Display:
    """What shows the progress of a sweep that Python started: see `run_sweep`."""
    console = make_console()
    if progress is False or (progress is None and not console.is_terminal and not console.is_jupyter):
        return Display()
    return NotebookDisplay() if console.is_jupyter else choose_display(console, quiet=False)
