"""``docs/kernels.md``: a section for each machine, whose rows are replaced as that machine is tried again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gluon_rnn.machine.hardware import Machine
from tests.kernels.kernels import CHECKOUT, Outcome

PAGE = CHECKOUT / "docs" / "kernels.md"
_COLUMNS = (
    "kernel",
    "threads",
    "BLAS as loaded",
    "oneDNN",
    "products",
    "passed",
    "failed",
    "what failed or was not tried",
)
_SECTION = re.compile(r"^## .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ([^|]+) \| (\d+) \|.*\|$", re.MULTILINE)


def renewed(page: str, machine: Machine, outcomes: Sequence[Outcome], *, order: Sequence[str]) -> str:
    """`page` with what came of `machine`; its rows of kernels that were not tried again stay.

    Args:
        page: the whole page's text.
        machine: where `outcomes` are from; its section is known by its `machine_id`.
        outcomes: what came of one kernel and number of threads each.
        order: names of kernels as the table lists them; rows of others are left out.
    """
    identifier = f"(`{machine.machine_id}`)"
    sections = [found[0] for found in _SECTION.finditer(page)]
    before = next((text for text in sections if text.splitlines()[0].endswith(identifier)), "")
    rows = {(found[1], int(found[2])): found[0] for found in _ROW.finditer(before)}
    rows |= {(outcome.kernel, outcome.threads): row(outcome) for outcome in outcomes}
    listed = sorted((key for key in rows if key[0] in order), key=lambda key: (order.index(key[0]), key[1]))
    lines = [
        f"## {machine.cpu_name}, {machine.cores} cores, {machine.libc} {identifier}",
        "",
        _line(_COLUMNS),
        _line(["---"] * len(_COLUMNS)),
        *(rows[key] for key in listed),
    ]
    new = "\n".join(lines) + "\n"
    if not before:
        return f"{page.rstrip()}\n\n{new}"
    return page.replace(before, new if page.endswith(before) else f"{new}\n")


def row(outcome: Outcome) -> str:
    """One line of a table."""
    seen = [outcome.kernel, outcome.threads, outcome.blas, outcome.instructions, outcome.products]
    if outcome.skipped:
        return _line([*seen, "", "", f"not tried: {outcome.skipped}"])
    texts = [
        *outcome.failed,
        outcome.trouble,
        *(f"{count} not tried: {reason}" for reason, count in outcome.left_out),
    ]
    return _line([*seen, outcome.passed, len(outcome.failed), "; ".join(text for text in texts if text)])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
