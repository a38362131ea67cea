"""What to run: configurations, sweep files, and what decides the name of a run."""
