"""The records of a sweep for Python and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gluon_rnn.common.markup import html_table
from gluon_rnn.config.run import varying_fields
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.metrics import SECONDS, SPEED, measures_of, outcome, written
from gluon_rnn.runs.records import RecordedConfig, RunRecord
from gluon_rnn.runs.tables import frame_of

if TYPE_CHECKING:
    import pandas as pd


class Results(list[RunRecord]):
    """A list of records; a notebook shows it as a table."""

    def to_frame(self) -> pd.DataFrame:
        """A row a record, in the order of the list, with the columns of ``runs.csv``: see `load_results`."""
        return frame_of(self)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no records</p>"
        names = Names(record.row for record in self)
        varying = varying_fields([{name: record.row[name] for name in RecordedConfig.model_fields} for record in self])
        measures = (*measures_of(record.valid_accuracy for record in self).all, SPEED, SECONDS)
        rows = []
        for record in self:
            values = [(measure, getattr(record, measure.column)) for measure in measures]
            figures = ("" if v is None else written(measure.figure(v), measure.digits) for measure, v in values)
            rows.append(
                [record.run_id, *(names.shown(record.row, name) for name in varying), *figures, outcome(record)]
            )
        return html_table(rows, head=["run_id", *varying, *(measure.title for measure in measures), "status"])
