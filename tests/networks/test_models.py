"""The model is GluonNLP's: same logits from the same parameters, same files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import HybridBlock

from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, LABELLED, MODELS, PRESETS, RunConfig, configure
from gluon_rnn.data.batches import Shard, columns
from gluon_rnn.networks.models import (
    BUILDERS,
    RNNLabeller,
    RNNLanguageModel,
    SequenceModel,
    build_model,
    build_network,
    count_parameters,
)
from gluon_rnn.networks.regularization import AWDDropouts, Dropout
from gluon_rnn.training.scoring import evaluate
from gluon_rnn.training.step import backpropagate
from tests import device as on

pytestmark = pytest.mark.numerical

VOCABULARY = 37


def model_of(cell: str = "lstm", *, tie: bool = True, dropout: float = 0.3, layers: int = 2) -> RNNLanguageModel:
    return RNNLanguageModel(
        cell, VOCABULARY, embed_size=10, hidden_size=10, num_layers=layers, dropout=dropout, tie_weights=tie
    )


def words(steps: int, seed: int = 0) -> mx.nd.NDArray:
    return on.array(np.random.RandomState(seed).randint(0, VOCABULARY, (steps, 3)), dtype="int32")


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("cell", FUSED_CELLS)
def test_logits_and_states_equal_gluonnlps_model(cell: str, tie: bool, tmp_path: Path) -> None:
    theirs = gluonnlp.model.train.StandardRNN(cell, VOCABULARY, 10, 10, 2, 0.3, tie)
    theirs.initialize(mx.init.Uniform(0.4), ctx=on.DEVICE)
    state = theirs.begin_state(batch_size=3, func=mx.nd.zeros, ctx=on.DEVICE)
    theirs(words(2), state)
    theirs.save_parameters(str(tmp_path / "theirs"))
    ours = model_of(cell, tie=tie)
    ours.load_parameters(str(tmp_path / "theirs"), ctx=on.DEVICE)
    ours.hybridize(static_alloc=True, static_shape=True)
    our_state = ours.begin_state(3, on.DEVICE)
    for steps in (5, 5, 8, 5):
        expected, state, _, _ = theirs(words(steps, steps), state)
        logits, our_state = ours(words(steps, steps), our_state)
        on.assert_close(logits.asnumpy(), expected.asnumpy(), atol=1e-6)
        ours_as_theirs = [mx.nd.concat(*kind, dim=0) for kind in zip(*our_state, strict=True)]
        for mine, other in zip(ours_as_theirs, state, strict=True):
            on.assert_close(mine.asnumpy(), other.asnumpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_presets_exchange_parameter_files_with_gluonnlps_model_of_that_name(name: str, tmp_path: Path) -> None:
    counter = gluonnlp.data.Counter([f"w{n}" for n in range(VOCABULARY - 2)])
    vocab = gluonnlp.Vocab(counter, padding_token=None, bos_token=None)
    ours = build_model(RunConfig(model=name), len(vocab), on.DEVICE)
    ours.save_parameters(str(tmp_path / "ours"))
    theirs, _ = gluonnlp.model.get_model(name, dataset_name=None, vocab=vocab)
    theirs.load_parameters(str(tmp_path / "ours"), ctx=on.DEVICE)
    x = on.array(np.arange(8).reshape(4, 2), dtype="int32")
    expected, _ = theirs(x, theirs.begin_state(batch_size=2, func=mx.nd.zeros, ctx=on.DEVICE))
    on.assert_close(ours(x, ours.begin_state(2, on.DEVICE))[0].asnumpy(), expected.asnumpy(), atol=1e-5)
    theirs.save_parameters(str(tmp_path / "theirs"))
    again = build_model(RunConfig(model=name, seed=7), len(vocab), on.DEVICE)
    again.load_parameters(str(tmp_path / "theirs"), ctx=on.DEVICE)
    for parameter, other in zip(again.collect_params().values(), ours.collect_params().values(), strict=True):
        np.testing.assert_array_equal(parameter.data().asnumpy(), other.data().asnumpy())


def awd_pair(cell: str, *, tie: bool, dropout: float = 0.0) -> tuple[RNNLanguageModel, Any]:
    """Ours, and GluonNLP's model for training."""
    awd = AWDDropouts(input=dropout, hidden=dropout, embedding=dropout, weight=dropout)
    sizes = {"embed_size": 10, "hidden_size": 14, "num_layers": 3, "dropout": dropout, "tie_weights": tie}
    ours = RNNLanguageModel(cell, VOCABULARY, awd=awd, **sizes)
    theirs = gluonnlp.model.train.AWDRNN(cell, VOCABULARY, 10, 14, 3, tie, dropout, dropout, dropout, dropout, dropout)
    theirs.initialize(mx.init.Uniform(0.4), ctx=on.DEVICE)
    theirs(words(2), theirs.begin_state(batch_size=3, func=mx.nd.zeros, ctx=on.DEVICE))
    for parameter in theirs.collect_params(".*bias").values():
        parameter.set_data(mx.nd.random.uniform(-0.4, 0.4, parameter.shape))
    return ours, theirs


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("cell", FUSED_CELLS)
def test_logits_states_and_gradients_equal_gluonnlps_awd_model(cell: str, tie: bool, tmp_path: Path) -> None:
    ours, theirs = awd_pair(cell, tie=tie)
    theirs.save_parameters(str(tmp_path / "theirs"))
    ours.load_parameters(str(tmp_path / "theirs"), ctx=on.DEVICE)
    ours.encoder.pack()
    ours.hybridize()
    state, our_state = theirs.begin_state(batch_size=3, func=mx.nd.zeros, ctx=on.DEVICE), ours.begin_state(3, on.DEVICE)
    for steps in (5, 5, 8):
        inputs, targets = words(steps, steps), words(steps, steps + 1)
        logits, _ = ours(inputs, our_state)
        with autograd.record():
            expected, state, _, _ = theirs(inputs, [[part.detach() for part in layer] for layer in state])
            nats = mx.gluon.loss.SoftmaxCrossEntropyLoss()(expected.reshape((-3, -1)), targets.reshape((-1,)))
            loss = nats.mean()
        loss.backward()
        on.assert_close(logits.asnumpy(), expected.asnumpy(), atol=1e-6)
        _, our_state = backpropagate(ours, Shard(inputs, targets), our_state, targets=inputs.size)
        for layer, other in zip(our_state, state, strict=True):
            for mine, part in zip(layer, other, strict=True):
                on.assert_close(mine.asnumpy(), part.asnumpy(), atol=1e-6)
        gradients = ours._collect_params_with_prefix()
        assert gradients.keys() == theirs._collect_params_with_prefix().keys()
        for name, parameter in theirs._collect_params_with_prefix().items():
            assert np.abs(parameter.grad().asnumpy()).max() > 1e-5, name
            on.assert_close(gradients[name].grad().asnumpy(), parameter.grad().asnumpy(), atol=1e-6)


