"""Plans a sweep: checks every point and determines which are still to be run.

Nothing here imports MXNet. User errors are found while planning, before anything is started or created.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand
from gluon_rnn.common.printable import Notice, printable
from gluon_rnn.config.identity import is_own, run_id, source_sha1
from gluon_rnn.config.run import RunConfig, varying_fields
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.data.corpora.synthetic import NAME as SYNTHETIC
from gluon_rnn.data.vectors import FoundVectors, find_vectors
from gluon_rnn.machine import blas, libmxnet
from gluon_rnn.machine.hardware import Machine, default_threads, describe_machine
from gluon_rnn.runs.contents import DIGESTS, Names, label
from gluon_rnn.runs.job import FAILED, FINISHED, Job, Origin
from gluon_rnn.runs.notes import Notes
from gluon_rnn.runs.records import read_records
from gluon_rnn.sweeps.checks import (
    check_data_dir,
    check_fit,
    check_gpu_memory,
    check_precisions,
    check_writable,
    fit_embedding,
)
from gluon_rnn.sweeps.devices import Slot, listed_devices, make_slots, resolve_device
from gluon_rnn.sweeps.executors import Executor
from gluon_rnn.sweeps.idle import remarks
from gluon_rnn.sweeps.origin import describe_origin
from gluon_rnn.sweeps.search import Search, check_search, read_proposals


@dataclass(frozen=True, repr=False)
class Plan:
    """A checked sweep, ready to run; planning has no side effects.

    Attributes:
        name: of the sweep.
        directory: of its results.
        jobs: every point, in the sweep's order.
        missing: the jobs without a record, or with a failed one that is to be re-run.
        slots: where the workers will run.
        again: the run_ids of finished points to re-run.
        remarks: one line each that readers of the results should know, such as a setting without effect.
        search: proposes the points after `jobs`, which it proposed before; None: there are no others.
        samples: jobs whose like will run: every point, or those at the ends of a search's space.
        notes: of the sweep file, for its folder.
    """

    name: str
    directory: Path
    jobs: tuple[Job, ...]
    missing: tuple[Job, ...]
    slots: tuple[Slot, ...]
    again: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()
    search: Search | None = None
    samples: tuple[Job, ...] = ()
    notes: Notes = field(default_factory=Notes)

    def __repr__(self) -> str:
        return f"<Plan {self.name}: {self.total} points, {self.to_run} to run, in {self.directory}>"

    @property
    def total(self) -> int:
        """The number of points, at most."""
        return max(self.search.total, len(self.jobs)) if self.search else len(self.jobs)

    @property
    def to_run(self) -> int:
        """The number of points without a result."""
        return self.total - len(self.jobs) + len(self.missing)

    @property
    def likely(self) -> tuple[Job, ...]:
        """Jobs that will run; for a search, examples of such jobs."""
        return (*self.missing, *(self.samples if self.search and self.to_run else ()))

    def label(self, job: Job) -> str:
        """The label of `job`: the fields that vary, such as ``cell=gru bptt=35``.

        Files with the same name are also distinguished by their content, since tables show no paths.
        """
        return label(self.settings(job))

    def settings(self, job: Job) -> dict[str, str]:
        """The varying fields of `job`, with the values to show."""
        suffixes = {name: self._names.suffix(job.contents, name) for name in DIGESTS}
        return {name: printable(f"{getattr(job.config, name)}{suffixes.get(name, '')}") for name in self.varying}

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The fields in which the points differ; for a single point, its cell, bptt and hidden size."""
        if self.search:
            return self.search.settings.fields
        return varying_fields([job.config.model_dump() for job in self.jobs])

    @cached_property
    def _names(self) -> Names:
        return Names(job.contents for job in self.jobs)


