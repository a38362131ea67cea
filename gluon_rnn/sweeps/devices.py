"""Devices for a sweep's workers: what was requested, checked against what the machine has.

No device is in two slots, so every worker has its devices to itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import RunConfig, parse_device, unnumbered
from gluon_rnn.machine import libmxnet
from gluon_rnn.machine.hardware import Machine
from gluon_rnn.runs.job import Job

#: More workers than a machine can use; each occupies a slot in memory from the start.
_MOST_JOBS = 1024


@dataclass(frozen=True)
class Slot:
    """A place for one worker.

    Attributes:
        device: ``cpu``, ``cpu:N``, ``gpu:N`` or several such as ``gpu:0+gpu:1``, as the record shows it.
        device_name: the model of the processor or of the GPUs.
        visible: the device as an argument of `gluon_rnn.machine.environment.process_environment`.
    """

    device: str
    device_name: str
    visible: str

    def takes(self, job: Job) -> bool:
        """Whether `job` may run in this slot."""
        return job.config.device in (self.device, unnumbered(self.device))

    def assign(self, job: Job) -> Job:
        """`job` with this slot's device."""
        return job.model_copy(
            update={
                "config": job.config.model_copy(update={"device": self.device}),
                "origin": job.origin.model_copy(update={"device_name": self.device_name}),
            }
        )


def listed_devices(device: str) -> tuple[str, ...]:
    """The entries of ``--device``, one for each worker: ``("gpu:0", "gpu:1")`` for ``gpu:0,gpu:1``.

    Raises:
        UserError: a device is unknown or named twice, or the entries differ in kind.
    """
    try:
        listed = tuple(parse_device(part.strip()) for part in device.split(","))
    except ValueError as error:
        raise UserError(str(error)) from None
    if _shared(listed):
        raise UserError(f"--device {device} names a device twice; two runs never share one")
    if len(listed) > 1 and not (all(":" in part for part in listed) and len(set(map(unnumbered, listed))) == 1):
        raise UserError(
            f"--device {device} mixes kinds of device; list numbered ones of one kind, as many for each worker, such "
            "as gpu:0,gpu:1 or gpu:0+gpu:1,gpu:2+gpu:3"
        )
    return listed


def _shared(devices: Iterable[str]) -> list[str]:
    """The single devices that occur in several of `devices`."""
    counts = Counter(single for device in devices for single in device.split("+"))
    return [single for single, count in counts.items() if count > 1]


def resolve_device(
    config: RunConfig, listed: Sequence[str], machine: Machine, library: libmxnet.Library | None
) -> RunConfig:
    """`config` with a device that exists: numbered, or unnumbered for any slot of its kind.

    Args:
        config: with the device that it requests.
        listed: from `listed_devices`; overrides that unless it is ``auto``.
        machine: with its devices.
        library: what workers will load; None if that is not known.

    Raises:
        UserError: the device does not exist or cannot be used, or its parts cannot share the batch equally.
    """
    wanted = config.device if listed == ("auto",) else listed[0] if len(listed) == 1 else unnumbered(listed[0])
    if wanted == "auto":
        wanted = "gpu" if library and library.code and _usable(machine, library) else "cpu"
    for device in listed if len(listed) > 1 else (wanted,):
        for single in device.split("+"):
            _check_gpu(single, machine, library)
    config = config.model_copy(update={"device": wanted})
    if config.batch_size % len(config.devices):
        raise UserError(
            f"batch_size={config.batch_size} cannot be shared equally by the {len(config.devices)} devices of "
            f"{listed[0] if len(listed) > 1 else wanted}; make it a multiple of {len(config.devices)}"
        )
    return config


def _code(library: libmxnet.Library | None) -> libmxnet.GpuCode:
    """The GPU architectures in `library` or, if it has none, those of the CUDA build that this suite installs."""
    return library.code if library and library.code else libmxnet.CU112


def _usable(machine: Machine, library: libmxnet.Library | None) -> list[int]:
    """The numbers of the GPUs that the library has code for."""
    code = _code(library)
    return [number for number, gpu in enumerate(machine.gpus) if code.serves(gpu.compute_capability)]