def zoo_pair(name: str, cell: str, tie: bool) -> tuple[RNNLanguageModel, Any]:
    if name == "awd":
        return awd_pair(cell, tie=tie, dropout=0.2)
    theirs = gluonnlp.model.train.StandardRNN(cell, VOCABULARY, 10, 10, 3, 0.2, tie)
    theirs.initialize(mx.init.Uniform(0.4), ctx=on.DEVICE)
    theirs(words(2), theirs.begin_state(batch_size=3, func=mx.nd.zeros, ctx=on.DEVICE))
    return model_of(cell, tie=tie, layers=3), theirs


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("cell", FUSED_CELLS)
@pytest.mark.parametrize("name", ["standard", "awd"])
def test_parameter_files_go_by_either_of_gluonnlps_names(name: str, cell: str, tie: bool, tmp_path: Path) -> None:
    """Those of ``save_parameters``, and those that GluonNLP's script gives the averages of NT-ASGD."""
    ours, theirs = zoo_pair(name, cell, tie)
    expected = {key: p.data().asnumpy() for key, p in theirs._collect_params_with_prefix().items()}
    theirs.save_parameters(str(tmp_path / "theirs"))
    averages = {key.split(theirs._prefix)[1]: p.data() for key, p in theirs.collect_params().items()}
    mx.nd.save(str(tmp_path / "averages"), averages)
    ours.load_parameters(str(tmp_path / "theirs"), ctx=on.DEVICE)
    ours.save_parameters(str(tmp_path / "ours"))
    ours.collect_params().save(str(tmp_path / "our averages"), ours.prefix)
    assert mx.nd.load(str(tmp_path / "our averages")).keys() == averages.keys()
    for file in ("theirs", "averages", "ours", "our averages"):
        for model in (ours, theirs):
            for parameter in model.collect_params().values():
                parameter.set_data(mx.nd.zeros(parameter.shape))
            model.load_parameters(str(tmp_path / file), ctx=on.DEVICE)
            found = model._collect_params_with_prefix()
            assert found.keys() == expected.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key].data().asnumpy(), array, err_msg=f"{file}: {key}")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("standard_lstm_lm_200", 7_332_078),
        ("standard_lstm_lm_650", 28_434_378),
        ("standard_lstm_lm_1500", 85_974_278),
        ("awd_lstm_lm_600", 12_140_078),
        ("awd_lstm_lm_1150", 33_556_078),
    ],
)
def test_presets_have_as_many_parameters_as_gluonnlps_on_wikitext_2(name: str, parameters: int) -> None:
    assert count_parameters(build_network(RunConfig(model=name), 33_278)) == parameters


