"""Sweeps: plan what is missing, start it, watch it, collect it.

Nothing here imports MXNet. Whatever a user can get wrong is found while planning, before anything is started or made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand
from gluon_rnn.common.printable import Notice, printable
from gluon_rnn.config.identity import is_own, run_id, source_sha1
from gluon_rnn.config.run import RunConfig, configure, varying_fields
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.data.corpora.folder import expand as expand_folder
from gluon_rnn.data.corpora.synthetic import NAME as SYNTHETIC
from gluon_rnn.data.vectors import FoundVectors, find_vectors
from gluon_rnn.machine import blas
from gluon_rnn.machine.environment import measure_libraries
from gluon_rnn.machine.hardware import Machine, default_threads, describe_machine, library_versions
from gluon_rnn.runs.contents import DIGESTS, Names
from gluon_rnn.runs.job import FINISHED, Job, Origin
from gluon_rnn.runs.records import read_records
from gluon_rnn.sweeps.devices import Slot, listed_devices, make_slots, resolve_device
from gluon_rnn.sweeps.idle import remarks
from gluon_rnn.sweeps.origin import git_state


@dataclass(frozen=True)
class Plan:
    """A sweep, checked and ready to run; making one has changed nothing.

    Attributes:
        name: of the sweep.
        directory: where its results are, or will be.
        jobs: every point, in the sweep's order.
        missing: the jobs that have no record yet, or a failed one that is to be made again.
        slots: where the workers will run.
        again: the run_ids of finished points that are to be made again.
        remarks: what whoever reads the results must know, such as a setting that changes nothing; a line each.
    """

    name: str
    directory: Path
    jobs: tuple[Job, ...]
    missing: tuple[Job, ...]
    slots: tuple[Slot, ...]
    again: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    def label(self, job: Job) -> str:
        """What tells `job` from the others: the fields that vary, as ``cell=gru bptt=35``.

        Files of one name are told apart by their content, too: tables show no path.
        """
        suffixes = {name: self._names.suffix(job.contents, name) for name in DIGESTS}
        return printable(
            " ".join(f"{name}={getattr(job.config, name)}{suffixes.get(name, '')}" for name in self.varying)
        )

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The fields in which the points differ; what a lone point is known by."""
        return varying_fields([job.config.model_dump() for job in self.jobs])

    @cached_property
    def _names(self) -> Names:
        return Names(job.contents for job in self.jobs)


