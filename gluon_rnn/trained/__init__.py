"""A finished run as a model.

Users and other rooms use `load_run`, `generate` and `get_next`.
"""
