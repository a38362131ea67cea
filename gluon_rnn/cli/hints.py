"""Suggestions for unknown command-line arguments."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from gluon_rnn.common.errors import did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import find_setting

#: What other tools call options of ours.
_OTHERS = {
    "--results": "--output --output-dir --out --outdir --out-dir --save --save-dir --log-dir --logdir --results-dir -o",
    "--data-dir": "--data-path --data-root --datadir --root",
    "--jobs": "--parallel --n-jobs --num-jobs --max-jobs --concurrency --workers --num-workers -j -n",
    "--dry-run": "--plan --list --no-run --print --preview",
    "--rerun": "--force --overwrite --again -f",
    "--rerun-failed": "--retry --retry-failed",
    "--tensorboard": "--tb --tensorboard-dir --summary-dir",
    "--quiet": "--silent -q -s",
    "--axis": "--grid --sweep --vary --param",
    "--set": "--override --overrides --opt --opts --cfg-options -D",
    "--list-settings": "--settings --list --help-settings --show-settings",
    "--fail-fast": "--exitfirst --stop-on-failure -x",
}
#: What needs no option.
_NONE = dict.fromkeys(
    ("--resume", "--continue", "--restart"), "run the same command again: it resumes, and what is done is not run again"
)
_OPTIONS = {other: option for option, others in _OTHERS.items() for other in others.split()}


def unknown_argument(parser: argparse.ArgumentParser, unknown: Sequence[str], given: Sequence[str]) -> str:
    """The message that refuses the first of `unknown` arguments and suggests what to write.

    Args:
        parser: of the command.
        unknown: what it did not know.
        given: all of its arguments.
    """
    word, equals, value = unknown[0].partition("=")
    if not word.startswith("-"):
        return f"unexpected argument {quoted(unknown[0])}{_extra(parser)}; see {parser.prog} --help"
    known = [option for action in parser._actions for option in action.option_strings]
    values = [value] if equals else _values_after(unknown[0], given)
    setting = find_setting(word) if "--set" in known else None
    if word in _NONE and "--set" in known:
        hint = f"; {_NONE[word]}"
    elif word in _OPTIONS and _OPTIONS[word] in known:
        hint = f"; did you mean {_OPTIONS[word]}?"
    elif setting and f"--{setting}" in known:
        numbered = [f"gpu:{value}" if setting == "device" and value.isdecimal() else value for value in values]
        hint = f"; write {' '.join([f'--{setting}', ','.join(numbered) or setting.upper()])}"
    elif setting:
        several = len(values) > 1 or "," in "".join(values)
        hint = f"; write {'--axis' if several else '--set'} {setting}={','.join(values) or 'VALUE'}"
    else:
        hint = did_you_mean(word, known)
    return f"unknown option {quoted(word)}{hint or f'; see {parser.prog} --help'}"


def _values_after(word: str, given: Sequence[str]) -> list[str]:
    """The words after an option, up to the next."""
    after = list(given)[list(given).index(word) + 1 :] if word in given else []
    return [value.strip(",") for value in itertools.takewhile(lambda text: not text.startswith("-"), after)]


def _extra(parser: argparse.ArgumentParser) -> str:
    """What the command takes of such."""
    names = [str(action.metavar) for action in parser._actions if not action.option_strings and action.metavar]
    return f"; the command takes {' '.join(names)}" if names else ""