def plan_sweep(
    sweep: Sweep,
    *,
    results: Path | str,
    data_dir: Path | str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    rerun_failed: bool = False,
    rerun: Iterable[str] = (),
    notice: Notice = print,
    machine: Machine | None = None,
    executor: Executor | None = None,
    library: libmxnet.Library | None = None,
) -> Plan:
    """Check a sweep and determine what is to be run.

    Args:
        sweep: from `load_sweep`, for example.
        results: the folder that contains the sweep's own folder.
        data_dir: folder to search first for corpora and files of vectors.
        device: what each worker gets: ``auto``, ``cpu``, ``gpu``, or a list such as ``gpu:0,gpu:1`` or
            ``gpu:0+gpu:1,gpu:2+gpu:3``; anything but ``auto`` overrides the sweep's own setting.
        jobs: workers at a time; None: one for each entry of `device`.
        rerun_failed: whether to re-run points that failed, timed out or ran out of memory.
        rerun: run_ids of finished points to re-run.
        notice: called with one-line messages for the user.
        machine: to plan for; default: the executor's, else this one.
        executor: what will run the plan; it checks the plan, too.
        library: MXNet's, which decides the GPUs that can be used; default: the one installed here.

    Raises:
        UserError: the sweep cannot be run as requested.
    """
    results, data_dir = expand(results), None if data_dir is None else Path(data_dir)
    machine = machine or (executor.machine if executor else describe_machine())
    library = library or libmxnet.installed()
    blas.asked_for()
    check_data_dir(data_dir)
    listed = listed_devices(device)
    configs = [resolve_device(config, listed, machine, library) for config in sweep.points()]
    slots = make_slots(configs, listed, jobs, machine, library)
    inputs = _find_inputs(configs, data_dir, notice)
    configs = [inputs.fitted(config) for config in configs]
    maker = _JobMaker(inputs, machine, library, listed, len(slots))
    samples = maker.jobs(configs)
    said = _remarks(sweep, configs, inputs, samples, notice)
    directory = results / sweep.name
    check_writable(directory)
    search = _begin_search(sweep, configs, maker, notice)
    planned = {job.run_id: job for job in search.restore(read_proposals(directory))} if search else samples
    again, done = frozenset(rerun), _done(rerun_failed, search)
    missing = _missing(planned, directory, machine, done=done, again=again, notice=notice)
    sampled = tuple(samples.values())
    starting = sampled if search else missing
    check_precisions(starting, machine, slots)
    check_gpu_memory(starting, machine, notice)
    slots, crowded = _place(sampled, slots, executor, notice)
    found, notes = tuple(planned.values()), Notes(sweep.notes, sweep.speeds_count)
    return Plan(sweep.name, directory, found, missing, slots, again, (*said, *crowded), search, sampled, notes)


def _remarks(
    sweep: Sweep, configs: Sequence[RunConfig], inputs: _Inputs, samples: Mapping[str, Job], notice: Notice
) -> list[str]:
    """Remarks for readers of the results; `notice` receives those that the user has not seen yet."""
    said = [*remarks(sweep, [(config, inputs.corpus(config)) for config in configs]), *_repeated(sweep, samples)]
    for line in said:
        notice(line)
    return [*said, *_built_in(configs, inputs)]


def _place(
    jobs: Sequence[Job], slots: tuple[Slot, ...], executor: Executor | None, notice: Notice
) -> tuple[tuple[Slot, ...], list[str]]:
    """The slots in which `executor` runs `jobs`, by default `slots`, and its remarks, which `notice` receives."""
    if executor is None:
        return slots, []
    slots, crowded = executor.place(jobs, slots)
    for line in crowded:
        notice(line)
    return slots, crowded


def _begin_search(sweep: Sweep, configs: Sequence[RunConfig], maker: _JobMaker, notice: Notice) -> Search | None:
    """The search of `sweep`, if it is one; `configs` are the points at the ends of its space."""
    if sweep.search is None:
        return None
    check_search(sweep.search, sweep.fixed, configs)
    return Search(sweep.search, sweep.fixed, lambda point: maker.job(sweep.at(point)), notice)


def _done(rerun_failed: bool, search: Search | None) -> tuple[str, ...]:
    """The statuses of runs that are not run again."""
    return (*FINISHED, *(() if rerun_failed else FAILED), *(("pruned",) if search and search.prunes else ()))


@dataclass(frozen=True)
class _Inputs:
    """The inputs of configurations: corpora by `_corpus_of`, vectors and digests of own cells by name."""

    corpora: Mapping[tuple[str, str, str], CorpusFiles]
    vectors: Mapping[str, FoundVectors | None]
    cells: Mapping[str, str]

    def corpus(self, config: RunConfig) -> CorpusFiles:
        return self.corpora[_corpus_of(config)]

    def fitted(self, config: RunConfig) -> RunConfig:
        """`config` with an embedding as wide as its vectors."""
        return fit_embedding(config, self.vectors[config.embedding])


