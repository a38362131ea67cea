"""The optimizer of a run, its learning rate and its momentum."""

from __future__ import annotations

from functools import partial

import mxnet as mx
from mxnet import gluon

from gluon_rnn.config.run import RunConfig
from gluon_rnn.networks.models import SequenceModel, trained_parameters

#: The lowest learning rate that MXNet is given, far too low to train with. Operators of MXNet 1.9.1, as Adam's, refuse
#: numbers below 1.2e-38, which float32 holds with fewer digits, and FTML and FTRL divide by the rate.
_LEAST_RATE = 1e-30
#: What MXNet's optimizers call their momentum.
_MOMENTA = {"sgd": "momentum", "nag": "momentum", "adam": "beta1"}


class Adamax(mx.optimizer.Adamax):
    """AdaMax that leaves a weight alone as long as its gradients are 0.

    MXNet 1.9.1 divides by the largest gradient that a weight has had (``optimizer.py``), which is 0/0 for the embedding
    of a word that no batch has had. Here the divisor is 1e-8 or more, as in PyTorch's.
    """

    def update(
        self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: tuple[mx.nd.NDArray, mx.nd.NDArray]
    ) -> None:
        """A step; `state` is the mean of the gradients and the largest of them, which decays."""
        _, largest = state
        largest[:] = mx.nd.maximum(largest, 1e-8)
        super().update(index, weight, grad, state)


def build_trainer(config: RunConfig, model: SequenceModel) -> gluon.Trainer:
    """A trainer of `model`'s parameters with the optimizer of `config`."""
    settings = {"learning_rate": config.learning_rate, "wd": config.weight_decay}
    if config.momentum:
        settings[_MOMENTA[config.optimizer]] = config.momentum
    make = Adamax if config.optimizer == "adamax" else partial(mx.optimizer.create, config.optimizer)
    # With one device MXNet creates no store.
    return gluon.Trainer(trained_parameters(model), make(**settings), kvstore="device", update_on_kvstore=False)


def set_learning_rate(trainer: gluon.Trainer, rate: float) -> None:
    """Set the learning rate of the steps to come."""
    trainer.set_learning_rate(max(rate, _LEAST_RATE))


def set_momentum(trainer: gluon.Trainer, momentum: float) -> None:
    """Set the momentum of the steps to come; they go on from the gradients that `trainer` has gathered."""
    setattr(trainer.optimizer, _MOMENTA[type(trainer.optimizer).__name__.lower()], momentum)
