"""From text to ids, first half: find a corpus and measure it. Neither MXNet nor GluonNLP is imported here.

`find_corpus` is for the process that plans; `gluon_rnn.data.corpora.loading.load_corpus` is for the one that trains.
"""

from __future__ import annotations

import os
from pathlib import Path

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import Notice
from gluon_rnn.config.run import LABELLED
from gluon_rnn.data.corpora import folder, known, published, synthetic
from gluon_rnn.data.corpora.content import EOS, UNKNOWN, CorpusFiles, describe
from gluon_rnn.data.corpora.downloads import Timeouts
from gluon_rnn.data.corpora.facts import Published
from gluon_rnn.data.places import check_name, expand, given_folder

__all__ = ["CorpusFiles", "count_words", "find_corpus"]


def find_corpus(
    dataset: str,
    *,
    objective: str = "language_model",
    level: str = "word",
    data_dir: Path | None = None,
    notice: Notice = print,
) -> CorpusFiles:
    """Find, if need be download, verify and measure a corpus for an objective.

    ``dataset`` is one of

    * ``wikitext-2``, ``nietzsche``, ``airline-tweets``, ``conll-2000``: looked for in ``data_dir`` (default: the folder
      that the variable GLUON_RNN_DATA names, if any), then in GluonNLP's cache, then downloaded into that cache;
    * ``synthetic`` and ``hihello``: built in;
    * ``auto``: the objective's own of these (in this order: language_model, next_token, classification, tagging) if
      it can be had in those ways, else the synthetic corpus and a notice that says why. It does not wait long for a
      network that does not answer: `gluon_rnn.data.corpora.published.BRIEF`;
    * anything else: the path of a folder with train.txt, valid.txt and test.txt, which hold text or, for
      classification and tagging, lines as `gluon_rnn.data.corpora.labelled` has them.

    ``level`` is ``word`` or, of a text, ``character``. ``notice`` receives messages for the user. Raises
    `UserError` if the corpus is not there, not whole, not text or not one for the objective.
    """
    _check_kind(dataset, objective, level)
    if dataset in known.PUBLISHED:
        return _published(known.PUBLISHED[dataset], objective, level, data_dir, notice)
    if dataset == "auto":
        own = known.OWN[objective]
        try:
            return _published(own, objective, level, data_dir, notice, timeouts=published.BRIEF)
        except published.Unavailable as error:
            why = ", ".join(dict.fromkeys(error.failed.values()))
            notice(
                f"using the built-in synthetic corpus: {own.title} was not found and could not be downloaded ({why}); "
                f"{error.fix}"
            )
            dataset = synthetic.NAME
    if dataset in known.BUILT_IN:
        contents = known.BUILT_IN[dataset](objective)
        return describe(dataset, None, contents, files={}, objective=objective, level=level)
    name, place, contents = folder.find(dataset, names=known.NAMES)
    check_name(place, "folder")
    return describe(name, place, contents, files=folder.FILES, objective=objective, level=level)


def count_words(found: CorpusFiles) -> int:
    """Different words of the training text of a corpus of three files, ``<eos>`` and ``<unk>`` included: 0.2 s for
    WikiText-2. 0 where there is no such text, or none that is read as it lies there.
    """
    corpus = known.PUBLISHED.get(found.dataset)
    name = (corpus.files if corpus else folder.FILES).get("train")
    if found.folder is None or name is None or (corpus and corpus.labelled):
        return 0
    words = {EOS, UNKNOWN}
    for line in plain_text.lines(plain_text.decode((found.folder / name).read_bytes(), name)):
        words.update(plain_text.words(line))
    return len(words)


def _check_kind(dataset: str, objective: str, level: str) -> None:
    """Refuse objectives that a corpus known by name does not have, and characters for labelled words."""
    if level == "character" and objective in LABELLED:
        raise UserError(f"level=character needs a text, and objective={objective} reads words; leave level out")
    if dataset in known.PUBLISHED or dataset in known.BUILT_IN:
        its = known.objectives(dataset)
        if objective not in its:
            raise UserError(
                f"dataset {dataset} is for objective={' or '.join(its)}, not for {objective}, whose own is "
                f"{known.OWN[objective].name}; set another of the two"
            )


def _published(
    corpus: Published,
    objective: str,
    level: str,
    data_dir: Path | None,
    notice: Notice,
    timeouts: Timeouts = published.PATIENT,
) -> CorpusFiles:
    place, contents = published.find(corpus, _data_folder(data_dir), timeouts=timeouts, notice=notice)
    check_name(place, "folder")
    if read := corpus.labelled:
        return CorpusFiles(corpus.name, place, read.sha1, *read.tokens, corpus.pinned)
    return describe(corpus.name, place, contents, files=corpus.files, objective=objective, level=level)


def _data_folder(data_dir: Path | None) -> Path | None:
    """Return the absolute folder that the caller or else the environment names; None if neither does."""
    giver, given = given_folder(data_dir)
    if given is None:
        return None
    path = expand(given)
    if not os.path.isdir(path):
        problem = "is not a folder" if os.path.exists(path) else "does not exist"
        raise UserError(f"{giver} {given} {problem}: name the folder that holds the data, or drop {giver}")
    return path
