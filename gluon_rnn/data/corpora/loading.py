"""From text to ids, second half: read a corpus that was found, with GluonNLP. Imported only where a run is trained."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import gluonnlp
import numpy as np

from gluon_rnn.common.plain_text import decode
from gluon_rnn.config.run import LABELLED, RunConfig
from gluon_rnn.data.corpora import encoded, folder, known
from gluon_rnn.data.corpora.content import EOS, SPLITS, TEXT, UNKNOWN, CorpusFiles, cut, identity, tokenize
from gluon_rnn.data.corpora.encoded import Corpus, Ids, Reading, Sequences, shortened
from gluon_rnn.data.corpora.labelled import parse

PADDING = "<pad>"  # as GluonNLP has it


def load_corpus(
    files: CorpusFiles,
    *,
    objective: str = "language_model",
    level: str = "word",
    lower: bool = False,
    min_freq: int = 1,
    padding: bool = False,
    max_train_tokens: int | None = None,
    max_eval_tokens: int | None = None,
) -> Corpus:
    """The corpus that `find_corpus` found, from its text or as a run before kept it; never downloads.

    The vocabulary is that of the whole train split: of words with ``<unk>`` and, of a text, ``<eos>``; of characters
    with ``<unk>``, but of a corpus that is one text exactly this one's characters. GluonNLP orders it by frequency.

    Args:
        files: the corpus.
        objective: ``language_model``, ``next_token``, ``classification`` or ``tagging``, as it was found for.
        level: ``word`` or, of a text, ``character``, as it was found at.
        lower: make each token lower case.
        min_freq: tokens and tags seen less often in training are ``<unk>``; classes never are.
        padding: give the vocabulary ``<pad>``, which nothing in the corpus is.
        max_train_tokens: keeps the first so many tokens of train (None: all); of labelled sequences as many as have so
            many tokens together, one at least.
        max_eval_tokens: the same of valid and of test.

    Raises:
        RuntimeError: the text has changed or gone since it was found, unless it was kept.
    """
    reading = Reading(objective, level, lower, min_freq, padding)
    corpus = encoded.restore(files, reading)
    if corpus is None:
        corpus = (_read_labelled if objective in LABELLED else _read_text)(files, reading)
        encoded.keep(files, reading, corpus)
    return replace(
        corpus,
        train=shortened(corpus.train, max_train_tokens),
        valid=shortened(corpus.valid, max_eval_tokens),
        test=shortened(corpus.test, max_eval_tokens),
    )


def load_corpus_for(config: RunConfig, files: CorpusFiles) -> Corpus:
    """`load_corpus`, as a run of `config` reads it."""
    return load_corpus(
        files,
        objective=config.objective,
        level=config.level,
        lower=config.lower,
        min_freq=config.min_freq,
        padding=config.last_batch == "keep",
        max_train_tokens=config.max_train_tokens,
        max_eval_tokens=config.max_eval_tokens,
    )


def _read_text(files: CorpusFiles, reading: Reading) -> Corpus:
    parts = {part: _tokens(text, reading) for part, text in _texts(files, reading).items()}
    splits = _cut(parts[TEXT], reading.objective) if TEXT in parts else parts
    alphabet = reading.level == "character" and files.dataset in known.ALPHABETS
    vocab = _vocab(
        parts.get(TEXT, splits["train"]) if alphabet else splits["train"],
        reading.min_freq,
        # Of an alphabet whose every letter counts none is unknown.
        unknown=None if alphabet and reading.min_freq == 1 else UNKNOWN,
        padding=reading.padding or (alphabet and files.dataset in known.PADDED),
        eos=EOS if reading.level == "word" else None,
    )
    ids: dict[str, Any] = {split: _ids(vocab, tokens) for split, tokens in splits.items()}
    return Corpus(vocab, ids["train"], ids.get("valid"), ids.get("test"))


def _texts(files: CorpusFiles, reading: Reading) -> dict[str, str]:
    """The parts of a text, or the splits as `gluon_rnn.data.corpora.labelled` has them; verified."""
    texts = {part: decode(content, part) for part, content in _contents(files, reading.objective).items()}
    found = identity(texts, reading.objective, reading.level)
    if found != files.sha1:
        raise RuntimeError(
            f"{files.dataset} as it is read here is not the one that was found: its SHA-1 is {found}, not "
            f"{files.sha1}; install the same version, and the libraries that requirements/ names"
        )
    return texts


def _contents(files: CorpusFiles, objective: str) -> dict[str, bytes]:
    if files.folder is None:
        return known.BUILT_IN[files.dataset](objective)
    corpus = known.PUBLISHED.get(files.dataset)
    # GluonNLP downloads over a file of CoNLL-2000 that is not as it was published, whatever was found.
    (replace(files, files=corpus.pinned) if corpus else files).verified()
    if corpus and corpus.labelled:
        return corpus.labelled.read(files.folder)
    return {
        part: (files.folder / name).read_bytes() for part, name in (corpus.files if corpus else folder.FILES).items()
    }


def _cut(tokens: list[str], objective: str) -> dict[str, list[str]]:
    rest = iter(tokens)
    sizes = zip(SPLITS, cut(len(tokens), objective), strict=True)
    return {split: list(islice(rest, size)) for split, size in sizes if size}


def _tokens(text: str, reading: Reading) -> list[str]:
    tokens = tokenize(text, reading.level)
    # One by one: some capitals have two small letters, and the tokens have been counted.
    return [token.lower() for token in tokens] if reading.lower else tokens


def _read_labelled(files: CorpusFiles, reading: Reading) -> Corpus:
    splits = {split: parse(text, reading.objective, split) for split, text in _texts(files, reading).items()}
    words = {split: [word for sequence in part for word in sequence.words] for split, part in splits.items()}
    if reading.lower:
        words = {split: [word.lower() for word in part] for split, part in words.items()}
    labels = {split: [label for sequence in part for label in sequence.labels] for split, part in splits.items()}
    vocab = _vocab(words["train"], reading.min_freq, padding=reading.padding)
    tagging = reading.objective == "tagging"
    label_vocab = _vocab(labels["train"], reading.min_freq if tagging else 1, unknown=UNKNOWN if tagging else None)

    def encode(split: str) -> Sequences:
        lengths = np.array([len(sequence.words) for sequence in splits[split]], dtype=np.int32)
        return Sequences(_ids(vocab, words[split]), lengths, _ids(label_vocab, labels[split]))

    return Corpus(vocab, encode("train"), encode("valid"), encode("test"), label_vocab)


def _vocab(
    tokens: list[str],
    min_freq: int,
    *,
    unknown: str | None = UNKNOWN,
    padding: bool = False,
    eos: str | None = None,
) -> gluonnlp.Vocab:
    return gluonnlp.Vocab(
        gluonnlp.data.Counter(tokens),
        min_freq=min_freq,
        unknown_token=unknown,
        padding_token=PADDING if padding else None,
        bos_token=None,
        eos_token=eos,
    )


def _ids(vocab: gluonnlp.Vocab, tokens: list[str]) -> Ids:
    return np.array(vocab[tokens], dtype=np.int32)
