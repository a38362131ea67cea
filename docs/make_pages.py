"""Pages and tables that come from the code and from committed results; ``make pages`` renews them.

``settings.md``, ``commands.md`` and the schema of sweep files are whole files. In other pages a table stands between
``<!-- table: NAME -->`` and ``<!-- end -->``. tests/docs says when something is out of date.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import re
import shutil
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

from gluon_rnn.cli import COMMANDS
from gluon_rnn.cli.arguments import HelpFormatter
from gluon_rnn.config import sweep_schema
from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, PRESETS, Optimizer, RunConfig
from gluon_rnn.config.settings import default_of, described, values_of

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "results"

_MADE = "<!-- Made by `make pages` from the code; do not edit it here. -->"


def settings_page() -> str:
    """``settings.md``: every field of `RunConfig` with its values and its default."""
    lines = [
        "# Settings",
        "",
        _MADE,
        "",
        "Use a setting in any of these places:",
        "",
        "- `--set name=value` pins it at every point of a sweep;",
        "- `--axis name=value,value` varies it;",
        "- `set`, `axes` and `overrides` of a [sweep file](sweep-files.md) do the same;",
        "- `gluon_rnn.RunConfig(name=value)` takes it in Python.",
        "",
        "List only what differs from the defaults. The defaults are those of GluonNLP's `standard_lstm_lm_200`.",
        "`none` stands for a value that is not set. An unknown name or a value out of range is an error before",
        "anything starts.",
    ]
    for title, fields in described():
        lines += ["", f"## {title}", ""]
        for name, field in fields:
            values = values_of(field, code="`")
            lines += [f"### `{name}`", "", _sentence(field["description"]), ""]
            lines += [f"Default: `{default_of(field)}`." + (f" Values: {values}." if values != "text" else ""), ""]
    lines = lines[:-1]
    lines += ["", "## Default learning rates", "", "`learning_rate=auto` stands for these rates. A language model:", ""]
    lines += table(
        ["cell", "sgd", "sgd, momentum 0.9"],
        [
            [f"`{cell}`", *(f"{RunConfig(cell=cell, momentum=momentum).learning_rate:g}" for momentum in (0.0, 0.9))]
            for cell in (*FUSED_CELLS, *CUSTOM_CELLS, "my_module:MyCell")
        ],
    )
    lines += [
        "",
        "Any other objective uses 1 with `sgd`. With the other optimizers the rate depends on nothing else:",
        "",
    ]
    optimizers = [name for name in get_args(Optimizer) if name not in ("sgd", "nag")]
    rates = [[f"`{name}`", f"{RunConfig(optimizer=name).learning_rate:g}"] for name in optimizers]
    lines += table(["optimizer", "learning rate"], rates)
    lines += [
        "",
        "The LSTM's rate for `sgd` is GluonNLP's; those of GRUs and RNNs come from a search over",
        "[a quarter of an epoch](../results/learning-rate-cpu/README.md). After",
        "[three epochs](../results/cells-search-cpu/README.md) each is the best of three. `nag` uses the same rates.",
        "Adadelta ignores its learning rate.",
        "",
        "## Models with fixed settings",
        "",
        "These are GluonNLP's models. Their settings cannot be changed; use `model=rnn_lm` to change them.",
        "",
    ]
    names = list(next(iter(PRESETS.values())))
    rows = [[f"`{model}`", *(str(fixed[name]).lower() for name in names)] for model, fixed in PRESETS.items()]
    return "\n".join([*lines, *table(["model", *(f"`{name}`" for name in names)], rows), ""])


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    first = text.split()[0]
    if "_" not in first:
        text = text[0].upper() + text[1:]
    return f"{text}.".replace("<", "&lt;").replace("*", r"\*")


class _Wide(HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def commands_page() -> str:
    """``commands.md``: the help of every command."""
    lines = [
        "# Commands",
        "",
        _MADE,
        "",
        "`gluon-rnn COMMAND` and `python -m gluon_rnn COMMAND` run a command of the installed package. In a checkout",
        "`python scripts/NAME.py` does the same with the checkout's `.venv`, whichever Python starts it.",
        "`gluon-rnn` alone shows the commands.",
        "",
    ]
    lines += table(
        ["command", "script", "purpose"],
        [
            [f"[`{name}`](#{name})", f"`scripts/{_SCRIPTS.get(name, name).replace('-', '_')}.py`", what]
            for name, what in COMMANDS.items()
        ],
        left=3,
    )
    lines += [
        "",
        "`gluon-rnn` is in the environment's `bin`: run `.venv/bin/gluon-rnn`, or `source .venv/bin/activate` once",
        "in each shell.",
        "",
        "Exit status 0 means success. Status 1 means that a run failed, a gate found a regression, or a check found a",
        "problem. Status 2 means an error, which one line names with its fix; a sweep has then not started, or could",
        "not write its results. Ctrl-C ends with 130.",
        "",
        "## Completion",
        "",
        "`gluon-rnn` completes commands, options, settings, their values and sweep files. Put one line into the file",
        "that your shell reads when it starts:",
        "",
        "| shell | file | line |",
        "| --- | --- | --- |",
        '| bash | `~/.bashrc` | `eval "$(gluon-rnn --print-completion bash)"` |',
        '| zsh | `~/.zshrc`, after `compinit` | `eval "$(gluon-rnn --print-completion zsh)"` |',
        "| fish | `~/.config/fish/config.fish` | `gluon-rnn --print-completion fish \\| source` |",
    ]
    for name in COMMANDS:
        parser = argparse.ArgumentParser(prog=f"gluon-rnn {name}")
        importlib.import_module(f"gluon_rnn.cli.{name.replace('-', '_')}").add_arguments(parser)
        parser.formatter_class = _Wide
        lines += ["", f"## {name}", "", "```text", parser.format_help().rstrip(), "```"]
    return "\n".join([*lines, ""])


_SCRIPTS = {"sweep": "run_sweep", "promote": "promote_baseline"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """A Markdown table whose first `left` columns are text, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def _committed(path: str) -> list[dict[str, str]]:
    with (RESULTS / path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _markdown(path: str) -> list[dict[str, str]]:
    """The rows of the first table of a page of results; of equal headings the first column counts."""
    lines = [line for line in (RESULTS / path).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(reversed([*zip(head, row, strict=True)])) for row in rows]


def main_table() -> list[str]:
    """The best point of each cell on the whole WikiText-2."""
    names = ("cell", "parameters", "learning rate", "valid ppl", "test ppl", "tokens/s", "peak MB")
    best: dict[str, dict[str, str]] = {}
    for row in _markdown("cells-cpu/README.md"):
        best.setdefault(row["cell"], row)
    return table(names, [[row[name] for name in names] for row in best.values()])


def step_table() -> list[str]:
    """A training step on two machines, of two sizes, beside other implementations."""
    places = [f"{machine}/lstm-{size}-35" for machine in ("epyc", "xeon") for size in (200, 650)]
    pages = [{row["what"]: row for row in _markdown(f"step_time/{place}.md")} for place in places]
    ours, torch = "this suite", "PyTorch's example as shipped"
    rows = []
    for what in pages[0]:
        bold = "**" if what == ours else ""
        rows.append([f"{bold}{what}{bold}", *(f"{bold}{int(page[what]['ms a step']):,} ms{bold}" for page in pages)])
    against = "speed against notebook's loop, MXNet as installed"
    rows.append(["speed-up over the notebook's loop", *(f"{float(page[ours][against]):.1f}" for page in pages)])
    rows.append([f"speed-up over {torch}", *(f"{_speed_up('pytorch', place):.1f}" for place in places)])
    rows.append(["share of the machine's float32 peak", *(page[ours]["share of ceiling"] for page in pages)])
    for what in (torch, ours):
        rows.append([f"peak memory, {what}", *(f"{int(page[what]['peak MB']):,} MB" for page in pages)])
    return table(["", "EPYC, 200 units", "EPYC, 650", "Xeon, 200", "Xeon, 650"], rows)


def _speed_up(other: str, place: str) -> float:
    """The median over rounds of how many times as long `other` took as this suite."""
    rounds: dict[str, dict[str, float]] = {}
    for row in _committed(f"step_time/{place}.csv"):
        rounds.setdefault(row["round"], {})[row["what"]] = float(row["seconds_a_step"])
    return statistics.median(seconds[other] / seconds["suite"] for seconds in rounds.values())


def environment_table() -> list[str]:
    """A step with one choice of the environment left out."""
    epyc, xeon = (
        {row["what"]: row for row in _markdown(f"step_time/{machine}/lstm-200-35-environment.md")}
        for machine in ("epyc", "xeon")
    )
    rows = [
        [what, *(f"{page[what]['ms a step']} ms" if what in page else "" for page in (epyc, xeon))] for what in epyc
    ]
    return table(["environment", "EPYC", "Xeon"], rows)


def spelling_table() -> list[str]:
    """System C: nats a letter of every cell, the library's and the one from scratch."""
    runs = {
        (run["cell"], run["embedding"], run["bptt"]): float(run["valid_loss"])
        for run in _committed("reference/c/runs.csv")
    }
    places = [("one_hot", "6"), ("random", "6"), ("one_hot", "1"), ("random", "1")]
    rows = [
        [name, *(f"{runs[(cell, *place)]:.5f} / {runs[(scratch, *place)]:.5f}" for place in places)]
        for name, cell, scratch in (
            ("RNN", "rnn_tanh", "custom_rnn"),
            ("GRU", "gru", "custom_gru"),
            ("LSTM", "lstm", "custom_lstm"),
        )
    ]
    head = ["cell", "one-hot, one sequence", "embedding, one sequence", "one-hot, letter by letter"]
    return table([*head, "embedding, letter by letter"], rows)


def vectors_table() -> list[str]:
    """System B: what pre-trained vectors are worth after 4,000 windows."""
    short = [run for run in _committed("reference/b/runs.csv") if run["max_train_tokens"]]
    found = {(run["embedding"] == "random", run["train_embedding"]): run["valid_perplexity"] for run in short}
    rows = [
        [name, *(f"{float(found[random, trained]):.1f}" for trained in ("False", "True"))]
        for name, random in (("vectors of 2,942 words", False), ("random", True))
    ]
    return table(["embedding", "frozen", "trained"], rows)


def systems_table() -> list[str]:
    """What the five notebooks printed, and what the same systems come to here."""

    def mean(folder: str, cell: str, column: str = "valid_loss", **only: str) -> float:
        runs = [run for run in _committed(f"reference/{folder}/runs.csv") if run["cell"] == cell]
        runs = [run for run in runs if all(run[key] == value for key, value in only.items())]
        return sum(float(run[column]) for run in runs) / len(runs)

    def labels(folder: str, **only: str) -> str:
        return ", ".join(
            f"{name} {mean(folder, cell, **only):.3f} ({mean(folder, cell, 'valid_accuracy', **only):.1%})"
            for name, cell in (("LSTM", "lstm"), ("GRU", "gru"))
        )

    def epochs(folder: str, cell: str) -> list[str]:
        run = next(run["run_id"] for run in _committed(f"reference/{folder}/runs.csv") if run["cell"] == cell)
        losses = [row for row in _committed(f"reference/{folder}/epochs.csv") if row["run_id"] == run]
        return [f"{float(row['valid_loss']):.3f}" for row in losses]

    curve = _markdown_table(RESULTS / "notebook-cpu" / "README.md", 1)
    first, last = curve[0], curve[-1]
    spelled = sum(run["valid_accuracy"] == "1.0" for run in _committed("reference/c/runs.csv"))
    rows = [
        [
            "A. `standard_lstm_lm_200`, SGD at 20: training perplexity of 200 batches, start and end of epoch 2",
            f"{first['notebook']}, {last['notebook']}",
            f"{first['epoch 2']}, {last['epoch 2']}",
        ],
        [
            "B. Frozen GloVe vectors, LSTM of 100 units, Adam: loss at the first step, and around step 2,000",
            "10.28, 6.2",
            "10.27, 6.5",
        ],
        ["C. `hihell` to `ihello`", "spelled", f"spelled by {spelled} of 24 networks"],
        ["D1. Tweets, bidirectional, mean of 3 seeds: validation cross-entropy (accuracy)", "0.640", labels("d1")],
        [
            "D2. Parts of speech, bidirectional, mean of 2 seeds, words seen 5 times",
            "0.176",
            labels("d2", min_freq="5"),
        ],
        ["D2. The same, words seen twice", "", labels("d2", min_freq="2")],
        ["E1. `Char3`, two epochs: validation loss", "not printed", epochs("e1", "char_loop")[-1]],
        ["E2. `CharLoop`, two epochs", "1.956, 1.697", ", ".join(epochs("e", "char_loop"))],
        ["E3. `CharLoopConcat`, two epochs", "1.823, 1.739", ", ".join(epochs("e", "char_loop_concat"))],
        ["E4. `CharRNN`, six epochs: first and last", "1.852, 1.508", ", ".join(epochs("e", "rnn_tanh")[::5])],
    ]
    return table(["system", "the notebook", "this suite"], rows, left=3)


def rules_table() -> list[str]:
    """One model by the rules of several implementations."""
    rows = _committed("comparability/rules.csv")
    cells = []
    for row in rows:
        figures = []
        for split in ("valid", "test"):
            ours, theirs = (float(found[f"{split}_perplexity"]) for found in (rows[0], row))
            figures += [f"{int(row[f'{split}_targets']):,}", f"{theirs:.2f}", f"{theirs / ours - 1:+.2%}"]
        cells.append(
            [f"`{row['rule'][:5]}`{row['rule'][5:]}" if row["rule"].startswith("<") else row["rule"], *figures]
        )
    head = ["rule", "validation targets", "perplexity", "change", "test targets", "perplexity", "change"]
    return table(head, cells)


def _markdown_table(path: Path, number: int) -> list[dict[str, str]]:
    """The rows of table `number` of a page, counted from 0."""
    blocks = re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in blocks[number].splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


TABLES: dict[str, Callable[[], list[str]]] = {
    "cells": main_table,
    "steps": step_table,
    "environment": environment_table,
    "spelling": spelling_table,
    "vectors": vectors_table,
    "systems": systems_table,
    "rules": rules_table,
}


def pages() -> dict[Path, str]:
    """Every page that is made or holds a table that is, with the text it should have."""
    made = {
        CHECKOUT / "docs" / "settings.md": settings_page(),
        CHECKOUT / "docs" / "commands.md": commands_page(),
        CHECKOUT / "benchmarks" / "sweep.schema.json": sweep_schema.as_text(),
    }
    for path in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        renewed = re.sub(
            r"(<!-- table: (\w+) -->\n)(?:\|.*\n)*(<!-- end -->)",
            lambda found: "\n".join([found[1], *TABLES[found[2]](), "", found[3]]),
            re.sub(r"(<!-- table: \w+ -->\n)\n|\n\n(?=<!-- end -->)", lambda found: found[1] or "\n", text),
        )
        if renewed != text or "<!-- table:" in text:
            made.setdefault(path, renewed)
    return made


def take_picture(path: Path) -> None:
    """A picture of the first sections of a committed report; it needs a Chromium on this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1060, "height": 900})
        page.goto((RESULTS / "seeds-cpu" / "report.html").as_uri())
        end = page.get_by_role("heading", name="Learning curves").last.bounding_box()
        assert end is not None
        page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1060, "height": end["y"] - 10})
        browser.close()


def main() -> None:
    """Renew them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", action="store_true", help="renew the picture of a report in assets/, too")
    if parser.parse_args().picture:
        take_picture(CHECKOUT / "docs" / "assets" / "report.png")
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
