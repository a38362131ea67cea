"""Nietzsche's "Beyond Good and Evil" in English as one text of 600,893 characters, 84 of them distinct.

It is the file of Keras's text-generation example and of fast.ai's lessons, which both name the one address below; it
could not be tried where this was written. The files of that name that were found in public repositories hold other
bytes (lower case, other line ends, parts), so there is no second source.
"""

from __future__ import annotations

from gluon_rnn.data.corpora.content import TEXT
from gluon_rnn.data.corpora.facts import Published, Source

NAME = "nietzsche"
FILES = {TEXT: "nietzsche.txt"}

CORPUS = Published(
    name=NAME,
    title="Nietzsche",
    files=FILES,
    sha1s={TEXT: "9a3e251f79e7afabd9310e0f0e0ecd4b5a42d322"},
    sources=(Source("https://s3.amazonaws.com/text-datasets/", FILES),),
)
