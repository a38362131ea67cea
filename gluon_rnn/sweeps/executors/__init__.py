"""Executors run the workers of a sweep, on this machine or on a cluster."""

from collections.abc import Callable, Mapping

from gluon_rnn.sweeps.executors.base import Ended, Executor, ExecutorOptions
from gluon_rnn.sweeps.executors.local import LocalExecutor
from gluon_rnn.sweeps.executors.ray import RayExecutor

#: Makes an executor, by the name that ``--executor`` takes.
EXECUTORS: Mapping[str, Callable[[ExecutorOptions], Executor]] = {"local": LocalExecutor, "ray": RayExecutor}

__all__ = ["EXECUTORS", "Ended", "Executor", "ExecutorOptions", "LocalExecutor", "RayExecutor"]
