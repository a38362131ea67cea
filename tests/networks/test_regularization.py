"""Each dropout of AWD-LSTM alone: what its mask is like, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon.rnn import HybridRecurrentCell, RNNCell

from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, RunConfig
from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.layers import build_layer
from gluon_rnn.networks.models import RNNLanguageModel, SequenceModel, build_model, build_network
from gluon_rnn.networks.regularization import AWDDropouts
from gluon_rnn.training.step import backpropagate
from tests import device as on
from tests.networks.test_layers import PAIRS, randomised

pytestmark = pytest.mark.numerical

VOCABULARY = 400
CELLS = (*FUSED_CELLS, *CUSTOM_CELLS, "tests.networks.test_layers:SlowRNN", "mxnet.gluon.rnn:LSTMCell")


class StatelessCell(HybridRecurrentCell):
    """Has no weights for its state."""

    def __init__(self, hidden_size: int, input_size: int) -> None:
        super().__init__()
        self.inner = RNNCell(hidden_size, input_size=input_size)

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        return self.inner.state_info(batch_size)


def model_of(cell: str = "lstm", *, hidden_size: int = 40, layers: int = 2, **rates: float) -> RNNLanguageModel:
    """With no dropout but those of `rates`."""
    awd = AWDDropouts(**{"input": 0.0, "hidden": 0.0, **rates})
    sizes = {"embed_size": 30, "hidden_size": hidden_size, "num_layers": layers}
    model = RNNLanguageModel(cell, VOCABULARY, dropout=0.0, tie_weights=True, awd=awd, **sizes)
    randomised(model, seed=3)
    model.decoder[0].bias.set_data(mx.nd.zeros(VOCABULARY))
    model.hybridize()
    return model


def words(steps: int = 50, columns: int = 8) -> mx.nd.NDArray:
    # Each comes up once a column, at another step: all columns see the same words.
    draws = np.random.RandomState(0).permutation(VOCABULARY)[:steps]
    return on.array(np.stack([np.roll(draws, n) for n in range(columns)], axis=1), dtype="int32")


def zeros_of(gradient: mx.nd.NDArray) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = gradient.asnumpy() == 0
    return found


def test_words_are_dropped_as_a_whole_and_wherever_they_stand_in_a_window() -> None:
    model, inputs = model_of(embedding=0.3), words()
    vectors = model.embedding[0].weight.data().asnumpy()[inputs.asnumpy()]
    mx.random.seed(1)
    masks = []
    for _ in range(2):
        with autograd.train_mode():
            dropped = model.embedding(inputs).asnumpy()
        gone = (dropped == 0).all(axis=2)
        on.assert_close(dropped[~gone], vectors[~gone] / 0.7, rtol=1e-6)
        of_word = {word: {*gone[inputs.asnumpy() == word]} for word in inputs.asnumpy()[:, 0]}
        assert all(len(decisions) == 1 for decisions in of_word.values())
        masks.append(gone[:, 0])
        assert gone[:, 0].mean() == pytest.approx(0.3, abs=0.2)  # 50 words: three deviations
    assert (masks[0] != masks[1]).any()
    np.testing.assert_array_equal(model.embedding(inputs).asnumpy(), vectors)
    with autograd.train_mode():
        every = model.embedding(on.arange(VOCABULARY).reshape((-1, 1))).asnumpy()
    assert (every == 0).all(axis=2).mean() == pytest.approx(0.3, abs=0.07)  # 400 words: three deviations


def test_a_tied_decoder_keeps_the_rows_that_the_embedding_drops() -> None:
    """GluonNLP's own hybridized model loses them."""
    model, inputs = model_of(embedding=0.5), words()
    state = model.begin_state(inputs.shape[1], on.DEVICE)
    mx.random.seed(1)
    with autograd.train_mode():
        logits = model(inputs, state)[0].asnumpy()
    mx.random.seed(1)
    with autograd.train_mode():
        units = model.read(Shard(inputs, inputs), state)[0].asnumpy()
    on.assert_close(logits, units @ model.decoder[0].weight.data().asnumpy().T, atol=1e-5)
    assert (np.abs(logits).max(axis=(0, 1)) > 1e-3).all()
    # Its gradient reaches every row, that of the embedding only the words that were kept.
    backpropagate(model, Shard(inputs, inputs), state, targets=inputs.size)
    assert not zeros_of(model.decoder[0].weight.grad()).any()


