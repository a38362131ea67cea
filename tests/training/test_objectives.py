"""Each objective: every target once, nothing of the padding, the same order again, and losses that are autograd's."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.batches import Batch, columns, sequence_batches, token_windows
from gluon_rnn.data.corpora.encoded import Corpus, Sequences
from gluon_rnn.networks.models import RNNLabeller, build_model, count_parameters, trained_parameters
from gluon_rnn.runs.progress import Progress
from gluon_rnn.training.loop import fit, seed_epoch
from gluon_rnn.training.objectives import HELD_OUT, build_objective
from gluon_rnn.training.scoring import SoftmaxScorer, confusion, evaluate, predict, unigram_loss
from gluon_rnn.training.step import backpropagate
from tests import device as on

pytestmark = pytest.mark.numerical

WORDS = [f"w{number}" for number in range(12)]
LABELS = ["bad", "fair", "good"]


def vocabulary(words: list[str]) -> gluonnlp.Vocab:
    counter = gluonnlp.data.Counter({word: 100 - place for place, word in enumerate(words)})
    return gluonnlp.Vocab(counter, unknown_token=None, padding_token=None, bos_token=None, eos_token=None)


def text_corpus(length: int = 203, *, split: bool = True) -> Corpus:
    ids = np.random.RandomState(1).randint(0, len(WORDS), length).astype(np.int32)
    parts = (ids, ids[:50], ids[50:111]) if split else (ids, None, None)
    return Corpus(vocabulary(WORDS), *parts)


def sequences(count: int, *, tags: bool, seed: int = 0) -> Sequences:
    """The label is the first word's remainder by three, and so is each tag."""
    random = np.random.RandomState(seed)
    lengths = random.randint(1, 9, count).astype(np.int32)
    tokens = random.randint(0, len(WORDS), lengths.sum()).astype(np.int32)
    starts = np.cumsum(lengths) - lengths
    return Sequences(tokens, lengths, tokens % 3 if tags else tokens[starts] % 3)


def labelled_corpus(*, tags: bool) -> Corpus:
    splits = [sequences(count, tags=tags, seed=seed) for seed, count in enumerate((90, 20, 30))]
    return Corpus(vocabulary(WORDS), *splits, labels=vocabulary(LABELS))


def config(objective: str, **settings: Any) -> RunConfig:
    basic: dict[str, Any] = {
        "objective": objective,
        "hidden_size": 8,
        "num_layers": 1,
        "bptt": 4,
        "batch_size": 6,
        "dropout": 0,
        "optimizer": "adam",
        "learning_rate": 0.02,
        "clip": None,
        "lr_decay": 1,
        "epochs": 2,
        "eval_batch_size": 7,
        "warmup_steps": 0,
    }
    return RunConfig(**basic | settings)


def array(batch: Batch, name: str) -> np.ndarray[Any, Any]:
    parts = [getattr(shard, name) for shard in batch.shards]
    found: np.ndarray[Any, Any] = np.concatenate([part.asnumpy() for part in parts], axis=-1)
    return found


@pytest.mark.parametrize("devices", [1, 2])
def test_a_kept_tail_is_masked_and_every_token_but_the_first_is_trained_once(devices: int) -> None:
    contexts = [mx.cpu(number) for number in range(devices)]
    ids = np.arange(1000, 1000 + 59)
    windows = columns(ids, bptt=5, batch_size=4, contexts=contexts)
    assert len(windows) == 3
    assert [window.targets for window in windows] == [20, 20, 18]  # 58 targets in four columns of 15
    assert [window.shards[0].weights is None for window in windows] == [True, True, False]
    trained: Counter[int] = Counter()
    for window in windows:
        counted = array(window, "weights") if window.shards[0].weights is not None else np.ones((5, 4))
        trained.update(array(window, "targets")[counted == 1].tolist())
    assert trained == Counter(range(1001, 1059))


