"""The process of one part: ``gluon_rnn.check_gpu.part REQUEST RESULTS``, started by `running`.

Each thing that it says is a line of JSON in the file RESULTS, written at once: ``{"planned": [...]}``, ``{"begun":
item}``, ``{"progress": text}`` of an item that takes long, and ``{"item": item, ...}``.
"""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu.parts import PARTS, Request
from gluon_rnn.common import processes
from gluon_rnn.common.errors import UserError


class Report:
    """Where a part writes what it has found.

    Args:
        path: of the file.
        done: items that are passed over.
    """

    def __init__(self, path: Path, done: Sequence[str] = ()) -> None:
        self._path = path
        self._done = frozenset(done)

    def write(self, **line: Any) -> None:
        """A line, at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(line)) + "\n")

    def measure(self, items: dict[str, Callable[[], dict[str, Any]]]) -> None:
        """Do all `items` in turn, by name; an exception is the result of its item, and the next one's turn comes.

        What an item returns may hold ``ok``: whether what it checks holds.
        """
        self.write(planned=list(items))
        for name, item in items.items():
            if name in self._done:
                continue
            self.write(begun=name)
            began = time.monotonic()
            try:
                found = item()
            except Exception as error:
                traceback.print_exc()
                text = str(error).strip().splitlines() or ["no message"]
                # Of MXNet's own errors the last line says what went wrong.
                found = {
                    "ok": False,
                    "error": text[-1] if isinstance(error, UserError) else f"{type(error).__name__}: {text[-1]}",
                }
            self.write(item=name, seconds=time.monotonic() - began, **found)


def _finite(value: Any) -> Any:
    """`value` as JSON knows it: neither infinity nor NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def main(request: Request, results: Path) -> None:
    """Run the part."""
    module = import_module(f"gluon_rnn.check_gpu.{PARTS[request.part].module}")
    processes.take_faults_back()
    module.run(request, Report(results, request.done))


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    main(Request(**{**told, "done": tuple(told["done"])}), Path(sys.argv[2]))
