"""``results/columns.md``: the meaning of each column of the tables, as the code documents it.

As a program, this module prints it; ``make columns`` renews the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gluon_rnn.runs.epochs import EPOCH_COLUMNS, describe_epoch
from gluon_rnn.runs.evaluations import EVALUATION_FIELDS, describe_evaluation
from gluon_rnn.runs.records import COLUMNS, describe

_INTRODUCTION = """\
# Columns of the tables

<!-- Made by `make columns` from the descriptions beside the fields; do not edit it here. -->

What the tables that a sweep writes hold; [README.md](README.md) says how to read them. An empty cell is a number that
was not measured; a number that became infinite says `inf`.
"""


def columns_file() -> str:
    """The text of ``results/columns.md``."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## Columns of `runs.csv` and `record.json`\n",
            *_table(COLUMNS, describe),
            "\n## Columns of `epochs.csv`\n",
            *_table(EPOCH_COLUMNS, describe_epoch),
            "\n## Columns of `evaluations.csv`\n",
            *_table(EVALUATION_FIELDS, describe_evaluation),
            "",
        ]
    )


def _table(columns: Iterable[str], meaning: Callable[[str], str]) -> list[str]:
    rows = [f"| `{name}` | {meaning(name).replace('<', '&lt;').replace('|', '&#124;')} |" for name in columns]
    return ["| column | what it is |", "| --- | --- |", *rows]


if __name__ == "__main__":
    print(columns_file(), end="")
