"""An estimate of a run's GPU memory, and what would reduce it.

The formula was fitted to a step of `standard_lstm_lm_200`, `_650` and `_1500` on WikiText-2 (33,278 words, bptt 35,
batch 20, SGD), after which an H100's driver reported 1,878, 2,310 and 3,408 MiB in use. It gives 1,879, 2,314 and
3,405.
"""

from __future__ import annotations

from collections.abc import Iterator

from gluon_rnn.config.run import LABELLED, RunConfig

_MIB = 2**20
_FLOAT = 4  # bytes
#: MiB of CUDA's context and the kernels of MXNet, cuDNN and cuBLAS, as fitted (H100, CUDA 11.8, cuDNN 8.9). Smaller
#: GPUs have smaller contexts; the other figure is below any that we know of.
_CONTEXT, _SMALLEST_CONTEXT = 1450, 300
#: Arrays as large as the parameters: they, their gradients, and what MXNet's pool keeps of making these.
_PARAMETERS = 4
#: Arrays of (tokens, units) for each gate of a layer: what its forward pass keeps for the backward one (cuDNN's
#: reserve), its workspace and its gradients. And those that are no layer's: embedding, dropouts, outputs.
_A_GATE, _OTHERS = 10, 14
#: Arrays as large as a block of logits: in training, in evaluation, and one that is on its way.
_LOGITS = 3
#: `gluon_rnn.training.decoder.LOGITS_IN_A_BLOCK`, which cannot be imported without MXNet.
_LOGITS_IN_A_BLOCK = 1 << 25
_GATES = {"lstm": 4, "gru": 3}
#: Arrays that Gluon's optimizers keep for a parameter; of SGD and NAG one with momentum.
_STATES = {
    **dict.fromkeys(("adam", "adamax", "adadelta", "ftrl", "lamb"), 2),
    **dict.fromkeys(("adagrad", "rmsprop", "signum"), 1),
    "ftml": 3,
}


def count_parameters(config: RunConfig, vocabulary: int) -> int:
    """The number of parameters of `config`'s model, tied weights counted once; for a user's cell a lower bound.

    Args:
        config: of the run.
        vocabulary: tokens; of a labelled corpus the labels are left out.
    """
    embedded = 0 if config.embedding == "one_hot" else vocabulary * config.embedding_size
    recurrent, features = 0, _features(config, vocabulary)
    directions = 2 if config.bidirectional else 1
    for size in _layer_sizes(config):
        joined = features + (size if config.cell == "char_loop_concat" else 0)
        recurrent += directions * _gates(config) * size * (joined + size + 2)
        features = size * directions
    if config.objective in LABELLED:
        return embedded + recurrent
    return embedded + recurrent + vocabulary * (1 if config.tie_weights else features + 1)


def gpu_memory_mb(config: RunConfig, vocabulary: int, *, context: float = _CONTEXT) -> float:
    """The memory in MiB that a run of `config` needs on each of its GPUs, including the CUDA context.

    It is: context + 4 bytes x ((4 + optimizer's states + average's) x parameters + 3 x a block of logits + tokens of a
    batch x units x (10 x gates x layers + 14)). Where lengths vary (labelled sequences), the parts that depend on them
    are left out.

    Args:
        config: of the run; each of several GPUs has its share of the batch.
        vocabulary: tokens; 0: it is not known, and what depends on it is left out.
        context: of CUDA and the libraries.
    """
    columns = -(-config.batch_size // len(config.devices))
    tokens = 0 if config.objective in LABELLED else columns * config.bptt
    targets = columns if config.objective == "next_token" else tokens
    in_a_block = min(targets, max(1, _LOGITS_IN_A_BLOCK // max(1, vocabulary)))
    units = sum(size * _gates(config) for size in _layer_sizes(config)) * _A_GATE + config.hidden_size * _OTHERS
    numbers = (
        (_PARAMETERS + _states(config)) * count_parameters(config, vocabulary)
        + _LOGITS * in_a_block * vocabulary
        + tokens * units
    )
    return context + _FLOAT * numbers / _MIB


def least_gpu_memory_mb(config: RunConfig, vocabulary: int) -> float:
    """`gpu_memory_mb` with the smallest context: what does not fit by this fits nowhere."""
    return gpu_memory_mb(config, vocabulary, context=_SMALLEST_CONTEXT)


def what_would_fit(config: RunConfig, vocabulary: int, memory_mb: float) -> str:
    """The first of a smaller batch, window or layer with which a run needs at most `memory_mb`, in words.

    Empty if none does, or if `config` itself should.
    """
    if gpu_memory_mb(config, vocabulary) <= memory_mb:
        return ""
    square = config.embedding == "random" and config.embed_size == config.hidden_size
    for name, value in _smaller(config):
        changed = {name: value, **({"embed_size": value} if name == "hidden_size" and square else {})}
        needed = gpu_memory_mb(config.model_copy(update=changed), vocabulary)
        if needed <= memory_mb:
            return f"{name}={value} would take about {needed:,.0f} MiB"
    return ""


def advice(config: RunConfig, vocabulary: int | None, memory_mb: float | None) -> str:
    """Advice, in one line, for a run that ran out of memory.

    Args:
        config: of the run.
        vocabulary: tokens; None: not known.
        memory_mb: of the smallest of its GPUs; None: not known, or it ran on a CPU.
    """
    general = "lower batch_size, bptt, hidden_size or num_layers"
    if config.device_kind != "gpu":
        return f"{general}, or run fewer points side by side (--jobs)"
    if vocabulary is None or memory_mb is None:
        return f"{general}, or take a larger GPU"
    estimate = f"it takes about {gpu_memory_mb(config, vocabulary):,.0f} of the GPU's {memory_mb:,.0f} MiB"
    if fitting := what_would_fit(config, vocabulary, memory_mb):
        return f"{estimate}; {fitting}"
    if gpu_memory_mb(config, vocabulary) <= memory_mb:
        return f"{estimate}, and nvidia-smi shows who has the rest; else {general}"
    return f"{estimate}; {general}, or take a larger GPU"


def _smaller(config: RunConfig) -> Iterator[tuple[str, int]]:
    """Halves of each setting, down to one sequence a device, 8 steps and 8 units; never what a preset fixes."""
    shares = len(config.devices)
    settings = [("batch_size", shares), ("bptt", 8)] + [("hidden_size", 8)] * (config.model.startswith("rnn_"))
    for name, least in settings:
        value = getattr(config, name) // 2
        while value >= least:
            yield name, value // shares * shares if name == "batch_size" else value
            value //= 2


def _gates(config: RunConfig) -> int:
    return _GATES.get(config.cell.removeprefix("custom_"), 1)


def _features(config: RunConfig, vocabulary: int) -> int:
    return vocabulary if config.embedding == "one_hot" else config.embedding_size


def _layer_sizes(config: RunConfig) -> list[int]:
    tied = config.tie_weights and config.embedding != "one_hot" and config.objective not in LABELLED
    last = config.embedding_size if tied else config.hidden_size
    return [*[config.hidden_size] * (config.num_layers - 1), last]


def _states(config: RunConfig) -> int:
    averaged = config.averaging != "none"
    return _STATES.get(config.optimizer, 1 if config.momentum else 0) + 2 * averaged
