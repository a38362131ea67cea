"""Output on a terminal: a sweep while it runs (`displays`), its results (`results`), all sweeps (`status`).

Everything fits 80 columns, and no number is ever shortened.
"""
