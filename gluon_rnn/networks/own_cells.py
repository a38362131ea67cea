"""A check of a user's own cells before anything trains with them; a program that a sweep starts once."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import mxnet as mx
from mxnet import autograd

from gluon_rnn.common.errors import did_you_mean
from gluon_rnn.networks.layers import build_layer

_STEPS, _BATCH = 3, 2


def check(cell: str, *, hidden_size: int, input_size: int, weight_drop: float = 0.0) -> str | None:
    """The fault of `cell` in one line; None if it can be imported, takes steps and has a gradient.

    Args:
        cell: ``module:CellClass``.
        hidden_size: H, units.
        input_size: I, features of an input.
        weight_drop: rate of the dropout of its `h2h_weight`.
    """
    module, _, name = cell.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        return f"cannot import {module}: {_reason(error)}"
    if not hasattr(found, name):
        classes = [other for other, value in vars(found).items() if isinstance(value, type)]
        return f"{module} has no class {name}{did_you_mean(name, classes)}"
    try:
        layer = build_layer(cell, hidden_size=hidden_size, input_size=input_size, weight_drop=weight_drop)
        return _step(layer, hidden_size, input_size)
    except Exception as error:
        return f"{name}({hidden_size}, input_size={input_size}) fails in {_STEPS} steps: {_reason(error)}"


def _step(layer: Any, hidden_size: int, input_size: int) -> str | None:
    """As `check`, of a window and its gradient."""
    layer.initialize(mx.init.Uniform(0.1))
    layer.hybridize()
    inputs = mx.nd.random.uniform(shape=(_STEPS, _BATCH, input_size))
    inputs.attach_grad()
    before = [mx.nd.zeros((1, _BATCH, hidden_size)) for _ in range(layer.state_count)]
    with autograd.record():
        outputs, after = layer(inputs, before)
    outputs.backward()
    shapes = {"outputs": (outputs, (_STEPS, _BATCH, hidden_size))}
    shapes |= {f"state {number}": (state, (1, _BATCH, hidden_size)) for number, state in enumerate(after, 1)}
    for what, (array, expected) in shapes.items():
        # It is computed at the latest when somebody asks for a number.
        if array.asnumpy().shape != expected:
            return f"its {what} have the shape {array.shape}, not {expected}"
    inputs.grad.asnumpy()
    return None


def _reason(error: Exception) -> str:
    """The error in one line, and where in the user's own file it was raised."""
    text = str(error).strip()
    # MXNet's own errors are traces of C++ functions, whose last line says what is wrong.
    line = text.splitlines()[-1] if text else "no message"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {line}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    place = f" (line {own[-1].lineno} of {own[-1].filename.rpartition('/')[2]})" if own else ""
    return f"{type(error).__name__}: {line}{place}"


def _is_installed(file: str) -> bool:
    return "site-packages" in file or "/gluon_rnn/" in file or file.startswith("<") or file.startswith(sys.base_prefix)


def main() -> None:
    """Read cells from standard input and print the fault of the first faulty one."""
    for sign in (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS):
        signal.signal(sign, signal.SIG_DFL)  # MXNet 1.9.1 answers them with exit status 255
    request: Mapping[str, Any] = json.loads(sys.stdin.read())
    for each in request["cells"]:
        if why := check(**each):
            print(json.dumps({"error": f"cell {each['cell']}: {why}"}))
            return
    print(json.dumps({}))


if __name__ == "__main__":
    main()