def test_input_and_hidden_dropout_have_one_mask_for_all_steps() -> None:
    inputs = words()
    model = model_of(input=0.4)
    mx.random.seed(1)
    with autograd.train_mode():
        embedded = model.embedding(inputs).asnumpy()
    vectors = model.embedding[0].weight.data().asnumpy()[inputs.asnumpy()]
    gone = embedded == 0
    assert (gone == gone[:1]).all()
    assert gone[0].mean() == pytest.approx(0.4, abs=0.1)  # 240 units: three deviations
    on.assert_close(embedded[~gone], vectors[~gone] / 0.6, rtol=1e-6)

    # Layers that pass on what they are given.
    model = model_of("rnn_relu", hidden_size=30, hidden=0.4)
    for name, parameter in model.encoder._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.eye(30) if name.endswith("i2h_weight") else mx.nd.zeros(parameter.shape))
    with autograd.train_mode():
        outputs = model.encoder(on.ones((9, 8, 30)), model.begin_state(8, on.DEVICE))[0].asnumpy()
    gone = outputs == 0
    assert (gone == gone[:1]).all()
    assert gone[0].mean() == pytest.approx(0.4, abs=0.1)
    assert np.unique(outputs[~gone]) == pytest.approx(1 / 0.6)


def test_without_rates_of_their_own_they_have_that_of_the_rest_and_a_mask_for_each_step() -> None:
    model = build_model(RunConfig(hidden_size=30, dropout=0.4), VOCABULARY, on.DEVICE)
    with autograd.train_mode():
        gone = model.embedding(words()).asnumpy() == 0
    assert gone.mean() == pytest.approx(0.4, abs=0.02)
    assert not (gone == gone[:1]).all()
    none = build_model(RunConfig(hidden_size=30, dropout=0.4, dropout_input=0), VOCABULARY, on.DEVICE)
    with autograd.train_mode():
        assert (none.embedding(words()).asnumpy() != 0).all()


def layer_gradients(layer: Any, *, train: bool = True) -> dict[str, np.ndarray[Any, Any]]:
    """Where the gradients by each parameter are zero, after a window of 6 steps."""
    mx.random.seed(7)
    inputs = on.normal(shape=(6, 5, 10))
    states = [on.normal(shape=(1, 5, 12)) for _ in range(layer.state_count)]
    weights = on.normal(shape=(6, 5, 12))
    with autograd.record(train_mode=train):
        outputs, _ = layer(inputs, states)
        loss = (outputs * weights).sum()
    loss.backward()
    return {name.rpartition(".")[2]: zeros_of(p.grad()) for name, p in layer._collect_params_with_prefix().items()}


@pytest.mark.parametrize("hybridize", [True, False], ids=["hybridized", "plain"])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_are_dropped_one_by_one_for_a_whole_window(cell: str, hybridize: bool) -> None:
    """A weight that was zero at every step has no gradient; one that was used at any has some."""
    layer = randomised(build_layer(cell, hidden_size=12, input_size=10, weight_drop=0.4), seed=2)
    layer.hybridize(hybridize)
    untouched = {name: zeros.mean() for name, zeros in layer_gradients(layer, train=False).items()}
    dropped = layer_gradients(layer)
    rate = dropped["h2h_weight"].mean() - untouched["h2h_weight"]
    assert rate == pytest.approx(0.4, abs=3 * (0.24 / dropped["h2h_weight"].size) ** 0.5)
    # Neither rows nor columns.
    assert not dropped["h2h_weight"].all(axis=0).any()
    assert not dropped["h2h_weight"].all(axis=1).any()
    for name in ("i2h_weight", "i2h_bias", "h2h_bias"):
        assert dropped[name].mean() == pytest.approx(untouched[name], abs=0.1), name


def test_what_is_left_of_the_weights_is_scaled_and_another_mask_is_drawn_each_time() -> None:
    """A relu network whose inputs are zero shows its weights: of each unit's alone, one step later."""
    layer = build_layer("rnn_relu", hidden_size=40, input_size=3, weight_drop=0.4)
    layer.initialize(mx.init.One(), ctx=on.DEVICE)
    layer.h2h_weight.set_data(mx.nd.random.uniform(0.5, 1.5, (40, 40)))
    masks = []
    for train in (True, True, False):
        with autograd.record(train_mode=train):
            shown, _ = layer(on.zeros((1, 40, 3)), [on.eye(40).expand_dims(0)])
        weights, kept = layer.h2h_weight.data().asnumpy(), shown[0].asnumpy().T
        masks.append(kept == 0)
        scale = 0.6 if train else 1
        on.assert_close(kept[~masks[-1]], weights[~masks[-1]] / scale, rtol=1e-6)
    assert (masks[0] != masks[1]).any()
    assert not masks[2].any()


