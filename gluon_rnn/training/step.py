"""One training step: gradients (by hand for the decoder, by MXNet's autograd for the rest), clipping and update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import mxnet as mx
from mxnet import autograd, gluon

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.training.decoder import LOGITS_IN_A_BLOCK, Decoder, backpropagate_softmax
from gluon_rnn.training.precisions import Precision, precision_on
from gluon_rnn.training.sampled_softmax import ClassSample, backpropagate_sampled

#: See `add_scaled`.
_COLUMNS = 16
#: Weights that an operator of MXNet 1.9.1's takes: its kernel's table has no more, and it does not look
#: (``preloaded_multi_sgd-inl.h``).
_MOST_UPDATED = 60
#: Of a clip's factor, so that a decay can be divided by it: the norm of a gradient in float32 is below 2e19.
_SMALLEST = 1e-30


def backpropagate(
    model: SequenceModel,
    shard: Shard,
    state: States,
    *,
    targets: int,
    shards: int = 1,
    precision: Precision | None = None,
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
    training: bool = True,
    adds: bool = False,
    sample: ClassSample | None = None,
) -> tuple[mx.nd.NDArray, States]:
    """Leave the gradients of a batch's mean loss in `model`'s parameters, on the device of `shard`.

    The decoder's share is computed by hand. Autograd's softmax cross-entropy would keep several arrays as large as the
    logits (93 MB at 700 tokens and 33,278 words) and pass over them for each of pick, log_softmax and their gradients.
    Here one array of log-probabilities, a block of tokens at a time, becomes in place the probabilities p, and these
    the gradient of the logits, p - onehot(targets), which then enters three matrix products. The losses are those of
    ``SoftmaxCrossEntropyLoss``, the gradients within rounding.

    It is not an ``autograd.Function``: MXNet 1.9.1 runs that one's backward in a thread of its own, without telling the
    engine what it reads, so that reading the weights behind a queued update of the weights waits for ever.

    Args:
        model: the network. To a tied weight's gradient the embedding's share is added, after the decoder's has
            been written.
        shard: this device's of the batch.
        state: before its first step; gradients stop there.
        targets: of the whole batch, those that count. Losses and gradients are divided by that, so that those of all
            devices add up to the whole batch's mean loss and its gradients.
        shards: how many, of equal size, the batch is made of. The gradients of the network's penalties are divided by
            that, so that those of all devices add up to those of the penalties' mean.
        precision: of the decoder's three products; all else, and what they add up to, is float32. None: so are they.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
        training: whether dropouts are on, and the network's penalties count.
        adds: add to the gradients that are there, within `adding_gradients`; False: replace them. Not with `sample`.
        sample: classes that stand for all in the softmax; None: it is over all.

    Returns:
        This device's part of the mean loss in nats a target without penalties, (1,), and the state after the last step.
    """
    context = shard.inputs.context
    precision = precision or precision_on(context.device_type)
    with _writing_gradients(model, context, adds=adds):
        with autograd.record(train_mode=training):
            units, penalty, state = model.read(shard, [[array.detach() for array in layer] for layer in state])
        rows = units.detach()
        decode = partial(
            backpropagate_softmax, scale=1 / targets, precision=precision, logits_in_a_block=logits_in_a_block
        )
        if sample is not None:
            loss, gradient = backpropagate_sampled(model, rows, shard, sample.on(context), decode)
        else:
            loss, gradient = decode(Decoder.of(model, context), rows, shard, adds=adds)
        heads, head_gradients = [units], [gradient]
        if penalty is not None and training:
            heads.append(penalty)
            head_gradients.append(mx.nd.ones_like(penalty) / shards)
        autograd.backward(heads, head_gradients, train_mode=training)
    return loss, state


@contextmanager
def _writing_gradients(model: SequenceModel, context: mx.Context, *, adds: bool) -> Iterator[None]:
    """While it lasts, autograd adds the embedding's share to a tied weight's gradient; then all gradients are fresh.

    Args:
        adds: autograd adds to all gradients anyway; see `adding_gradients`.
    """
    weight = model.decoder[0].weight
    tied = model.ties_weights and not adds
    if tied:
        # Done here, with the existing array: another `grad_req` of the parameter would allocate a new one.
        autograd.mark_variables([weight.data(context)], [weight.grad(context)], "add")
    yield
    if tied:
        autograd.mark_variables([weight.data(context)], [weight.grad(context)], weight.grad_req)
    for parameter in trained_parameters(model):
        # Autograd marks the gradients that it writes, except views; a Trainer refuses unmarked gradients.
        parameter.data(context)._fresh_grad = True


@contextmanager
def adding_gradients(model: SequenceModel, context: mx.Context) -> Iterator[None]:
    """While it lasts, autograd adds to `model`'s gradients on `context`, which begin as zeros."""
    parameters = trained_parameters(model)
    arrays = [(each.data(context), each.grad(context)) for each in parameters]
    arrays += [(vector, vector.grad) for vector in model.encoder.packed(context) or ()]
    for array, gradient in arrays:
        gradient[:] = 0
        # See `_writing_gradients` for why not by `grad_req`.
        autograd.mark_variables([array], [gradient], "add")
    try:
        yield
    finally:
        for array, gradient in arrays:
            autograd.mark_variables([array], [gradient], "write")


