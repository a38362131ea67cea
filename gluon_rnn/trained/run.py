"""A finished run as a model: ``load_run(directory)``.

A run's directory is enough, wherever it lies: ``config.json``, ``best.params`` and ``vocabulary.json``. The corpus may
be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gluonnlp
import mxnet as mx

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import read_whole
from gluon_rnn.common.printable import printable, quoted
from gluon_rnn.config.identity import source_sha1
from gluon_rnn.config.run import LABELLED, RunConfig
from gluon_rnn.data.corpora import vocabulary
from gluon_rnn.data.corpora.vocabulary import Words
from gluon_rnn.networks.models import SequenceModel, build_network, count_parameters
from gluon_rnn.runs.job import BEST, VOCABULARY, Job
from gluon_rnn.runs.tables import read_points

#: The fix for missing files of a run.
TRAIN_AGAIN = "train the run again"
#: Of the runs that a line names.
_NAMED = 5


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has been trained for at least an epoch.

    Attributes:
        config: what it was given.
        vocabulary: the tokens of its inputs, and of its outputs unless those are labels.
        model: with the parameters of its best epoch. Called with ids (steps, batch) and a state, such as
            ``model.begin_state(batch, mx.cpu())``, it returns logits (steps, batch, tokens) and the next state; of a
            model of labels see `gluon_rnn.networks.models.SequenceModel`.
        labels: those it predicts, by id; None: it predicts tokens, or the run is of a version that did not keep them.
    """

    config: RunConfig
    vocabulary: gluonnlp.Vocab
    model: SequenceModel
    labels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"<Run {self.config!r}, {len(self.vocabulary):,} tokens, {count_parameters(self.model):,} parameters>"


def load_run(directory: Path | str, *, context: mx.Context | None = None) -> Run:
    """The run in `directory`, which may still be training: the parameters are those of its best epoch so far.

    Args:
        directory: such as ``results/quick/runs/RUN_ID``.
        context: where the parameters go; None: the CPU.

    Raises:
        UserError: a file is missing or damaged, or the run's own cell has changed or cannot be made.
    """
    directory = Path(directory)
    job = read_job(directory)
    config = job.config
    if job.cell_sha1 and source_sha1(config.cell) != job.cell_sha1:
        raise UserError(f"cell {config.cell} has changed since {directory} was trained; {TRAIN_AGAIN}")
    words = _read_vocabulary(directory)
    model = _read_model(directory, config, len(words.vocabulary), context or mx.cpu())
    return Run(config, words.vocabulary, model, words.labels)


def read_config(directory: Path) -> RunConfig:
    """The configuration of the run in `directory`; see `read_job`, also for errors."""
    return read_job(directory).config


def read_job(directory: Path) -> Job:
    """The job of the run in `directory`.

    Raises:
        UserError: `directory` is not a run's, or its ``config.json`` cannot be read.
    """
    path = directory / "config.json"
    try:
        return Job.model_validate_json(read_whole(path))
    except FileNotFoundError:
        raise UserError(_no_run(directory)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not what a run is given"
        raise UserError(f"{path} cannot be read: {reason}; {TRAIN_AGAIN}") from None


def _no_run(directory: Path) -> str:
    if not directory.is_dir():
        return f"there is no folder {directory}; name a run's, such as results/quick/runs/RUN_ID"
    if (directory / "record.json").exists():
        return f"{directory} holds the run's record alone, as a clone does: no parameters are committed; {TRAIN_AGAIN}"
    try:
        points = read_points(directory)
    except UserError:
        return f"{directory} is not a run's folder; name one such as results/quick/runs/RUN_ID"
    runs = [point for point in points if (directory / "runs" / point["run_id"] / BEST).exists()]
    if not runs:
        return f"{directory} is a sweep's folder, and none of its runs has parameters yet"
    named = ", ".join(f"{directory / 'runs' / run['run_id']} ({run['label']})" for run in runs[:_NAMED])
    more = f", and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"{directory} is a sweep's folder; name one of its runs: {named}{more}"


def _read_vocabulary(directory: Path) -> Words:
    path = directory / VOCABULARY
    try:
        return vocabulary.parse(read_whole(path))
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no {VOCABULARY}, which a run writes when training begins; {TRAIN_AGAIN}"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is damaged: {reason}; {TRAIN_AGAIN}") from None


def _read_model(directory: Path, config: RunConfig, vocab_size: int, context: mx.Context) -> SequenceModel:
    path = directory / BEST
    if not path.is_file():
        why = (
            f"max_steps={config.max_steps} measures speed and keeps none"
            if config.max_steps
            else "a run has some from the end of its first epoch on, and a clone has none"
        )
        raise UserError(f"{directory} has no {BEST}: {why}")
    classes = _count_classes(path) if config.objective in LABELLED else None
    try:
        # Not initialised: that would draw from the caller's random streams, and all parameters are read.
        model = build_network(config, vocab_size, classes=classes)
    except Exception as error:  # whatever the user's own module raises
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        raise UserError(f"the run's cell {config.cell} cannot be made: {reason}; start where its module is") from None
    try:
        model.load_parameters(str(path), ctx=context)
        model.hybridize(static_alloc=True)
        mx.nd.waitall()
    except Exception as error:  # whatever MXNet makes of a file that is not its own
        raise _damaged(path, error) from None
    return model


def _count_classes(path: Path) -> int:
    """The number of labels of the decoder of these parameters, because a run keeps no list of them."""
    try:
        count: int = mx.nd.load(str(path))["decoder.0.bias"].shape[0]
    except Exception as error:  # as above
        raise _damaged(path, error) from None
    return count


def _damaged(path: Path, error: Exception) -> UserError:
    reason = quoted(str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__)
    return UserError(f"{path} does not hold this run's parameters: {reason}; {TRAIN_AGAIN}")
