"""The average against NumPy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.config.run import RunConfig
from gluon_rnn.networks.models import SequenceModel, build_model, trained_parameters
from gluon_rnn.training.averaging import Average
from tests import device as on

pytestmark = [pytest.mark.numerical, pytest.mark.several_contexts]

CONTEXTS = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture
def model() -> SequenceModel:
    return build_model(RunConfig(hidden_size=4, num_layers=1), 11, *CONTEXTS)


def values(model: SequenceModel, device: int = 0) -> list[np.ndarray[Any, Any]]:
    return [parameter.list_data()[device].asnumpy() for parameter in trained_parameters(model)]


def move(model: SequenceModel) -> None:
    for parameter in trained_parameters(model):
        parameter.set_data(mx.nd.random.uniform(-1, 1, parameter.shape))


def assert_equal(found: list[np.ndarray[Any, Any]], expected: list[np.ndarray[Any, Any]], atol: float = 0) -> None:
    assert len(found) == len(expected) == 6  # a tied embedding, four of a layer and the decoder's bias
    for mine, theirs in zip(found, expected, strict=True):
        on.assert_close(mine, theirs, rtol=0, atol=atol)


def test_it_is_the_mean_of_all_updates_while_it_is_applied_and_no_longer(model: SequenceModel) -> None:
    average, seen = Average(), []
    for _ in range(5):
        move(model)
        average.update(model)
        seen.append(values(model))
    move(model)
    own = values(model)
    vectors = [model.encoder.packed(context)[0] for context in CONTEXTS]  # type: ignore[index]
    before = [vector.asnumpy() for vector in vectors]
    with average.applied(model):
        for device in range(2):
            assert_equal(values(model, device), [np.mean(each, axis=0) for each in zip(*seen, strict=True)], atol=1e-6)
            # The vector that a fused layer reads goes with its parameters.
            weight = model.encoder.collect_params(".*h2h_weight").values()
            whole = vectors[device].asnumpy()
            assert (whole != before[device]).all()
            for parameter in weight:
                assert np.isin(parameter.data(CONTEXTS[device]).asnumpy(), whole).all()
    for device in range(2):
        assert_equal(values(model, device), own)


def test_the_models_own_parameters_come_back_after_an_error(model: SequenceModel) -> None:
    average = Average()
    average.update(model)
    move(model)
    own = values(model)
    with pytest.raises(ValueError, match="scoring failed"), average.applied(model):
        raise ValueError("scoring failed")
    assert_equal(values(model), own)


def test_it_goes_on_from_its_arrays_to_the_same_bits(model: SequenceModel, tmp_path: Path) -> None:
    whole, stopped, resumed = Average(), Average(), Average()
    for _ in range(2):
        move(model)
        whole.update(model)
        stopped.update(model)
    mx.nd.save(str(tmp_path / "average"), stopped.arrays)
    resumed.restore(mx.nd.load(str(tmp_path / "average")), model)
    move(model)
    whole.update(model)
    resumed.update(model)
    assert (stopped.updates, resumed.updates) == (2, 3)
    found = []
    for average in (resumed, whole):
        with average.applied(model):
            found.append(values(model))
    assert_equal(*found)
