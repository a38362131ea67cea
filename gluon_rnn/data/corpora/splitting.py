"""Sequences held out at random by GluonNLP. Imported only where a run is trained."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from gluonnlp.data.utils import train_valid_split

Item = TypeVar("Item")


def split(
    items: list[Item], held_out: float, *, seed: int, strata: list[int] | None = None
) -> tuple[list[Item], list[Item]]:
    """Return all but ``held_out`` of ``items``, and those, in random order; the same at every call.

    Args:
        items: to be divided.
        held_out: their share, rounded up.
        seed: of the order.
        strata: the class of each item; each class's share is then held out.
    """
    # GluonNLP draws from numpy's global state, which belongs to the run.
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        kept, rest = train_valid_split(range(len(items)), held_out, stratify=strata)
    finally:
        np.random.set_state(state)
    return [items[place] for place in kept], [items[place] for place in rest]
