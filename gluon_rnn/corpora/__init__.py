"""Text to ids, first half: find a corpus and measure it. Neither MXNet nor GluonNLP is imported here.

`find_corpus` is for the process that plans; `gluon_rnn.corpora.loading.load_corpus` is for the process that trains.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gluon_rnn.corpora import folder, synthetic, wikitext2
from gluon_rnn.corpora.content import CorpusFiles, describe
from gluon_rnn.errors import UserError

__all__ = ["CorpusFiles", "find_corpus"]

NAMES = (wikitext2.NAME, synthetic.NAME, "auto")
DATA_VARIABLE = "GLUON_RNN_DATA"


def find_corpus(dataset: str, *, data_dir: Path | None = None, notice: Callable[[str], None] = print) -> CorpusFiles:
    """Find, if need be download, verify and measure a corpus.

    ``dataset`` is one of

    * ``wikitext-2``: looked for in ``data_dir`` (default: the folder that the variable GLUON_RNN_DATA names, if any),
      then in GluonNLP's cache, then downloaded into that cache;
    * ``synthetic``: the built-in corpus;
    * ``auto``: WikiText-2 if it can be had in those ways, else the synthetic corpus and a notice that says why. It
      does not wait long for a network that is silent: `wikitext2.BRIEF`;
    * anything else: the path of a folder with train.txt, valid.txt and test.txt.

    ``notice`` receives lines for people to read. Raises `UserError` if the corpus is not there, not whole or not text.
    """
    if dataset == synthetic.NAME:
        return describe(synthetic.NAME, None, synthetic.generate())
    if dataset == wikitext2.NAME:
        return describe(wikitext2.NAME, *wikitext2.find(_absolute(data_dir), notice=notice))
    if dataset == "auto":
        try:
            found = wikitext2.find(_absolute(data_dir), timeouts=wikitext2.BRIEF, notice=notice)
        except wikitext2.Unavailable as error:
            why = ", ".join(dict.fromkeys(error.failed.values()))
            notice(f"using the built-in synthetic corpus: no WikiText-2 here and none to fetch ({why}); {error.mend}")
            return describe(synthetic.NAME, None, synthetic.generate())
        return describe(wikitext2.NAME, *found)
    return describe(*folder.find(dataset, names=NAMES))


def _absolute(data_dir: Path | None) -> Path | None:
    """Return the folder that the caller or else the environment names; None if neither does."""
    giver, given = "--data-dir", data_dir
    if given is None and os.environ.get(DATA_VARIABLE):
        giver, given = DATA_VARIABLE, Path(os.environ[DATA_VARIABLE])
    if given is None:
        return None
    path = folder.expand(given)
    if not os.path.isdir(path):
        problem = "is no folder" if os.path.exists(path) else "does not exist"
        raise UserError(f"{giver} {given} {problem}: name the folder that holds the data, or drop {giver}")
    return path
