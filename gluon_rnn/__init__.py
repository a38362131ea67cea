"""Benchmarks of recurrent language models on MXNet Gluon and GluonNLP.

Importing this package imports neither MXNet nor GluonNLP.
"""

from gluon_rnn.config import RunConfig, Sweep, load_sweep
from gluon_rnn.errors import UserError
from gluon_rnn.records import RunRecord, load_epochs, load_results
from gluon_rnn.regression.verdicts import assert_no_regression
from gluon_rnn.report import write_report
from gluon_rnn.sweep import plan_sweep, run_sweep, train

__version__ = "0.1.0"

__all__ = [
    "RunConfig",
    "RunRecord",
    "Sweep",
    "UserError",
    "assert_no_regression",
    "load_epochs",
    "load_results",
    "load_sweep",
    "plan_sweep",
    "run_sweep",
    "train",
    "write_report",
]
