"""Text to ids, second half: read a corpus that was found, through GluonNLP. Imported only where a run is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gluonnlp
import numpy as np

from gluon_rnn.config import LABELLED
from gluon_rnn.corpora import encoded, folder, known
from gluon_rnn.corpora.content import (
    EOS,
    SPLITS,
    TEXT,
    UNKNOWN,
    CorpusFiles,
    content_sha1,
    cut,
    sha1_of,
)
from gluon_rnn.corpora.encoded import Corpus, Ids, Reading, Sequences, shortened
from gluon_rnn.corpora.labelled import labelled_sha1, parse

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
    """The corpus that `gluon_rnn.corpora.find_corpus` found, from its text or as a run before kept it; never downloads.

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


def _read_text(files: CorpusFiles, reading: Reading) -> Corpus:
    with _text_files(files, reading.objective) as paths:
        parts = {part: _tokens(path, reading) for part, path in paths.items()}
    splits = _cut(parts[TEXT], reading.objective) if TEXT in parts else parts
    alphabet = reading.level == "character" and files.dataset in known.ALPHABETS
    vocab = gluonnlp.Vocab(
        gluonnlp.data.Counter(parts.get(TEXT, splits["train"]) if alphabet else splits["train"]),
        min_freq=reading.min_freq,
        # Of an alphabet whose every letter counts none is unknown.
        unknown_token=None if alphabet and reading.min_freq == 1 else UNKNOWN,
        padding_token=PADDING if reading.padding or (alphabet and files.dataset in known.PADDED) else None,
        bos_token=None,
        eos_token=EOS if reading.level == "word" else None,
    )
    ids: dict[str, Any] = {split: _ids(vocab, tokens) for split, tokens in splits.items()}
    return Corpus(vocab, ids["train"], ids.get("valid"), ids.get("test"))


@contextmanager
def _text_files(files: CorpusFiles, objective: str) -> Iterator[dict[str, Path]]:
    """The file of each part, verified; those of a built-in corpus are there meanwhile."""
    if files.folder is None:
        contents = known.generate(files.dataset, objective)
        if objective not in LABELLED and content_sha1(map(sha1_of, contents.values())) != files.sha1:
            raise RuntimeError(f"the built-in {files.dataset} of this version is not the one that was found")
        with TemporaryDirectory() as scratch:
            paths = {split: Path(scratch, name) for split, name in folder.FILES.items()}
            for split, path in paths.items():
                path.write_bytes(contents[split])
            yield paths
        return
    corpus = known.PUBLISHED.get(files.dataset)
    # GluonNLP downloads over a file of CoNLL-2000 that is not as it was published, whatever was found.
    _check(files.folder, {name: corpus.sha1s[part] for part, name in corpus.files.items()} if corpus else files.files)
    names = corpus.files if corpus else folder.FILES
    yield {part: files.folder / name for part, name in names.items()}


def _cut(tokens: list[str], objective: str) -> dict[str, list[str]]:
    rest = iter(tokens)
    sizes = zip(SPLITS, cut(len(tokens), objective), strict=True)
    return {split: list(islice(rest, size)) for split, size in sizes if size}


def _tokens(path: Path, reading: Reading) -> list[str]:
    if reading.level == "character":
        tokens = list(path.read_bytes().decode())
    else:
        tokens = list(gluonnlp.data.CorpusDataset(str(path), flatten=True, bos=None, eos=EOS, skip_empty=False))
    # One by one: some capitals have two small letters, and the tokens have been counted.
    return [token.lower() for token in tokens] if reading.lower else tokens


def _read_labelled(files: CorpusFiles, reading: Reading) -> Corpus:
    splits = {
        split: parse(content, reading.objective, split)
        for split, content in _labelled_contents(files, reading.objective).items()
    }
    words = {split: [word for sequence in part for word in sequence.words] for split, part in splits.items()}
    if reading.lower:
        words = {split: [word.lower() for word in part] for split, part in words.items()}
    labels = {split: [label for sequence in part for label in sequence.labels] for split, part in splits.items()}
    tagging = reading.objective == "tagging"
    vocab = gluonnlp.Vocab(
        gluonnlp.data.Counter(words["train"]),
        min_freq=reading.min_freq,
        padding_token=PADDING if reading.padding else None,
        bos_token=None,
        eos_token=None,
    )
    label_vocab = gluonnlp.Vocab(
        gluonnlp.data.Counter(labels["train"]),
        min_freq=reading.min_freq if tagging else 1,
        unknown_token=UNKNOWN if tagging else None,
        padding_token=None,
        bos_token=None,
        eos_token=None,
    )

    def encode(split: str) -> Sequences:
        lengths = np.array([len(sequence.words) for sequence in splits[split]], dtype=np.int32)
        return Sequences(_ids(vocab, words[split]), lengths, _ids(label_vocab, labels[split]))

    return Corpus(vocab, encode("train"), encode("valid"), encode("test"), label_vocab)


def _labelled_contents(files: CorpusFiles, objective: str) -> dict[str, bytes]:
    """The splits as `gluon_rnn.corpora.labelled` has them, verified."""
    with _text_files(files, objective) as paths:
        corpus = known.PUBLISHED.get(files.dataset)
        if corpus and corpus.labelled and files.folder:
            contents = corpus.labelled.read(files.folder)
        else:
            contents = {split: path.read_bytes() for split, path in paths.items()}
    if (found := labelled_sha1(contents, objective)) != files.sha1:
        raise RuntimeError(
            f"{files.dataset} reads otherwise than it was found: SHA-1 {found}, not {files.sha1}; install the "
            "libraries that requirements/ names"
        )
    return contents


def _ids(vocab: gluonnlp.Vocab, tokens: list[str]) -> Ids:
    return np.array(vocab[tokens], dtype=np.int32)


def _check(root: Path, sha1s: Mapping[str, str]) -> None:
    """Refuse what is not there as it was found; GluonNLP downloads over what is not as it should be."""
    try:
        found = {name: sha1_of((root / name).read_bytes()) for name in sha1s}
    except OSError as error:
        raise RuntimeError(f"{error.filename} was found earlier and cannot be read now: {error.strerror}") from error
    if wrong := [f"{name} has SHA-1 {sha1}, not {sha1s[name]}" for name, sha1 in found.items() if sha1 != sha1s[name]]:
        raise RuntimeError(f"the text in {root} is not the one that was found: {', '.join(wrong)}")
