"""Sweeps: plan what is missing, start it, watch it, collect it.

Nothing here imports MXNet. Whatever a user can get wrong is found while planning, before anything is started or made.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from gluon_rnn import blas
from gluon_rnn.config import RunConfig, Sweep, configure, run_id, varying_fields
from gluon_rnn.contents import DIGESTS, Names
from gluon_rnn.continuation import take_over_checkpoints
from gluon_rnn.corpora import CorpusFiles, find_corpus
from gluon_rnn.corpora.folder import expand as expand_folder
from gluon_rnn.corpora.synthetic import NAME as SYNTHETIC
from gluon_rnn.devices import Slot, listed_devices, make_slots, resolve_device
from gluon_rnn.errors import UserError, is_limit, mend, reason, refusal
from gluon_rnn.executors import Ended, Executor
from gluon_rnn.executors.local import LocalExecutor
from gluon_rnn.files import expand, move_beside, read_whole, remove_leftovers, set_aside, write_atomically
from gluon_rnn.idle import remarks
from gluon_rnn.locking import Notice, locked_sweep
from gluon_rnn.own_cells import is_own, source_sha1
from gluon_rnn.printable import printable
from gluon_rnn.records import (
    FINISHED,
    RUN_ID,
    Job,
    Origin,
    RunRecord,
    make_record,
    read_record,
    read_records,
    read_so_far,
    set_aside_damaged_tables,
    tidy,
    write_epochs,
    write_record,
    write_tables,
)
from gluon_rnn.runtime import (
    Machine,
    default_threads,
    describe_machine,
    library_versions,
    measure_libraries,
)
from gluon_rnn.vectors import FoundVectors, find_vectors

#: Where the runs go that a sweep no longer contains, beside ``runs``.
SUPERSEDED = "runs.superseded"
#: Enough for a traceback through the model's blocks.
_LOG_TAIL_LINES = 40


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


class Display:
    """What a sweep tells people while it runs; this one tells nothing."""

    def started(self, plan: Plan) -> None:
        """The sweep begins."""

    def running(self, jobs: Sequence[Job]) -> None:
        """These jobs are running; called several times a second."""

    def ended(self, job: Job, record: RunRecord) -> None:
        """A job has ended."""

    def stopped(self) -> None:
        """The sweep is over, or was interrupted."""


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


def run_sweep(
    plan: Plan,
    *,
    executor: Executor | None = None,
    fail_fast: bool = False,
    prune: bool = False,
    display: Display | None = None,
    notice: Notice = print,
) -> list[RunRecord]:
    """Run what is missing of `plan`; its tables are up to date after every run.

    Args:
        executor: a `LocalExecutor` on the plan's slots unless given.
        fail_fast: stop the sweep at the first run that fails.
        prune: first move the `superseded` runs to the folder `SUPERSEDED`, and out of the tables.
        display: tells people.
        notice: receives lines about damaged files.

    Returns:
        The records of the plan's points, in its order. Points that were not reached are missing, or as they were.

    Raises:
        UserError: another sweep is at work in this folder, it cannot be written (any longer), or the operating system
            refuses what a sweep needs. The workers are stopped, and everything finished is in the tables.
        KeyboardInterrupt: as it came; likewise.
    """
    executor = executor or LocalExecutor(plan.slots)
    try:
        (plan.directory / "runs").mkdir(parents=True, exist_ok=True)
        with locked_sweep(plan.directory, notice):
            records = _run_missing(
                plan, executor, fail_fast=fail_fast, prune=prune, display=display or Display(), notice=notice
            )
    except OSError as error:
        raise UserError(_what_stopped(error, plan.directory)) from error
    return [records[job.run_id] for job in plan.jobs if job.run_id in records]


def _what_stopped(error: OSError, directory: Path) -> str:
    """What the operating system refused to a sweep that writes to `directory`."""
    if is_limit(error) or not isinstance(error.filename, str | bytes | os.PathLike):
        return refusal(error)
    folder, file = (Path(os.path.abspath(os.fsdecode(name))) for name in (directory, error.filename))
    # A folder on the way to it may be what cannot be made.
    if not (file.is_relative_to(folder) or folder.is_relative_to(file)):
        return refusal(error)
    what = mend(error, "mend that or give --results another folder")
    return f"cannot write to {directory}: {reason(error)} ({os.fsdecode(error.filename)}); {what}"


def superseded(plan: Plan, records: Iterable[RunRecord]) -> dict[str, str]:
    """The runs in the plan's folder that it does not contain, such as those of an older version of a cell.

    Args:
        records: those of the folder.

    Returns:
        What tells each from the plan's points, and how it ended, by run_id.
    """
    known = {record.run_id: record for record in records}
    names = Names([*(job.contents for job in plan.jobs), *map(vars, known.values())])

    def described(record: RunRecord | None) -> str:
        if record is None:
            return "without a record"
        return printable(f"{names.label(vars(record), plan.varying)}: {record.status}")

    directories = [path.name for path in (plan.directory / "runs").glob("*") if path.is_dir()]
    return {name: described(known.get(name)) for name in sorted({*directories} - {job.run_id for job in plan.jobs})}


def _move_out(plan: Plan, moving: Mapping[str, str], records: dict[str, RunRecord], notice: Notice) -> None:
    """Take runs out of `records` and the tables, and keep them beside the others; nothing is deleted.

    Args:
        moving: why, by run_id.
    """
    for name in moving:
        records.pop(name, None)
    # The tables first: what they lack is put back from the records, what the records lack would look like damage.
    write_tables(plan.directory, records.values())
    runs, archive = plan.directory / "runs", plan.directory / SUPERSEDED
    for name, label in moving.items():
        archive.mkdir(exist_ok=True)
        to = move_beside(runs / name, archive / name)
        notice(f"moved run {name} ({label}) to {to}")
    if moving:
        notice(
            f"to have them in the tables again, move them back to {runs} and start the sweep without --prune or --rerun"
        )


def read_points(directory: Path) -> list[dict[str, str]]:
    """The ``run_id`` and ``label`` of each point that was last planned in a sweep's `directory`.

    Raises:
        UserError: it is none.
        OSError: this process cannot read another file.
    """
    try:
        content = json.loads(read_whole(directory / "sweep.json"))
        points = [{name: str(point[name]) for name in ("run_id", "label")} for point in content["points"]]
        if not all(RUN_ID.fullmatch(point["run_id"]) for point in points):
            raise ValueError("a run_id that no folder has")
        return points
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and is_limit(error):
            raise
        if isinstance(error, FileNotFoundError) and (directory / "runs.csv").exists():
            raise UserError(
                f"{directory} has results, but not the points that were planned (sweep.json is not committed); see "
                "runs.csv, or start the sweep again"
            ) from None
        raise UserError(f"{directory} is no sweep's folder; name one such as results/quick") from None


def _run_missing(
    plan: Plan, executor: Executor, *, fail_fast: bool, prune: bool, display: Display, notice: Notice
) -> dict[str, RunRecord]:
    """Run what is missing of `plan`, whose folder is ours alone; all records of that folder."""
    runs = plan.directory / "runs"
    points = [{"run_id": job.run_id, "label": plan.label(job)} for job in plan.jobs]
    write_atomically(plan.directory / "sweep.json", json.dumps({"name": plan.name, "points": points}, indent=1) + "\n")
    records = _take_stock(plan, notice)
    if prune:
        _move_out(plan, superseded(plan, records.values()), records, notice)
    if again := dict.fromkeys(sorted(plan.again & {*records}), "to be made again"):
        _move_out(plan, again, records, notice)
    # Another sweep may have finished some of them since this one was planned.
    finished = {name for name, record in records.items() if record.status in FINISHED}
    plan = replace(plan, missing=tuple(job for job in plan.missing if job.run_id not in finished))
    for job, shorter in take_over_checkpoints(plan.missing, records, runs):
        notice(f"{plan.label(job)} goes on from run {shorter.run_id}, after epoch {shorter.epochs_run}")
    write_tables(plan.directory, records.values())
    display.started(plan)
    events = executor.run(plan.missing, runs, watch=display.running)
    try:
        for ended in events:
            record = _collect(ended, runs / ended.job.run_id)
            records[record.run_id] = record
            write_tables(plan.directory, records.values())
            display.ended(ended.job, record)
            if fail_fast and record.status not in FINISHED:
                break
    finally:
        # A generator's clean-up stops the workers.
        events.close()  # type: ignore[attr-defined]
        display.stopped()
    return records


def _take_stock(plan: Plan, notice: Notice) -> dict[str, RunRecord]:
    """The records that are there, by run_id; what earlier sweeps left unfinished or damaged is put in order."""
    records, damaged = read_records(plan.directory)
    wanted = {job.run_id for job in plan.missing}
    for path in damaged:
        # Any other is not ours to make again.
        if path.parent.name in wanted:
            notice(f"{path} is kept as {set_aside(path).name}, and its run is made again")
    for path in set_aside_damaged_tables(plan.directory, records):
        notice(f"{path.with_suffix('')} did not agree with the runs' records: it is kept as {path.name} and made again")
    known = {record.run_id: record for record in records}
    remove_leftovers(plan.directory)
    for directory in (plan.directory / "runs").iterdir():
        if directory.is_dir():
            tidy(directory, known.get(directory.name))
    return known


def train(config: RunConfig, *, data_dir: Path | None = None, directory: Path | None = None) -> RunRecord:
    """Train one configuration in a worker process of its own and return its record.

    Args:
        config: what to run.
        data_dir: where corpora are looked for first; None: ``GLUON_RNN_DATA``, the cache, a download.
        directory: keeps the run as a sweep named ``train`` there, and resumes it; None: nothing is kept.

    Raises:
        UserError: the corpus or the device is not there.
        RuntimeError: the run failed; its text is the record's reason and the end of the log.
    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="gluon-rnn-") as temporary:
            return train(config, data_dir=data_dir, directory=Path(temporary))
    settings = config.model_dump(exclude_unset=True)
    plan = plan_sweep(
        Sweep("train", settings=settings), results=directory, data_dir=data_dir, rerun_failed=True, notice=_to_stderr
    )
    (record,) = run_sweep(plan, notice=_to_stderr)
    if record.status not in FINISHED:
        log = (plan.directory / "runs" / record.run_id / "log.txt").read_text(errors="replace").splitlines()
        raise RuntimeError("\n".join([f"{record.status}: {record.reason}", *log[-_LOG_TAIL_LINES:]]))
    return record


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _collect(ended: Ended, directory: Path) -> RunRecord:
    """The worker's own record, or one made for it."""
    if ended.status is None:
        try:
            if record := read_record(directory):
                return record
            reason = "its record has vanished"
        except ValueError as error:
            reason = str(error)
        ended = replace(ended, status="failed", reason=reason)
    assert ended.status is not None
    progress = read_so_far(directory)
    started = datetime.fromtimestamp(datetime.now(timezone.utc).timestamp() - ended.seconds, timezone.utc)
    record = make_record(
        ended.job,
        progress,
        status=ended.status,
        reason=ended.reason,
        started_at=started.isoformat(timespec="seconds"),
        wall_seconds=ended.seconds,
    )
    write_epochs(directory, record.run_id, progress.history)
    write_record(directory, record)
    tidy(directory, record)
    return record


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


def git_state() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from, and whether it has changes, results/ aside.

    (None, None) where the package is not run from a checkout of this project, or there is no git.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists() or not (root / "setup.py").exists():
        return None, None
    # Git's own variables may name another repository: a hook's do.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The checkout may be another user's, as in a container. Its code is running already, so that nothing is risked.
    options = ("-C", str(root), "-c", "safe.directory=*", "--no-optional-locks")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *options, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=normal", "--", ".", ":!results")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None
