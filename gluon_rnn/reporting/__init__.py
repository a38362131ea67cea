"""What people and CI read of results: live display, tables, reports, verdicts, trackers.

Other rooms use `write_report`, `compare` and `promote`, the displays, and the trackers.
"""
