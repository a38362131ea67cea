"""What to run: configurations, sweep files, and what decides the name of a run.

Other subpackages use `RunConfig` and `configure`, `Sweep` and `load_sweep`, `run_id` and the sources of a user's own
cell.
"""
