"""As much of an MLflow server as tracking asks of one: MLflow's messages over HTTP, its own folder behind them.

``mlflow server`` is not in mlflow-skinny, which is all that tracking needs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2 as messages
from mlflow.utils.proto_json_utils import message_to_json, parse_dict


def get_experiment(store: MlflowClient, request: Any) -> Any:
    experiment = store.get_experiment_by_name(request.experiment_name)
    if experiment is None:
        raise MlflowException("no such experiment", error_code=messages.databricks__pb2.RESOURCE_DOES_NOT_EXIST)
    return messages.GetExperimentByName.Response(experiment=experiment.to_proto())


def create_experiment(store: MlflowClient, request: Any) -> Any:
    return messages.CreateExperiment.Response(experiment_id=store.create_experiment(request.name))


def create_run(store: MlflowClient, request: Any) -> Any:
    tags = {tag.key: tag.value for tag in request.tags}
    run = store.create_run(request.experiment_id, request.start_time, tags, request.run_name)
    return messages.CreateRun.Response(run=run.to_proto())


def get_run(store: MlflowClient, request: Any) -> Any:
    return messages.GetRun.Response(run=store.get_run(request.run_id).to_proto())


def update_run(store: MlflowClient, request: Any) -> Any:
    status = RunStatus.to_string(request.status)
    if request.end_time:
        store.set_terminated(request.run_id, status, request.end_time)
    else:
        store.update_run(request.run_id, status)
    return messages.UpdateRun.Response(run_info=store.get_run(request.run_id).info.to_proto())


def log_batch(store: MlflowClient, request: Any) -> Any:
    store.log_batch(
        request.run_id,
        metrics=[Metric.from_proto(metric) for metric in request.metrics],
        params=[Param.from_proto(param) for param in request.params],
        tags=[RunTag.from_proto(tag) for tag in request.tags],
    )
    return messages.LogBatch.Response()


def get_history(store: MlflowClient, request: Any) -> Any:
    history = store.get_metric_history(request.run_id, request.metric_key)
    return messages.GetMetricHistory.Response(metrics=[metric.to_proto() for metric in history])


ANSWERS = {
    "experiments/get-by-name": (messages.GetExperimentByName, get_experiment),
    "experiments/create": (messages.CreateExperiment, create_experiment),
    "runs/create": (messages.CreateRun, create_run),
    "runs/get": (messages.GetRun, get_run),
    "runs/update": (messages.UpdateRun, update_run),
    "runs/log-batch": (messages.LogBatch, log_batch),
    "metrics/get-history": (messages.GetMetricHistory, get_history),
}


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a server that keeps its runs in `folder`, which a client may open as well."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(dict(parse_qsl(urlsplit(self.path).query)))

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, content: dict[str, Any]) -> None:
            status, text = 404, '{"error_code": "ENDPOINT_NOT_FOUND"}'
            known = ANSWERS.get(urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/"))
            if known:
                message, function = known
                request = message()
                parse_dict(content, request)
                try:
                    status, text = 200, message_to_json(function(MlflowClient(folder.as_uri()), request))
                except MlflowException as error:
                    status, text = error.get_http_status_code(), error.serialize_as_json()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
