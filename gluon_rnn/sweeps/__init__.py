"""Which points, in which order, on which devices."""
