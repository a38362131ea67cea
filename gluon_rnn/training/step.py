"""One training step, hand in hand with MXNet's autograd: gradients, clipping and update."""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
from mxnet import autograd, gluon

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.training.precisions import PRECISIONS, Precision

#: Logits are worked on in blocks of at most so many, 128 MiB in float32, which is 1,008 tokens of WikiText-2: one block
#: at bptt 35 and batch 20. Two blocks took the time of one, ten a quarter more (LSTM 200, 700 tokens).
LOGITS_IN_A_BLOCK = 1 << 25
#: See `add_scaled`.
_COLUMNS = 16


def backpropagate(
    model: SequenceModel,
    shard: Shard,
    state: States,
    *,
    targets: int,
    shards: int = 1,
    precision: Precision = PRECISIONS["float32"],
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
    training: bool = True,
) -> tuple[mx.nd.NDArray, States]:
    """Leave the gradients of a batch's mean loss in `model`'s parameters, on the device of `shard`.

    The decoder's share is worked out by hand. What autograd would do for softmax cross-entropy keeps several arrays as
    large as the logits (93 MB at 700 tokens and 33,278 words) and passes over them for each of pick, log_softmax and
    their gradients. Here one array of log-probabilities, a block of tokens at a time, becomes in place the
    probabilities p, and these the gradient of the logits, p - onehot(targets), which then enters three matrix
    products. The losses are those of ``SoftmaxCrossEntropyLoss``, the gradients within rounding.

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
        precision: of the decoder's three products; all else, and what they add up to, is float32.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
        training: whether dropouts are on, and the network's penalties count.

    Returns:
        This device's part of the mean loss, in nats a target and without penalties, of shape (1,), and the state after
        the last step.
    """
    weight, context = model.decoder[0].weight, shard.inputs.context
    if model.ties_weights:
        # Here alone, and with the array there is: another `grad_req` of the parameter would allocate a new one.
        autograd.mark_variables([weight.data(context)], [weight.grad(context)], "add")
    with autograd.record(train_mode=training):
        units, penalty, state = model.read(shard, [[array.detach() for array in layer] for layer in state])
    loss, gradient = _backpropagate_decoder(model, units.detach(), shard, targets, precision, logits_in_a_block)
    heads, head_gradients = [units], [gradient]
    if penalty is not None and training:
        heads.append(penalty)
        head_gradients.append(mx.nd.ones_like(penalty) / shards)
    autograd.backward(heads, head_gradients, train_mode=training)
    if model.ties_weights:
        autograd.mark_variables([weight.data(context)], [weight.grad(context)], weight.grad_req)
    for parameter in trained_parameters(model):
        # As autograd marks what it has written, but not for views; a Trainer refuses gradients that are not marked.
        parameter.data(context)._fresh_grad = True
    return loss, state


