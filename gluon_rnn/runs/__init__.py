"""A run's directory: what it was given, how far it is, what came of it; and the tables of many."""
