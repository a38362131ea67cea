"""Presentation of results for readers and CI: live display, tables, reports, verdicts, trackers.

Other subpackages use `write_report`, `compare` and `promote`, the displays, and the trackers.
"""
