"""Dynamic evaluation (Krause and others, arXiv 1709.07432): a model that keeps learning from the text it is scored on.

The text is cut into segments. Each is scored first, and then its gradient g updates the parameters, so every token is
scored before it is learned:

    rms:  w <- w + lambda D (w_0 - w) - eta g / (MS + epsilon)
    sgd:  w <- w + lambda (w_0 - w) - eta g

w_0 are the trained parameters. MS is the root mean square, over the batches of training, of each parameter's gradient,
and D is MS divided by the mean over the parameter arrays of their mean MS, at most 1 / lambda. That is the rule of the
authors' ``dynamiceval.py``, as are the batches of training (100 columns, dropout off) and the grid of the search.
Gradients are of the mean loss of a segment or batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mxnet as mx
from mxnet.gluon import Parameter

from gluon_rnn.common.printable import Notice
from gluon_rnn.data.batches import Batch
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.runs.evaluations import DynamicSettings
from gluon_rnn.runs.progress import LossTotal
from gluon_rnn.training.precisions import precision_for_few
from gluon_rnn.training.scoring import initial_state
from gluon_rnn.training.step import adding_gradients, backpropagate

#: Columns of the batches that the statistics come from.
STATISTICS_BATCH_SIZE = 100
#: What a search tries, as multiples of the defaults: for the rms rule at a bptt of 5, {3, 4, 5, 6, 7, 10}e-5 and
#: {1, 2, 3, 5}e-3.
_ETAS = (0.6, 0.8, 1.0, 1.2, 1.4, 2.0)
_LAMBDAS = (0.5, 1.0, 1.5, 2.5)
#: See `gluon_rnn.training.precisions.FewRows`.
_FEW = 8
#: Batches or segments between two lines about how far it is.
_REPORTED = 1000


def root_mean_squares(model: SequenceModel, batches: Sequence[Batch], *, notice: Notice) -> list[mx.nd.NDArray]:
    """MS: the root mean square, over `batches`, of the gradient of each of `model`'s trained parameters.

    Args:
        model: with its trained parameters; its dropouts are off.
        batches: of training, in order, each on one device; the state is carried.
        notice: receives a line now and then.
    """
    parameters = trained_parameters(model)
    sums = [mx.nd.zeros_like(parameter.data()) for parameter in parameters]
    for number, _ in enumerate(_gradients(model, batches), start=1):
        for total, parameter in zip(sums, parameters, strict=True):
            total += parameter.grad().square()
        if number % _REPORTED == 0:
            notice(f"gradients of {number:,} of {len(batches):,} training batches")
    return [(total / len(batches)).sqrt() for total in sums]


def score_dynamically(
    model: SequenceModel,
    batches: Sequence[Batch],
    settings: DynamicSettings,
    statistics: Sequence[mx.nd.NDArray] | None,
    *,
    notice: Notice,
) -> LossTotal:
    """Score every target of `batches` once, learning from each batch after it was scored.

    Args:
        model: with its trained parameters, which it has again at the end.
        batches: of one text in one column, each a segment; the state is carried.
        settings: the rule and its constants.
        statistics: `root_mean_squares`; None for the sgd rule, which needs none.
        notice: receives a line now and then.
    """
    parameters = trained_parameters(model)
    arrays, sums = ([view(parameter) for parameter in parameters] for view in (Parameter.data, Parameter.grad))
    pulls, rates = _pulls_and_rates(settings, statistics, arrays)
    total = LossTotal()
    with _restored(arrays) as trained, adding_gradients(model, arrays[0].context):
        # The rule is w = w_0 - rate s with s <- (1 - pull) s + g: a backward pass adds g to s, and three passes over
        # the parameters are left, in place, since their memory is what a segment waits for.
        kept = [1 - pull for pull in pulls]
        moves = [mx.nd.zeros_like(array) for array in arrays]
        for number, (batch, loss) in enumerate(zip(batches, _gradients(model, batches, adds=True), strict=True), 1):
            # Waits for the device, too: Python would run ahead of it without bound.
            total.add(float(loss.asscalar()) * batch.targets, batch.targets)
            for array, start, added, keep, rate, move in zip(arrays, trained, sums, kept, rates, moves, strict=True):
                mx.nd.elemwise_mul(added, rate, out=move)
                mx.nd.elemwise_sub(start, move, out=array)
                mx.nd.elemwise_mul(added, keep, out=added)
            if number % _REPORTED == 0:
                notice(f"{number:,} of {len(batches):,} segments")
    return total


def search_grid(settings: DynamicSettings) -> list[DynamicSettings]:
    """The grid of a search: multiples of eta and lambda in `settings`, except those that were given."""
    given = settings.model_fields_set
    return [
        settings.model_copy(update={"eta": settings.eta * eta, "lambda_": min(settings.lambda_ * decay, 1.0)})
        for eta in ((1.0,) if "eta" in given else _ETAS)
        for decay in ((1.0,) if "lambda_" in given else _LAMBDAS)
    ]


def _gradients(model: SequenceModel, batches: Sequence[Batch], *, adds: bool = False) -> Iterator[mx.nd.NDArray]:
    """Yield the mean loss of each batch; its gradients are in the parameters until the next, or are added up."""
    state: States = []
    for batch in batches:
        (shard,) = batch.shards
        state = state or initial_state(model, shard)
        precision = precision_for_few(shard.inputs.context.device_type) if shard.targets.size <= _FEW else None
        loss, state = backpropagate(
            model, shard, state, targets=batch.targets, precision=precision, training=False, adds=adds
        )
        yield loss


def _pulls_and_rates(
    settings: DynamicSettings, statistics: Sequence[mx.nd.NDArray] | None, arrays: Sequence[mx.nd.NDArray]
) -> tuple[list[mx.nd.NDArray], list[mx.nd.NDArray]]:
    """The factors of w_0 - w and of the gradients in each update, for each parameter."""
    if settings.rule == "sgd":
        # As large as the parameters, so that the two rules are one piece of code.
        ones = [mx.nd.ones_like(array) for array in arrays]
        return [settings.lambda_ * one for one in ones], [settings.eta * one for one in ones]
    assert statistics is not None
    mean = mx.nd.concat(*(each.mean() for each in statistics), dim=0).mean()
    # lambda D with D at most 1 / lambda is at most 1.
    pulls = [mx.nd.minimum(settings.lambda_ * each / mean, 1) for each in statistics]
    return pulls, [settings.eta / (each + settings.epsilon) for each in statistics]


@contextmanager
def _restored(arrays: Sequence[mx.nd.NDArray]) -> Iterator[list[mx.nd.NDArray]]:
    """A context that yields copies of `arrays` and restores the arrays at the end."""
    before = [array.copy() for array in arrays]
    try:
        yield before
    finally:
        for array, copy in zip(arrays, before, strict=True):
            array[:] = copy
