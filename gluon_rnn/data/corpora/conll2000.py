"""CoNLL-2000: 8,936 and 2,012 sentences of the Wall Street Journal with part-of-speech tags, for training and test.

Published for the shared task of the Conference on Computational Natural Language Learning of 2000. GluonNLP's own
``CoNLL2000`` reads it. A random tenth of the training sentences is validation, as in torchtext's
``CoNLL2000Chunking``; its seed is the corpus's own, not the run's. A sentence stands between ``<start>`` and ``<end>``,
which have tags of the same names. The notebook that this corpus came with built its vocabularies from train,
validation and test together; here they are built from train alone.
"""

from __future__ import annotations

from pathlib import Path

from gluon_rnn.data.corpora.facts import Labelled, Published, Source
from gluon_rnn.data.corpora.labelled import Sequence, write

NAME = "conll-2000"
FILES = {"train": "train.txt.gz", "test": "test.txt.gz"}
START, END = "<start>", "<end>"
SEED = 2000
HELD_OUT = 0.1


def read(folder: Path) -> dict[str, bytes]:
    """Return the splits, as `gluon_rnn.data.corpora.labelled` has tags.

    The files must be right: else GluonNLP downloads.
    """
    import gluonnlp

    from gluon_rnn.data.corpora.splitting import split

    sentences = {
        name: [
            Sequence([START, *words, END], [START, *tags, END])
            for words, tags, _ in gluonnlp.data.CoNLL2000(name, root=str(folder))
        ]
        for name in FILES
    }
    train, valid = split(sentences["train"], HELD_OUT, seed=SEED)
    parts = {"train": train, "valid": valid, "test": sentences["test"]}
    return {name: write(part, "tagging") for name, part in parts.items()}


CORPUS = Published(
    name=NAME,
    title="CoNLL-2000",
    files=FILES,
    # The values that GluonNLP 0.10 checks (gluonnlp/data/conll.py), which are of the files as they are served.
    sha1s={
        "train": "9f31cf936554cebf558d07cce923dca0b7f31864",
        "test": "dc57527f1f60eeafad03da51235185141152f849",
    },
    # GluonNLP's and torchtext's address; no copy of these very files was found elsewhere.
    sources=(Source("https://www.clips.uantwerpen.be/conll2000/chunking/", FILES),),
    cache_name="conll2000",
    telling=False,
    labelled=Labelled(
        objective="tagging",
        sha1="c3b90289950f5b95fbf95f5baa2f9f2d2a729bc9",
        tokens=(206_590, 23_009, 51_401),
        read=read,
    ),
)