def clip_and_update(
    trainer: gluon.Trainer,
    parameters: Sequence[gluon.Parameter],
    clip: float | None,
    *,
    usable: mx.nd.NDArray | None = None,
) -> None:
    """Clip the gradients to a global norm and let `trainer` update every replica, without waiting for a device.

    The norm is computed on the first device and sent to the others, so all replicas take bit-identical steps.

    Args:
        trainer: of `parameters`, its gradients already a mean, and the same on every device.
        parameters: all that are trained. Their gradients are clipped afterwards, or still as they were.
        clip: the global norm; None leaves the gradients alone.
        usable: 1, or 0 for a step with gradients of zero, of shape (1,), on the first device; None: 1.
    """
    contexts = parameters[0].list_ctx()
    norm, update = update_on(contexts[0].device_type, trainer.optimizer)
    scale = mx.nd.ones((1,), ctx=contexts[0])
    if clip is not None:
        scale = mx.nd.minimum(clip / (norm([each.grad(contexts[0]) for each in parameters]) + 1e-8), 1)
    if usable is not None:
        scale = scale * usable
    update(trainer, parameters, [scale.as_in_context(context) for context in contexts])


Norm = Callable[[Sequence[mx.nd.NDArray]], mx.nd.NDArray]
Update = Callable[[gluon.Trainer, Sequence[gluon.Parameter], Sequence[mx.nd.NDArray]], None]


def update_on(device_type: str, optimizer: mx.optimizer.Optimizer) -> tuple[Norm, Update]:
    """How the global norm of gradients is found on a ``cpu`` or a ``gpu``, and how `optimizer` makes a clipped step.

    The norm is of shape (1,). The step is given the factor of the gradients, of shape (1,), on each device.
    """
    sgd = type(optimizer) is mx.optimizer.SGD and optimizer.lr_scheduler is None
    if device_type == "gpu":
        return norm_in_one, update_in_one if sgd else scale_and_update
    return norm_of_dots, add_in_one if sgd and not optimizer.momentum else scale_and_update


def norm_of_dots(gradients: Sequence[mx.nd.NDArray]) -> mx.nd.NDArray:
    """As ``clip_global_norm`` of MXNet 1.9.1 computes it, whose products are a CPU's BLAS's."""
    flat = (gradient.reshape((-1,)) for gradient in gradients)
    return mx.nd.add_n(*[mx.nd.dot(gradient, gradient) for gradient in flat]).sqrt()


def norm_in_one(gradients: Sequence[mx.nd.NDArray]) -> mx.nd.NDArray:
    """By one operator for all gradients, where a dot for each took 0.35 of a step's 6.5 ms (LSTM 200, H100)."""
    return mx.nd.multi_sum_sq(*gradients, num_arrays=len(gradients)).sum().sqrt()


def scale_and_update(
    trainer: gluon.Trainer, parameters: Sequence[gluon.Parameter], scales: Sequence[mx.nd.NDArray]
) -> None:
    """A step of any optimizer: a multiplication of each gradient, and ``Trainer.update``."""
    for parameter in parameters:
        for gradient, scale in zip(parameter.list_grad(), scales, strict=True):
            gradient *= scale
    trainer.update(1)


def add_in_one(trainer: gluon.Trainer, parameters: Sequence[gluon.Parameter], scales: Sequence[mx.nd.NDArray]) -> None:
    """A step of plain SGD on a CPU: w <- (1 - lr wd) w - lr scale g is one product with a small scaled identity.

    MXNet's own two passes, a multiplication and ``sgd_update``, are not vectorised: 19 and 66 ms for tied embeddings of
    200 and 650 units, of which this takes 2 and 15. The numbers agree within rounding.
    """
    for scale in scales:
        identity = scaled_identity(scale)
        for parameter in parameters:
            rate = trainer.learning_rate * parameter.lr_mult
            kept = 1 - rate * trainer.optimizer.wd * parameter.wd_mult
            gradient, weight = parameter.grad(scale.context), parameter.data(scale.context)
            add_scaled(gradient, identity, weight, alpha=-rate, beta=kept)


