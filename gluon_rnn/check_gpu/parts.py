"""The parts of the check, in order of worth, and what each process is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The sizes of GluonNLP's three standard language models.
SIZES = (200, 650, 1500)


@dataclass(frozen=True)
class Part:
    """One part, which runs in a process of its own.

    Attributes:
        title: a heading.
        module: of this package, with the function ``run(request, report)``.
        share: of the time that is left, relative to the shares of the parts after it.
        precision: of the products on the device.
        environment: how the process starts: as a ``worker`` of a sweep does, or as ``plain`` as the user's own
            processes, but for the GPU that it sees and its libraries.
        columns: what the page shows of each item, with its heading.
        judged: whether what fails here is a problem; False: it is tried out of interest.
    """

    title: str
    module: str
    share: float
    columns: dict[str, str]
    precision: str = "float32"
    environment: Literal["worker", "plain"] = "worker"
    judged: bool = True


_AGREEMENT = {
    "loss": "loss",
    "reference_loss": "on the CPU",
    "states": "states",
    "gradients": "gradients",
    "parameters": "parameters",
    "ok": "ok",
}
_TIMES = {
    "ms": "ms a step",
    "fastest_ms": "fastest",
    "slowest_ms": "slowest",
    "tokens_per_second": "tokens/s",
    "peak_gpu_mb": "peak GPU MB",
}

_EPOCH = {
    "valid_perplexity": "validation ppl",
    "test_perplexity": "test ppl",
    "tokens_per_second": "tokens/s",
    "seconds_of_epoch": "s",
    "dataset": "corpus",
    "ok": "ok",
}
_EPOCH_IN = {"valid_perplexity": "validation ppl", "of_float32": "of float32's"} | _EPOCH

PARTS: dict[str, Part] = {
    "machine": Part("Machine and library", "library", 3, {"value": "found", "ok": "ok"}),
    "parity": Part("Agreement with the CPU", "parity", 24, _AGREEMENT),
    "dropout": Part(
        "Dropout: how much is dropped, and whether the seed decides it",
        "dropout",
        5,
        {
            "wanted": "rate",
            "dropped": "dropped",
            "mean": "mean of what was 1",
            "same_bits": "same seed, same bits",
            "ok": "ok",
        },
    ),
    "graphs": Part(
        "To and fro between graphs with and without lengths", "graphs", 6, _AGREEMENT | {"every_turn_alike": "alike"}
    ),
    "resume": Part(
        "Whole runs: twice the same bits, and after a kill",
        "resume",
        18,
        {"what": "what", "differences": "differences", "ok": "ok"},
        environment="plain",
    ),
    "tests": Part("Numerical tests", "tests", 12, {"outcome": "outcome", "ok": "ok"}),
    "steps": Part("A step's time: this suite", "steps", 14, _TIMES),
    "steps-tf32": Part("A step's time: TF32", "steps", 6, _TIMES, precision="tf32"),
    "steps-float16": Part("A step's time: float16", "steps", 6, _TIMES, precision="float16"),
    "notebook": Part("A step's time: the notebook's loop", "notebook", 8, _TIMES, environment="plain"),
    "pytorch": Part("A step's time: PyTorch", "pytorch", 8, _TIMES | {"torch": "torch"}, environment="plain"),
    "products": Part(
        "The decoder's products in each form",
        "products",
        8,
        {"product": "product", "ms": "ms", "teraflops": "TFLOP/s", "fastest": "fastest", "ok": "right"},
    ),
    "products-tf32": Part(
        "The decoder's products in TF32",
        "products",
        5,
        {"product": "product", "ms": "ms", "teraflops": "TFLOP/s", "fastest": "fastest", "ok": "right"},
        precision="tf32",
    ),
    "memory": Part(
        "Memory of one model alone in its process",
        "memory",
        10,
        {
            "parameters": "parameters",
            "process_mb": "process MB",
            "in_use_mb": "in use MB",
            "peak_rss_mb": "peak RSS MB",
        },
    ),
    "epoch": Part(
        "An epoch of benchmarks/notebook.yaml",
        "epoch",
        14,
        _EPOCH,
        environment="plain",
    ),
    "epoch-tf32": Part(
        "An epoch in TF32 beside one in float32",
        "epoch",
        8,
        _EPOCH_IN,
        precision="tf32",
        environment="plain",
    ),
    "epoch-float16": Part(
        "An epoch in float16 beside one in float32",
        "epoch",
        8,
        _EPOCH_IN,
        precision="float16",
        environment="plain",
    ),
    "fusion": Part(
        "Loops whose operators MXNet fuses, which this suite forbids: a crash is expected",
        "graphs",
        6,
        _AGREEMENT | {"every_turn_alike": "alike"},
        judged=False,
    ),
}


@dataclass(frozen=True)
class Request:
    """What a part's process is told.

    Attributes:
        part: its name.
        device: ``cpu``, or ``gpu``: the only one that the process sees.
        precision: of the part.
        seconds: for the part, of which an item may take its share.
        threads: of the CPU.
        scratch: a folder for what a part writes.
        torch: the Python that has torch; None where there is none.
        data_dir: folder to search first for corpora; None: the default places.
        done: items that an earlier process of this part has done, or died of.
    """

    part: str
    device: str
    precision: str
    seconds: float
    threads: int
    scratch: str
    torch: str | None = None
    data_dir: str | None = None
    done: tuple[str, ...] = ()
