"""The device that ``GLUON_RNN_TEST_DEVICE`` names, without importing MXNet."""

from __future__ import annotations

import os
import re

#: Names the device on which tests compute; unset or empty: cpu(0).
VARIABLE = "GLUON_RNN_TEST_DEVICE"


def parse(name: str | None) -> tuple[str, int]:
    """Kind and number of ``cpu``, ``cpu(1)``, ``gpu:0`` and their like.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(cpu|gpu)[:(]?(\d*)\)?", (name or "cpu").strip())
    if match is None:
        raise ValueError(f"{VARIABLE}={name!r} is not a device such as gpu or cpu(1)")
    return match[1], int(match[2] or 0)


def is_gpu() -> bool:
    """Whether it is a GPU."""
    return parse(os.environ.get(VARIABLE))[0] == "gpu"