def update_in_one(
    trainer: gluon.Trainer, parameters: Sequence[gluon.Parameter], scales: Sequence[mx.nd.NDArray]
) -> None:
    """A step of SGD, with momentum or without, on a GPU: one operator for all parameters, which leaves gradients alone.

    The operators of MXNet 1.9.1 that take the rates from the device (``preloaded_multi_sgd_update`` and its like) are
    given the rate times `scale`, and the decay divided by it: w <- w - lr scale (g + wd / scale w). A multiplication of
    each gradient, and an update of four parameters at a time, took 0.35 of a step's 6.5 ms (LSTM 200, H100).
    """
    optimizer, numbers = trainer.optimizer, {each.name: number for number, each in enumerate(trainer._params)}
    alike: dict[tuple[float, float], list[gluon.Parameter]] = {}
    for each in parameters:
        settings = trainer.learning_rate * each.lr_mult, optimizer.wd * each.wd_mult
        alike.setdefault(settings, []).append(each)
    for updater, scale in zip(trainer._updaters, scales, strict=True):
        for (rate, decay), group in alike.items():
            for some in (group[first : first + _MOST_UPDATED] for first in range(0, len(group), _MOST_UPDATED)):
                arrays = [[each.data(scale.context), each.grad(scale.context)] for each in some]
                if optimizer.momentum:
                    for each, pair in zip(some, arrays, strict=True):
                        pair.append(_momentum(updater, numbers[each.name], pair[0]))
                divided = decay / mx.nd.maximum(scale, _SMALLEST) if decay else mx.nd.zeros_like(scale)
                _update_alike(arrays, scale * rate, divided, optimizer.momentum)


def _update_alike(
    arrays: Sequence[Sequence[mx.nd.NDArray]], rate: mx.nd.NDArray, decay: mx.nd.NDArray, momentum: float
) -> None:
    """See `update_in_one`: of arrays with one rate and decay, (1,) each; weight, gradient and momentum, if any."""
    count = len(arrays)
    settings = {"momentum": momentum} if momentum else {}
    operator = mx.nd.preloaded_multi_sgd_mom_update if momentum else mx.nd.preloaded_multi_sgd_update
    operator(
        *(array for each in arrays for array in each),
        *(mx.nd.broadcast_to(number, shape=(count,)) for number in (rate, decay)),
        num_weights=count,
        out=[weight for weight, *_ in arrays],
        **settings,
    )


def _momentum(updater: mx.optimizer.Updater, number: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
    """The array that `updater` keeps of a parameter, made as it makes it at its first update."""
    if number not in updater.states:
        updater.states[number] = updater.optimizer.create_state_multi_precision(number, weight)
        updater.states_synced[number] = True
    return updater.states[number]


ScaledIdentity = Callable[[int], mx.nd.NDArray]


def scaled_identity(scale: mx.nd.NDArray) -> ScaledIdentity:
    """Gives, for n, the identity of n rows times `scale`, which has shape (1,); for all parameters it is made once."""
    return cache(lambda rows: mx.nd.eye(rows, ctx=scale.context) * scale)


def add_scaled(
    gradient: mx.nd.NDArray, identity: ScaledIdentity, weight: mx.nd.NDArray, *, alpha: float, beta: float
) -> None:
    """Leave alpha scale gradient + beta weight in `weight`, as products with the `identity` of that scale.

    16 columns, which fill a vector register and a cache line, were the fastest: 4.6 ms for the 21.6 million weights of
    an embedding of 650 units, 6.9 ms with 28 columns, 9.8 ms with 8 or 48.
    """
    for source, out in zip(_in_rows(gradient), _in_rows(weight), strict=True):
        mx.nd.linalg_gemm(source, identity(source.shape[1]), out, alpha=alpha, beta=beta, out=out)


def _in_rows(array: mx.nd.NDArray) -> list[mx.nd.NDArray]:
    """Views of `array` in rows of `_COLUMNS`; the last elements that do not fill one form a row of their own."""
    whole = array.size // _COLUMNS * _COLUMNS
    if whole == array.size:
        return [array.reshape((-1, _COLUMNS))]
    flat = array.reshape((-1,))
    rest = flat[whole:].reshape((1, -1))
    return [flat[:whole].reshape((-1, _COLUMNS)), rest] if whole else [rest]