def test_the_last_layer_of_a_tied_model_is_as_wide_as_its_embedding() -> None:
    for tie, last in ((True, 6), (False, 9)):
        config = RunConfig(embed_size=6, hidden_size=9, tie_weights=tie)
        model = build_model(config, VOCABULARY, on.DEVICE)
        assert [layer[0].shape[2] for layer in model.begin_state(1, on.DEVICE)] == [9, last]
        assert model.decoder[0].weight.shape == (VOCABULARY, last)
        assert (model.decoder[0].weight is model.embedding[0].weight) == tie


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_built_for_each_of_its_objectives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for objective in MODELS[name]:
        config = RunConfig(model=name, objective=objective)
        assert config.model == name
        classes = 3 if objective in LABELLED else None
        found = build_network(config, VOCABULARY, classes=classes)
        assert type(found) is (RNNLabeller if classes else RNNLanguageModel)
        assert found.decoder[0].weight.shape[0] == (classes or VOCABULARY)
        with monkeypatch.context() as patch:
            patch.setitem(BUILDERS, name, lambda config, vocab_size, classes: (config.model, vocab_size, classes))
            assert build_network(config, VOCABULARY, classes=classes) == (name, VOCABULARY, classes)


def test_the_dropout_between_layers_is_really_there() -> None:
    """GluonNLP's own model loses it on the CPU; here it must show with every other dropout out of the way."""
    model = model_of(dropout=0.5)
    model.initialize(mx.init.Uniform(0.5), ctx=on.DEVICE)
    x = model.embedding[0](words(6))
    states = model.begin_state(3, on.DEVICE)
    model.encoder.hybridize(static_alloc=True, static_shape=True)
    plain = model.encoder(x, states)[0].asnumpy()
    with autograd.train_mode():
        first, second = (model.encoder(x, states)[0].asnumpy() for _ in range(2))
    assert np.abs(first - plain).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3
    one_layer = model_of(dropout=0.5, layers=1)
    one_layer.initialize(mx.init.Uniform(0.5), ctx=on.DEVICE)
    with autograd.train_mode():
        a, b = (one_layer.encoder(x, one_layer.begin_state(3, on.DEVICE))[0].asnumpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_the_dropouts_of_embeddings_and_of_what_is_read_are_really_there() -> None:
    """A language model's has one mask for all steps of a window, a tagger's one for each."""
    sizes = {"embed_size": 10, "hidden_size": 10, "num_layers": 1, "dropout": 0.5, "bidirectional": False}
    tagger = RNNLabeller("lstm", VOCABULARY, 3, each_token=True, **sizes)
    for model, shares_its_mask in ((model_of(dropout=0.5), True), (tagger, False)):
        model.initialize(mx.init.Uniform(0.5), ctx=on.DEVICE)
        mx.random.seed(1)
        with autograd.train_mode():
            dropped = [model.embedding(words(8)), model.backbone(words(8), model.begin_state(3, on.DEVICE))[0]]
        embedded, read = (array.asnumpy() == 0 for array in dropped)
        assert 0.3 < embedded.mean() < 0.7
        assert 0.2 < read.mean() < 0.8
        assert (read == read[:1]).all() == shares_its_mask
        plain = [model.embedding(words(8)), model.backbone(words(8), model.begin_state(3, on.DEVICE))[0]]
        assert all((array.asnumpy() != 0).all() for array in plain)


def test_dropout_keeps_the_expected_share_and_scale_and_shares_its_mask_along_axes() -> None:
    mx.random.seed(1)
    ones = on.ones((50, 40, 30))
    with autograd.train_mode():
        free = Dropout(0.3)(ones).asnumpy()
        shared = Dropout(0.3, axes=(0,))(ones).asnumpy()
    for dropped in (free, shared):
        zero, *kept = np.unique(dropped)
        assert (zero, kept) == (0, pytest.approx([1 / 0.7]))
        assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.03)
    assert (shared == shared[:1]).all()
    assert not (free == free[:1]).all()
    assert (Dropout(0.3)(ones).asnumpy() == 1).all()


