"""``results/README.md``: how to read the tables, and what each of their columns is, as the code says it.

``python -m gluon_rnn.columns`` prints it; ``make columns`` renews the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gluon_rnn.records import COLUMNS, EPOCH_COLUMNS, describe, describe_epoch

_INTRODUCTION = """\
# Results

<!-- Made by `make columns` from gluon_rnn/columns.py and the descriptions beside the fields; do not edit it here. -->

A sweep writes `results/<name>/`: `runs.csv` with a row for each run, `epochs.csv` with a row for each epoch,
`report.html` and `report.md` for people, and `runs/<run_id>/` with what belongs to a run. Only tables, reports and
records are committed (see `.gitignore`): no weights, no logs. All but `runs/` is rebuilt from `runs/` and never edited.

```python
from gluon_rnn import load_epochs, load_results

runs = load_results("results/quick")  # a DataFrame with the right dtypes
epochs = load_epochs("results/quick")
```

How to read them:

- Perplexities are exp(nats / tokens) over every token of the split but the first, whatever the bptt. `valid_perplexity`
  and `test_perplexity` are those of `best_epoch`; `epochs_run` and `max_train_tokens` say how long and on how much was
  trained. They compare between rows of one `dataset_sha1`, `max_eval_tokens`, `objective`, `level`, `lower` and
  `min_freq`.
- Rows that have a `valid_accuracy`, a share from 0 to 1 of the targets scored, are read by it and by cross-entropy:
  `valid_loss`, in nats a target. Which of them is best is decided by the loss all the same.
- A row of status `diverged` met a loss that was not finite, `reason` says where; `oom`, `timeout` and `failed` rows
  have the reason too, and the run's log on the machine it ran on.
- Compare `tokens_per_second`, `step_ms_p50` and memory between rows of one `machine_id`, `device` and `threads` only.
- `run_id` names everything that decides the result: two rows with one `run_id` are one run.
- An empty cell is a number that was not measured; a number that became infinite says `inf`.
"""


def results_readme() -> str:
    """The text of ``results/README.md``."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## Columns of `runs.csv` and `record.json`\n",
            *_table(COLUMNS, describe),
            "\n## Columns of `epochs.csv`\n",
            *_table(EPOCH_COLUMNS, describe_epoch),
            "",
        ]
    )


def _table(columns: Iterable[str], meaning: Callable[[str], str]) -> list[str]:
    rows = [f"| `{name}` | {meaning(name).replace('<', '&lt;').replace('|', '&#124;')} |" for name in columns]
    return ["| column | what it is |", "| --- | --- |", *rows]


if __name__ == "__main__":
    print(results_readme(), end="")