def _backpropagate_decoder(
    model: SequenceModel, units: mx.nd.NDArray, shard: Shard, targets: int, precision: Precision, logits_in_a_block: int
) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """See `backpropagate`: leave the decoder's gradients in its parameters, and return the loss and that of `units`.

    The logits are gone before the backbone's gradients come: both are the largest arrays of a step.
    """
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    context, scale = units.context, 1 / targets
    cast_weight = precision.cast(weight.data(context))
    rows, labels = units.reshape((-3, 0)), shard.targets.reshape((-1,))  # (targets, units), (targets,)
    mask = None if shard.weights is None else shard.weights.reshape((-1, 1))
    # MXNet makes room for an operator's result when the operator runs, for `empty` at once: Python, which runs ahead of
    # the device up to the next log interval, would hold one for each step on the way.
    gradient = mx.nd.zeros_like(rows)
    nats: list[mx.nd.NDArray] = []
    size = max(1, logits_in_a_block // weight.shape[0])
    for block in (slice(first, first + size) for first in range(0, len(rows), size)):
        cast_units, block_labels = precision.cast(rows[block]), labels[block]
        block_mask = None if mask is None else mask[block]
        array = log_probabilities(cast_units, cast_weight, bias.data(context), precision)
        loss = -mx.nd.pick(array, block_labels)
        nats.append(loss if block_mask is None else loss * block_mask.reshape((-1,)))
        # The softmax of log-probabilities is the softmax of the logits.
        mx.nd.softmax(array, out=array)
        places = mx.nd.stack(mx.nd.arange(len(array), ctx=context), block_labels.astype("float32"))
        mx.nd._internal._scatter_set_nd(
            array, mx.nd.pick(array, block_labels) - 1, places, shape=array.shape, out=array
        )
        if block_mask is not None:
            mx.nd.broadcast_mul(array, block_mask, out=array)

        beta = 1.0 if block.start else 0.0
        ones, bias_gradient = mx.nd.ones((len(array), 1), ctx=context), bias.grad(context).reshape((-1, 1))
        # Three times as fast as a sum over the rows.
        mx.nd.linalg_gemm(array, ones, bias_gradient, transpose_a=True, alpha=scale, beta=beta, out=bias_gradient)
        array = precision.cast(array)
        precision.multiply(array, cast_weight, gradient[block], alpha=scale, beta=0.0)
        precision.multiply(array, cast_units, weight.grad(context), transpose_a=True, alpha=scale, beta=beta)
    loss = (mx.nd.concat(*nats, dim=0) if len(nats) > 1 else nats[0]).sum() * scale
    return loss, gradient.reshape(units.shape)


def log_probabilities(
    units: mx.nd.NDArray,
    weight: mx.nd.NDArray,
    bias: mx.nd.NDArray,
    precision: Precision = PRECISIONS["float32"],
    *,
    out: mx.nd.NDArray | None = None,
) -> mx.nd.NDArray:
    """The log-softmax of the decoder: (targets, classes), the one array of that size that is made.

    Args:
        units: what enters the decoder, (targets, units), cast by `precision`.
        weight: (classes, units), cast likewise; the classes of a language model are the vocabulary.
        bias: (classes,).
        out: where they are to be; None: in a new array.
    """
    # The bias of every row first, since a product can add to what is there: a pass over the logits less.
    array = mx.nd.dot(mx.nd.ones((units.shape[0], 1), ctx=bias.context), bias.reshape((1, -1)), out=out)
    precision.multiply(units, weight, array, transpose_b=True)
    return mx.nd.log_softmax(array, out=array)


def clip_and_update(trainer: gluon.Trainer, parameters: Sequence[gluon.Parameter], clip: float | None) -> None:
    """Clip the gradients to a global norm and let `trainer` update every replica, without waiting for a device.

    The norm is worked out on the first device and sent to the others, which so take the same step to the bit.

    Plain SGD on a CPU clips and steps at once: w <- (1 - lr wd) w - lr min(1, clip / norm) g is one matrix product with
    a small scaled identity. MXNet's own two passes, a multiplication and ``sgd_update``, are not vectorised: 19 and
    66 ms for tied embeddings of 200 and 650 units, of which this takes 2 and 15. The numbers agree within rounding.
    Everywhere else it is a multiplication and ``Trainer.update``.

    Args:
        trainer: of `parameters`, its gradients already a mean, and the same on every device.
        parameters: all that are trained. Their gradients are clipped afterwards, or still as they were.
        clip: the global norm; None leaves the gradients alone.
    """
    contexts = parameters[0].list_ctx()
    scale = mx.nd.ones((1,), ctx=contexts[0])
    if clip is not None:
        # As clip_global_norm of MXNet 1.9.1 computes it.
        flat = (parameter.grad(contexts[0]).reshape((-1,)) for parameter in parameters)
        norm = mx.nd.add_n(*[mx.nd.dot(gradient, gradient) for gradient in flat]).sqrt()
        scale = mx.nd.minimum(clip / (norm + 1e-8), 1)
    scales = [scale.as_in_context(context) for context in contexts]
    optimizer = trainer.optimizer
    plain = type(optimizer) is mx.optimizer.SGD and not optimizer.momentum and optimizer.lr_scheduler is None
    if not plain or contexts[0].device_type != "cpu":
        if clip is not None:
            for parameter in parameters:
                for gradient, scale in zip(parameter.list_grad(), scales, strict=True):
                    gradient *= scale
        trainer.update(1)
        return
    for context, scale in zip(contexts, scales, strict=True):
        for parameter in parameters:
            rate = trainer.learning_rate * parameter.lr_mult
            kept = 1 - rate * optimizer.wd * parameter.wd_mult
            add_scaled(parameter.grad(context), scale, parameter.data(context), alpha=-rate, beta=kept)


def add_scaled(
    gradient: mx.nd.NDArray, scale: mx.nd.NDArray, weight: mx.nd.NDArray, *, alpha: float, beta: float
) -> None:
    """Leave alpha scale gradient + beta weight in `weight`, as products with a scaled identity; `scale` has shape (1,).

    Its 16 columns, a vector register's and a cache line's, were the fastest: 4.6 ms for the 21.6 million weights of an
    embedding of 650 units, 6.9 ms with 28 columns, 9.8 ms with 8 or 48. What fills no row of 16 has one of its own.
    """
    whole = gradient.size // _COLUMNS * _COLUMNS
    flat_gradient, flat_weight = gradient.reshape((-1,)), weight.reshape((-1,))
    for first, end, columns in ((0, whole, _COLUMNS), (whole, gradient.size, gradient.size - whole)):
        if first < end:
            source, out = (array[first:end].reshape((-1, columns)) for array in (flat_gradient, flat_weight))
            identity = mx.nd.eye(columns, ctx=gradient.context) * scale
            mx.nd.linalg_gemm(source, identity, out, alpha=alpha, beta=beta, out=out)
