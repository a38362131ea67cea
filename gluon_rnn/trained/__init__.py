"""A finished run as a model."""
