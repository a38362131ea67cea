"""One checkpoint an epoch: parameters, optimizer state and what was measured, as arrays and JSON, nothing pickled."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import gluon

from gluon_rnn.common.files import replicate, seal, set_aside, sha256_of, unseal, write_atomically
from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.runs.job import BEST, CHECKPOINT
from gluon_rnn.runs.progress import PROGRESS, Progress
from gluon_rnn.training.averaging import Average


class CheckpointDirectory:
    """The checkpoint of a run, under ``checkpoint/`` of its directory, and its best parameters, in ``best.params``.

    ``state.json`` is written last; it names the array files that belong to it, with their checksums. A kill at any
    moment leaves the checkpoint of this epoch or of the one before.

    Args:
        run_directory: of the run; it exists.
    """

    def __init__(self, run_directory: Path) -> None:
        self._directory = run_directory / CHECKPOINT
        self._state = self._directory / "state.json"
        self._best = run_directory / BEST

    def save(
        self, model: SequenceModel, trainer: gluon.Trainer, progress: Progress, average: Average | None = None
    ) -> None:
        """Save the end of an epoch and remove the previous checkpoint.

        Args:
            model: with the parameters that training goes on from.
            trainer: of the model.
            progress: of the run, up to and including that epoch.
            average: the averaged parameters, which are then saved as the best ones; None: averaging has not begun.

        Raises:
            OSError: it cannot be written; the previous checkpoint is still there.
        """
        self._directory.mkdir(exist_ok=True)
        stem = f"epoch-{len(progress.history)}"
        parameters = serialised(_parameters(model))
        checksums = {f"{stem}.params": sha256_of(parameters)}
        write_atomically(self._directory / f"{stem}.params", parameters)
        del parameters  # hundreds of megabytes
        if progress.best is progress.history[-1]:
            # Before the checkpoint: a run killed in between trains this epoch again, to the same bits.
            if average:
                with average.applied(model):
                    write_atomically(self._best, serialised(_parameters(model)))
            else:
                replicate(self._directory / f"{stem}.params", self._best)
        arrays, counts = _optimizer_state(trainer)
        for suffix, kept in (("states", arrays), ("average", average.arrays if average else {})):
            if kept:
                content = serialised(kept)
                checksums[f"{stem}.{suffix}"] = sha256_of(content)
                write_atomically(self._directory / f"{stem}.{suffix}", content)
        state = {
            "stem": stem,
            "checksums": checksums,
            "update_counts": counts,
            "progress": PROGRESS.dump_python(progress, mode="json"),
        }
        write_atomically(self._state, seal(state))
        for path in self._directory.iterdir():
            if path != self._state and path.stem != stem:
                path.unlink()

    def restore(self, model: SequenceModel, trainer: gluon.Trainer, average: Average | None = None) -> Progress | None:
        """Restore `model`, `trainer` and, if one was saved, `average` from the last `save`, on every device.

        Returns None if there is no checkpoint or if it is damaged; a damaged one is set aside, and the log says so.
        """
        if not self._state.exists():
            return None
        try:
            content = self._verified_state()
        except (OSError, ValueError) as error:
            print(f"{self._directory} is damaged: {error}", flush=True)
            print(f"it is kept as {set_aside(self._directory).name}, and training starts over", flush=True)
            return None
        model.load_parameters(
            str(self._directory / f"{content['stem']}.params"), ctx=trained_parameters(model)[0].list_ctx()
        )
        states, means = (self._arrays(content, suffix) for suffix in ("states", "average"))
        _restore_optimizer_state(trainer, states, content["update_counts"])
        if average and means:
            average.restore(means, model)
        return PROGRESS.validate_python(content["progress"])

    def load_best(self, model: SequenceModel) -> None:
        """Give `model` the parameters of the best epoch, on every device.

        Raises:
            OSError: they are not there.
        """
        model.load_parameters(str(self._best), ctx=trained_parameters(model)[0].list_ctx())

    def _arrays(self, content: dict[str, Any], suffix: str) -> dict[str, mx.nd.NDArray]:
        """The arrays in the checkpoint's file of that kind; empty if there is none."""
        path = self._directory / f"{content['stem']}.{suffix}"
        arrays: dict[str, mx.nd.NDArray] = mx.nd.load(str(path)) if path.name in content["checksums"] else {}
        return arrays

    def _verified_state(self) -> dict[str, Any]:
        content = unseal(self._state.read_bytes())
        if not re.fullmatch(r"epoch-[0-9]+", content["stem"]):
            raise ValueError("it names files elsewhere")
        for name, checksum in content["checksums"].items():
            if sha256_of((self._directory / name).read_bytes()) != checksum:
                raise ValueError(f"{name} does not fit its checksum")
        return content


def serialised(arrays: dict[str, mx.nd.NDArray]) -> bytes:
    """`arrays` as ``mx.nd.save`` writes them.

    The bytes are made in memory, because MXNet 1.9.1 does not notice when the last block of a file cannot be written
    (dmlc's stream leaves the result of ``fclose`` unread). On a disk with room for 65,536 bytes it wrote that many of
    68,000 and reported no error.
    """
    with open(os.memfd_create("arrays"), "rb") as file:
        mx.nd.save(f"/proc/self/fd/{file.fileno()}", arrays)
        return file.read()


def _parameters(model: gluon.HybridBlock) -> dict[str, mx.nd.NDArray]:
    """What ``save_parameters`` writes, of the first device: MXNet 1.9.1 would average the replicas, which are equal."""
    return {
        name: parameter.list_data()[0].as_in_context(mx.cpu())
        for name, parameter in model._collect_params_with_prefix().items()
    }


def _optimizer_state(trainer: gluon.Trainer) -> tuple[dict[str, mx.nd.NDArray], dict[str, int]]:
    """The arrays a trainer's optimizer keeps, by parameter index and place, and how often each parameter was updated.

    ``Trainer.save_states`` of MXNet 1.9.1 pickles them; this reads the same attributes and leaves the writing to
    MXNet's own array format.
    """
    arrays = {
        f"{index}.{place}": array
        for index, state in trainer._updaters[0].states.items()
        for place, array in enumerate(_as_tuple(state))
    }
    return arrays, {str(index): count for index, count in trainer._optimizer._index_update_count.items()}


def _restore_optimizer_state(trainer: gluon.Trainer, arrays: dict[str, mx.nd.NDArray], counts: dict[str, int]) -> None:
    """Give `trainer` what `_optimizer_state` returned, on each device; MXNet 1.9.1 can only read pickles."""
    optimizer = trainer._optimizer
    for context, updater in zip(trainer._contexts, trainer._updaters, strict=True):
        for index, parameter in enumerate(trainer._params):
            state = optimizer.create_state_multi_precision(index, parameter.data(context))
            for place, array in enumerate(_as_tuple(state)):
                array[:] = arrays[f"{index}.{place}"]
            updater.states[index] = state
            updater.states_synced[index] = True
        # An optimizer counts the updates of each device apart, by its number.
        optimizer._set_current_context(context.device_id)
        optimizer._index_update_count.update({int(index): count for index, count in counts.items()})
    optimizer.num_update = max(optimizer._index_update_count.values(), default=0)


def _as_tuple(state: Any) -> tuple[mx.nd.NDArray, ...]:
    if state is None:
        return ()
    return tuple(state) if isinstance(state, list | tuple) else (state,)
