"""Benchmarks of recurrent language models on MXNet Gluon and GluonNLP.

Importing this package imports neither MXNet nor GluonNLP. In a worker's process it loads the BLAS that was chosen for
it, which must be there before MXNet.
"""

from typing import TYPE_CHECKING, Any

from gluon_rnn.blas import load_chosen
from gluon_rnn.config import RunConfig, Sweep, load_sweep
from gluon_rnn.errors import UserError
from gluon_rnn.records import RunRecord, load_epochs, load_results
from gluon_rnn.regression.verdicts import assert_no_regression
from gluon_rnn.report import write_report
from gluon_rnn.sweep import plan_sweep, run_sweep, train

load_chosen()

if TYPE_CHECKING:
    from gluon_rnn.generation import generate, get_next

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
    from gluon_rnn import generation

    return getattr(generation, name)
