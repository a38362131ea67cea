"""Runs of an MLflow experiment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand, write_atomically
from gluon_rnn.reporting.tracking.base import (
    EPOCH_LOSS,
    INTERVAL_LOSS,
    Sent,
    one_line,
    remembered,
    require,
    settings,
    tags_after,
    tags_before,
    without_password,
)
from gluon_rnn.runs.job import FINISHED, Job
from gluon_rnn.runs.records import RunRecord

#: Of MLflow in this process, unless the environment says otherwise. A server that does not answer is given up sooner
#: than after MLflow's own four minutes.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowTracker:
    """Runs of an MLflow experiment.

    Made through `MlflowClient` alone, which looks for no Git repository and keeps no active run. A run that failed ends
    as FAILED, an interrupted one as KILLED until it goes on.

    Args:
        uri: of the tracking server, or a folder.
        experiment: is made unless it is there.

    Raises:
        UserError: MLflow is not installed, or cannot take `uri`.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        require("mlflow", "--mlflow")
        os.environ.update(_MLFLOW_DEFAULTS | os.environ)
        # MLflow 3 otherwise asks config.mlflow-telemetry.io whether it is to report each call to its makers.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        if uri.startswith("~"):
            uri = str(expand(uri))
        if urlsplit(uri).scheme in ("", "file"):
            # MLflow 3 refuses a folder unless it is told twice; a user who names one has decided.
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        try:
            if urlsplit(uri).scheme in ("http", "https") and not urlsplit(uri).hostname:
                raise ValueError("it names no host")
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=uri)
        except Exception as error:
            raise UserError(
                f"--mlflow {without_password(uri)} is not an address that MLflow can use; name a server such as "
                f"http://localhost:5000, or a folder ({one_line(error)})"
            ) from None
        self.name = f"MLflow at {without_password(uri)}"
        self._experiment = experiment
        self._runs: dict[str, str] = {}

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        from mlflow.entities import Param

        memory = directory / "mlflow_run.txt"
        if run := self._find(remembered(memory)):
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._create(job, label)
            # At once: what fails from here on must not make another run.
            write_atomically(memory, run.info.run_id)
        name: str = run.info.run_id
        if not run.data.params:
            self._client.log_batch(name, params=[Param(key, str(value)) for key, value in settings(job).items()])
        self._runs[job.run_id] = name
        return Sent(epochs=self._last_step(name, EPOCH_LOSS), steps=self._last_step(name, INTERVAL_LOSS))

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._runs[job.run_id], metrics=points)

    def end(self, job: Job, record: RunRecord | None) -> None:
        from mlflow.entities import RunTag

        run = self._runs.pop(job.run_id)
        if not record:
            self._client.set_terminated(run, "KILLED")
            return
        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags_after(record).items()])
        self._client.set_terminated(run, "FINISHED" if record.status in FINISHED else "FAILED")

    def _create(self, job: Job, label: str) -> Any:
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self._experiment)
        tags = tags_before(job)
        if commit := job.origin.git_commit:
            tags["mlflow.source.git.commit"] = commit  # what MLflow's pages show as the version
        return self._client.create_run(experiment, run_name=label, tags=tags)

    def _find(self, name: str) -> Any:
        """A run by its name; None where this server has none, being another one or one that was emptied."""
        from mlflow.exceptions import MlflowException

        if not name:
            return None
        try:
            run = self._client.get_run(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _last_step(self, run: str, metric: str) -> int:
        return max((point.step for point in self._client.get_metric_history(run, metric)), default=0)
