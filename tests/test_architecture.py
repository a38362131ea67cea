"""docs/architecture.md names files and functions that are there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)", PAGE))
    named = {name for name in named if (CHECKOUT / "gluon_rnn" / name.partition("/")[0]).is_dir()}
    assert len(named) > 60
    # `networks/models.build_model` is a function of networks/models.py.
    files = {re.sub(r"\.(?!py$|md$)\w+$", ".py", name) for name in named}
    assert [name for name in sorted(files) if not (CHECKOUT / "gluon_rnn" / name).exists()] == []


def test_every_function_that_the_page_names_is_in_its_file() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+)\.(?!py`)(\w+)[.`(]", PAGE))
    named = {(module, name) for module, name in named if (CHECKOUT / "gluon_rnn" / module.partition("/")[0]).is_dir()}
    assert len(named) > 20
    for module, name in sorted(named):
        path = CHECKOUT / "gluon_rnn" / f"{module}.py"
        if not path.is_file():
            path = CHECKOUT / "gluon_rnn" / module / "__init__.py"
        assert re.search(rf"^(def|class) {name}\b|^{name}\b.* = ", path.read_text(encoding="utf-8"), re.M), (
            module,
            name,
        )


def test_every_room_is_on_the_page() -> None:
    subpackages = {path.parent.name for path in (CHECKOUT / "gluon_rnn").glob("*/__init__.py")}
    assert subpackages == set(re.findall(r"^\| \d \| `(\w+)/`", PAGE, re.M))
