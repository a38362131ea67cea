"""Benchmarks of recurrent language models on MXNet Gluon and GluonNLP.

Importing this package imports neither MXNet nor GluonNLP. In a worker's process it loads the BLAS that was chosen for
it, which must be there before MXNet.
"""

from typing import TYPE_CHECKING, Any

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.machine.blas import load_chosen
from gluon_rnn.reporting.regression.verdicts import assert_no_regression
from gluon_rnn.reporting.report import write_report
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.runs.tables import load_epochs, load_results
from gluon_rnn.sweeps.planning import plan_sweep
from gluon_rnn.sweeps.running import run_sweep, train

load_chosen()

if TYPE_CHECKING:
    from gluon_rnn.trained.generation import generate, get_next

__version__ = "0.1.0"

__all__ = [
    "RunConfig",
    "RunRecord",
    "Sweep",
    "UserError",
    "assert_no_regression",
    "generate",
    "get_next",
    "load_epochs",
    "load_results",
    "load_sweep",
    "plan_sweep",
    "run_sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """`generate` and `get_next`, which need MXNet, once they are asked for."""
    if name not in ("generate", "get_next"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gluon_rnn.trained import generation

    return getattr(generation, name)
