"""The networks, built from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter, nn

from gluon_rnn.config.run import MODELS, PRESETS, RunConfig
from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.layers import (
    FusedLayer,
    PackedParameters,
    States,
    StepwiseLayer,
    Tensors,
    VariadicBlock,
    build_layer,
)
from gluon_rnn.networks.regularization import NO_AWD, AWDDropouts, Dropout, Embedding, activation_penalties

_INITIALIZERS = {
    "xavier": mx.init.Xavier,
    "uniform": lambda: mx.init.Uniform(0.1),
    "normal": lambda: mx.init.Normal(0.05),
    "orthogonal": mx.init.Orthogonal,
}


_EMBEDDING_INITIALIZERS = {"uniform": mx.init.Uniform(0.1), "normal": mx.init.Normal(1.0)}


#: Steps of the longest unrolled graph. One of 1,000 steps took 1.6 s to make and run once, of 256 0.3 s.
_MOST_UNROLLED = 256


class RecurrentStack(VariadicBlock):
    """Recurrent layers on top of each other, in one direction or both, with dropout between them.

    The dropout is an operator of its own. MXNet 1.9.1's fused ``RNN`` operator, asked for several layers with dropout,
    leaves the dropout out on the CPU without a word (its oneDNN path; seen as equal outputs in training and prediction
    mode), so each layer is an operator of one layer.

    Args:
        cell: see `gluon_rnn.networks.layers.build_layer`.
        input_size: features of an input.
        layer_sizes: units of each layer and direction.
        dropouts: rates between each two layers, one fewer.
        axes: see `gluon_rnn.networks.regularization.drop`; of these dropouts.
        weight_drop: rate of the dropout of the recurrent weights; see `gluon_rnn.networks.layers.build_layer`.
        bidirectional: each layer is two, of which the second reads from the end to the beginning.
        apart: parameter files name each layer as a block of its own, as those of GluonNLP's ``AWDRNN`` do, not as one
            of a block of many.
    """

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        layer_sizes: Sequence[int],
        dropouts: Sequence[float],
        axes: tuple[int, ...] = (),
        weight_drop: float = 0.0,
        bidirectional: bool = False,
        apart: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        assert len(dropouts) == len(layer_sizes) - 1
        #: 1 or 2.
        self.directions = 2 if bidirectional else 1
        # GluonNLP's and Gluon's parameter files call the layers so, by their blocks or, the older ones, by prefixes.
        block, prefix = ("{0}._unfused.0", "{1}{0}_{2}0_") if apart else ("_unfused.{0}", "{1}0_{2}{0}_")
        kind = cell.removeprefix("custom_").partition("_")[0]
        sides = {"l": ".l_cell", "r": ".r_cell"} if bidirectional else {"l": ""}
        self._layers: list[HybridBlock] = []
        self._dropouts: list[Dropout] = []
        features = input_size
        with self.name_scope():
            for number, rate in enumerate(dropouts):
                self._dropouts.append(Dropout(rate, axes))
                self.register_child(self._dropouts[-1], f"_dropout.{number}")
            for number, size in enumerate(layer_sizes):
                for side, name in sides.items():
                    layer = build_layer(
                        cell,
                        hidden_size=size,
                        input_size=features,
                        weight_drop=weight_drop,
                        prefix=prefix.format(number, kind, side),
                    )
                    self.register_child(layer, block.format(number) + name)
                    self._layers.append(layer)
                features = size * self.directions
        self._layer_sizes = layer_sizes
        self._packed: PackedParameters | None = None
        #: How many states a layer and direction has: 2 for an LSTM.
        self.state_count: int = self._layers[0].state_count
        #: Features of an output.
        self.output_size = features

    @property
    def layers(self) -> Sequence[HybridBlock]:
        """From the bottom to the top; of two directions the forward one comes first."""
        return self._layers

    def begin_state(self, batch_size: int, context: mx.Context) -> States:
        """The state before the first step: zeros."""
        return [
            [mx.nd.zeros((1, batch_size, size), ctx=context) for _ in range(self.state_count)]
            for size in self._layer_sizes
            for _ in range(self.directions)
        ]

    def pack(self, *, together: bool = False, for_scoring: bool = False) -> None:
        """`gluon_rnn.networks.layers.FusedLayer.pack` of each fused layer.

        Args:
            together: all in one vector, if they can be one call of the operator, in which cuDNN computes a layer's
                steps beside those of the next. They can without dropout between them, in one direction, and with as
                many units each. The operator's own dropout is none: cuDNN seeds it with C's ``rand()`` when a device's
                first such layer is called, and never again, whatever the seed of an epoch (``rnn-inl.h`` and
                ``Resource::get_cudnn_dropout_desc`` of MXNet 1.9.1), so that a resumed run would draw other masks.
            for_scoring: see `gluon_rnn.networks.layers.FusedLayer.pack`.
        """
        fused = [layer for layer in self._layers if isinstance(layer, FusedLayer)]
        self._packed = None
        if together and self._one_call:
            order = [*(layer.weights for layer in fused), *(layer.biases for layer in fused)]
            self._packed = PackedParameters([parameter for pair in order for parameter in pair])
            return
        for layer in fused:
            layer.pack(for_scoring=for_scoring)

    @property
    def _one_call(self) -> bool:
        """Whether the layers can be one call of the operator: see `pack`."""
        undropped = not any(dropout.rate for dropout in self._dropouts)
        alike = all(isinstance(layer, FusedLayer) and not layer.weight_drop for layer in self._layers)
        return len(self._layers) > 1 and undropped and alike and self.directions == 1 and len({*self._layer_sizes}) == 1

    def packed(self, context: mx.Context) -> Tensors | None:
        """The vector of each layer on `context`, or that of all, together; None unless all have one."""
        if self._packed:
            vectors = [self._packed.on(context)]
        else:
            vectors = [layer.packed(context) if isinstance(layer, FusedLayer) else None for layer in self._layers]
        return None if any(vector is None for vector in vectors) else vectors

    def unroll(self, steps: int | None) -> None:
        """Set `gluon_rnn.networks.layers.StepwiseLayer.unrolled` of the layers that have it."""
        for layer in self._layers:
            if isinstance(layer, StepwiseLayer):
                layer.unrolled = steps

    def hybrid_forward(
        self, F: Any, inputs: Any, states: States, lengths: Any = None, vectors: Tensors | None = None
    ) -> tuple[Any, States]:
        """Inputs (steps, batch, features) and states to outputs (steps, batch, `output_size`) and states.

        `lengths`: see `layers.RecurrentLayer`. The backward direction begins at a sequence's last real step.
        `vectors`: see `packed`.
        """
        if vectors is not None and len(vectors) < len(self._layers):
            return self._in_one_call(F, inputs, states, vectors[0])
        optional = () if lengths is None else (lengths,)

        def reverse(sequences: Any) -> Any:
            return F.SequenceReverse(sequences, *optional, use_sequence_length=lengths is not None)

        after: States = []
        outputs = inputs
        for first in range(0, len(self._layers), self.directions):
            if first:
                outputs = self._dropouts[first // self.directions - 1](outputs)
            both = []
            for number in range(first, first + self.directions):
                backward = number > first
                packed = () if vectors is None else (None, vectors[number])
                layer_outputs, layer_states = self._layers[number](
                    reverse(outputs) if backward else outputs, states[number], *(packed or optional)
                )
                both.append(reverse(layer_outputs) if backward else layer_outputs)
                after.append(layer_states)
            outputs = F.concat(*both, dim=2) if len(both) > 1 else both[0]
        return outputs, after

    def _in_one_call(self, F: Any, inputs: Any, states: States, vector: Any) -> tuple[Any, States]:
        """See `pack`."""
        layer, count = self._layers[0], len(self._layers)
        before = (F.concat(*kind, dim=0) for kind in zip(*states, strict=True))  # (layers, batch, units) each
        outputs, *after = F.RNN(
            inputs,
            vector,
            *before,
            state_size=layer.hidden_size,
            num_layers=count,
            mode=layer.mode,
            state_outputs=True,
        )
        kinds = [F.split(kind, num_outputs=count, axis=0) for kind in after]
        return outputs, [[kind[number] for kind in kinds] for number in range(count)]


class OneHot(HybridBlock):
    """One-hot vectors of ids: an embedding without parameters to train."""

    def __init__(self, vocab_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size

    def hybrid_forward(self, F: Any, inputs: Any) -> Any:
        """Ids of any shape to float32 with one more axis, of `vocab_size`."""
        return F.one_hot(inputs, depth=self.vocab_size)


class Backbone(VariadicBlock):
    """A network up to its decoder, as one graph: embedding, recurrent layers, what is read of them, and the dropouts.

    Args:
        embedding: ids to vectors.
        encoder: the recurrent layers.
        output_dropout: of what is read.
        reads: ``outputs`` of every step, ``last`` those of the last step, or ``states``: the top layer's after the last
            step, of each direction, next to each other.
        alpha, beta: see `gluon_rnn.networks.regularization.activation_penalties`; where ``outputs`` are read.
    """

    def __init__(
        self,
        embedding: nn.HybridSequential,
        encoder: RecurrentStack,
        output_dropout: Dropout,
        reads: str,
        *,
        alpha: float = 0.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embedding = embedding
        self.encoder = encoder
        self.output_dropout = output_dropout
        #: What is read.
        self.reads = reads
        self._factors = {"alpha": alpha, "beta": beta}
        self._unrolled: frozenset[int] = frozenset()

    def unroll(self, *steps: int) -> None:
        """Compute windows of each of these lengths, without padding, by a graph of their own, in which layers from
        scratch are unrolled. One graph, which loops over the steps, computes all others.

        MXNet 1.9.1 runs the operators of a loop's step one by one. Those of an unrolled graph it launches in bulk, and
        on a GPU makes one kernel of elementwise neighbours (``pointwise_fusion_pass.cc``).
        """
        self._unrolled = frozenset(steps)

    def _kind_of_call(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # MXNet may fuse in an unrolled graph, whose arrays then must not change their shapes: see `FUSION_VARIABLE`.
        return *super()._kind_of_call(args), None if self._unrolled_steps(*args) is None else args[0].shape

    def _may_fuse(self, args: tuple[Any, ...]) -> bool:
        return super()._may_fuse(args) or self._unrolled_steps(*args) is not None

    def _unrolled_steps(self, inputs: Any, states: States, lengths: Any = None, *vectors: Any) -> int | None:
        return len(inputs) if lengths is None and len(inputs) in self._unrolled else None

    def _build_cache(self, *args: Any) -> None:
        self.encoder.unroll(self._unrolled_steps(*args))
        try:
            super()._build_cache(*args)
        finally:
            self.encoder.unroll(None)

    def hybrid_forward(
        self, F: Any, inputs: Any, states: States, lengths: Any = None, vectors: Tensors | None = None
    ) -> tuple[Any, Tensors, States]:
        """Ids (steps, batch), states and perhaps lengths (batch,) or the encoder's vectors to what is read, (steps,
        batch, units) or (1, batch, units), penalties of shape (1,) on what is trained, and the states after the last
        step.
        """
        outputs, states = self.encoder(self.embedding(inputs), states, lengths, vectors)
        if self.reads == "last":
            outputs = F.slice_axis(outputs, axis=0, begin=-1, end=None)
        elif self.reads == "states":
            # h of each direction, then c of each: (1, batch, state_count x directions x units)
            top = states[-self.encoder.directions :]
            outputs = F.concat(*(state for kind in zip(*top, strict=True) for state in kind), dim=2)
        dropped = self.output_dropout(outputs)
        return dropped, activation_penalties(F, outputs, dropped, **self._factors), states


class SequenceModel(VariadicBlock):
    """The common part of all networks: a hybridized backbone and a dense decoder."""

    _backbone: tuple[Backbone]
    decoder: nn.HybridSequential
    ties_weights = False

    @property
    def backbone(self) -> Backbone:
        """The network without its decoder, as one graph."""
        return self._backbone[0]

    @property
    def embedding(self) -> nn.HybridSequential:
        """The embedding and its dropout."""
        return self.backbone.embedding

    @property
    def encoder(self) -> RecurrentStack:
        """The recurrent layers."""
        return self.backbone.encoder

    def hybridize(self, active: bool = True, **flags: Any) -> None:
        """As ``HybridBlock.hybridize``, but never with `static_shape`, which MXNet 1.9.1 gets wrong in two ways.

        With ``F.contrib.foreach`` in the graph it computes nonsense: outputs that change from call to call, NaN among
        them, or "We didn't record the computation for iteration N" in the backward pass (seen by comparing custom_lstm
        with lstm). With the fused LSTM on a CPU two models with the same parameters differ in the last bit (oneDNN is
        given memory whose alignment depends on the heap), so that a resumed run would not have the bits of one never
        stopped. It gained nothing measurable: 55 to 58 ms a step of forward and backward with and without.
        """
        super().hybridize(active, **{**flags, "static_shape": False})

    def begin_state(self, batch_size: int, context: mx.Context) -> States:
        """The state before the first token: zeros."""
        return self.encoder.begin_state(batch_size, context)

    def read(self, shard: Shard, state: States) -> tuple[mx.nd.NDArray, mx.nd.NDArray | None, States]:
        """Run the backbone over `shard`.

        Returns:
            The units for its targets, (rows, columns, units); the sum of the network's penalties, to be added to the
            mean loss in training, of shape (1,), or None where it has none; and the state after the last step.
        """
        vectors = self.encoder.packed(shard.inputs.context) if shard.lengths is None else None
        units, penalties, state = self.backbone(shard.inputs, state, shard.lengths, vectors)
        return units, mx.nd.add_n(*penalties) if penalties else None, state

    def hybrid_forward(self, F: Any, inputs: Any, states: States, lengths: Any = None) -> tuple[Any, States]:
        """What `Backbone` takes to logits (steps or 1, batch, classes) and the states after the last step."""
        outputs, _, states = self.backbone(inputs, states, lengths)
        return self.decoder(outputs), states


class RNNLanguageModel(SequenceModel):
    """What GluonNLP 0.10's ``StandardRNN`` and ``AWDRNN`` compute, hybridizable, with every dropout on every device.

    Embedding (initialised by Uniform(0.1), as theirs, unless said), dropout, recurrent layers with dropout between
    them, dropout with one mask for all steps of a window, and a dense decoder. Parameter files are interchangeable with
    GluonNLP's models, because blocks and parameters are named as theirs: ``load_parameters`` reads what their
    ``save_parameters`` writes and what their script writes of averaged parameters, which go by older names.
    ``collect_params().save(path, model.prefix)`` writes the latter. The names are those of ``StandardRNN`` unless the
    model has what only ``AWDRNN`` has.

    Args:
        cell: see `gluon_rnn.networks.layers.build_layer`.
        vocab_size: tokens.
        embed_size: units of the embedding; None: it is one-hot.
        hidden_size: units of each recurrent layer; of the last `embed_size` where weights are tied.
        num_layers: recurrent layers.
        dropout: rate of all three dropouts, of those that `awd` does not give a rate.
        tie_weights: the decoder's weights are the embedding's.
        last_only: predict the token after the last step alone, not those after every step.
        embedding_initializer: ``uniform`` from -0.1 to 0.1, or ``normal`` of deviation 1.
        awd: further dropouts.
        alpha, beta: see `Backbone`.
    """

    def __init__(
        self,
        cell: str,
        vocab_size: int,
        *,
        embed_size: int | None,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        tie_weights: bool,
        last_only: bool = False,
        embedding_initializer: str = "uniform",
        awd: AWDDropouts = NO_AWD,
        alpha: float = 0.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        last_size = embed_size if tie_weights and embed_size else hidden_size
        is_awd = awd != NO_AWD or last_size != hidden_size
        with self.name_scope():
            embedding = _build_embedding(vocab_size, embed_size, dropout, embedding_initializer, awd)
            encoder = RecurrentStack(
                cell,
                input_size=embed_size or vocab_size,
                layer_sizes=[*[hidden_size] * (num_layers - 1), last_size],
                apart=is_awd,
                prefix="hybridsequential1_" if is_awd else "",
                **_between_layers(num_layers, dropout, awd),
            )
            reads = "last" if last_only else "outputs"
            backbone = Backbone(embedding, encoder, Dropout(dropout, axes=(0,)), reads, alpha=alpha, beta=beta)
            # Under no name, so that its parameters are embedding.0.weight and so on in files, as GluonNLP's are. In a
            # tuple, since an attribute that is a block would be registered under the attribute's name.
            self.register_child(backbone, "")
            self._backbone = (backbone,)
            self.ties_weights = tie_weights
            self.decoder = nn.HybridSequential(prefix="hybridsequential2_" if is_awd else "hybridsequential1_")
            with self.decoder.name_scope():
                shared = embedding[0].params if tie_weights else None
                self.decoder.add(nn.Dense(vocab_size, in_units=last_size, flatten=False, params=shared))


class RNNLabeller(SequenceModel):
    """Labels for sequences of any lengths, or for each of their tokens: the networks rnn_classifier and rnn_tagger.

    Embedding, dropout, recurrent layers in one or both directions over all but padding, dropout, and a dense decoder on
    each step's outputs or, for one label a sequence, on the top layer's last states (of an LSTM h and c) of each
    direction.

    Args:
        cell: see `gluon_rnn.networks.layers.build_layer`.
        vocab_size: tokens.
        classes: labels.
        embed_size: units of the embedding; None: it is one-hot.
        hidden_size: units of each recurrent layer and direction.
        num_layers: recurrent layers.
        dropout: rate of all three dropouts, of those that `awd` does not give a rate.
        bidirectional: read in both directions.
        each_token: a label for each token, not for the sequence.
        embedding_initializer: ``uniform`` from -0.1 to 0.1, or ``normal`` of deviation 1.
        awd: further dropouts.
    """

    def __init__(
        self,
        cell: str,
        vocab_size: int,
        classes: int,
        *,
        embed_size: int | None,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        bidirectional: bool,
        each_token: bool,
        embedding_initializer: str = "uniform",
        awd: AWDDropouts = NO_AWD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            embedding = _build_embedding(vocab_size, embed_size, dropout, embedding_initializer, awd)
            encoder = RecurrentStack(
                cell,
                input_size=embed_size or vocab_size,
                layer_sizes=[hidden_size] * num_layers,
                bidirectional=bidirectional,
                **_between_layers(num_layers, dropout, awd),
            )
            backbone = Backbone(embedding, encoder, Dropout(dropout), "outputs" if each_token else "states")
            self.register_child(backbone, "")
            self._backbone = (backbone,)
            units = encoder.output_size * (1 if each_token else encoder.state_count)
            self.decoder = nn.HybridSequential()
            with self.decoder.name_scope():
                self.decoder.add(nn.Dense(classes, in_units=units, flatten=False))


def _build_embedding(
    vocab_size: int, embed_size: int | None, dropout: float, initializer: str, awd: AWDDropouts
) -> nn.HybridSequential:
    embedding = nn.HybridSequential()
    with embedding.name_scope():
        embedding.add(
            OneHot(vocab_size)
            if embed_size is None
            else Embedding(
                vocab_size, embed_size, awd.embedding, weight_initializer=_EMBEDDING_INITIALIZERS[initializer]
            ),
            Dropout(dropout) if awd.input is None else Dropout(awd.input, axes=(0,)),
        )
    return embedding


def _between_layers(num_layers: int, dropout: float, awd: AWDDropouts) -> dict[str, Any]:
    """The dropout arguments of a `RecurrentStack`."""
    rate, axes = (dropout, ()) if awd.hidden is None else (awd.hidden, (0,))
    return {"dropouts": [rate] * (num_layers - 1), "axes": axes, "weight_drop": awd.weight}


def _sizes(config: RunConfig) -> dict[str, Any]:
    """The arguments that all networks share."""
    return {
        "embed_size": None if config.embedding == "one_hot" else config.embedding_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "dropout": config.dropout,
        "embedding_initializer": config.embedding_initializer,
        "awd": AWDDropouts(
            input=config.dropout_input,
            hidden=config.dropout_hidden,
            embedding=config.dropout_embedding,
            weight=config.weight_drop,
        ),
    }


def _language_model(config: RunConfig, vocab_size: int, classes: int | None) -> SequenceModel:
    last_only = config.objective == "next_token"
    return RNNLanguageModel(
        config.cell,
        vocab_size,
        tie_weights=config.tie_weights,
        last_only=last_only,
        alpha=config.alpha,
        beta=config.beta,
        **_sizes(config),
    )


def _labeller(config: RunConfig, vocab_size: int, classes: int | None) -> SequenceModel:
    assert classes is not None
    each_token = config.objective == "tagging"
    return RNNLabeller(
        config.cell, vocab_size, classes, bidirectional=config.bidirectional, each_token=each_token, **_sizes(config)
    )


#: How each model of a configuration is built, from that, the number of tokens and that of labels.
BUILDERS: dict[str, Callable[[RunConfig, int, int | None], SequenceModel]] = {
    "rnn_lm": _language_model,
    "rnn_classifier": _labeller,
    "rnn_tagger": _labeller,
    **dict.fromkeys(PRESETS, _language_model),
}
assert set(BUILDERS) == set(MODELS)


def build_network(config: RunConfig, vocab_size: int, *, classes: int | None = None) -> SequenceModel:
    """The model of `config`, whose parameters have no values until they are initialised or loaded.

    What is not trained (`train_embedding`) has no gradient.

    Args:
        config: of the run.
        vocab_size: tokens.
        classes: labels; None: what is predicted are tokens.
    """
    model = BUILDERS[config.model](config, vocab_size, classes)
    if not config.train_embedding:
        model.embedding.collect_params().setattr("grad_req", "null")
    return model


def build_model(
    config: RunConfig,
    vocab_size: int,
    *contexts: mx.Context,
    classes: int | None = None,
    vectors: np.ndarray[Any, Any] | None = None,
) -> SequenceModel:
    """The model of `config`, initialised from its seed and hybridized, with the same parameters on each context.

    It seeds the random streams of NumPy and MXNet.

    Args:
        config: of the run.
        vocab_size: tokens.
        contexts: of the devices.
        classes: labels; None: what is predicted are tokens.
        vectors: initial embedding, float32, (vocab_size, embed_size); None: it is random or one-hot.
    """
    model = build_network(config, vocab_size, classes=classes)
    # Orthogonal draws from numpy, the others from MXNet.
    mx.random.seed(config.seed)
    np.random.seed(config.seed)
    model.initialize(_INITIALIZERS[config.initializer](), ctx=list(contexts))
    if vectors is not None:
        model.embedding[0].weight.set_data(mx.nd.array(vectors))
    on_gpu = contexts[0].device_type == "gpu"
    model.encoder.pack(together=on_gpu)
    # On a CPU `static_alloc` gains no time, and keeps what oneDNN remembers of a layer's forward pass (123 MB of each
    # LSTM of 650 units) until the next window's. On a GPU it was not compared.
    model.hybridize(static_alloc=on_gpu)
    if on_gpu:
        # On a CPU a step takes as long either way (LSTM 200 from scratch: 102 ms of one core unrolled, 107 not), and
        # the sum of the steps' gradients is rounded otherwise.
        model.backbone.unroll(*(steps for steps in (config.bptt, config.eval_bptt) if steps <= _MOST_UNROLLED))
    return model


def trained_parameters(model: HybridBlock) -> list[Parameter]:
    """The parameters that are trained; tied ones once."""
    return [parameter for parameter in model.collect_params().values() if parameter.grad_req != "null"]


def count_parameters(model: HybridBlock) -> int:
    """The number of trained values; tied weights count once."""
    return sum(int(np.prod(parameter.shape)) for parameter in trained_parameters(model))
