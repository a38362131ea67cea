"""One run: its worker, its loop, and what a step does.

The worker calls `fit`. Higher layers use `evaluate` and its scorers, `backpropagate`, and the objectives' batches.
"""