def test_dropout_obeys_the_seed() -> None:
    draws = []
    for seed in (5, 5, 6):
        mx.random.seed(seed)
        with autograd.train_mode():
            draws.append(Dropout(0.5)(on.ones((100,))).asnumpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_initial_parameters_follow_the_seed_and_the_recipe() -> None:
    first, again, other = (build_model(RunConfig(seed=seed), VOCABULARY, on.DEVICE) for seed in (1, 1, 2))
    arrays = [
        {name: p.data().asnumpy() for name, p in model._collect_params_with_prefix().items()}
        for model in (first, again, other)
    ]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)
        if not name.endswith("bias"):
            assert (array != arrays[2][name]).any(), name
    assert 0.09 < np.abs(arrays[0]["embedding.0.weight"]).max() <= 0.1  # Uniform(0.1)
    bound = math.sqrt(3 / ((800 + 200) / 2))  # Xavier: uniform, magnitude 3, average of fan-in and fan-out
    assert 0.98 * bound < np.abs(arrays[0]["encoder._unfused.0.i2h_weight"]).max() <= bound
    assert all((array == 0).all() for name, array in arrays[0].items() if name.endswith("bias"))


def largest(weights: np.ndarray[Any, Any]) -> float:
    return float(np.abs(weights).max())


@pytest.mark.parametrize(
    ("initializer", "measure", "expected"),
    [
        ("xavier", largest, math.sqrt(3 / ((4 * 40 + 40) / 2))),  # as above
        ("uniform", largest, 0.1),
        ("normal", np.std, 0.05),
        ("orthogonal", lambda weights: np.linalg.norm(weights, axis=0).max(), 1.414),
    ],
)
def test_every_initializer_is_what_it_is_called_and_follows_the_seed(
    initializer: Any, measure: Callable[..., float], expected: float
) -> None:
    first, again, other = (
        build_model(RunConfig(hidden_size=40, initializer=initializer, seed=seed), VOCABULARY, on.DEVICE)
        .encoder._collect_params_with_prefix()["_unfused.1.h2h_weight"]
        .data()
        .asnumpy()
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert measure(first) == pytest.approx(expected, rel=0.05)
    if initializer == "orthogonal":
        on.assert_close(first.T @ first, 1.414**2 * np.eye(40), atol=1e-5)


@pytest.mark.parametrize(("initializer", "deviation"), [("uniform", 0.1 / math.sqrt(3)), ("normal", 1.0)])
def test_an_embedding_is_initialised_as_asked(initializer: Any, deviation: float) -> None:
    model = build_model(RunConfig(hidden_size=40, embedding_initializer=initializer), VOCABULARY, on.DEVICE)
    assert model.embedding[0].weight.data().asnumpy().std() == pytest.approx(deviation, rel=0.1)


def test_parameters_are_counted_once() -> None:
    layer = 4 * 10 * (10 + 10 + 2)
    assert count_parameters(model_of(tie=True)) == VOCABULARY * 10 + VOCABULARY + 2 * layer
    assert count_parameters(model_of(tie=False)) == 2 * VOCABULARY * 10 + VOCABULARY + 2 * layer


def test_zero_logits_have_the_vocabulary_as_perplexity() -> None:
    model = model_of(tie=False)
    model.initialize(mx.init.Zero(), ctx=on.DEVICE)
    windows = columns(np.arange(VOCABULARY), bptt=5, batch_size=4, contexts=[on.DEVICE])
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.zeros(parameter.shape))
    assert evaluate(model, windows).loss.perplexity == pytest.approx(VOCABULARY, rel=1e-5)  # float32's logarithm