def plan_sweep(
    sweep: Sweep,
    *,
    results: Path,
    data_dir: Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    rerun_failed: bool = False,
    rerun: Iterable[str] = (),
    notice: Notice = print,
    machine: Machine | None = None,
) -> Plan:
    """Check everything and list what is to do.

    Args:
        results: the folder that holds the sweep's own.
        data_dir: where corpora are looked for first, and files of vectors that are not here.
        device: what each worker gets: ``auto``, ``cpu``, ``gpu``, or a list such as ``gpu:0,gpu:1`` or
            ``gpu:0+gpu:1,gpu:2+gpu:3``; all but ``auto`` overrule the sweep's own.
        jobs: workers side by side; None: one for each entry of `device`.
        rerun_failed: whether failed, timed-out and out-of-memory points are missing again.
        rerun: run_ids of points that are missing again although they have finished.
        notice: receives lines for people.
        machine: this one unless given.

    Raises:
        UserError: see the module.
    """
    machine = machine or describe_machine()
    blas.asked_for()
    results = expand(results)
    if data_dir is not None and not os.path.isdir(expand_folder(data_dir)):
        # A corpus that is not looked for there would hide the slip.
        raise UserError(f"--data-dir {data_dir} is no folder: name the one that holds the data, or drop --data-dir")
    configs = sweep.points()
    listed = listed_devices(device)
    configs = [resolve_device(config, listed, machine) for config in configs]
    slots = make_slots(configs, listed, jobs, machine)
    vectors = {name: find_vectors(name, data_dir=data_dir, notice=notice) for name in {c.embedding for c in configs}}
    configs = [_fit_embedding(config, vectors[config.embedding]) for config in configs]
    corpora = {
        (dataset, objective, level): find_corpus(
            dataset, objective=objective, level=level, data_dir=data_dir, notice=notice
        )
        for dataset, objective, level in dict.fromkeys(map(_corpus_of, configs))
    }
    cells = {cell: source_sha1(cell) for cell in {config.cell for config in configs} if is_own(cell)}
    versions, checkout = library_versions(), git_state()
    origin = Origin(
        device_name=machine.cpu_name,
        machine_id=machine.machine_id,
        mxnet_version=versions.get("mxnet"),
        gluonnlp_version=versions.get("gluonnlp"),
        numpy_version=versions.get("numpy"),
        git_commit=checkout[0],
        git_dirty=checkout[1],
        host=machine.host,
    )
    said = list(remarks(sweep, [(config, corpora[_corpus_of(config)]) for config in configs]))
    planned: dict[str, Job] = {}
    for config in configs:
        corpus = corpora[_corpus_of(config)]
        _check_fit(config, corpus)
        job = Job(
            run_id="",
            config=config,
            corpus=corpus,
            vectors=vectors[config.embedding],
            cell_sha1=cells.get(config.cell),
            threads=config.threads or default_threads(machine.cores, len(slots)),
            origin=origin,
        )
        job = job.model_copy(update={"run_id": run_id(config, content=job.content)})
        # Two points that come out equal are one: "auto" and the corpus it found, say.
        planned.setdefault(job.run_id, job)
    if (count := math.prod(map(len, sweep.axes.values()))) > len(planned):
        runs = "one run" if len(planned) == 1 else f"{len(planned)} different runs"
        said.append(f"{count} points come to {runs}; the others would only repeat what these do")
    for line in said:
        notice(line)
    if any(config.dataset == "auto" and corpora[_corpus_of(config)].dataset == SYNTHETIC for config in configs):
        # `find_corpus` has told why.
        said.append(f"the corpus is {SYNTHETIC}, built in, since no published one was found")
    directory = results / sweep.name
    _check_writable(directory)
    records, damaged = read_records(directory)
    for line in damaged.values():
        notice(f"{line}; it counts as missing")
    again = frozenset(rerun)
    if unknown := sorted(again - {*planned}):
        raise UserError(f"--rerun {unknown[0]}: no point of this sweep has that run_id; --dry-run lists them")
    done = {record.run_id: record for record in records if record.status in FINISHED or not rerun_failed}
    done = {name: record for name, record in done.items() if name not in again}
    elsewhere = sum(name in done and done[name].machine_id != machine.machine_id for name in planned)
    if elsewhere:
        notice(f"{elsewhere} of the finished points were measured on another machine; --results FOLDER starts afresh")
    missing = tuple(job for job in planned.values() if job.run_id not in done)
    _check_precisions(missing, machine)
    return Plan(
        name=sweep.name,
        directory=directory,
        jobs=tuple(planned.values()),
        missing=missing,
        slots=slots,
        again=again,
        remarks=tuple(said),
    )


def _check_precisions(jobs: Sequence[Job], machine: Machine) -> None:
    kinds = {(job.config.precision, job.config.device_kind) for job in jobs}
    if ("bfloat16", "gpu") in kinds:
        raise UserError("precision=bfloat16 is for a CPU, MXNet 1.9.1 has none on a GPU; use float32 or --device cpu")
    if ("tf32", "cpu") in kinds:
        raise UserError("precision=tf32 is for a GPU; use precision=float32 on a CPU")
    if ("tf32", "gpu") in kinds and any(gpu.compute_capability < (8, 0) for gpu in machine.gpus):
        raise UserError("precision=tf32 needs GPUs of compute capability 8.0 or newer; use precision=float32")
    for threads in {job.threads for job in jobs if job.config.precision == "bfloat16"}:
        if lack := blas.lacks_for_bfloat16(measure_libraries(threads)):
            raise UserError(f"precision=bfloat16 is not offered: {lack}; use precision=float32")


def _corpus_of(config: RunConfig) -> tuple[str, str, str]:
    """What a corpus is found by."""
    return config.dataset, config.objective, config.level


def _check_fit(config: RunConfig, corpus: CorpusFiles) -> None:
    """Refuse a text that does not fill one window; of labelled sequences there is one, and that will do."""
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


def _fit_embedding(config: RunConfig, found: FoundVectors | None) -> RunConfig:
    """`config` with an embedding as wide as the vectors that were found for it."""
    if found is None:
        return config
    if config.embed_size not in (None, found.size):
        raise UserError(
            f"embed_size={config.embed_size}, but the vectors of {found.name} have {found.size} numbers each; leave it "
            "out, with model=rnn_lm where the model has fixed it"
        )
    if config.tie_weights and config.hidden_size != found.size:
        raise UserError(
            f"tie_weights=true needs hidden_size={found.size}, the size of the vectors of {found.name}, not "
            f"{config.hidden_size}; set tie_weights=false"
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


def _check_writable(directory: Path) -> None:
    """Refuse a results folder that cannot be made or written, without making it."""
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
