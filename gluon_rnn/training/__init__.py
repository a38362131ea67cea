"""One run: its worker, its loop, and what a step does."""
