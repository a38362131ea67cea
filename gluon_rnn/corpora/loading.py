"""Text to ids, second half: read a corpus that was found, through GluonNLP. Imported only where a run is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gluonnlp
import numpy as np

from gluon_rnn.corpora import encoded, folder, synthetic, wikitext2
from gluon_rnn.corpora.content import EOS, SPLITS, CorpusFiles, content_sha1, sha1_of
from gluon_rnn.corpora.encoded import Corpus

# What gluonnlp.data.WikiText2 calls the splits.
SEGMENTS = {"train": "train", "valid": "val", "test": "test"}


def load_corpus(
    files: CorpusFiles, *, max_train_tokens: int | None = None, max_eval_tokens: int | None = None
) -> Corpus:
    """The corpus that `gluon_rnn.corpora.find_corpus` found, from its text or as a run before kept it; never downloads.

    ``max_train_tokens`` keeps the first so many tokens of train, ``max_eval_tokens`` of valid and of test (default:
    all); the vocabulary stays that of the whole. Raises `RuntimeError` if the text has changed or gone since it was
    found, unless it was kept.
    """
    corpus = encoded.restore(files)
    if corpus is None:
        corpus = _read(files)
        encoded.keep(files, corpus)
    return replace(
        corpus,
        train=corpus.train[:max_train_tokens],
        valid=corpus.valid[:max_eval_tokens],
        test=corpus.test[:max_eval_tokens],
    )


def _read(files: CorpusFiles) -> Corpus:
    if files.folder is None:
        with TemporaryDirectory() as scratch:
            for split, content in synthetic.generate().items():
                (Path(scratch) / folder.FILES[split]).write_bytes(content)
            tokens = _read_folder(Path(scratch), files.sha1)
    elif files.dataset == wikitext2.NAME:
        tokens = _read_wikitext2(files.folder)
    else:
        tokens = _read_folder(files.folder, files.sha1)
    vocab = gluonnlp.Vocab(gluonnlp.data.Counter(tokens["train"]), padding_token=None, bos_token=None)
    return Corpus(vocab, **{split: np.array(vocab[words], dtype=np.int32) for split, words in tokens.items()})


def _read_wikitext2(root: Path) -> dict[str, list[str]]:
    # GluonNLP downloads by itself, over whatever lies there, if a file is missing or its SHA-1 is not this one.
    _check(
        [root / wikitext2.FILES[split] for split in SPLITS], content_sha1(wikitext2.SHA1S[split] for split in SPLITS)
    )
    return {
        split: list(gluonnlp.data.WikiText2(segment, bos=None, eos=EOS, skip_empty=False, root=str(root)))
        for split, segment in SEGMENTS.items()
    }


def _read_folder(root: Path, sha1: str) -> dict[str, list[str]]:
    paths = {split: root / folder.FILES[split] for split in SPLITS}
    _check(list(paths.values()), sha1)
    return {
        split: list(gluonnlp.data.CorpusDataset(str(path), flatten=True, bos=None, eos=EOS, skip_empty=False))
        for split, path in paths.items()
    }


def _check(paths: list[Path], sha1: str) -> None:
    try:
        found = content_sha1(sha1_of(path.read_bytes()) for path in paths)
    except OSError as error:
        raise RuntimeError(f"{error.filename} was found earlier and cannot be read now: {error.strerror}") from error
    if found != sha1:
        names = ", ".join(path.name for path in paths)
        raise RuntimeError(
            f"the text in {paths[0].parent} ({names}) is not the one that was found: SHA-1 {found}, not {sha1}"
        )
