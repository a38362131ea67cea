"""A run's directory: its input, progress and results; and the tables of many runs.

Other subpackages use `Job`, `Progress` and `LiveProgress`, `RunRecord`, the tables' readers, and the metrics to report.
"""
