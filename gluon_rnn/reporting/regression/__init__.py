"""Comparison of results with a baseline, for jobs that gate on it."""

from gluon_rnn.reporting.regression.comparison import Comparison, compare
from gluon_rnn.reporting.regression.verdicts import assert_no_regression

__all__ = ["Comparison", "assert_no_regression", "compare"]
