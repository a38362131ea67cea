"""Text from a trained run: the continuation of a prompt by its model.

The run's directory is enough and may be anywhere (see `trained.run`). As a program, this module answers one request,
which `gluon_rnn.cli` sends it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.common import plain_text
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import printable, quoted
from gluon_rnn.config.run import LABELLED
from gluon_rnn.data.corpora.content import EOS
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.job import BEST
from gluon_rnn.trained.answering import answer
from gluon_rnn.trained.run import TRAIN_AGAIN, load_run, read_config

Array = np.ndarray[Any, Any]

#: The longest text. It takes minutes with the largest vocabulary, and a mistyped number cannot keep a machine busy for
#: days.
MOST_TOKENS = 100_000
#: Beyond these limits a draw is always the most probable token, or completely random.
TEMPERATURES = (0.01, 100.0)
_MOST_SEEDS = 2**32
#: Of the words that a line names.
_NAMED = 5

# A token at a time is too little for a GPU, and so the text is the same wherever the run was trained.
_CPU = mx.cpu()


def generate(
    run: Path | str,
    prompt: str,
    *,
    tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    greedy: bool = False,
) -> str:
    """Continue a prompt: returns `prompt` as the model read it, and the `tokens` (words or characters) that follow.

    Each token is drawn from the model's probabilities, or, with objective next_token, from those after the last bptt
    tokens. ``<pad>`` never is; ``<unk>`` is, as often as it follows in the training text. Words stand between blanks,
    and their ``<eos>`` is a line break, in the prompt as well. The same seed gives the same text where the logits are
    the same to the bit, which needs the same threads and BLAS. The random streams of Python, NumPy and MXNet stay as
    they are.

    Args:
        run: the run's directory. While it trains, the parameters of its best epoch so far are used.
        prompt: read as the corpus was; empty: the text begins after ``<eos>``. Words that the vocabulary lacks are
            named on standard error and read as ``<unk>``.
        tokens: how many follow, up to `MOST_TOKENS`.
        temperature: divides the logits: values below 1 favour probable tokens, values above 1 the others; within
            `TEMPERATURES`.
        top_k: draw among the k most probable only; None: among all.
        seed: of the draws, from 0 to 2**32 - 1.
        greedy: take the most probable each time.

    Raises:
        UserError: a value is out of range, `run` holds no readable text model, or the prompt cannot be read.
    """
    if not 1 <= tokens <= MOST_TOKENS:
        raise UserError(f"tokens={tokens} is not from 1 to {MOST_TOKENS:,}")
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        raise UserError(
            f"temperature={temperature:g} is not from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}; use greedy for "
            "the most likely token each time"
        )
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k} leaves no token to choose; give 1 or more")
    if not 0 <= seed < _MOST_SEEDS:
        raise UserError(f"seed={seed} is not from 0 to 2**32 - 1")
    if greedy and (temperature != 1.0 or top_k is not None or seed):
        raise UserError("greedy takes the most likely token each time: temperature, top_k and seed have no effect")
    random = np.random.RandomState(seed)
    text = _Text(Path(run))
    begun = text.tokens(prompt)
    chosen = text.after(
        begun, lambda logits: sample(logits, random, temperature=temperature, top_k=1 if greedy else top_k)
    )
    return text.written([*begun, *(next(chosen) for _ in range(tokens))])


def get_next(run: Path | str, prompt: str) -> str:
    """The most probable token after `prompt`; see `generate`, also for errors."""
    text = _Text(Path(run))
    return next(text.after(text.tokens(prompt), lambda logits: int(logits.argmax())))


def sample(logits: Array, random: np.random.RandomState, *, temperature: float = 1.0, top_k: int | None = None) -> int:
    """Draw an id from softmax(`logits` / `temperature`), among the `top_k` most probable (None: all).

    GluonNLP 0.10's ``SequenceSampler`` does not do this: its top_k takes what ``argsort`` returns for ranks (among the
    logits 0.1, 5, 0.2, 0.3 and with top_k=1 it chose the last, each time), and where float32 probabilities add up to
    less than 1, ``sample_multinomial`` of MXNet 1.9.1 returns an id beyond the last, at which the sampler raises.

    Args:
        logits: float64, (vocabulary,).
        random: its stream is frozen (NEP 19), so that a seed means the same everywhere.
        temperature: above 0.
        top_k: at least 1.
    """
    candidates = np.argsort(-logits, kind="stable")[:top_k]
    weights = np.exp((logits[candidates] - logits[candidates[0]]) / temperature)
    return int(random.choice(candidates, p=weights / weights.sum()))


class _Text:
    """Converts between text and tokens as the run in `directory` does."""

    def __init__(self, directory: Path) -> None:
        config = read_config(directory)
        if config.objective in LABELLED:
            raise UserError(
                f"{directory} is a run of {config.objective}, which predicts labels, not text; name one whose "
                "objective is language_model or next_token"
            )
        self._directory = directory
        self._config = config
        run = load_run(directory)
        self._vocab, self._model = run.vocabulary, run.model

    def tokens(self, prompt: str) -> list[str]:
        """The tokens of `prompt`, split as the corpus was, with ``<eos>`` for a line end between words."""
        prompt = plain_text.without_mark(prompt)
        if self._config.level == "character":
            tokens = list(prompt)
        else:
            first, *others = map(plain_text.words, plain_text.between_line_ends(prompt))
            tokens = first + [token for line in others for token in (EOS, *line)]
        return [token.lower() for token in tokens] if self._config.lower else tokens

    def written(self, tokens: Sequence[str]) -> str:
        """The text of `tokens`."""
        if self._config.level == "character":
            return "".join(tokens)
        lines: list[list[str]] = [[]]
        for token in tokens:
            if token == EOS:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(map(" ".join, lines))

    def after(self, tokens: Sequence[str], choose: Callable[[Array], int]) -> Iterator[str]:
        """An endless continuation of `tokens`. Each token is chosen from the logits by `choose` and read in turn."""
        windowed = self._config.objective == "next_token"
        reader = _Window(self._model, self._config.bptt) if windowed else _Stream(self._model)
        ids = self._ids(tokens)
        while True:
            logits = reader.read(ids)
            if not np.isfinite(logits).all():
                raise UserError(f"{self._directory / BEST} is damaged: it gives no finite logits; {TRAIN_AGAIN}")
            if self._vocab.padding_token is not None:
                logits[self._vocab[self._vocab.padding_token]] = -np.inf
            ids = [choose(logits)]
            yield self._vocab.idx_to_token[ids[0]]

    def _ids(self, tokens: Sequence[str]) -> list[int]:
        known = self._vocab.token_to_idx
        if not tokens and EOS not in known:
            raise UserError("an empty prompt begins after <eos>, which this run's vocabulary lacks; give it a prompt")
        if unknown := list(dict.fromkeys(token for token in tokens if token not in known)):
            level = self._config.level
            named = f"{', '.join(map(quoted, unknown[:_NAMED]))}{', ...' if len(unknown) > _NAMED else ''}"
            if self._vocab.unknown_token is None:
                there = ("" if level == "character" else " ").join(sorted(known.keys() - {self._vocab.padding_token}))
                raise UserError(f"the vocabulary of this run has no {level} {named}; it has {quoted(there)}")
            print(
                printable(f"not in the vocabulary, read as {self._vocab.unknown_token}: {named}"),
                file=sys.stderr,
            )
        return [known[token] if token in known else known[self._vocab.unknown_token] for token in tokens or [EOS]]


class _Stream:
    """Reads one token after another with the state carried over, as a language model is scored."""

    def __init__(self, model: SequenceModel) -> None:
        self._model = model
        self._state: States = model.begin_state(1, _CPU)

    def read(self, ids: Sequence[int]) -> Array:
        """The logits, float64, (vocabulary,), of the token after all that was read and `ids`."""
        outputs, _, self._state = self._model.backbone(_column(ids), self._state)
        return _only(self._model.decoder(outputs[-1:]))


class _Window:
    """Reads the last `steps` tokens from the zero state each time, as a model of next tokens is trained and scored.

    A shorter prompt is a shorter window, on which the model was not trained.
    """

    def __init__(self, model: SequenceModel, steps: int) -> None:
        self._model = model
        self._ids: deque[int] = deque(maxlen=steps)

    def read(self, ids: Sequence[int]) -> Array:
        """As `_Stream.read`."""
        self._ids.extend(ids)
        logits, _ = self._model(_column(self._ids), self._model.begin_state(1, _CPU))
        return _only(logits)


def _column(ids: Sequence[int]) -> mx.nd.NDArray:
    return mx.nd.array(list(ids), ctx=_CPU, dtype="int32").reshape((-1, 1))


def _only(logits: mx.nd.NDArray) -> Array:
    """(1, 1, vocabulary) to float64, (vocabulary,)."""
    values: Array = logits.asnumpy().astype(np.float64).ravel()
    return values


def main() -> int:
    """Answer a request for text: the arguments of `generate`."""
    return answer(lambda **request: {"text": generate(**request)})


if __name__ == "__main__":
    sys.exit(main())
