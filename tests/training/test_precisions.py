"""Products in less than float32, and in a GPU's way, against those in float64; and the loss scale of float16."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.data.batches import training_windows
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.machine.blas import mkl_library
from gluon_rnn.networks.models import build_model
from gluon_rnn.runs.progress import Progress
from gluon_rnn.training.loop import fit, train_epoch
from gluon_rnn.training.precisions import Float16, LossScale, precision_on
from gluon_rnn.training.step import backpropagate, clip_and_update, update_in_one
from tests.conftest import small_config

pytestmark = [pytest.mark.numerical, pytest.mark.cpu_only]

CPU = mx.cpu()
#: The largest relative error of rounding to the 8 significant bits of bfloat16.
ROUNDING = 2.0**-8
#: Likewise of float32, in which the products are added up: n terms are off by at most n of these, in whatever order.
FLOAT32_ROUNDING = 2.0**-24

#: Every way in which a decoder multiplies here, those of a GPU on the CPU.
WAYS = {
    "float32": precision_on("cpu"),
    "bfloat16": precision_on("cpu", "bfloat16"),
    "gpu": precision_on("gpu"),
    "tf32": precision_on("gpu", "tf32"),
}


class OnCpu(Float16):
    """Float16's products on a CPU, which has none: the same factors in float32, rounded afterwards."""

    def product(self, a: mx.nd.NDArray, b: mx.nd.NDArray, **transposed: bool) -> mx.nd.NDArray:
        assert (a.dtype, b.dtype) == (np.float16, np.float16)
        return mx.nd.dot(a.astype("float32"), b.astype("float32"), **transposed).astype("float16")


if mkl_library() is None:
    pytest.skip("no MKL is installed here", allow_module_level=True)


