"""Checks of a planned sweep: whether a configuration, its corpus and the machine fit together."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import Notice
from gluon_rnn.config.run import LABELLED, RunConfig, configure
from gluon_rnn.data.corpora import CorpusFiles, count_words
from gluon_rnn.data.places import expand
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.machine import blas
from gluon_rnn.machine.environment import measure_libraries
from gluon_rnn.machine.hardware import Gpu, Machine
from gluon_rnn.machine.libmxnet import written
from gluon_rnn.runs.gpu_memory import gpu_memory_mb, least_gpu_memory_mb, what_would_fit
from gluon_rnn.runs.job import Job
from gluon_rnn.sweeps.devices import Slot

#: The oldest compute capability of a GPU that has a precision.
LEAST_CAPABILITY = {"float16": (7, 0), "tf32": (8, 0)}


def check_data_dir(data_dir: Path | None) -> None:
    """Refuse a data folder that does not exist: otherwise a corpus found elsewhere would hide the mistake."""
    if data_dir is not None and not os.path.isdir(expand(data_dir)):
        raise UserError(f"--data-dir {data_dir} is not a folder: name the one that holds the data, or drop --data-dir")


def check_precisions(jobs: Sequence[Job], machine: Machine, slots: Sequence[Slot]) -> None:
    """Refuse a precision that the devices of `slots` do not have, or that is not faster on them."""
    numbers = {device.partition(":")[2] for slot in slots for device in slot.device.split("+") if device[:3] == "gpu"}
    gpus = [gpu for gpu in machine.gpus if str(gpu.index) in numbers]
    kinds = {(job.config.precision, job.config.device_kind) for job in jobs}
    if ("bfloat16", "gpu") in kinds:
        raise UserError(
            "precision=bfloat16 needs a CPU: MXNet 1.9.1 does not have it on a GPU; use float32 or --device cpu"
        )
    if ("float16", "cpu") in kinds:
        raise UserError(
            "precision=float16 needs a GPU: MXNet 1.9.1 has no float16 products on a CPU; use float32 or bfloat16"
        )
    _check_capability("float16", kinds, gpus)
    if ("tf32", "cpu") in kinds:
        raise UserError("precision=tf32 needs a GPU; use precision=float32 on a CPU")
    _check_capability("tf32", kinds, gpus)
    for threads in {job.threads for job in jobs if job.config.precision == "bfloat16"}:
        if lack := blas.lacks_for_bfloat16(measure_libraries(threads)):
            raise UserError(f"precision=bfloat16 is not available: {lack}; use precision=float32")


def _check_capability(precision: str, kinds: Collection[tuple[str, str]], gpus: Sequence[Gpu]) -> None:
    """Refuse GPUs that are too old for `precision`, if it is wanted on a GPU."""
    least = LEAST_CAPABILITY[precision]
    if (precision, "gpu") in kinds and any(gpu.compute_capability < least for gpu in gpus):
        raise UserError(
            f"precision={precision} needs GPUs of compute capability {written(least)} or newer; use precision=float32"
        )


def check_gpu_memory(jobs: Sequence[Job], machine: Machine, notice: Notice) -> None:
    """Refuse a job that no GPU of the machine has the memory for, and mention those that may not fit.

    Both by `gluon_rnn.runs.gpu_memory`, the first with what CUDA takes at the very least.
    """
    largest = max((gpu.memory_mb for gpu in machine.gpus), default=math.inf)
    on_gpu = [job for job in jobs if job.config.device_kind == "gpu"]
    corpora = {job.corpus.sha1: job.corpus for job in on_gpu if _keeps_words(job.config)}
    counted = {sha1: count_words(corpus) for sha1, corpus in corpora.items()}
    for job in on_gpu:
        words = counted[job.corpus.sha1] if _keeps_words(job.config) else 0
        estimate = gpu_memory_mb(job.config, words)
        if estimate <= largest:
            continue
        fitting = what_would_fit(job.config, words, largest)
        size = f"{job.config.cell} of {job.config.hidden_size} units takes about {estimate:,.0f} MiB of a GPU"
        remedy = fitting or "lower batch_size, bptt, hidden_size or num_layers"
        if least_gpu_memory_mb(job.config, words) > largest:
            raise UserError(f"{size}, and the largest here has {largest:,}; {remedy}")
        notice(f"{size}, and the largest here has {largest:,}: it may not fit; {remedy}")


def _keeps_words(config: RunConfig) -> bool:
    """Whether every word of the training text is one of the vocabulary, which has no others."""
    text_of_words = config.objective not in LABELLED and config.level == "word"
    return text_of_words and config.min_freq == 1 and not config.lower


def check_fit(config: RunConfig, corpus: CorpusFiles) -> None:
    """Refuse a text that is too short for one window. Labelled data always have one sequence, which is enough."""
    if config.objective == "next_token":
        _check_windows(config, corpus)
    if config.objective != "language_model":
        return
    train = min(corpus.train_tokens, config.max_train_tokens or corpus.train_tokens)
    needed = config.batch_size * (config.bptt + 1)
    if train < needed:
        raise UserError(
            f"the training text of {corpus.dataset} has {train} tokens, and batch_size={config.batch_size} x "
            f"(bptt={config.bptt} + 1) needs {needed}; lower them or give more text"
        )
    for split, tokens in (("validation", corpus.valid_tokens), ("test", corpus.test_tokens)):
        scored = min(tokens, config.max_eval_tokens or tokens) - 1
        if scored < config.eval_batch_size:
            raise UserError(
                f"the {split} text of {corpus.dataset} has {scored} tokens to score, fewer than eval_batch_size="
                f"{config.eval_batch_size}; lower it or give more text"
            )


def fit_embedding(config: RunConfig, found: FoundVectors | None) -> RunConfig:
    """`config` with an embedding as wide as its word vectors."""
    if found is None:
        return config
    if config.embed_size not in (None, found.size):
        raise UserError(
            f"embed_size={config.embed_size}, but the vectors of {found.name} have {found.size} numbers each; leave it "
            "out, with model=rnn_lm where the model has fixed it"
        )
    return configure({**config.model_dump(exclude_unset=True), "embed_size": found.size})


def _check_windows(config: RunConfig, corpus: CorpusFiles) -> None:
    for split, tokens, most in (
        ("training", corpus.train_tokens, config.max_train_tokens),
        ("validation", corpus.valid_tokens, config.max_eval_tokens),
        ("test", corpus.test_tokens, config.max_eval_tokens),
    ):
        # None at all: windows of the training text are held out.
        if tokens and min(tokens, most or tokens) <= config.bptt:
            raise UserError(
                f"the {split} text of {corpus.dataset} has {min(tokens, most or tokens)} tokens, and a window of "
                f"bptt={config.bptt} and the token after it needs {config.bptt + 1}; lower bptt or give more text"
            )


def check_writable(directory: Path) -> None:
    """Refuse a results folder that cannot be created or written, without creating it."""
    try:
        directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, a folder that is closed, links in a circle
        raise UserError(
            f"cannot write results to {directory}: {error.strerror}; give --results another folder"
        ) from None
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write results to {directory}: {existing} is not a folder; give --results another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write results to {directory}: no permission for {existing}; give --results another folder"
        )
