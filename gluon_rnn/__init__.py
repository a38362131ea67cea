"""Benchmarks of recurrent language models on MXNet Gluon and GluonNLP.

Importing this package imports neither MXNet nor GluonNLP. In a worker's process it loads the BLAS that was chosen for
it, which must be there before MXNet.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gluon_rnn.common import processes
from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.machine.blas import load_chosen
from gluon_rnn.reporting.regression.verdicts import assert_no_regression
from gluon_rnn.reporting.report import write_report
from gluon_rnn.reporting.side_by_side import compare_folders
from gluon_rnn.reporting.watched import run_sweep, train
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.runs.tables import load_epochs, load_evaluations, load_results
from gluon_rnn.sweeps.planning import plan_sweep

load_chosen()

if TYPE_CHECKING:
    from gluon_rnn.trained.evaluation import evaluate_run
    from gluon_rnn.trained.export import export_run
    from gluon_rnn.trained.generation import generate, get_next
    from gluon_rnn.trained.run import load_run

__version__ = "0.1.0"

__all__ = [
    "RunConfig",
    "RunRecord",
    "Sweep",
    "UserError",
    "assert_no_regression",
    "compare_folders",
    "evaluate_run",
    "export_run",
    "generate",
    "get_next",
    "load_epochs",
    "load_evaluations",
    "load_results",
    "load_run",
    "load_sweep",
    "plan_sweep",
    "run_sweep",
    "train",
    "write_report",
]

_WITH_MXNET = {
    "evaluate_run": "gluon_rnn.trained.evaluation",
    "export_run": "gluon_rnn.trained.export",
    "generate": "gluon_rnn.trained.generation",
    "get_next": "gluon_rnn.trained.generation",
    "load_run": "gluon_rnn.trained.run",
}


def __getattr__(name: str) -> Any:
    """The names of `_WITH_MXNET`, once they are asked for."""
    if name not in _WITH_MXNET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with processes.importing():
        module = import_module(_WITH_MXNET[name])
    return getattr(module, name)
