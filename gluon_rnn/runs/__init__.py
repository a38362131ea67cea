"""A run's directory: what it was given, how far it is, what came of it; and the tables of many runs.

Other rooms use `Job`, `Progress` and `LiveProgress`, `RunRecord`, the tables' readers, and the metrics to report.
"""
