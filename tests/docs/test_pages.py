"""Every code block of the pages is run as written, or at least says a command that exists.

A comment before a block says how it is treated:

* none: ``bash`` and ``python`` blocks run as written, in one folder for all pages;
* ``<!-- file: NAME -->``: the block is a file that later blocks use;
* ``<!-- plan only -->``: sweeps are planned, not run;
* ``<!-- not run: WHY -->``: its commands are only checked;
* ``<!-- workflow: ... -->``: CI's YAML, whose commands are checked.

Blocks without a language are treated as ``plan only`` ones.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from gluon_rnn.cli.arguments import parse_pairs, split_values
from gluon_rnn.cli.sweep_names import find_sweep
from gluon_rnn.config.sweep_file import Sweep, load_sweep

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "results/README.md"),
    *sorted(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md")),
    *sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "results").glob("*-*/README.md")),
]
#: Pages that continue from what another one has run.
AFTER = {"docs/generate.md": "docs/quickstart.md", "docs/export.md": "docs/quickstart.md"}
#: They train several networks.
SLOW = ("docs/export.md", "docs/generate.md", "docs/your-own.md")
SCRIPTS = {"run_sweep": "sweep", "promote_baseline": "promote"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    treatment: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    fence = r"^( *)(?:<!-- ([^\n]*) -->\n\1)?```(\w*)\n(.*?)\n\1```$"
    for indent, treatment, language, body in re.findall(fence, text, re.MULTILINE | re.DOTALL):
        yield Block(language, treatment, re.sub(f"^{indent}", "", body, flags=re.MULTILINE) + "\n")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each line, without comments; a line that ends in a backslash goes on."""
    variables: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line.startswith("#"):
            words = shlex.split(re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), line), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                name, _, variables[name] = words.pop(0).partition("=")
            if words:
                yield words


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def check(words: list[str], folder: Path) -> bool:
    """Whether a command is one of ours; it must then be one that exists, with arguments that can be read."""
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= targets()
        return True
    places = [number for number, word in enumerate(words) if re.fullmatch(r"(scripts|benchmarks)/\w+\.py", word)]
    if not places or "python" not in words[places[0] - 1]:
        return False
    script, given = words[places[0]], words[places[0] + 1 :]
    assert (CHECKOUT / script).is_file()
    if script.startswith("scripts/"):
        name = Path(script).stem
        module = importlib.import_module(f"gluon_rnn.cli.{SCRIPTS.get(name, name)}")
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        options = parser.parse_args(given)
        if name == "run_sweep":
            assert planned(options, folder).points()
    return True


def planned(options: argparse.Namespace, folder: Path) -> Sweep:
    here = folder / (options.sweep or "benchmarks/quick.yaml")
    sweep = load_sweep(here if here.is_file() else find_sweep(options.sweep))
    axes = {name: split_values(values) for name, values in parse_pairs("--axis", options.axis).items()}
    return sweep.with_arguments(parse_pairs("--set", options.set), axes, name=options.name, sample=options.sample)


class Workshop:
    """A folder that looks like a checkout, in which what pages say is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[str] = set()
        for name in ("scripts", "requirements", "Makefile", "docs", "examples"):
            (folder / name).symlink_to(CHECKOUT / name)
        for name in ("benchmarks", "results"):
            (folder / name).mkdir()
            for path in (CHECKOUT / name).iterdir():
                (folder / name / path.name).symlink_to(path)
        (folder / ".venv").symlink_to(sys.prefix)
        self.environ = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GLUON_RNN_DATA")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def do(self, page: str) -> None:
        if page in self.done:
            return
        self.done.add(page)
        for block in blocks(page):
            self._do(block)

    def _do(self, block: Block) -> None:
        kind, _, rest = block.treatment.partition(": ")
        if block.language in ("text", "yaml") and kind not in ("file", "workflow"):
            return
        if kind == "file":
            (self.folder / rest).write_text(block.text, encoding="utf-8")
        elif kind == "workflow":
            for line in list(_scripts(yaml.safe_load(block.text))):
                for words in commands(line):
                    check(words, self.folder)
        elif kind in ("plan only", "not run") or not block.language:
            assert kind != "not run" or len(rest) > 5
            found = [check(words, self.folder) for words in commands(block.text)]
            assert any(found) or kind != "plan only"
        else:
            assert not block.treatment
            program = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"]}[block.language]
            done = subprocess.run(
                [*program, block.text], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


def _scripts(node: object) -> Iterator[str]:
    """Every command line of a workflow."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "run":
                yield value
            elif key == "script":
                yield from value
            else:
                yield from _scripts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _scripts(item)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("checkout"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in PAGES]
)
def test_the_blocks_of_a_page_do_as_they_say(workshop: Workshop, page: str) -> None:
    if page in AFTER:
        workshop.do(AFTER[page])
    workshop.do(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_that_runs_has_a_language_that_is_known(page: str) -> None:
    known = {"bash", "python", "yaml", "text", ""}
    assert {block.language for block in blocks(page)} <= known
    assert len(list(blocks(page))) == (CHECKOUT / page).read_text(encoding="utf-8").count("```") // 2


def test_commands_that_do_not_exist_are_found(workshop: Workshop) -> None:
    for line in ("make nothing", "python scripts/nothing.py", "python scripts/run_sweep.py --nothing"):
        with pytest.raises((AssertionError, SystemExit)):
            check(line.split(), workshop.folder)
    with pytest.raises(Exception, match="unknown setting 'bbtt'"):
        check(["python", "scripts/run_sweep.py", "--set", "bbtt=35"], workshop.folder)
    assert not check(["echo", "scripts/run_sweep.py"], workshop.folder)
