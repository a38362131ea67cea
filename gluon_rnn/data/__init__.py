"""Text to ids to batches: corpora, word vectors, and how their ids are laid out for training."""
