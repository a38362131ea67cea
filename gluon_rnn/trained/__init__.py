"""Finished runs as models.

Users and other subpackages call `load_run`, `generate` and `get_next`.
"""