@pytest.mark.parametrize(("transpose_a", "transpose_b"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize(("name", "beta"), list(product(WAYS, [-0.5, 0.0])))
def test_products(name: str, beta: float, transpose_a: bool, transpose_b: bool) -> None:
    """Each of the three matrices is the smallest once."""
    random, precision = np.random.RandomState(0), WAYS[name]
    for rows, inner, width in ((5, 70, 9), (40, 3, 20), (20, 3, 40)):
        a, b, out = (random.normal(size=shape) for shape in ((rows, inner), (inner, width), (rows, width)))
        found = mx.nd.array(out)
        factors = [mx.nd.array(a.T if transpose_a else a), mx.nd.array(b.T if transpose_b else b)]
        cast = [precision.cast(factor) for factor in factors]
        precision.multiply(*cast, found, transpose_a=transpose_a, transpose_b=transpose_b, alpha=1.5, beta=beta)
        bound = 1.5 * (np.abs(a) @ np.abs(b)) * (2 * ROUNDING if name == "bfloat16" else 1e-6) + 1e-6
        error = np.abs(found.asnumpy() - (1.5 * (a @ b) + beta * out))
        assert (error < bound).all()
        if name == "bfloat16":
            assert error.max() > 1e-4, "the products are meant to be rounded"
        for factor, original in zip(factors, (a, b), strict=True):
            assert (np.sort(factor.asnumpy().ravel()) == np.sort(original.astype(np.float32).ravel())).all()


@pytest.mark.slow
def test_a_product_waits_for_what_is_queued_on_its_arrays() -> None:
    """The engine is still writing a and b, or reading and writing out, when the product is asked for."""
    low = WAYS["bfloat16"]
    big = mx.nd.ones((1500, 1500))
    for _ in range(3):
        a, out = big, mx.nd.zeros((1500, 1500))
        out.wait_to_read()
        for _ in range(4):
            a = mx.nd.dot(a, big) / 1500
        low.multiply(low.cast(a), low.cast(a), out)
        assert (float(out.min().asscalar()), float(out.max().asscalar())) == (1500.0, 1500.0)
        a = mx.nd.dot(big, big) / 1500
        out = mx.nd.dot(a, a) / 1500
        kept = out * 1
        low.multiply(low.cast(a), low.cast(a), out, alpha=1 / 1500, beta=1.0)
        after = out + 1
        assert (float(kept.min().asscalar()), float(kept.max().asscalar())) == (1.0, 1.0)
        # Sums of 1500 ones are exact in any order; those of 1500 times 1/1500, to which out is added, are rounded each
        # time. Read too early or too late, an array would be off by 1 or more.
        assert np.abs(after.asnumpy() - 3).max() <= 3 * 1502 * FLOAT32_ROUNDING


def test_gradients_are_float32s_within_rounding(small_corpus: CorpusFiles) -> None:
    corpus = load_corpus(small_corpus)
    model = build_model(small_config(dropout=0, hidden_size=12), len(corpus.vocab), CPU)
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
    window = training_windows(corpus.train, bptt=5, batch_size=4, contexts=[CPU])[0]
    found = {}
    for name, precision in WAYS.items():
        loss, _ = backpropagate(
            model,
            window.shards[0],
            model.begin_state(4, CPU),
            targets=window.targets,
            precision=precision,
            logits_in_a_block=3 * len(corpus.vocab),
        )
        found[name] = [loss.asnumpy(), *(p.grad().asnumpy() for p in model.collect_params().values())]
    for exact, rounded, *equal in zip(*(found[name] for name in WAYS), strict=True):
        norm = np.linalg.norm(exact)
        assert 0 < np.linalg.norm(rounded - exact) / norm < 2 * ROUNDING
        for of_gpu in equal:
            assert np.linalg.norm(of_gpu - exact) / norm < 1e-6


def test_a_run_in_bfloat16_learns_as_one_in_float32(small_corpus: CorpusFiles) -> None:
    losses: dict[str, list[float]] = {}
    for name in ("float32", "bfloat16", "bfloat16"):
        progress = Progress()
        config = small_config(precision=name, learning_rate=5.0, clip=1.0)
        fit(config, load_corpus(small_corpus), contexts=[CPU], progress=progress)
        found = [loss for epoch in progress.history for loss in (epoch.train_loss, epoch.valid_loss)]
        assert losses.setdefault(name, found) == found, "the same seed gives the same bits"
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["float32"][2] < losses["float32"][0]


@pytest.mark.several_contexts
def test_two_devices_in_bfloat16_train_as_one(small_corpus: CorpusFiles) -> None:
    """Not to float32's rounding: a weight that differs by one may fall to the next bfloat16."""
    corpus, found = load_corpus(small_corpus), []
    for contexts in ([CPU], [CPU, mx.cpu(1)]):
        progress = Progress()
        config = small_config(precision="bfloat16", dropout=0, learning_rate=5.0, batch_size=8)
        fit(config, corpus, contexts=contexts, progress=progress)
        found.append([loss for epoch in progress.history for loss in (epoch.train_loss, epoch.valid_loss)])
    assert found[1] == pytest.approx(found[0], abs=1e-4)


@pytest.mark.slow
def test_without_mkl_it_is_said() -> None:
    """In a process of its own, since the library is looked up once."""
    code = (
        "import gluon_rnn.training.precisions as precisions, mxnet as mx\n"
        "precisions.mkl_library = lambda: None\n"
        "one = mx.nd.ones((1, 1))\n"
        "precisions.precision_on('cpu', 'bfloat16').multiply(one, one, one)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)
    assert "RuntimeError: bfloat16 needs Intel's MKL" in done.stderr


def scaled(precision: Float16, context: mx.Context = CPU) -> LossScale:
    """The loss scale of `precision`, which a first gradient makes."""
    precision.cast_gradient(mx.nd.zeros((1, 1), ctx=context))
    assert precision._scale is not None
    return precision._scale


def test_a_loss_scale_is_halved_by_an_overflow_and_doubles_after_a_thousand_steps_without() -> None:
    precision = OnCpu()
    scale = scaled(precision)
    small, large = mx.nd.ones((3, 3)), mx.nd.full((3, 3), 200)
    found = []
    for factor in (small, large, large, small):
        a, out = precision.cast(factor * (scale.on(CPU) if factor is small else 1)), mx.nd.full((3, 3), 7)
        precision.multiply(a, precision.cast(factor), out, alpha=0.5, beta=0.0)
        usable = precision.finish_step()
        assert usable is not None
        assert usable.shape == (1,)
        found.append((float(usable.asscalar()), float(scale.on(CPU).asscalar()), float(scale.skipped.asscalar())))
        assert np.isfinite(out.asnumpy()).all()
        if factor is small:
            assert (out.asnumpy() == 1.5).all(), "rid of the scale"
    # 3 x 200 x 200 is more than float16 holds.
    assert found == [(1, 1024, 0), (0, 512, 1), (0, 256, 2), (1, 256, 2)]
    scale._good[:] = 999
    scale.check(mx.nd.ones((2,)))
    scale.finish_step()
    assert (scale.on(CPU).asscalar(), scale._good.asscalar()) == (512, 0)
    for power, goes_on in ((15, mx.nd.ones((2,))), (0, mx.nd.array([1.0, math.nan]))):
        scale._value[:], scale._good[:] = 2.0**power, 999
        scale.check(goes_on)
        scale.finish_step()
        assert scale.on(CPU).asscalar() == 2.0**power, "neither above 2^15 nor below 1"
    assert precision.skipped_steps == 3
    precision.start_epoch()
    assert (precision.skipped_steps, precision.finish_step(), scaled(precision).on(CPU).asscalar()) == (0, None, 1024)


def test_gradients_in_float16_are_float32s_within_rounding(small_corpus: CorpusFiles) -> None:
    corpus, found = load_corpus(small_corpus), []
    window = training_windows(corpus.train, bptt=5, batch_size=4, contexts=[CPU])[0]
    for precision in (None, OnCpu()):
        model = build_model(small_config(dropout=0, hidden_size=12), len(corpus.vocab), CPU)
        mx.random.seed(1)
        for parameter in model.collect_params().values():
            parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
        loss, _ = backpropagate(
            model,
            window.shards[0],
            model.begin_state(4, CPU),
            targets=window.targets,
            precision=precision,
            logits_in_a_block=3 * len(corpus.vocab),
        )
        found.append([loss.asnumpy(), *(p.grad().asnumpy() for p in model.collect_params().values())])
        assert precision is None or precision.finish_step().asscalar() == 1  # type: ignore[union-attr]
    for exact, rounded in zip(*found, strict=True):
        assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 4 * 2.0**-11


class Overflowing(OnCpu):
    """Whose gradients of one step are too large."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step, self.steps = step, 0

    def finish_step(self) -> mx.nd.NDArray | None:
        self.steps += 1
        return super().finish_step()

    def product(self, a: mx.nd.NDArray, b: mx.nd.NDArray, **transposed: bool) -> mx.nd.NDArray:
        is_gradient = "transpose_a" in transposed
        return super().product(a, b, **transposed) * (1e6 if is_gradient and self.steps == self._step - 1 else 1)


@pytest.mark.parametrize("update", ["cpu", "gpu"])
def test_a_step_that_overflows_leaves_the_weights_as_they_are(small_corpus: CorpusFiles, update: str) -> None:
    corpus = load_corpus(small_corpus)
    windows = training_windows(corpus.train, bptt=5, batch_size=4, contexts=[CPU])
    model = build_model(small_config(dropout=0, hidden_size=12), len(corpus.vocab), CPU)
    parameters = [*model.collect_params().values()]
    trainer = mx.gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0}, kvstore=None)
    precision = Overflowing(2)
    moved = []
    for window in windows[:3]:
        before = [each.data().asnumpy() for each in parameters]
        backpropagate(model, window.shards[0], model.begin_state(4, CPU), targets=20, precision=precision)
        usable = precision.finish_step()
        assert all(np.isfinite(each.grad().asnumpy()).all() for each in parameters)
        if update == "cpu":
            clip_and_update(trainer, parameters, 0.25, usable=usable)
        else:
            update_in_one(trainer, parameters, [usable])
        moved.append([bool((each.data().asnumpy() != old).any()) for each, old in zip(parameters, before, strict=True)])
    assert moved == [[True] * len(parameters), [False] * len(parameters), [True] * len(parameters)]
    assert precision.skipped_steps == 1


def test_three_epochs_in_float16_learn_what_those_in_float32_do(small_corpus: CorpusFiles) -> None:
    """Within a thousandth of their perplexity, which falls by a fiftieth: most of this text is chance."""
    corpus, perplexities = load_corpus(small_corpus), []
    windows = training_windows(corpus.train, bptt=5, batch_size=4, contexts=[CPU])
    float16 = OnCpu()
    for precision in (None, float16):
        model, losses = build_model(small_config(hidden_size=12), len(corpus.vocab), CPU), []
        mx.random.seed(1)
        train_epoch(
            model,
            windows * 3,
            mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 5.0}, kvstore=None),
            clip=1.0,
            carries_state=True,
            precision=precision,
            synchronise_at=lambda step: False,
            on_losses=lambda found, batches, losses=losses: losses.extend(found),  # type: ignore[misc]
        )
        first, last = (np.exp(np.mean(part)) for part in (losses[: len(windows)], losses[-len(windows) :]))
        assert last < 0.99 * first
        perplexities.append(last)
    assert perplexities[0] != perplexities[1] == pytest.approx(perplexities[0], rel=0.001)
    assert float16.skipped_steps == 0