def _check_gpu(name: str, machine: Machine, library: libmxnet.Library | None) -> None:
    kind, _, number = name.partition(":")
    if kind != "gpu":
        return
    if not machine.gpus:
        raise UserError(
            f"device {name} does not exist: the driver shows no GPU; use --device cpu, or see scripts/doctor.py"
        )
    if number and int(number) >= len(machine.gpus):
        raise UserError(f"device {name} does not exist: this machine has gpu:0 to gpu:{len(machine.gpus) - 1}")
    usable = _usable(machine, library)
    if (number and int(number) not in usable) or not usable:
        gpu = machine.gpus[int(number or 0)]
        raise UserError(
            f"device {name} ({gpu.name}) has compute capability {libmxnet.written(gpu.compute_capability)}, and "
            f"{'this' if library and library.code else 'the CUDA build of'} MXNet has code for {_code(library)}; use "
            "--device cpu, or see docs/gpus.md for builds that serve it"
        )
    if library and not library.code:
        raise UserError(
            f"device {name} cannot be used: the MXNet that is installed is for the CPU; make install EXTRA=cu112, or "
            "use --device cpu"
        )


def make_slots(
    configs: Sequence[RunConfig],
    listed: Sequence[str],
    jobs: int | None,
    machine: Machine,
    library: libmxnet.Library | None,
) -> tuple[Slot, ...]:
    """Slots for the workers of `configs`; each configuration fits into at least one.

    Args:
        configs: from `resolve_device`.
        listed: from `listed_devices`.
        jobs: workers at a time; None: one for each entry of a list, else 1.
        machine: with its devices.
        library: as for `resolve_device`.

    Raises:
        UserError: there is no room for that many, or two would share a device.
    """
    if jobs is not None and not 1 <= jobs <= _MOST_JOBS:
        raise UserError(f"--jobs {quoted(jobs)} must be at least 1 and at most {_MOST_JOBS:,}")
    wished = list(dict.fromkeys(config.device for config in configs if ":" in config.device))
    named = [device for device in listed if ":" in device] or wished
    if shared := _shared(named):
        raise UserError(
            f"the sweep names {shared[0]} for several workers; two runs never share one, so sweep one by one"
        )
    # Of a kind that no numbered device is of.
    others = {config.device for config in configs} - set(named) - set(map(unnumbered, named))
    free = [f"gpu:{number}" for number in _usable(machine, library)] if "gpu" in others else []
    free = [device for device in free if not _shared([device, *named])]
    pool = [*named, *free]
    needed = len(wished) + ("gpu" in others)
    if len(pool) < needed:
        raise UserError(
            "the sweep names every GPU for runs on several, and leaves none for device gpu; sweep one by one"
        )
    beside = int(bool(pool) and "cpu" in others)  # the CPU, which then is one device among others
    if jobs is not None and jobs < needed + beside:
        raise UserError(
            f"--jobs {jobs} leaves no worker for some of the {needed + beside} devices that the sweep names; "
            "drop --jobs"
        )
    if pool and jobs is not None and jobs > len(pool) + beside:
        raise UserError(
            f"--jobs {jobs} is too many: there is room for {len(pool) + beside}, as a device takes one run at a time"
        )
    slots = [_slot(device, machine) for device in pool[: jobs - beside if jobs else max(needed, len(named))]]
    if "cpu" in others:
        slots += [_slot("cpu", machine)] * (1 if pool else jobs or 1)
    return tuple(slots)


def shares_cores(slots: Sequence[Slot], jobs: Sequence[Job], machine: Machine) -> str:
    """A warning if concurrent runs have more threads than the machine has cores; otherwise empty.

    Runs on a GPU are not counted: their threads mostly wait for it.
    """
    places = min(sum(not slot.device.startswith("gpu") for slot in slots), len(jobs))
    threads = max((job.threads for job in jobs if job.config.device_kind == "cpu"), default=0)
    if places * threads <= machine.cores:
        return ""
    runs = f"{places} runs side by side" if places > 1 else "a run"
    return f"{runs} with {threads} threads each on {machine.cores} cores: their speeds mean little"


def _slot(device: str, machine: Machine) -> Slot:
    if not device.startswith("gpu"):
        return Slot(device, machine.cpu_name, "cpu")
    boards = [machine.gpus[int(single.partition(":")[2])] for single in device.split("+")]
    names = Counter(board.name for board in boards)
    name = " + ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())
    return Slot(device, name, "gpu:" + ",".join(board.uuid for board in boards))