def _corpus_of(config: RunConfig) -> tuple[str, str, str]:
    """The settings that determine a corpus."""
    return config.dataset, config.objective, config.level


def _find_inputs(configs: Sequence[RunConfig], data_dir: Path | None, notice: Notice) -> _Inputs:
    vectors = {name: find_vectors(name, data_dir=data_dir, notice=notice) for name in {c.embedding for c in configs}}
    for config in configs:
        # Refused before a corpus is downloaded.
        fit_embedding(config, vectors[config.embedding])
    corpora = {
        (dataset, objective, level): find_corpus(
            dataset, objective=objective, level=level, data_dir=data_dir, notice=notice
        )
        for dataset, objective, level in dict.fromkeys(map(_corpus_of, configs))
    }
    cells = {cell: source_sha1(cell) for cell in {config.cell for config in configs} if is_own(cell)}
    return _Inputs(corpora, vectors, cells)


@dataclass(frozen=True)
class _JobMaker:
    """Makes jobs from configurations, for `places` workers at a time."""

    inputs: _Inputs
    machine: Machine
    library: libmxnet.Library | None
    listed: Sequence[str]
    places: int

    def jobs(self, configs: Iterable[RunConfig]) -> dict[str, Job]:
        """A job for each configuration, by run_id; configurations that turn out equal share one."""
        planned: dict[str, Job] = {}
        for config in configs:
            corpus = self.inputs.corpus(config)
            check_fit(config, corpus)
            job = Job(
                run_id="",
                config=config,
                corpus=corpus,
                vectors=self.inputs.vectors[config.embedding],
                cell_sha1=self.inputs.cells.get(config.cell),
                threads=config.threads or default_threads(self.machine.cores, self.places),
                origin=self._origin,
            )
            job = job.model_copy(update={"run_id": run_id(config, content=job.content)})
            planned.setdefault(job.run_id, job)
        return planned

    def job(self, config: RunConfig) -> Job:
        """The job of a configuration whose device and embedding have been resolved."""
        config = self.inputs.fitted(resolve_device(config, self.listed, self.machine, self.library))
        (job,) = self.jobs([config]).values()
        return job

    @cached_property
    def _origin(self) -> Origin:
        return describe_origin(self.machine)


def _built_in(configs: Sequence[RunConfig], inputs: _Inputs) -> Iterator[str]:
    """A remark if the corpus is not a published one; `find_corpus` has said why."""
    if any(config.dataset == "auto" and inputs.corpus(config).dataset == SYNTHETIC for config in configs):
        yield f"the corpus is {SYNTHETIC}, which is built in, because no published corpus was found"


def _repeated(sweep: Sweep, planned: Mapping[str, Job]) -> Iterator[str]:
    """A remark if points of `sweep` turn out equal."""
    if sweep.search:
        return
    count = sweep.count()
    if count > len(planned):
        runs = "one run" if len(planned) == 1 else f"{len(planned)} different runs"
        yield f"{count} points are only {runs}; the others would repeat them"


def _missing(
    planned: Mapping[str, Job],
    directory: Path,
    machine: Machine,
    *,
    done: Collection[str],
    again: frozenset[str],
    notice: Notice,
) -> tuple[Job, ...]:
    """The jobs without a record in `directory` whose status is in `done`, and those to be run `again`."""
    records, damaged = read_records(directory)
    for path, line in damaged.items():
        ours = path.parent.name in planned
        notice(f"{line}; {'its point will be re-run' if ours else 'it is not a point of this sweep, and has no row'}")
    if unknown := sorted(again - {*planned}):
        raise UserError(f"--rerun {unknown[0]}: no point of this sweep has that run_id; --dry-run lists them")
    kept = {record.run_id: record for record in records if record.run_id not in again and record.status in done}
    elsewhere = sum(name in kept and kept[name].origin.machine_id != machine.machine_id for name in planned)
    if elsewhere:
        notice(
            f"{elsewhere} of the finished points were measured on another machine; use --results FOLDER to start afresh"
        )
    return tuple(job for job in planned.values() if job.run_id not in kept)
