"""Errors, files that are written whole, and what may be printed: what every room stands on."""
