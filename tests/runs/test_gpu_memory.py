"""An estimate of a GPU's memory, against what a driver reported and what networks have."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gluon_rnn.config.run import configure
from gluon_rnn.networks import models
from gluon_rnn.runs.gpu_memory import advice, count_parameters, gpu_memory_mb, what_would_fit

WORDS = 33278


@pytest.mark.parametrize(("size", "in_use"), [(200, 1878), (650, 2310), (1500, 3408)])
def test_the_estimate_is_what_an_h100_had_in_use(size: int, in_use: float) -> None:
    config = configure({"model": f"standard_lstm_lm_{size}", "device": "gpu:0"})
    assert gpu_memory_mb(config, WORDS) == pytest.approx(in_use, rel=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "standard_lstm_lm_200"},
        {"model": "awd_lstm_lm_600"},
        {"cell": "gru", "tie_weights": False, "embed_size": 30, "num_layers": 3},
        {"cell": "custom_lstm", "hidden_size": 20, "embed_size": 12},
        {"cell": "char_loop_concat", "num_layers": 1, "hidden_size": 7},
        {"cell": "rnn_relu", "tie_weights": False, "embedding": "one_hot"},
        {"objective": "next_token", "cell": "char_loop", "tie_weights": False},
    ],
)
def test_parameters_are_counted_as_the_networks_are(settings: dict[str, Any]) -> None:
    config = configure(settings)
    assert count_parameters(config, 50) == models.count_parameters(models.build_network(config, 50))


def test_parameters_of_a_labeller_are_all_but_its_decoders() -> None:
    config = configure({"objective": "tagging", "bidirectional": True, "hidden_size": 8})
    network = models.build_network(config, 50, classes=5)
    decoder = 5 * (2 * 8 + 1)
    assert count_parameters(config, 50) == models.count_parameters(network) - decoder


def test_what_adds_to_a_run_adds_to_the_estimate() -> None:
    def needs(**settings: Any) -> float:
        return gpu_memory_mb(configure({"hidden_size": 650, "device": "gpu:0", **settings}), WORDS)

    plain, parameters = needs(), 4 * count_parameters(configure({"hidden_size": 650}), WORDS) / 2**20
    assert needs(momentum=0.9) - plain == pytest.approx(parameters)
    assert needs(optimizer="adam") - plain == pytest.approx(2 * parameters)
    assert needs(averaging="ntasgd", epochs=20) - plain == pytest.approx(2 * parameters)
    assert needs(device="gpu:0+gpu:1") == pytest.approx(needs(batch_size=10))
    # Logits are in blocks of 2^25 at most, of which 700 tokens fill two thirds.
    assert needs(batch_size=40) - needs(batch_size=30) < needs(batch_size=20) - needs(batch_size=10)
    # Targets of next_token are a row, and sequences have any length.
    untied = needs(tie_weights=False)
    assert needs(objective="next_token") < untied
    assert needs(objective="tagging") < untied


@pytest.mark.parametrize(
    ("settings", "memory", "found"),
    [
        ({"hidden_size": 200}, 8192, ""),
        ({"hidden_size": 1500, "batch_size": 400}, 8192, "batch_size=200 would take about"),
        ({"hidden_size": 1500, "batch_size": 1, "bptt": 40000}, 8192, "bptt=5000 would take about"),
        ({"hidden_size": 6000, "batch_size": 1, "bptt": 8}, 8192, "hidden_size=3000 would take about"),
        (
            {"hidden_size": 16000, "batch_size": 1, "bptt": 8, "num_layers": 1},
            8192,
            "hidden_size=4000 would take about",
        ),
        ({"model": "standard_lstm_lm_1500"}, 2000, ""),  # a preset fixes its size
        ({"hidden_size": 1500, "batch_size": 804, "device": "gpu:0+gpu:1"}, 6000, "batch_size=200"),
    ],
)
def test_the_first_smaller_setting_that_fits_is_named(settings: dict[str, Any], memory: float, found: str) -> None:
    config = configure({"device": "gpu:0", **settings})
    said = what_would_fit(config, WORDS, memory)
    assert said.startswith(found)
    assert bool(said) == bool(found)
    # A worker reads its configuration with every setting stated.
    assert what_would_fit(configure(config.model_dump()), WORDS, memory) == said
    if said:
        name, _, rest = said.partition("=")
        value = int(rest.split()[0])
        assert gpu_memory_mb(configure({**settings, name: value}), WORDS) <= memory
        assert value % len(config.devices) == 0


def test_a_run_without_memory_is_told_what_to_do() -> None:
    large, small = (configure({"hidden_size": size, "batch_size": 400, "device": "gpu:0"}) for size in (1500, 20))
    told = advice(large, WORDS, 8192.0)
    assert re.fullmatch(
        r"it takes about 10,\d{3} of the GPU's 8,192 MiB; batch_size=200 would take about 6,\d{3} MiB", told
    )
    assert "and nvidia-smi shows who has the rest; else lower batch_size" in advice(small, WORDS, 80000.0)
    assert advice(large, WORDS, 500.0).endswith(
        "; lower batch_size, bptt, hidden_size or num_layers, or take a larger GPU"
    )
    assert advice(large, None, 8192.0) == "lower batch_size, bptt, hidden_size or num_layers, or take a larger GPU"
    on_cpu = configure({"device": "cpu"})
    assert advice(on_cpu, WORDS, None).endswith("or run fewer points side by side (--jobs)")
