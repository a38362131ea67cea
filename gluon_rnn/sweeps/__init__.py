"""Planning and running sweeps: which points, in which order, on which devices, and the upkeep of their folders.

Other subpackages use `plan_sweep`, `run_sweep`, `train` and `EXECUTORS`.
"""
