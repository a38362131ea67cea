"""Generate text with a model that gluon_rnn has exported as ONNX. It needs numpy and onnxruntime alone.

Usage: python examples/onnx_generate.py EXPORT_DIR "a prompt" [TOKENS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def generate(folder: Path, prompt: str, *, tokens: int = 30, seed: int = 0) -> str:
    """`prompt` and `tokens` tokens that a language model of words or characters says after it."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    settings = session.get_modelmeta().custom_metadata_map
    if settings["objective"] != "language_model":
        sys.exit(f"{folder} holds a model of {settings['objective']}, which writes no text")
    between = "" if settings["level"] == "character" else " "
    vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))["vocabulary"]
    names, ids = vocabulary["idx_to_token"], vocabulary["token_to_idx"]
    text = prompt.lower() if settings["lower"] == "true" else prompt
    written = list(text) if between == "" else text.split() or ["<eos>"]
    read = [ids[token] if token in ids else ids["<unk>"] for token in written]

    # The first input is the ids, (steps, batch); the others are states, (1, batch, units), zeros at the beginning.
    state = {each.name: np.zeros((1, 1, each.shape[2]), np.float32) for each in session.get_inputs()[1:]}
    random = np.random.default_rng(seed)
    for _ in range(tokens):
        logits, *after = session.run(None, {"ids": np.array(read, np.int64).reshape(-1, 1), **state})
        state = dict(zip(state, after, strict=True))
        last = logits[-1, 0].astype(np.float64)
        weights = np.exp(last - last.max())
        read = [int(random.choice(len(weights), p=weights / weights.sum()))]
        written.append(names[read[0]])
    return between.join(written).replace("<eos>", "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    print(generate(Path(sys.argv[1]), sys.argv[2], tokens=int(sys.argv[3]) if len(sys.argv) > 3 else 30))
