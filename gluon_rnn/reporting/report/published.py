"""Published perplexities on WikiText-2, for comparison with measured ones."""

from __future__ import annotations

from typing import Any

#: What they are of.
PUBLISHED_OF: dict[str, Any] = {
    "dataset": "wikitext-2",
    "objective": "language_model",
    "level": "word",
    "lower": False,
    "min_freq": 1,
}
#: Logs of PyTorch's example in the package of "Natural Language Processing in Action", second edition: the one
#: published comparison of cells on WikiText-2 that we know.
_NLPIA2 = "nlpia2 0.2.0, ch08/rnn_word"
#: Model, source, training, validation, test.
PUBLISHED: tuple[tuple[str, str, str, float | None, float | None], ...] = (
    ("LSTM 200, tied, dropout 0.2", "GluonNLP 0.10 model zoo", "NT-ASGD, 750 epochs, best 35", 108.17, 102.49),
    ("LSTM 200, tied, dropout 0.2", "PyTorch's word_language_model example", "40 epochs", 105.97, 100.33),
    ("LSTM 200, tied, dropout 0.2", "MXNet's example", "20 epochs", None, 107.49),
    ("LSTM 200, tied, variational dropout", "Inan et al. (2016), table 1", "not stated", 105.6, 98.9),
    ("LSTM 200, untied", _NLPIA2, "12 epochs", 123.27, 114.95),
    ("GRU 200, untied, dropout 0.2", _NLPIA2, "12 epochs at rate 2", 164.6, 152.8),
    ("GRU 200, untied, dropout 0.2", _NLPIA2, "at rate 20", 183.1, 168.9),
    ("tanh RNN 200, untied, no dropout", _NLPIA2, "32 epochs at rate 2", 171.3, 158.3),
    ("ReLU RNN 200, untied, dropout 0.5", _NLPIA2, "32 epochs at rate 2", 180.5, 166.1),
    ("LSTM 650, tied, dropout 0.5", "GluonNLP 0.10 model zoo", "not stated", 91.30, 85.82),
    ("LSTM 650, tied, dropout 0.5", "PyTorch's word_language_model example", "not stated", 91.70, 86.68),
    ("LSTM 650, tied, dropout 0.5", "MXNet's example", "not stated", None, 91.51),
    ("LSTM 1500, tied, dropout 0.65", "GluonNLP 0.10 model zoo", "not stated", 86.28, 81.99),
    ("LSTM 1500, tied, dropout 0.65", "PyTorch's word_language_model example", "not stated", None, 84.12),
    ("LSTM 1500, tied, dropout 0.65", "MXNet's example", "not stated", None, 88.42),
    ("AWD-LSTM 600", "GluonNLP 0.10 model zoo", "not stated", 80.11, 76.14),
    ("AWD-LSTM 1150", "GluonNLP 0.10 model zoo", "not stated", 71.78, 68.55),
    ("AWD-LSTM 1150", "AWD-LSTM's paper (Merity et al., 2017)", "not stated", 68.6, 65.8),
    ("LSTM 200 with neural cache", "GluonNLP 0.10 model zoo", "not stated", 81.68, 77.83),
    ("LSTM 650 with neural cache", "GluonNLP 0.10 model zoo", "not stated", 69.27, 66.39),
    ("AWD-LSTM 1150 with neural cache", "GluonNLP 0.10 model zoo", "not stated", 58.18, 56.08),
    ("AWD-LSTM 1150 with neural cache", "AWD-LSTM's paper (Merity et al., 2017)", "not stated", 53.8, 52.0),
)
