"""``gluon-rnn evaluate``: score a run's model."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import describe, parse_data_dir, parse_pairs, parse_path
from gluon_rnn.cli.output import status_of_output, stopped_by_signals
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.machine.mxnet_process import ask
from gluon_rnn.reporting.terminal.console import make_console
from gluon_rnn.reporting.terminal.results import evaluations_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Score the best parameters of a run on validation and test, every token once, and add the results to "
        "evaluations.csv beside the sweep's runs.csv. Without --cache and --dynamic the model is scored as in "
        "training.",
        {
            "evaluate results/quick/runs/RUN_ID": "as in training",
            "evaluate results/quick/runs/RUN_ID --cache --search": "with a neural cache, tuned on validation",
            "evaluate results/quick/runs/RUN_ID --dynamic rule=sgd --split test": "by dynamic evaluation",
        },
    )
    parser.add_argument(
        "directory", type=parse_path, metavar="RUN", help="a run's directory, such as results/quick/runs/RUN_ID"
    )
    parser.add_argument(
        "--split", choices=("valid", "test", "both"), default="both", help="what to score (default: both)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="columns that the text is cut into (default: the run's eval_batch_size; 1 with --cache or --dynamic)",
    )
    parser.add_argument(
        "--cache",
        nargs="*",
        metavar="KEY=VALUE",
        help="add a neural cache: window=2000 theta=0.662 lambda=0.1279, unless given",
    )
    parser.add_argument(
        "--dynamic",
        nargs="*",
        metavar="KEY=VALUE",
        help="score by dynamic evaluation: rule=rms (or sgd) bptt=5 eta=5e-5 lambda=0.002 epsilon=2e-5, unless given; "
        "eta and lambda grow with bptt; batches=N takes the statistics from the first N batches of training only",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="choose theta and lambda of the cache, or eta and lambda of dynamic evaluation, on validation; given "
        "values are kept",
    )
    parser.add_argument(
        "--data-dir", type=parse_data_dir, metavar="DIR", help="folder to look for the corpus in (default: as a sweep)"
    )


@stopped_by_signals()
def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    ways = {name: getattr(options, name) for name in ("cache", "dynamic")}
    request = {
        "run": str(options.directory),
        "split": options.split,
        "batch_size": options.batch_size,
        "search": options.search,
        "data_dir": options.data_dir and str(options.data_dir),
        **{
            name: parse_pairs(f"--{name}", given, first="the run's directory")
            for name, given in ways.items()
            if given is not None
        },
    }
    answer = ask(
        "gluon_rnn.trained.evaluation",
        request,
        subject=options.directory,
        threads=describe_machine().cores,
        shows_progress=True,
    )
    make_console().print(evaluations_table(answer["evaluations"]))
    return status_of_output()
