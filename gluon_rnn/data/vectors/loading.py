"""Pre-trained word vectors, second half: the rows of an embedding. For the process that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gluon_rnn.data.vectors import FoundVectors, published, text

if TYPE_CHECKING:
    import gluonnlp


def load_vectors(found: FoundVectors, vocab: gluonnlp.Vocab, *, seed: int) -> tuple[np.ndarray[Any, Any], int]:
    """A row for each word of `vocab`, float32 (len(vocab), found.size), and how many of the words have no vector.

    Words are looked up as they are, special ones, too. One without a vector gets a row drawn from a normal distribution
    with the mean and the standard deviation that each component has over the vectors found: to the layers above it then
    looks like any other word. Zeros would make all such words equal, and the usual small numbers would make them nearly
    invisible beside the others. The padding token's row is zeros, and counts as without one.

    The vocabulary is left as it is: GluonNLP 0.10's ``vocab.set_embedding`` gives all words without a vector one and
    the same, and the vocabulary then warns when it is written as JSON.

    Raises:
        RuntimeError: the file has changed or gone since it was found, or has none of the words.
        ValueError: a number in it cannot be read.
    """
    found.verified()
    wanted = [word for word in vocab.idx_to_token if word != vocab.padding_token]
    read = (
        published.rows(found.path, wanted) if found.path.suffix == ".npz" else text.rows(found.path, found.size, wanted)
    )
    if not read:
        raise RuntimeError(f"{found.name} has no vector for any of the {len(wanted):,} words; is lower=true missing?")
    places = vocab[list(read)]
    vectors = np.stack(list(read.values()))
    # NumPy has frozen what RandomState draws (NEP 19).
    table = np.random.RandomState(seed).normal(vectors.mean(axis=0), vectors.std(axis=0), size=(len(vocab), found.size))
    table[places] = vectors
    if vocab.padding_token is not None:
        table[vocab[vocab.padding_token]] = 0
    return table.astype(np.float32), len(vocab) - len(read)
