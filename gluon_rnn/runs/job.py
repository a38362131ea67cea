"""One run, ready to start: ``config.json``, and the names in its directory."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.runs.contents import DIGESTS

#: The folder of a run's last checkpoint.
CHECKPOINT = "checkpoint"
#: The parameters of the epoch with the best validation loss.
BEST = "best.params"
#: The vocabulary that a run's parameters are of, and its labels: see `gluon_rnn.data.corpora.vocabulary`.
VOCABULARY = "vocabulary.json"

Status = Literal["ok", "diverged", "pruned", "oom", "timeout", "failed"]
#: The statuses of finished runs. A sweep resumes a pruned one; ``--rerun-failed`` re-runs the others.
FINISHED: tuple[Status, ...] = ("ok", "diverged")
#: The statuses of failed runs.
FAILED: tuple[Status, ...] = ("oom", "timeout", "failed")
#: The form of a run's folder name, so that no content of a file can lead out of the sweep's folder.
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Origin(BaseModel):
    """The origin of results: the machine and the code, known before a run starts."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    device_name: str
    """processor or GPUs"""
    machine_id: str
    """hash of the hardware that decides speed, not of the host's name"""
    mxnet_version: str | None = None
    """installed MXNet"""
    gluonnlp_version: str | None = None
    """installed GluonNLP"""
    numpy_version: str | None = None
    """installed numpy"""
    git_commit: str | None = None
    """commit of this suite's checkout; empty where it is none"""
    git_dirty: bool | None = None
    """whether the checkout had changes, results/ aside"""
    host: str
    """the machine's own name"""


class Job(BaseModel):
    """One run, ready to start: the content of its ``config.json``.

    Attributes:
        run_id: see `gluon_rnn.config.identity.run_id`.
        config: with a resolved `device`: the one it runs on, or without numbers (gpu, gpu+gpu) any of that kind.
        corpus: where the text was found and what it was.
        vectors: where those of a given embedding were found; None where it is random or one_hot.
        cell_sha1: of the sources of a user's own cell; see `gluon_rnn.config.identity.source_sha1`.
        threads: CPU threads for the run.
        origin: of its record.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    config: RunConfig
    corpus: CorpusFiles
    vectors: FoundVectors | None = None
    cell_sha1: str | None = None
    threads: int
    origin: Origin

    @property
    def content(self) -> dict[str, str]:
        """The SHA-1s of the files that `config` refers to, for `gluon_rnn.config.identity.run_id`."""
        content = {"corpus": self.corpus.sha1}
        if self.cell_sha1:
            content["cell"] = self.cell_sha1
        if self.config.embedding != "random":
            content["embedding"] = self.vectors.sha1 if self.vectors else self.config.embedding
        return content

    @property
    def contents(self) -> dict[str, str | None]:
        """The names and digests of its corpus, vectors and cell for its record: see `contents.DIGESTS`."""
        return {
            "dataset": self.corpus.dataset,
            "dataset_sha1": self.corpus.sha1,
            "embedding": self.vectors.name if self.vectors else self.config.embedding,
            "embedding_sha1": self.vectors.sha1 if self.vectors else None,
            "cell": self.config.cell,
            "cell_sha1": self.cell_sha1,
        }

    @property
    def named_config(self) -> RunConfig:
        """`config` for records and trackers: the corpus and the vectors by name, never by path."""
        return self.config.model_copy(update={name: self.contents[name] for name in DIGESTS})
