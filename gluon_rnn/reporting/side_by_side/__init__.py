"""Comparison of two or more folders of results: what got better, what got worse, and what is undecided."""

from gluon_rnn.reporting.side_by_side.comparing import Contrast, compare_folders
from gluon_rnn.reporting.side_by_side.forms import FORMS

__all__ = ["FORMS", "Contrast", "compare_folders"]
