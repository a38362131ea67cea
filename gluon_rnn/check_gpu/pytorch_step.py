"""PyTorch's examples/word_language_model, in our own words: its steps, and as a program the time that they take.

It imports nothing of this suite, so that any Python that has torch can run it:

    PYTHON pytorch_step.py REQUEST

The request is a JSON object with ``device`` (cpu or cuda), ``threads`` (of a CPU), ``sizes``, ``tf32`` and ``seconds``
(for each measurement). Each measurement is a line of JSON on standard output.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

#: Of WikiText-2, and of the notebook's recipe.
VOCABULARY, DROPOUT, CLIP, RATE = 33_278, 0.2, 0.25, 20.0
_ROUNDS, _MOST_STEPS = 5, 20

Steps = Callable[[int], None]


def pytorch_steps(
    hidden_size: int,
    *,
    cell: str = "lstm",
    bptt: int = 35,
    batch_size: int = 20,
    fused: bool,
    device: str = "cpu",
    threads: int | None = None,
) -> Steps:
    """A function that makes so many training steps and waits for them.

    Args:
        hidden_size: units of the embedding and of both layers.
        cell: lstm, gru, rnn_tanh or rnn_relu.
        bptt: steps of a window.
        batch_size: columns of a window.
        fused: with the fused cross-entropy, not log-softmax and negative log-likelihood as shipped.
        device: PyTorch's name of it.
        threads: of a CPU; None: as many as PyTorch chooses.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    dropout = nn.Dropout(DROPOUT)
    modules = _language_model(hidden_size, cell).to(device).train()
    embedding, recurrent, decoder = modules
    inputs, targets = torch.randint(VOCABULARY, (2, bptt, batch_size), device=device)

    def run(steps: int) -> None:
        state: Any = None
        total = torch.zeros((), device=device)
        for _ in range(steps):
            modules.zero_grad()
            if state is not None:
                state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
            output, state = recurrent(dropout(embedding(inputs)), state)
            logits = decoder(dropout(output)).view(-1, VOCABULARY)
            if fused:
                loss = functional.cross_entropy(logits, targets.reshape(-1))
            else:
                loss = functional.nll_loss(functional.log_softmax(logits, dim=1), targets.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), CLIP)
            with torch.no_grad():
                for parameter in modules.parameters():
                    parameter.add_(parameter.grad, alpha=-RATE)
            total += loss.detach()
        total.item()

    return run


def _language_model(hidden_size: int, cell: str) -> Any:
    """An embedding, two recurrent layers and a decoder with the embedding's weights, as a ``ModuleList``."""
    from torch import nn

    kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}
    extra = {"nonlinearity": cell[4:]} if cell.startswith("rnn_") else {}
    embedding = nn.Embedding(VOCABULARY, hidden_size)
    recurrent = kinds[cell](hidden_size, hidden_size, 2, dropout=DROPOUT, **extra)
    decoder = nn.Linear(hidden_size, VOCABULARY)
    decoder.weight = embedding.weight
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    return nn.ModuleList([embedding, recurrent, decoder])


def timed(run: Steps, seconds: float) -> dict[str, float]:
    """What a step takes, in ms: the median and the extremes of five rounds, after a warm-up, in about this long."""
    run(1)
    began = time.perf_counter()
    run(2)
    once = (time.perf_counter() - began) / 2
    steps = max(1, min(_MOST_STEPS, int(seconds / _ROUNDS / once)))
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run(steps)
        rounds.append(1e3 * (time.perf_counter() - began) / steps)
    return {"ms": statistics.median(rounds), "fastest_ms": min(rounds), "slowest_ms": max(rounds)}


def main(request: dict[str, Any]) -> None:
    """Measure what is asked for."""
    import torch

    on_gpu = request["device"] == "cuda"
    about = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request["tf32"]
    for size in request["sizes"]:
        for fused in (False, True):
            name = f"hidden {size}, {'fused cross-entropy' if fused else 'as shipped'}"
            print(json.dumps({"begun": name}), flush=True)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            steps = pytorch_steps(size, fused=fused, device=request["device"], threads=request["threads"])
            found = timed(steps, request["seconds"])
            if on_gpu:
                found["peak_gpu_mb"] = torch.cuda.max_memory_reserved() / 2**20
            print(json.dumps({"item": name, "hidden": size, "fused": fused, **found, **about}), flush=True)
            del steps


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
