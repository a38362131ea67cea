"""Sends runs to TensorBoard's event files and MLflow while they run.

All of it happens in the sweep's own process, beside its display, so that a worker knows nothing of it and any executor
will do. Each `Tracker` has its own thread, so a slow or broken one costs one line on standard error and does not affect
the sweep. A tracker that failed is tried again after pauses that grow, is asked what it has, and is sent what it
missed; of log intervals, the newest thousand of each run.

What is sent, the names in full with their units:

- every finished epoch, once and exactly (TensorBoard itself keeps scalars as float32), at step = epoch: ``train/``,
  ``valid/`` and ``test/``; what is called nats a token is nats a target, of a label as well;
- within an epoch, at step = training step, what the worker reports at each log interval: ``interval/``. It is read from
  ``progress.json``, which is looked at ten times a second, so that of shorter intervals some are left out;
- at the end, every number of the run's record: ``final/`` and the column's name.

A run that resumes after a kill also resumes in the tracker: its directory remembers its name there, and the tracker
reports what it already has. Points that were done before the sweep started are not sent.
"""

from gluon_rnn.reporting.tracking.delivery import Tracking
from gluon_rnn.reporting.tracking.mlflow import MlflowTracker
from gluon_rnn.reporting.tracking.tensorboard import TensorBoardTracker

__all__ = ["MlflowTracker", "TensorBoardTracker", "Tracking"]
