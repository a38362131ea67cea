"""Later evaluations of finished runs: with a neural cache, by dynamic evaluation, or plain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gluon_rnn.reporting.report.content import Column, Section, Table
from gluon_rnn.reporting.report.reading import Run
from gluon_rnn.runs.contents import Names, label
from gluon_rnn.runs.evaluations import METHODS, describe_evaluation, settings_of

_NOTE = (
    "From evaluations.csv. A cache and dynamic evaluation use the scored text itself, so each has its own column. Such "
    "perplexities do not compare with plain ones or with the tables above. The plain column of a cache's row is the "
    "same pass without the cache."
)


def evaluations(runs: Sequence[Run], rows: Iterable[Mapping[str, Any]], names: Names) -> Section | None:
    """A table of evaluations: the last of equal ones, without those whose runs were deleted.

    Args:
        runs: of the report.
        rows: of ``evaluations.csv``, in its order.
        names: of whatever is shown in the report.
    """
    records = {run.record.run_id: run.record for run in runs}
    shown = {
        (row["run_id"], row["split"], row["method"], label(settings_of(row)), row["batch_size"]): row
        for row in rows
        if row["run_id"] in records
    }
    if not shown:
        return None
    settings = ("cell", "hidden_size", "seed")
    columns = [
        Column("run", describe_evaluation("run_id")),
        *(Column(name) for name in settings),
        Column("split", describe_evaluation("split")),
        Column("method", describe_evaluation("method")),
        Column("settings of the method", "those of evaluations.csv, without the method's name"),
        Column("searched", describe_evaluation("searched")),
        *(Column(f"{method} ppl", f"perplexity, {meaning}", 2) for method, meaning in METHODS.items()),
    ]
    cells = []
    for (run_id, split, method, settings_label, _), row in shown.items():
        record = records[run_id].row
        perplexities = {"plain": row["plain_perplexity"], method: row["perplexity"]}
        cells.append(
            [
                run_id,
                *(names.shown(record, name) for name in settings),
                *(split, method, settings_label, "yes" if row["searched"] else "no"),
                *(perplexities.get(name) for name in METHODS),
            ]
        )
    return Section("Evaluations", level=2, notes=[_NOTE], tables=[Table(columns, cells)])
