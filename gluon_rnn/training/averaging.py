"""The average of a model's parameters over its updates (Polyak and Juditsky, 1992), as AWD-LSTM takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mxnet as mx

from gluon_rnn.networks.models import SequenceModel, trained_parameters
from gluon_rnn.training.step import add_scaled

_UPDATES = "updates"


class Average:
    """The mean of the trained parameters that a model had at each `update`, on its first device: replicas are equal."""

    def __init__(self) -> None:
        #: How many updates the mean is of.
        self.updates = 0
        self._means: list[mx.nd.NDArray] = []

    def update(self, model: SequenceModel) -> None:
        """Take in the parameters that `model` has now, without waiting for the device."""
        self.updates += 1
        values = _values(model)
        if self.updates == 1:
            self._means = [mx.nd.zeros_like(value) for value in values]
        one = mx.nd.ones((1,), ctx=values[0].context)
        for mean, value in zip(self._means, values, strict=True):
            add_scaled(value, one, mean, alpha=1 / self.updates, beta=1 - 1 / self.updates)

    @contextmanager
    def applied(self, model: SequenceModel) -> Iterator[None]:
        """While it lasts, `model` has the averaged parameters on all its devices; then its own again, to the bit."""
        own = [value.copy() for value in _values(model)]
        try:
            _set(model, self._means)
            yield
        finally:
            _set(model, own)

    @property
    def arrays(self) -> dict[str, mx.nd.NDArray]:
        """What a checkpoint keeps, for `restore`: the means by the parameters' numbers, and how many updates."""
        means = {str(number): mean for number, mean in enumerate(self._means)}
        return {**means, _UPDATES: mx.nd.array([self.updates], dtype="int64")}

    def restore(self, arrays: dict[str, mx.nd.NDArray], model: SequenceModel) -> None:
        """Go on from another average's `arrays`, of a model of the kind of `model`."""
        self._means = [arrays[str(number)].copyto(value.context) for number, value in enumerate(_values(model))]
        self.updates = int(arrays[_UPDATES].asscalar())


def _values(model: SequenceModel) -> list[mx.nd.NDArray]:
    return [parameter.list_data()[0] for parameter in trained_parameters(model)]


def _set(model: SequenceModel, values: list[mx.nd.NDArray]) -> None:
    for parameter, value in zip(trained_parameters(model), values, strict=True):
        parameter.set_data(value)
