"""Finished runs as models.

Users and other rooms call `load_run`, `generate` and `get_next`.
"""