@pytest.mark.parametrize(("fused", "scratch"), PAIRS)
def test_the_same_seed_gives_fused_cells_and_those_from_scratch_the_same_masks(fused: str, scratch: str) -> None:
    found = []
    for cell in (fused, scratch):
        rates = {"input": 0.3, "embedding": 0.2, "weight": 0.4}
        model = model_of(cell, layers=1, hidden_size=30, **rates)
        inputs = words(6)
        mx.random.seed(11)
        loss, _ = backpropagate(
            model, Shard(inputs, inputs), model.begin_state(inputs.shape[1], on.DEVICE), targets=inputs.size
        )
        found.append([loss.asnumpy(), *(p.grad().asnumpy() for p in model.collect_params().values())])
    for mine, other in zip(*found, strict=True):
        on.assert_close(mine, other, atol=1e-6)
    assert (found[0][2] == 0).mean() < 0.5  # not a comparison of nothing


def window_gradients(model: SequenceModel, context: mx.Context) -> np.ndarray[Any, Any]:
    inputs = words().as_in_context(context)
    backpropagate(model, Shard(inputs, inputs), model.begin_state(8, context), targets=inputs.size)
    return model._collect_params_with_prefix()["encoder.0._unfused.0.h2h_weight"].grad(context).asnumpy()


@pytest.mark.several_contexts
def test_every_device_draws_its_own_masks_and_the_seed_draws_them_again() -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    config = RunConfig(hidden_size=8, dropout=0, weight_drop=0.5)
    model = build_model(config, VOCABULARY, *contexts)
    assert model.encoder.packed(on.DEVICE) is None  # the vector would not have the mask
    draws = []
    for _ in range(2):
        mx.random.seed(5)
        draws.append([window_gradients(model, context) for context in contexts])
    masks = [gradient == 0 for gradient in draws[0]]
    assert all(0.3 < mask.mean() < 0.7 for mask in masks)
    assert (masks[0] != masks[1]).any()
    np.testing.assert_array_equal(draws[0], draws[1])


@pytest.mark.parametrize("hybridize", [True, False], ids=["hybridized", "plain"])
def test_penalties_are_gluonnlps_of_the_last_layer_and_a_window_of_one_step_has_no_change(hybridize: bool) -> None:
    model = build_model(RunConfig(hidden_size=8, dropout=0.5, alpha=2, beta=3), VOCABULARY, on.DEVICE)
    model.hybridize(hybridize)
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
    inputs = words(6)
    mx.random.seed(4)
    with autograd.train_mode():
        dropped, penalty, _ = model.read(Shard(inputs, inputs), model.begin_state(8, on.DEVICE))
    mx.random.seed(4)
    with autograd.train_mode():
        raw, _ = model.encoder(model.embedding(inputs), model.begin_state(8, on.DEVICE))
    assert np.abs((raw - dropped).asnumpy()).max() > 0.1
    expected = gluonnlp.loss.ActivationRegularizationLoss(2)(dropped) + (
        gluonnlp.loss.TemporalActivationRegularizationLoss(3)(raw)
    )
    assert penalty is not None
    assert penalty.asscalar() == pytest.approx(expected.asscalar(), rel=1e-5)
    shard = Shard(inputs[:1], inputs[:1])
    units, penalty, _ = model.read(shard, model.begin_state(8, on.DEVICE))
    assert penalty is not None
    assert penalty.asscalar() == pytest.approx(2 * (units**2).mean().asscalar(), rel=1e-5)


def test_a_cell_without_recurrent_weights_has_none_to_drop() -> None:
    cell = f"{__name__}:StatelessCell"
    build_network(RunConfig(cell=cell), VOCABULARY)
    with pytest.raises(ValueError, match=f"^weight_drop=0.1 needs a cell with an h2h_weight, which {cell} does not"):
        build_network(RunConfig(cell=cell, weight_drop=0.1), VOCABULARY)