def test_keeping_the_tail_has_the_windows_of_the_notebook() -> None:
    """23,207 of 30 steps x 3 columns on WikiText-2's 2,088,628 training tokens, of which every one but the first."""
    windows = columns(np.zeros(2_088_628 // 100), bptt=30, batch_size=3, contexts=[on.DEVICE])
    assert len(windows) == math.ceil((2_088_628 // 100 - 1) / 3 / 30)
    assert math.ceil((2_088_628 - 1) / 3 / 30) == 23_207
    corpus = text_corpus()
    objective = build_objective(config("language_model", last_batch="keep", batch_size=3), corpus, [on.DEVICE])
    assert objective.train_tokens == len(corpus.train) - 1
    discarding = build_objective(config("language_model", batch_size=3), corpus, [on.DEVICE])
    assert discarding.train_tokens == len(discarding.training()) * 12 < len(corpus.train) - 1


def test_evaluation_has_windows_and_columns_of_its_own() -> None:
    objective = build_objective(config("language_model", eval_bptt=5, eval_batch_size=2), text_corpus(), [on.DEVICE])
    assert {batch.shards[0].inputs.shape for batch in objective.training()} == {(4, 6)}
    for batches in (objective.valid, objective.test):
        assert {batch.shards[0].inputs.shape for batch in batches} == {(5, 2)}


def test_windows_hold_what_stands_before_their_target() -> None:
    ids = np.arange(100, 120)
    batches = token_windows(ids, np.array([3, 0, 7, 11, 5]), steps=3, batch_size=2, contexts=[on.DEVICE])
    assert [batch.targets for batch in batches] == [2, 2, 1]
    assert [batch.tokens for batch in batches] == [6, 6, 3]
    assert array(batches[0], "inputs").T.tolist() == [[103, 104, 105], [100, 101, 102]]
    assert array(batches[0], "targets").tolist() == [[106, 103]]
    assert array(batches[2], "inputs").T.tolist() == [[105, 106, 107]]


@pytest.mark.parametrize("stride", [1, 3])
def test_random_windows_are_held_out_and_never_trained_on(stride: int) -> None:
    corpus = text_corpus(split=False)
    objective = build_objective(config("next_token", stride=stride), corpus, [on.DEVICE])
    starts = set(range(0, len(corpus.train) - 4, stride))
    assert objective.test == []

    def found(batches: Any) -> Counter[tuple[int, ...]]:
        pairs = [np.concatenate([array(b, "inputs"), array(b, "targets")]).T.tolist() for b in batches]
        return Counter(tuple(row) for rows in pairs for row in rows)

    every = Counter(tuple(corpus.train[start : start + 5].tolist()) for start in starts)
    trained, held_out = found(objective.training()), found(objective.valid)
    assert trained + held_out == every
    assert sum(held_out.values()) == round(HELD_OUT * len(starts))
    assert objective.train_sequences == sum(trained.values())
    # Another run's seed holds out the same.
    again = build_objective(config("next_token", stride=stride, seed=5), corpus, [on.DEVICE])
    assert found(again.valid) == held_out


def test_windows_of_splits_stay_within_them() -> None:
    corpus = text_corpus()
    objective = build_objective(config("next_token"), corpus, [on.DEVICE])
    assert sum(batch.targets for batch in objective.valid) == 50 - 4
    assert sum(batch.targets for batch in objective.test) == 61 - 4
    assert objective.train_sequences == 203 - 4


@pytest.mark.parametrize("tags", [False, True], ids=["labels", "tags"])
@pytest.mark.parametrize("devices", [1, 4])
def test_every_sequence_is_in_an_epoch_once_whole_and_beside_its_likes(tags: bool, devices: int) -> None:
    contexts = [mx.cpu(number) for number in range(devices)]
    corpus = labelled_corpus(tags=tags)
    split = corpus.train
    assert isinstance(split, Sequences)
    settings = config("tagging" if tags else "classification", batch_size=8)
    objective = build_objective(settings, corpus, contexts)
    seed_epoch(0, 1)
    batches = objective.training()
    ends = np.cumsum(split.lengths)
    expected: Counter[Any] = Counter()
    for number, end in enumerate(ends):
        words = tuple(split.tokens[end - split.lengths[number] : end].tolist())
        labels = tuple(split.labels[end - split.lengths[number] : end].tolist()) if tags else (split.labels[number],)
        expected[words, labels] += 1
    found: Counter[Any] = Counter()
    for batch in batches:
        assert len({shard.inputs.shape for shard in batch.shards}) == 1
        lengths, inputs, targets = (array(batch, name) for name in ("lengths", "inputs", "targets"))
        weights = np.ones(targets.shape) if batch.shards[0].weights is None else array(batch, "weights")
        real = weights[0] > 0
        assert batch.tokens == lengths[real].sum()
        assert batch.targets == weights.sum()
        assert inputs.shape[0] == lengths.max()
        for column in np.flatnonzero(real):
            length = int(lengths[column])
            rows = length if tags else 1
            assert weights[:, column].sum() == rows
            found[tuple(inputs[:length, column].tolist()), tuple(targets[:rows, column].tolist())] += 1
    assert found == expected
    spread = [array(batch, "lengths").max() - array(batch, "lengths").min() for batch in batches]
    assert np.mean(spread) < 2, "batches are of similar length"
    assert objective.train_tokens == split.lengths.sum()


def test_an_epochs_order_is_its_seeds_and_no_other_epochs() -> None:
    objective = build_objective(config("classification"), labelled_corpus(tags=False), [on.DEVICE])

    def order(epoch: int, seed: int = 3) -> list[Any]:
        seed_epoch(seed, epoch)
        return [array(batch, "inputs").tolist() for batch in objective.training()]

    assert order(2) == order(2) != order(1)
    assert order(2) != order(2, seed=4)


def masked_loss(logits: mx.nd.NDArray, shard: Any) -> mx.nd.NDArray:
    losses = gluon.loss.SoftmaxCrossEntropyLoss()(logits.reshape((-3, 0)), shard.targets.reshape((-1,)))
    return losses if shard.weights is None else losses * shard.weights.reshape((-1,))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "custom_lstm"])
@pytest.mark.parametrize("objective", ["language_model", "next_token", "classification", "tagging"])
def test_a_step_is_autograds_over_the_targets_that_count(objective: str, cell: str) -> None:
    settings = config(
        objective,
        cell=cell,
        tie_weights=False,
        bidirectional=objective in ("classification", "tagging"),
        last_batch="keep" if objective == "language_model" else "discard",
    )
    corpus = (
        text_corpus() if objective in ("language_model", "next_token") else labelled_corpus(tags=objective == "tagging")
    )
    laid_out = build_objective(settings, corpus, [on.DEVICE])
    batch = laid_out.training()[-1]
    (shard,) = batch.shards
    classes = len(laid_out.classes)
    ours, plain = (build_model(settings, len(WORDS), on.DEVICE, classes=classes) for _ in range(2))
    for parameters in zip(*(model.collect_params().values() for model in (ours, plain)), strict=True):
        values = on.uniform(-0.5, 0.5, parameters[0].shape)
        for parameter in parameters:
            parameter.set_data(values)
    state = ours.begin_state(shard.inputs.shape[1], on.DEVICE)
    for block in (1, 3, 1000):
        loss, _ = backpropagate(ours, shard, state, targets=batch.targets, logits_in_a_block=block * classes)
        with autograd.record():
            logits, _ = plain(shard.inputs, state, *([] if shard.lengths is None else [shard.lengths]))
            expected = masked_loss(logits, shard).sum() / batch.targets
        expected.backward()
        assert loss.asscalar() == pytest.approx(expected.asscalar(), rel=1e-5)
        for mine, theirs in zip(ours.collect_params().values(), plain.collect_params().values(), strict=True):
            on.assert_close(mine.grad().asnumpy(), theirs.grad().asnumpy(), atol=2e-6, err_msg=mine.name)
            assert np.abs(theirs.grad().asnumpy()).max() > 1e-5, theirs.name


@pytest.mark.parametrize("tags", [False, True], ids=["labels", "tags"])
def test_what_lies_in_the_padding_decides_nothing(tags: bool) -> None:
    settings = config("tagging" if tags else "classification", bidirectional=True)
    model = build_model(settings, len(WORDS), on.DEVICE, classes=3)
    (batch,) = sequence_batches(sequences(9, tags=tags), [range(9)], contexts=[on.DEVICE])
    (shard,) = batch.shards
    assert shard.lengths is not None
    lengths = shard.lengths.asnumpy()
    assert np.ptp(lengths) > 0
    assert batch.tokens == lengths.sum()
    assert batch.targets == (lengths.sum() if tags else len(lengths))
    found = []
    for garbage in (0, 11):
        inputs = shard.inputs.asnumpy()
        inputs[np.arange(len(inputs))[:, None] >= lengths] = garbage
        given = shard._replace(inputs=on.array(inputs, dtype="int32"))
        state = model.begin_state(inputs.shape[1], on.DEVICE)
        loss, _ = backpropagate(model, given, state, targets=batch.targets)
        score = evaluate(model, [Batch([given], batch.tokens, batch.targets)], carries_state=False)
        found.append([loss.asnumpy(), *(p.grad().asnumpy() for p in model.collect_params().values())])
        found[-1].append(np.array(score.loss.nats))
    for clean, dirty in zip(*found, strict=True):
        np.testing.assert_array_equal(clean, dirty)


@pytest.mark.slow
@pytest.mark.several_contexts
@pytest.mark.parametrize("objective", ["next_token", "classification", "tagging"])
def test_several_devices_have_the_losses_of_one(objective: str) -> None:
    corpus = text_corpus() if objective == "next_token" else labelled_corpus(tags=objective == "tagging")
    losses = []
    for devices in (1, 3):
        progress = Progress()
        settings = config(objective, bidirectional=objective != "next_token")
        fit(settings, corpus, contexts=[mx.cpu(number) for number in range(devices)], progress=progress)
        losses.append([loss for epoch in progress.history for loss in (epoch.train_loss, epoch.valid_loss)])
        assert progress.history[0].valid_loss != progress.history[1].valid_loss
    assert losses[1] == pytest.approx(losses[0], abs=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_labels_are_learned_and_what_is_said_of_them_is_true(objective: str) -> None:
    corpus = labelled_corpus(tags=objective == "tagging")
    settings = config(objective, bidirectional=True, epochs=7, learning_rate=0.1)
    progress = Progress()
    fit(settings, corpus, contexts=[on.DEVICE], progress=progress)
    best = progress.best
    assert best is not None
    assert best.valid_accuracy is not None
    assert best.test_accuracy is not None
    assert best.valid_accuracy > 0.95
    assert isinstance(corpus.test, Sequences)
    counted = len(corpus.test.labels)
    assert progress.test_tokens_scored == counted
    assert progress.confusion is not None
    assert progress.confusion.labels == tuple(LABELS)
    counts = np.array(progress.confusion.counts)
    assert counts.sum() == counted
    assert counts.sum(axis=1).tolist() == np.bincount(corpus.test.labels, minlength=3).tolist()
    assert np.trace(counts) / counted == pytest.approx(best.test_accuracy)
    # The first sequences of test, in their order.
    first = progress.predictions[0]
    length = corpus.test.lengths[0]
    assert first.text == " ".join(WORDS[token] for token in corpus.test.tokens[:length])
    rows = length if objective == "tagging" else 1
    assert first.truth == " ".join(LABELS[label] for label in corpus.test.labels[:rows])
    said = [pair for p in progress.predictions for pair in zip(p.truth.split(), p.predicted.split(), strict=True)]
    assert np.mean([truth == predicted for truth, predicted in said]) > 0.8
    assert progress.vocab_size == len(WORDS)


def test_accuracy_and_loss_are_of_targets_not_of_batches() -> None:
    """A model that says what its bias says: every figure can be counted by hand."""
    corpus = labelled_corpus(tags=True)
    assert isinstance(corpus.valid, Sequences)
    settings = config("tagging", eval_batch_size=3)
    objective = build_objective(settings, corpus, [on.DEVICE])
    model = build_model(settings, len(WORDS), on.DEVICE, classes=3)
    model.decoder[0].weight.set_data(mx.nd.zeros(model.decoder[0].weight.shape))
    model.decoder[0].bias.set_data(mx.nd.array(np.log([0.2, 0.5, 0.3])))
    score = evaluate(model, objective.valid, carries_state=False, scorer=SoftmaxScorer(model, predicts=True))
    counts = np.bincount(corpus.valid.labels, minlength=3)
    assert score.loss.tokens == counts.sum()
    assert score.loss.nats == pytest.approx(-(counts @ np.log([0.2, 0.5, 0.3])), rel=1e-5)
    assert score.accuracy == pytest.approx(counts[1] / counts.sum())
    table = confusion(score, LABELS)
    assert table is not None
    assert np.array(table.counts).tolist() == [[0, count, 0] for count in counts]
    assert confusion(score, [str(number) for number in range(101)]) is None


def test_a_text_is_spelled_a_token_at_a_time_as_in_one_go() -> None:
    """System C: hihell -> ihello."""
    letters = vocabulary(["l", "h", "e", "i", "o"])
    ids = np.array(letters[list("hihello")], dtype=np.int32)
    corpus = Corpus(letters, ids, ids, ids)
    said = {}
    for eval_bptt in (1, 6):
        settings = config(
            "language_model",
            level="character",
            cell="rnn_tanh",
            hidden_size=5,
            embedding="one_hot",
            tie_weights=False,
            bptt=6,
            eval_bptt=eval_bptt,
            batch_size=1,
            eval_batch_size=1,
            learning_rate=0.1,
            epochs=40,
        )
        progress = Progress()
        fit(settings, corpus, contexts=[on.DEVICE], progress=progress)
        (said[eval_bptt],) = progress.predictions
        assert progress.history[0].valid_loss > 1.2
        assert progress.history[-1].valid_loss < 0.6
    assert said[1] == said[6]
    assert (said[1].text, said[1].truth, said[1].predicted) == ("hihell", "ihello", "ihello")


def test_a_frozen_embedding_stays_and_is_not_counted() -> None:
    vectors = np.random.RandomState(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    for trained in (True, False):
        settings = config("classification", embedding="vectors.txt", embed_size=8, train_embedding=trained)
        model = build_model(settings, len(WORDS), on.DEVICE, classes=3, vectors=vectors)
        np.testing.assert_array_equal(model.embedding[0].weight.data().asnumpy(), vectors)
        others = count_parameters(model) - (vectors.size if trained else 0)
        assert others == 4 * 8 * (8 + 8 + 2) + 16 * 3 + 3
        assert len(trained_parameters(model)) == len(model.collect_params().values()) - (0 if trained else 1)


def test_training_leaves_frozen_vectors_and_moves_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from gluon_rnn.training import loop as training

    vectors = np.random.RandomState(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    built: list[Any] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        built.append(build_model(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(training, "build_model", spy)
    for trained in (True, False):
        settings = config("classification", embedding="vectors.txt", embed_size=8, train_embedding=trained, clip=0.5)
        fit(settings, labelled_corpus(tags=False), contexts=[on.DEVICE], progress=Progress(), vectors=vectors)
        moved = np.abs(built[-1].embedding[0].weight.data().asnumpy() - vectors).max()
        assert (moved > 1e-3) == trained
        assert (moved == 0) != trained


def test_a_classifier_reads_the_last_states_of_both_directions() -> None:
    settings = config("classification", bidirectional=True, num_layers=2)
    model = build_model(settings, len(WORDS), on.DEVICE, classes=3)
    assert isinstance(model, RNNLabeller)
    assert model.decoder[0].weight.shape == (3, 4 * 8)  # h and c, forward and backward
    assert build_model(config("classification", cell="gru"), len(WORDS), on.DEVICE, classes=3).decoder[
        0
    ].weight.shape == (
        3,
        8,
    )
    inputs = on.array(np.random.RandomState(0).randint(0, 12, (5, 2)), dtype="int32")
    outputs, _, states = model.backbone(inputs, model.begin_state(2, on.DEVICE), on.array([5, 3]))
    assert outputs.shape == (1, 2, 32)
    (_, _, (h_forward, c_forward), (h_backward, c_backward)) = states  # 2 layers x 2 directions
    expected = mx.nd.concat(h_forward, h_backward, c_forward, c_backward, dim=2)  # each (1, batch, units)
    np.testing.assert_array_equal(outputs.asnumpy(), expected.asnumpy())


def test_examples_go_on_from_window_to_window() -> None:
    corpus = text_corpus()
    settings = config("language_model", tie_weights=False, eval_bptt=5)
    objective = build_objective(settings, corpus, [on.DEVICE])
    model = build_model(settings, len(WORDS), on.DEVICE)
    (found,) = predict(model, objective, joined_by=" ")
    assert isinstance(corpus.test, np.ndarray)
    text = [WORDS[item] for item in corpus.test[:36]]
    assert (found.text.split(), found.truth.split()) == (text[:-1], text[1:])
    logits, _ = model(on.array(corpus.test[:35].reshape(-1, 1), dtype="int32"), model.begin_state(1, on.DEVICE))
    assert found.predicted.split() == [WORDS[int(item)] for item in logits.argmax(axis=2).asnumpy().ravel()]


# The unigram model


def counted(training: Any, scored: Any, classes: int) -> float:
    """Nats a target, a target at a time."""
    counts = Counter(np.asarray(training).tolist())
    nats = [-math.log((counts[item] + 1) / (len(training) + classes)) for item in np.asarray(scored).tolist()]
    return sum(nats) / len(nats)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("last_batch", ["discard", "keep"])
def test_a_texts_unigram_model_counts_the_targets_that_are_trained_and_scored(last_batch: str, devices: int) -> None:
    corpus, contexts = text_corpus(), [mx.cpu(number) for number in range(devices)]
    objective = build_objective(config("language_model", last_batch=last_batch), corpus, contexts)
    # 203 tokens are 8 windows of 4 x 6 and a tail that is discarded; validation's first token is never a target.
    tokens = corpus.train
    assert isinstance(tokens, np.ndarray)
    columns_of_text = tokens[: 203 // 6 * 6].reshape(6, -1)  # as CorpusBPTTBatchify lays them out
    trained = tokens[1:] if last_batch == "keep" else columns_of_text[:, 1:33].ravel()
    expected = counted(trained, corpus.valid[1:], len(objective.classes))  # type: ignore[index]
    assert unigram_loss(objective.training(), objective.valid, len(objective.classes)) == pytest.approx(expected)


def test_the_unigram_model_of_windows_counts_what_follows_them() -> None:
    corpus = text_corpus(split=False)
    objective = build_objective(config("next_token", stride=2), corpus, [on.DEVICE])
    trained, scored = (
        np.concatenate([array(batch, "targets").ravel() for batch in batches])
        for batches in (objective.training(), objective.valid)
    )
    assert len(trained) + len(scored) == len(range(4, 203, 2))
    expected = counted(trained, scored, len(objective.classes))
    assert unigram_loss(objective.training(), objective.valid, len(objective.classes)) == pytest.approx(expected)


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("devices", [1, 2])
def test_the_unigram_model_of_labels_is_their_frequencies(tags: bool, devices: int) -> None:
    """Neither padding nor what fills the devices is counted."""
    corpus, contexts = labelled_corpus(tags=tags), [mx.cpu(number) for number in range(devices)]
    objective = build_objective(config("tagging" if tags else "classification"), corpus, contexts)
    assert isinstance(corpus.train, Sequences)
    assert isinstance(corpus.valid, Sequences)
    expected = counted(corpus.train.labels, corpus.valid.labels, len(objective.classes))
    assert unigram_loss(objective.training(), objective.valid, len(objective.classes)) == pytest.approx(expected)


def test_a_class_that_training_never_had_costs_a_finite_number() -> None:
    window = columns([0, 1, 1, 1], bptt=3, batch_size=1, contexts=[on.DEVICE])
    other = columns([0, 2, 1], bptt=2, batch_size=1, contexts=[on.DEVICE])
    # Of three targets all are 1, and there are five classes: 4 / 8 for a 1, 1 / 8 for a 2.
    assert unigram_loss(window, other, 5) == pytest.approx((math.log(2) + math.log(8)) / 2)


@pytest.mark.parametrize("objective", ["language_model", "classification"])
def test_a_run_measures_it_and_trains_to_the_same_bits(objective: str) -> None:
    corpus = labelled_corpus(tags=False) if objective == "classification" else text_corpus()
    settings = config(objective)
    progress, known = Progress(), Progress(unigram_loss=1.25)
    for each in (progress, known):
        fit(settings, corpus, contexts=[on.DEVICE], progress=each)
    laid = build_objective(settings, corpus, [on.DEVICE])
    assert progress.unigram_loss == unigram_loss(laid.training(), laid.valid, len(laid.classes))
    # What is known is not measured again, and measuring it draws nothing that training draws.
    assert known.unigram_loss == 1.25
    losses = [[(epoch.train_loss, epoch.valid_loss) for epoch in each.history] for each in (progress, known)]
    assert losses[0] == losses[1]


def test_a_run_that_scores_nothing_has_no_unigram_model() -> None:
    progress = Progress()
    fit(config("language_model", max_steps=2), text_corpus(), contexts=[on.DEVICE], progress=progress)
    assert progress.unigram_loss is None
