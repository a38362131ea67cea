"""The average of a model's parameters over its updates (Polyak and Juditsky, 1992), as AWD-LSTM takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mxnet as mx

from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.training.step import add_scaled, scaled_identity

_UPDATES = "updates"


class Average:
    """The mean of a model's trained parameters over all `update` calls, on its first device (replicas are equal)."""

    def __init__(self) -> None:
        #: The number of updates in the mean.
        self.updates = 0
        self._means: list[mx.nd.NDArray] = []

    def update(self, model: SequenceModel) -> None:
        """Add the current parameters of `model` to the mean, without waiting for the device."""
        self.updates += 1
        values = _values(model)
        if self.updates == 1:
            self._means = [mx.nd.zeros_like(value) for value in values]
        share, context = 1 / self.updates, values[0].context
        if context.device_type == "gpu":
            # A product would round the parameters to ten bits with precision=tf32.
            for mean, value in zip(self._means, values, strict=True):
                mean *= 1 - share
                mean += value * share
            return
        identity = scaled_identity(mx.nd.ones((1,), ctx=context))
        for mean, value in zip(self._means, values, strict=True):
            add_scaled(value, identity, mean, alpha=share, beta=1 - share)

    @contextmanager
    def applied(self, model: SequenceModel) -> Iterator[None]:
        """A context in which `model` has the averaged parameters on all its devices. Afterwards its own are restored
        exactly.
        """
        own = [value.copy() for value in _values(model)]
        try:
            _set(model, self._means)
            yield
        finally:
            _set(model, own)

    @property
    def arrays(self) -> dict[str, mx.nd.NDArray]:
        """The arrays that a checkpoint keeps for `restore`: the means by parameter number, and the number of
        updates.
        """
        means = {str(number): mean for number, mean in enumerate(self._means)}
        return {**means, _UPDATES: mx.nd.array([self.updates], dtype="int64")}

    def restore(self, arrays: dict[str, mx.nd.NDArray], model: SequenceModel) -> None:
        """Restore the average from the `arrays` of another one, made for a model like `model`."""
        self._means = [arrays[str(number)].copyto(value.context) for number, value in enumerate(_values(model))]
        self.updates = int(arrays[_UPDATES].asscalar())


def _values(model: SequenceModel) -> list[mx.nd.NDArray]:
    return [parameter.list_data()[0] for parameter in trained_parameters(model)]


def _set(model: SequenceModel, values: list[mx.nd.NDArray]) -> None:
    for parameter, value in zip(trained_parameters(model), values, strict=True):
        parameter.set_data(value)
