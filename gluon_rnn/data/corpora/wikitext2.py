"""WikiText-2 at word level: how to know its three files and who serves them."""

from __future__ import annotations

from gluon_rnn.data.corpora import folder
from gluon_rnn.data.corpora.facts import Published, Source

NAME = "wikitext-2"
# What the original archive, and so GluonNLP, calls the files.
FILES = {"train": "wiki.train.tokens", "valid": "wiki.valid.tokens", "test": "wiki.test.tokens"}
# The values that GluonNLP 0.10 checks (gluonnlp/data/corpora/wikitext.py).
SHA1S = {
    "train": "863f29c46ef9d167fff4940ec821195882fe29d1",
    "valid": "0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422",
    "test": "c7b8ce0aa086fb34dab808c5c49224211eb2b172",
}

# In the order in which they are tried. The address that the corpus was published at answers 403 since 2024.
SOURCES = (
    # Where GluonNLP 0.10 looks.
    Source("{repo}/gluon/dataset/wikitext-2/wikitext-2-v1.zip"),
    # A copy kept by one of the corpus's authors, Stephen Merity.
    Source("https://wikitext.smerity.com/wikitext-2-v1.zip"),
    # The data of PyTorch's word_language_model example: the same bytes under other names.
    Source(
        "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/", folder.FILES
    ),
)

CORPUS = Published(name=NAME, title="WikiText-2", files=FILES, sha1s=SHA1S, sources=SOURCES, plain_names=folder.FILES)
