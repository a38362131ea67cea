"""What people and CI read of results: live display, tables, reports, verdicts, trackers."""
