"""``gluon-rnn generate``: generate text with a run's model."""

from __future__ import annotations

import argparse
import io
import sys

from gluon_rnn.cli.arguments import describe, parse_path, parse_words
from gluon_rnn.cli.output import status_of_output, stopped_by_signals
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import for_terminal
from gluon_rnn.machine.mxnet_process import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Print a prompt and its continuation by a run's model. Only the run's directory is needed; while the run "
        "is training, its best epoch so far is used. A next_token model reads the last bptt tokens each time.",
        {
            "generate results/quick/runs/RUN_ID --prompt 'the game' --tokens 50": "go on for 50 words",
            "generate results/quick/runs/RUN_ID --prompt '' --tokens 50 --greedy": "the most likely new sentence",
        },
    )
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument(
        "directory", type=parse_path, metavar="RUN", help="a run's directory, such as results/quick/runs/RUN_ID"
    )
    parser.add_argument(
        "--prompt",
        type=parse_words,
        required=True,
        metavar="TEXT",
        help="text to continue, tokenized like the run's corpus, unknown words as <unk>; empty: begin after <eos>",
    )
    parser.add_argument(
        "--tokens",
        type=int,
        required=True,
        metavar="N",
        help="number of words or characters to generate, up to 100,000",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="below 1 sharpens the distribution, above 1 flattens it (default: 1)",
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="sample only among the K most likely tokens (default: all)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="random seed; the same seed gives the same text (default: 0)"
    )
    parser.add_argument("--greedy", action="store_true", help="always take the most likely token")


@stopped_by_signals()
def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    names = ("prompt", "tokens", "temperature", "top_k", "seed", "greedy")
    request = {name: value for name, value in vars(options).items() if name in names}
    idle = [f"--{name.replace('_', '-')}" for name in ("temperature", "top_k", "seed") if name in request]
    if idle and "greedy" in request:
        raise UserError(f"--greedy always takes the most likely token; drop it or {' and '.join(idle)}")
    # One thread: how many there are decides the last bits of the logits, and so now and then a word.
    request = {"run": str(options.directory), **request}
    answer = ask("gluon_rnn.trained.generation", request, subject=options.directory, threads=1)
    _print_text(answer["text"])
    return status_of_output()


def _print_text(text: str) -> None:
    """Print `text` as it is, in UTF-8; on a terminal, with what that would obey escaped."""
    if sys.stdout.isatty():
        text = for_terminal(text)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # Whatever the locale is; and bytes of an argument that are not UTF-8 are written as they were.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    print(text)
