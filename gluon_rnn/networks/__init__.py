"""The networks: recurrent layers, regularization, and models built from a configuration."""
