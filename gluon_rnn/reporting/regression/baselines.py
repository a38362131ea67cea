"""A baseline: results chosen on purpose, with which later ones are compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_named
from gluon_rnn.reporting.regression.comparison import Comparison, compare
from gluon_rnn.runs.job import FINISHED
from gluon_rnn.runs.notes import speeds_count
from gluon_rnn.runs.tables import load_results, read_points

if TYPE_CHECKING:
    import pandas as pd


def promote(results: Path, baseline: Path, *, incomplete: bool = False) -> tuple[pd.DataFrame, Comparison | None]:
    """Make a sweep's results a baseline: a table like ``runs.csv``, without the name of the machine, and without speeds
    that do not count.

    Args:
        results: the sweep's folder, or its ``runs.csv``.
        baseline: the file to write or replace.
        incomplete: whether runs may have failed or be missing; later ones cannot be compared with those.

    Returns:
        The rows, and how they compare, two-sided, with the baseline that was there before; None if there was none.

    Raises:
        UserError: results are missing, incomplete or not comparable even with themselves; the old baseline cannot be
            compared with, or the new one cannot be written.
    """
    frame = load_results(results)
    if frame.empty:
        raise UserError(f"{results} has no runs that could be a baseline")
    failed = frame[~frame["status"].isin(FINISHED)]
    missing = [point for point in _planned(results) if point["run_id"] not in set(frame["run_id"])]
    if (len(failed) or missing) and not incomplete:
        named = [f"run {row.run_id} {row.status}" for row in failed.itertuples()]
        named += [f"{point['label']} has not ended" for point in missing]
        raise UserError(
            f"{results} is not a complete baseline: {', '.join(named)}; make them again, or say --incomplete; those "
            "that the sweep no longer contains leave its tables by its command with --prune"
        )
    frame["host"] = ""
    if not speeds_count(results):
        # The baseline has no notes beside it.
        frame["tokens_per_second"] = float("nan")
    # Results that a gate would refuse are refused here, before anyone relies on them.
    itself = compare(frame, frame)
    if itself.verdict == "not compared":
        raise UserError(f"{results} is not a baseline, {itself.reason}")
    comparison = None
    if os.path.exists(baseline):
        try:
            comparison = compare(baseline, frame, two_sided=True)
        except UserError as error:
            raise UserError(f"{error}; or remove {baseline} to replace it without a comparison") from None
    write_named(baseline, frame.to_csv(index=False, lineterminator="\n"))
    return frame, comparison


def _planned(results: Path) -> list[dict[str, str]]:
    """The points of a sweep's folder; none where there is only a table."""
    return read_points(results) if (results / "sweep.json").exists() else []