FUSED = [("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)]


def shard_of(context: mx.Context) -> Shard:
    draws = np.random.RandomState(5)
    return Shard(*(mx.nd.array(draws.randint(0, VOCABULARY, (6, 3)), ctx=context, dtype="int32") for _ in range(2)))


def stepped(model: SequenceModel, *contexts: mx.Context) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The gradients of each device."""
    for context in contexts:
        backpropagate(model, shard_of(context), model.begin_state(3, context), targets=18)
    return {name: [g.asnumpy() for g in p.list_grad()] for name, p in model._collect_params_with_prefix().items()}


@pytest.mark.parametrize(("cell", "gates"), FUSED)
def test_parameters_of_fused_layers_are_views_of_one_vector_on_each_device(cell: str, gates: int) -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    config = RunConfig(cell=cell, hidden_size=8)  # type: ignore[arg-type]
    model = build_model(config, VOCABULARY, *contexts)
    stepped(model, *contexts)
    for context in contexts:
        vectors = model.encoder.packed(context)
        assert vectors is not None
        for number, vector in enumerate(vectors):
            assert vector.context == context
            parameters = [
                model._collect_params_with_prefix()[f"encoder._unfused.{number}.{name}"]
                for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
            ]
            for view, whole in (("data", vector), ("grad", vector.grad)):
                flat = [getattr(parameter, view)(context).reshape(-1).asnumpy() for parameter in parameters]
                np.testing.assert_array_equal(np.concatenate(flat), whole.asnumpy())
                whole[:] = 7
                assert all((getattr(p, view)(context) == 7).asnumpy().all() for p in parameters)
            parameters[1].set_data(mx.nd.full(parameters[1].shape, 3))
            assert (vector == 3).sum().asscalar() == gates * 8 * 8


@pytest.mark.parametrize("cell", [cell for cell, _ in FUSED])
def test_a_step_reads_the_vectors_and_leaves_the_gradients_of_one_that_reads_the_parameters(cell: str) -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    config = RunConfig(cell=cell, hidden_size=8, dropout=0)  # type: ignore[arg-type]
    packed, plain = (build_model(config, VOCABULARY, *contexts) for _ in range(2))
    # Other arrays than the vectors' parts.
    plain.encoder.collect_params(".*weight").setattr("grad_req", "add")
    plain.encoder.collect_params(".*weight").setattr("grad_req", "write")
    assert plain.encoder.packed(contexts[1]) is None
    expected = stepped(plain, *contexts)
    for name, gradients in stepped(packed, *contexts).items():
        assert np.abs(gradients[0]).max() > 1e-5, name
        for mine, theirs in zip(gradients, expected[name], strict=True):
            on.assert_close(mine, theirs, atol=1e-7, err_msg=name)
    for model, reads in ((packed, False), (plain, True)):
        (graph,) = model.backbone._graphs.values()
        assert any("h2h_weight" in name for name in graph["_cached_graph"][1].list_inputs()) == reads


def test_a_frozen_layer_stays_as_it_is_and_the_others_train() -> None:
    model = build_model(RunConfig(hidden_size=8, dropout=0), VOCABULARY, on.DEVICE)
    frozen = model.encoder.collect_params(".*h2h_weight")
    frozen.setattr("grad_req", "null")
    before = {name: p.data().asnumpy() for name, p in model.collect_params().items()}
    trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
    backpropagate(model, shard_of(on.DEVICE), model.begin_state(3, on.DEVICE), targets=18)
    trainer.update(1)
    for name, parameter in model.collect_params().items():
        assert (parameter.data().asnumpy() == before[name]).all() == (name in frozen), name


def test_a_packed_model_is_saved_and_loaded_as_any_other(tmp_path: Path) -> None:
    contexts = [mx.cpu(0), mx.cpu(1)]
    saved, loaded = (build_model(RunConfig(hidden_size=8, seed=s), VOCABULARY, *contexts) for s in (1, 2))
    saved.save_parameters(str(tmp_path / "saved"))
    loaded.load_parameters(str(tmp_path / "saved"), ctx=contexts)
    for context in contexts:
        assert loaded.encoder.packed(context) is not None
        outputs = [m.read(shard_of(context), m.begin_state(3, context))[0].asnumpy() for m in (saved, loaded)]
        np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("lstm", 3), ("gru", 2), ("rnn_tanh", 2), ("rnn_relu", 2)])
def test_layers_in_one_call_are_layers_in_a_call_each(cell: str, layers: int) -> None:
    """In losses, states and gradients of two windows, of which the second goes on from the first."""
    config = RunConfig(cell=cell, hidden_size=8, embed_size=6, num_layers=layers, dropout=0, tie_weights=False)  # type: ignore[arg-type]
    apart, together = (build_model(config, VOCABULARY, on.DEVICE) for _ in range(2))
    together.encoder.pack(together=True)
    assert [len(model.encoder.packed(on.DEVICE) or ()) for model in (apart, together)] == [layers, 1]
    found = []
    for model in (apart, together):
        state = model.begin_state(3, on.DEVICE)
        trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
        arrays = {}
        for window in range(2):
            loss, state = backpropagate(model, shard_of(on.DEVICE), state, targets=18)
            arrays[f"loss {window}"] = loss.asnumpy()
            arrays |= {
                f"gradient {window} of {name}": p.grad().asnumpy()
                for name, p in model._collect_params_with_prefix().items()
            }
            trainer.update(1)
        arrays |= {f"state {n}.{m}": array.asnumpy() for n, layer in enumerate(state) for m, array in enumerate(layer)}
        found.append(arrays)
    for name, expected in found[0].items():
        assert np.abs(expected).max() > 1e-5, name
        on.assert_close(found[1][name], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(), err_msg=name)
    (graph,) = together.backbone._graphs.values()
    assert [node["op"] for node in json.loads(graph["_cached_graph"][1].tojson())["nodes"]].count("RNN") == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.2},
        {"dropout": 0, "dropout_hidden": 0.1},
        {"dropout": 0, "weight_drop": 0.1},
        {"dropout": 0, "embed_size": 6},
        {"dropout": 0, "num_layers": 1},
        {"dropout": 0, "cell": "custom_lstm"},
        {
            "dropout": 0,
            "model": "rnn_classifier",
            "objective": "classification",
            "tie_weights": False,
            "bidirectional": True,
        },
    ],
    ids=["dropout", "its own", "weight drop", "another size", "one layer", "from scratch", "both directions"],
)
def test_layers_are_in_one_call_only_where_they_can_be(settings: dict[str, Any]) -> None:
    model = build_model(configure({"hidden_size": 8, **settings}), VOCABULARY, on.DEVICE, classes=3)
    model.encoder.pack(together=True)
    assert model.encoder._packed is None


def test_a_model_in_one_call_is_saved_and_loaded_as_any_other(tmp_path: Path) -> None:
    saved, loaded = (
        build_model(RunConfig(hidden_size=8, dropout=0, seed=seed), VOCABULARY, on.DEVICE) for seed in (1, 2)
    )
    loaded.encoder.pack(together=True)
    saved.save_parameters(str(tmp_path / "saved"))
    loaded.load_parameters(str(tmp_path / "saved"), ctx=on.DEVICE)
    loaded.save_parameters(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "saved").read_bytes()
    assert len(loaded.encoder.packed(on.DEVICE) or ()) == 1
    outputs = [
        model.read(shard_of(on.DEVICE), model.begin_state(3, on.DEVICE))[0].asnumpy() for model in (saved, loaded)
    ]
    on.assert_close(*outputs, rtol=1e-6, atol=1e-7)
    # With lengths, each layer is a call of its own, with the same parameters.
    shard = shard_of(on.DEVICE)
    whole = Shard(shard.inputs, shard.targets, lengths=on.full((3,), len(shard.inputs)))
    on.assert_close(loaded.read(whole, loaded.begin_state(3, on.DEVICE))[0].asnumpy(), outputs[0], atol=1e-6)


OWN = ["tests.cells_for_tests:OwnCell", "mxnet.gluon.rnn:LSTMCell"]


@pytest.mark.parametrize("cell", [*CUSTOM_CELLS, *OWN])
def test_an_unrolled_window_is_one_in_a_loop(cell: str) -> None:
    """In losses, states and gradients; and a window of another length, or with lengths, is computed in a loop."""
    config = configure({"cell": cell, "hidden_size": 8, "dropout": 0, "tie_weights": False, "embed_size": 6})
    looping, unrolled = (build_model(config, VOCABULARY, on.DEVICE) for _ in range(2))
    unrolled.backbone.unroll(6, 9)
    draws = np.random.RandomState(5).randint(0, VOCABULARY, (2, 6, 3))
    found: list[dict[str, np.ndarray[Any, Any]]] = []
    for model in (looping, unrolled):
        state, arrays = model.begin_state(3, on.DEVICE), {}
        for window, steps in enumerate((6, 4, 6)):
            shard = Shard(*(on.array(part[:steps], dtype="int32") for part in draws))
            loss, state = backpropagate(model, shard, state, targets=3 * steps)
            arrays[f"loss {window}"] = loss.asnumpy()
            for name, parameter in model._collect_params_with_prefix().items():
                arrays[f"gradient {window} of {name}"] = parameter.grad().asnumpy()
        arrays |= {f"state {n}.{m}": array.asnumpy() for n, layer in enumerate(state) for m, array in enumerate(layer)}
        for steps in (6, 4):
            model.read(Shard(shard.inputs[:steps], shard.targets[:steps], lengths=on.array([steps, 2, 0])), state)
        found.append(arrays)
    for name, expected in found[0].items():
        assert np.abs(expected).max() > 1e-6, name
        on.assert_close(found[1][name], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(), err_msg=name)
    assert [loops(graph) for graph in looping.backbone._graphs.values()] == [2, 2]
    assert [loops(graph) for graph in unrolled.backbone._graphs.values()] == [0, 2, 2]


def loops(graph: dict[str, Any]) -> int:
    return [node["op"] for node in json.loads(graph["_cached_graph"][1].tojson())["nodes"]].count("_foreach")


def test_an_unrolled_graph_never_changes_its_shapes() -> None:
    model = build_model(RunConfig(cell="custom_lstm", hidden_size=4), VOCABULARY, on.DEVICE)
    model.backbone.unroll(6)
    for steps, batch in ((6, 4), (6, 3), (6, 4), (5, 4), (5, 3)):
        ids = mx.nd.ones((steps, batch), ctx=on.DEVICE, dtype="int32")
        model.read(Shard(ids, ids), model.begin_state(batch, on.DEVICE))
    # One for each shape of the unrolled, and one that loops.
    assert len(model.backbone._graphs) == 3


def test_only_unrolled_graphs_may_be_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `gluon_rnn.machine.environment.FUSION_VARIABLE`: what MXNet reads as it makes a graph."""
    seen: list[str | None] = []
    original = HybridBlock._call_cached_op

    def call(block: Any, *args: Any) -> Any:
        seen.append(os.environ.get("MXNET_USE_FUSION"))
        return original(block, *args)

    monkeypatch.setattr(HybridBlock, "_call_cached_op", call)
    monkeypatch.setenv("MXNET_USE_FUSION", "1")
    model = build_model(RunConfig(cell="custom_gru", hidden_size=4), VOCABULARY, on.DEVICE)
    model.backbone.unroll(6)
    shard = shard_of(on.DEVICE)  # of six steps
    lengths = on.array([6, 2, 3])
    for each in (shard, Shard(shard.inputs[:5], shard.targets[:5]), Shard(*shard[:2], lengths=lengths), shard):
        model.read(each, model.begin_state(3, on.DEVICE))
    assert seen == ["1", "0", "0", "1"]
    model.backbone.fuses = True
    model.read(Shard(*shard[:2], lengths=lengths), model.begin_state(3, on.DEVICE))
    assert (seen[-1], os.environ["MXNET_USE_FUSION"]) == ("1", "1")
