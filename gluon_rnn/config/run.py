"""One run's configuration, validated and immutable.

Defaults are stated here and nowhere else. They are the recipe of GluonNLP's word language model with
``standard_lstm_lm_200`` (scripts/language_model/word_language_model.py, GluonNLP 0.10): SGD at learning rate 20,
gradients clipped to a global norm of 0.25, the rate multiplied by 0.25 whenever validation does not improve. Other
cells and optimizers have default rates of their own (`default_learning_rate`).
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.markup import html_table
from gluon_rnn.common.printable import printable, quoted
from gluon_rnn.common.processes import python_path
from gluon_rnn.config.aliases import ALIASES, plain

FUSED_CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
CUSTOM_CELLS = ("custom_lstm", "custom_gru", "custom_rnn", "char_loop", "char_loop_concat")

Objective = Literal["language_model", "next_token", "classification", "tagging"]
#: The objectives whose targets are labels beside the text, not its own tokens.
LABELLED = ("classification", "tagging")

#: The settings that a preset fixes, in the order of the numbers below.
_FIXED = (
    *("cell", "hidden_size", "embed_size", "num_layers", "tie_weights"),
    *("dropout", "dropout_input", "dropout_hidden", "dropout_embedding", "weight_drop"),
)
#: GluonNLP 0.10's model zoo: ``standard_lstm_lm_hparams`` and ``awd_lstm_lm_hparams`` of
#: ``gluonnlp.model.language_model``.
PRESETS: dict[str, dict[str, Any]] = {
    name: dict(zip(_FIXED, ("lstm", *values), strict=True))
    for name, values in {
        "standard_lstm_lm_200": (200, 200, 2, True, 0.2, None, None, 0.0, 0.0),
        "standard_lstm_lm_650": (650, 650, 2, True, 0.5, None, None, 0.0, 0.0),
        "standard_lstm_lm_1500": (1500, 1500, 2, True, 0.65, None, None, 0.0, 0.0),
        "awd_lstm_lm_600": (600, 200, 3, True, 0.2, 0.3, 0.1, 0.05, 0.2),
        "awd_lstm_lm_1150": (1150, 400, 3, True, 0.4, 0.65, 0.2, 0.1, 0.5),
    }.items()
}
_OF_TEXT: tuple[Objective, ...] = ("language_model", "next_token")
#: The objectives of each model; an objective's first model is its default. `networks.models.BUILDERS` builds them.
MODELS: dict[str, tuple[Objective, ...]] = {
    "rnn_lm": _OF_TEXT,
    "rnn_classifier": ("classification",),
    "rnn_tagger": ("tagging",),
    **dict.fromkeys(PRESETS, _OF_TEXT),
}

Optimizer = Literal["sgd", "nag", "adam", "adagrad", "adadelta", "rmsprop", "adamax", "ftml", "ftrl", "signum", "lamb"]
Precision = Literal["float32", "tf32", "float16", "bfloat16"]
Level = Literal["word", "character"]
LastBatch = Literal["discard", "keep"]
Schedule = Literal["plateau", "linear", "cosine", "one_cycle"]
Initializer = Literal["xavier", "uniform", "normal", "orthogonal"]
EmbeddingInitializer = Literal["uniform", "normal"]
#: Epochs of the non-monotone criterion of averaging=ntasgd (Merity et al., 2017), and the first with which averaging
#: can begin by it.
NON_MONOTONE, EARLIEST_NTASGD = 5, 8
_WITH_MOMENTUM, _SAID_WITH_MOMENTUM = ("sgd", "nag", "adam"), "sgd, nag or adam"
#: Of MXNet 1.9.1's Adam, unless given.
_ADAM_MOMENTUM = 0.9

#: What stands for `default_learning_rate`. Validation replaces it, so that a configuration's rate is a number.
AUTO: Any = "auto"
#: Of a language model under SGD. 20 is GluonNLP's for an LSTM; the other cells' are those that a search over a quarter
#: of an epoch of WikiText-2 with 200 units found best (results/learning-rate-cpu); after three epochs each is still
#: better than half and twice the rate (results/cells-search-cpu). A cell from scratch computes what its fused twin
#: does. fast.ai's cells were in neither: with 200 units and 499 steps of quick.yaml char_loop reached 1,549 at 0.5,
#: 1,442 at 1, 1,975 at 2.5 and 2,534 at 5.
_SGD_RATES = {
    **dict.fromkeys(("lstm", "custom_lstm"), 20.0),
    **dict.fromkeys(("gru", "custom_gru"), 10.0),
    **dict.fromkeys(("rnn_tanh", "custom_rnn", "rnn_relu"), 2.5),
    **dict.fromkeys(("char_loop", "char_loop_concat"), 1.0),
}
#: Of a user's own cell: none of those in the search failed at it.
_SGD_RATE = 2.5
#: Of other objectives under SGD. In an epoch of benchmarks/reference/d1_tweets.yaml an LSTM, a GRU and a tanh RNN did
#: better with it than with 5 (0.730, 0.709, 0.747 nats a label vs. 0.780, 0.738, 2.648); 20 left the LSTM at 1.829.
_LABEL_RATE = 1.0
#: MXNet 1.9.1's own defaults (python/mxnet/optimizer/optimizer.py), but for four. In 499 steps of quick.yaml, where the
#: unigram model has perplexity 1,280, those left an LSTM of 50 units above it, and these did not: Adam with
#: 0.001 at 1,313 (0.003: 1,165), RMSProp with 0.001 at 1,409 (0.01: 871), Signum with 0.01 at 2.9e13 (0.001: 1,085),
#: Adamax with 0.005 at 1,387 (0.02: 1,152). LAMB (0.001 to 0.1) and FTRL (0.1) learned nothing. Adadelta reads no rate.
_OPTIMIZER_RATES = {
    "adam": 0.003,
    "rmsprop": 0.01,
    "adagrad": 0.01,
    "ftml": 0.01,
    "signum": 0.001,
    "adamax": 0.02,
    "lamb": 0.001,
    "ftrl": 0.1,
    "adadelta": 1.0,
}

#: A user's own class by the file that defines it.
_CELL_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL)
_CELL_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: One of the devices of a run; Python's own digits are those of all scripts.
_DEVICE = re.compile(r"auto|(cpu|gpu)(:[0-9]{1,2})?")
#: Of any count: MXNet 1.9.1 counts and indexes in 32 bits.
MOST = 2**31 - 1
#: The weights of a layer's four gates are then 2**30 numbers, the last power of two that an array of MXNet's may hold.
_WIDEST = 2**14
#: More recurrent layers than anyone has trained; each is a separate block to build.
_DEEPEST = 128
#: Epochs of a run that a time budget ends.
_UNBOUNDED_EPOCHS = 10_000
#: The fix for what YAML does not read as text.
QUOTE_HINT = "put it in quotes if it is text"


def _number(value: Any) -> Any:
    """Refuse ``true`` where a number belongs (Python counts it as 1), and read ``none`` from the command line."""
    if isinstance(value, bool):
        raise ValueError("a number is needed here, not true or false")
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


def _or_auto(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Let ``auto`` pass where a number belongs."""
    return AUTO if isinstance(value, str) and value.strip().lower() == AUTO else validate(value)


def _module_in(file: str) -> str:
    """The module that Python finds in a file of the current folder, or of another on its path.

    Results name a cell by its module, so that a run keeps its name wherever the file lies.
    """
    path = os.path.realpath(file)
    for folder in sorted(map(os.path.realpath, python_path()), key=len, reverse=True):
        if os.path.dirname(path) == folder or path.startswith(f"{folder}{os.sep}"):
            parts = os.path.relpath(path, folder).removesuffix(".py").split(os.sep)
            if not all(part.isidentifier() for part in parts):
                raise ValueError(f"{quoted(file)} cannot be imported; rename it to letters, digits and '_'")
            return ".".join(parts)
    folder, name = os.path.split(file)
    raise ValueError(
        f"{quoted(file)} is not in this folder or on Python's path; set PYTHONPATH={printable(folder)} and name its "
        f"class as {printable(name.removesuffix('.py'))}:CellClass"
    )


def _averaging(value: Any) -> str:
    """The one spelling of ``none``, ``ntasgd``, the number of an epoch or ``step`` and the number of a step."""
    text = "" if isinstance(value, bool) else str(value).strip().lower()
    if text in ("none", "ntasgd") and value is not None:
        return text
    found = re.fullmatch(r"(step\s+)?([0-9]{1,10})", text)
    if found and 1 <= int(found[2]) <= MOST:
        return f"{'step ' if found[1] else ''}{int(found[2])}"
    raise ValueError("choose none, ntasgd, the number of an epoch, from 1 on, or a step, such as 'step 5000'")


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]
Count = Annotated[Whole, Field(ge=1, le=MOST)]
CountOrZero = Annotated[Whole, Field(ge=0, le=MOST)]
Rate = Annotated[Real, Field(ge=0, lt=1)]
OptionalRate = Annotated[Annotated[float, Field(ge=0, lt=1)] | None, BeforeValidator(_number)]
OptionalCount = Annotated[Annotated[int, Field(ge=1, le=MOST)] | None, BeforeValidator(_number)]


class SettingError(UserError, ValueError):
    """A setting that does not exist, or a value that it cannot have."""


class RunConfig(BaseModel):
    """Everything that decides one run; each field is a setting for ``--set`` and ``--axis``.

    Constructing one checks every value and their combination. A preset in `model` fills in the fields it fixes;
    `embed_size` defaults to `hidden_size`, and `learning_rate` to `default_learning_rate`.

    Its text lists what differs from the defaults, as code that makes it again.

    Raises:
        SettingError: a name is not a setting, a value is of the wrong type or out of range, or two fields contradict
            each other; in one line, as the command line prints it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    dataset: Annotated[str, Field(min_length=1)] = "auto"
    """corpus: wikitext-2, nietzsche, hihello, airline-tweets, conll-2000, synthetic, a folder with train.txt, valid.txt
    and test.txt, or auto (the objective's published corpus if it is available, else synthetic)"""
    objective: Objective = "language_model"
    """what to predict: language_model (each next token of a text, with the state carried over), next_token (the token
    after a window of bptt tokens), classification (the label of a sequence) or tagging (a label for each token)"""
    level: Level = "word"
    """what a token is: word or character"""
    lower: bool = False
    """convert the text to lower case"""
    min_freq: Count = 1
    """words and labels that occur less often in the training text become <unk>"""
    model: Annotated[str, Field(description=f"network: {', '.join(MODELS)} (default: the objective's)")] = "rnn_lm"
    cell: Annotated[
        str,
        Field(
            description=f"recurrent cell: {', '.join(FUSED_CELLS + CUSTOM_CELLS)}, or your own as module:CellClass or "
            "file.py:CellClass"
        ),
    ] = "lstm"
    bptt: Count = 35
    """window length in steps for truncated backpropagation through time"""
    random_bptt: bool = False
    """draw each training window's length, as AWD-LSTM does: around bptt, or half of it for one window in twenty, and at
    least 5 steps; the learning rate of a step is multiplied by its window's length / bptt"""
    hidden_size: Annotated[Whole, Field(ge=1, le=_WIDEST)] = 200
    """units in each recurrent layer; with tie_weights the last layer is as wide as the embedding"""
    embed_size: Annotated[Annotated[int, Field(ge=1, le=_WIDEST)] | None, BeforeValidator(_number)] = None
    """units in the embedding; none: as wide as the given vectors, else hidden_size"""
    embedding: Annotated[str, Field(min_length=1, max_length=4096)] = "random"
    """random, one_hot, a file of word vectors in GloVe's or word2vec's text format, or GluonNLP's name for published
    ones, such as glove:glove.6B.300d; words without a vector are initialised at random"""
    train_embedding: bool = True
    """train the embedding; false: keep it fixed"""
    bidirectional: bool = False
    """read sequences in both directions, for classification and tagging"""
    num_layers: Annotated[Whole, Field(ge=1, le=_DEEPEST)] = 2
    """recurrent layers"""
    dropout: Rate = 0.2
    """dropout rate before the decoder, and after the embedding and between layers unless the next two settings are
    given"""
    dropout_input: OptionalRate = None
    """dropout rate after the embedding, with one mask for all steps of a window; none: dropout, with a mask for each
    step"""
    dropout_hidden: OptionalRate = None
    """dropout rate between layers, with one mask for all steps of a window; none: dropout, with a mask for each step"""
    dropout_embedding: Rate = 0.0
    """share of the vocabulary whose rows of the embedding are dropped, drawn for each window; a tied decoder keeps
    them"""
    weight_drop: Rate = 0.0
    """dropout rate of the recurrent weights (h2h_weight), with one mask for each window"""
    tie_weights: bool = True
    """share weights between the embedding and the decoder"""
    batch_size: Count = 20
    """sequences in a training batch"""
    last_batch: LastBatch = "discard"
    """the end of a language model's text that does not fill a window: discard it, or keep it and mask the rest"""
    stride: Count = 1
    """next_token only: tokens from the start of one window to the start of the next"""
    precision: Precision = "float32"
    """precision of training's matrix products: float32; tf32 (in scoring as well), on a GPU of compute capability 8.0
    or higher; float16, for the decoder and with a dynamic loss scale, on a GPU of 7.0 or higher; or bfloat16, for the
    decoder, on a CPU where that is faster"""
    optimizer: Annotated[Optimizer, Field(description=f"Gluon optimizer: {', '.join(get_args(Optimizer))}")] = "sgd"
    learning_rate: Annotated[Real, Field(gt=0), WrapValidator(_or_auto)] = AUTO
    """learning rate of the first epoch; auto: one that suits the cell, the objective and the optimizer. With sgd and
    nag it is 20 for LSTM language models, 10 for GRUs, 2.5 for RNNs and cells of your own, and 1 otherwise, all times
    (1 - momentum); with adam 0.003, with rmsprop and adagrad 0.01 (gluon_rnn/config/run.py has the others)"""
    lr_decay: Annotated[Real, Field(gt=0, le=1)] = 0.25
    """factor applied to the learning rate when validation stops improving"""
    lr_patience: CountOrZero = 0
    """epochs without a new best validation loss to tolerate before the learning rate decays"""
    lr_steps: Annotated[str, Field(max_length=1000)] = ""
    """learning rates that take effect at given epochs, such as '2:0.001 5:0.0001'; empty: only lr_decay changes it"""
    lr_schedule: Schedule = "plateau"
    """learning rate over the run: plateau (lr_decay when validation stops improving, and lr_steps), linear (falls to 0
    at the end), cosine (likewise, along half a cosine) or one_cycle (rises from a 25th of learning_rate to all of it
    over the first 30 % of the steps, then falls to almost 0, both along half a cosine)"""
    averaging: Annotated[str, BeforeValidator(_averaging)] = "none"
    """evaluate and keep the mean of the parameters of all updates from some point on: none (no averaging), the number
    of the first epoch, a step of the run such as 'step 5000', or ntasgd (as soon as validation is worse than the best
    of all epochs but the last 5 before it)"""
    early_stopping: OptionalCount = None
    """stop after this many epochs without a new best validation loss; none: never"""
    clip: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_number)] = 0.25
    """clip gradients to this global norm; none: no clipping"""
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """momentum, with sgd and nag; with adam its beta1, where 0 stands for 0.9"""
    min_momentum: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, BeforeValidator(_number)] = None
    """lowest momentum of lr_schedule=one_cycle: momentum falls to it while the learning rate rises, and comes back
    while that falls; none: momentum stays as it is"""
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    """weight decay (L2 penalty)"""
    alpha: Annotated[Real, Field(ge=0)] = 0.0
    """activation regularization, for language models: weight of the mean square of the last layer's outputs, after
    dropout, in the training loss; reported losses exclude it"""
    beta: Annotated[Real, Field(ge=0)] = 0.0
    """temporal activation regularization: likewise, for the change of the last layer's outputs, before dropout, from
    one step to the next"""
    sampled_softmax: OptionalCount = None
    """train with a softmax over a step's targets and this many other words, drawn anew for each step, not the whole
    vocabulary; scoring always uses the whole vocabulary; none: so does training"""
    initializer: Annotated[
        Initializer, Field(description=f"initial weights, except the embedding's: {', '.join(get_args(Initializer))}")
    ] = "xavier"
    embedding_initializer: EmbeddingInitializer = "uniform"
    """initial random embedding: uniform (from -0.1 to 0.1, as in GluonNLP) or normal (standard, as in PyTorch)"""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    """random seed for the initial parameters and dropout"""
    epochs: Count = 3
    """passes over the training text; with time_budget the maximum, 10,000 by default"""
    time_budget: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_number)] = None
    """seconds of training and scoring (except that of test_once): the run ends with the last epoch that fits, and
    lr_schedule spans the epochs that are expected to fit; none: all epochs"""
    test_once: bool = False
    """score test once, at the end, with the parameters of the epoch whose validation loss is best; false: after every
    epoch with a new best validation loss"""
    max_steps: OptionalCount = None
    """measure speed only: this many steps after the warm-up, without evaluation; none: train whole epochs"""
    warmup_steps: CountOrZero = 10
    """first steps of a run, which are not timed"""
    max_train_tokens: OptionalCount = None
    """train on only this many tokens, the first ones; none: all"""
    max_eval_tokens: Annotated[Annotated[int, Field(ge=2, le=MOST)] | None, BeforeValidator(_number)] = None
    """evaluate only this many tokens of validation and test, the first ones; none: all"""
    eval_bptt: Count = 35
    """window length in steps for evaluation"""
    eval_batch_size: Count = 20
    """sequences in an evaluation batch"""
    log_interval: Count = 200
    """steps between two lines in the log"""
    device: str = "auto"
    """auto, cpu, gpu, cpu:N, gpu:N, or several that share every batch, such as gpu:0+gpu:1 (cpu:N are MXNet's CPU
    contexts, which all use the same cores)"""
    threads: Annotated[Annotated[int, Field(ge=1, le=4096)] | None, BeforeValidator(_number)] = None
    """CPU threads; none: an equal share of the cores"""

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in MODELS:
            raise ValueError(
                f"unknown model {quoted(value)}{did_you_mean(value, MODELS)}; choose from {', '.join(MODELS)}"
            )
        return value

    @field_validator("cell")
    @classmethod
    def _known_cell(cls, value: str) -> str:
        known = FUSED_CELLS + CUSTOM_CELLS
        if found := _CELL_FILE.fullmatch(value):
            value = f"{_module_in(found[1])}:{found[2]}"
        if value not in known and not _CELL_CLASS.fullmatch(value):
            raise ValueError(
                f"unknown cell {quoted(value)}{did_you_mean(value, known)}; choose from {', '.join(known)}, "
                "or name your own as module:CellClass or file.py:CellClass"
            )
        return value

    @field_validator("lr_steps")
    @classmethod
    def _known_steps(cls, value: str) -> str:
        return " ".join(f"{epoch}:{_spelled(rate)}" for epoch, rate in parse_steps(value))

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        return parse_device(value)

    @model_validator(mode="after")
    def _complete(self) -> RunConfig:
        self._complete_network()
        for name, value in PRESETS.get(self.model, {}).items():
            given = getattr(self, name)
            if name in self.model_fields_set and given is not None and given != value:
                fixed = "none" if value is None else value
                raise ValueError(
                    f"{name}={given} contradicts model={self.model}, which fixes {name}={fixed}; use model=rnn_lm"
                )
            object.__setattr__(self, name, value)
        if self.embed_size is None and self.embedding == "random":
            object.__setattr__(self, "embed_size", self.hidden_size)
        if self.embedding == "one_hot" and self.embed_size is not None:
            raise ValueError("embedding=one_hot is as wide as the vocabulary; leave embed_size out")
        if self.tie_weights and self.embedding == "one_hot":
            raise ValueError("tie_weights=true has nothing to tie with embedding=one_hot; set tie_weights=false")
        if self.tie_weights and not self.train_embedding:
            raise ValueError("tie_weights=true would leave the decoder untrained with train_embedding=false; untie it")
        if self.tie_weights and self.num_layers == 1 and self.embed_size not in (None, self.hidden_size):
            raise ValueError(
                f"tie_weights=true with num_layers=1 needs embed_size equal to hidden_size, not "
                f"{self.embed_size} and {self.hidden_size}; set tie_weights=false or leave embed_size out"
            )
        if self.momentum and self.optimizer not in _WITH_MOMENTUM:
            raise ValueError(f"momentum={self.momentum} needs optimizer={_SAID_WITH_MOMENTUM}, not {self.optimizer}")
        self._check_min_momentum()
        if self.lr_steps and self.lr_schedule != "plateau":
            raise ValueError(f"lr_steps needs lr_schedule=plateau, not {self.lr_schedule}")
        if self.time_budget and "epochs" not in self.model_fields_set:
            object.__setattr__(self, "epochs", _UNBOUNDED_EPOCHS)
        if self.learning_rate == AUTO:
            object.__setattr__(self, "learning_rate", default_learning_rate(self))
        return self

    def _complete_network(self) -> None:
        """Choose the objective's network, and refuse settings that do not fit it."""
        default = _default_model(self.objective)
        if "model" not in self.model_fields_set:
            object.__setattr__(self, "model", default)
        if self.objective not in MODELS[self.model]:
            raise ValueError(
                f"model={self.model} does not fit objective={self.objective}, which uses {default}; leave model out"
            )
        if self.objective != "language_model":
            # Labels are not words, and the last units of a window need not be as wide as an embedding.
            if self.tie_weights and "tie_weights" in self.model_fields_set and self.model not in PRESETS:
                raise ValueError(f"tie_weights=true needs a language model, not objective={self.objective}")
            if self.model not in PRESETS:
                object.__setattr__(self, "tie_weights", False)
            if self.last_batch != "discard":
                raise ValueError(
                    f"last_batch=keep needs a language model; objective={self.objective} keeps everything anyway"
                )
            for name in ("alpha", "beta", "random_bptt"):
                if value := getattr(self, name):
                    raise ValueError(f"{name}={value} needs objective=language_model, not {self.objective}".lower())
            if self.sampled_softmax and self.objective in LABELLED:
                raise ValueError(
                    f"sampled_softmax={self.sampled_softmax} needs a text, not objective={self.objective}, "
                    "whose labels are few; leave it out"
                )
        if self.random_bptt and self.last_batch == "keep":
            raise ValueError("random_bptt=true has no last batch to keep; leave last_batch out")
        if self.bidirectional and self.objective not in LABELLED:
            raise ValueError(
                f"bidirectional=true is not allowed with objective={self.objective}: the backward direction would see "
                "the token to be predicted"
            )
        if self.stride > 1 and self.objective != "next_token":
            raise ValueError(f"stride={self.stride} needs objective=next_token")

    def _check_min_momentum(self) -> None:
        """Refuse a cycle of momentum that there cannot be."""
        if self.min_momentum is None:
            return
        given = f"min_momentum={self.min_momentum}"
        if self.lr_schedule != "one_cycle":
            raise ValueError(f"{given} needs lr_schedule=one_cycle, not {self.lr_schedule}")
        if self.optimizer not in _WITH_MOMENTUM:
            raise ValueError(f"{given} needs optimizer={_SAID_WITH_MOMENTUM}, not {self.optimizer}")
        if self.min_momentum >= self.full_momentum:
            raise ValueError(f"{given} must be below momentum, which is {self.full_momentum:g}")

    @property
    def full_momentum(self) -> float:
        """`momentum`, or Adam's own where that is not given."""
        return self.momentum or (_ADAM_MOMENTUM if self.optimizer == "adam" else 0.0)

    @property
    def averaging_start(self) -> tuple[Literal["epoch", "step"], int] | None:
        """What `averaging` says of its beginning; None: there is none, or validation decides."""
        if self.averaging in ("none", "ntasgd"):
            return None
        *step, number = self.averaging.split()
        return "step" if step else "epoch", int(number)

    @property
    def earliest_averaging(self) -> tuple[Literal["epoch", "step"], int]:
        """`averaging_start`, or the first epoch that validation can choose."""
        return self.averaging_start or ("epoch", EARLIEST_NTASGD)

    if not TYPE_CHECKING:  # for which its fields are the arguments

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise SettingError(_one_line(error)) from None

        # As pydantic's own has: what is validated as a part of something else does not go through this one.
        __init__.__pydantic_base_init__ = True

    @property
    def given(self) -> dict[str, Any]:
        """The settings that differ from the defaults, without those that follow from others."""
        expected = {name: info.default for name, info in RunConfig.model_fields.items()}
        expected |= {"model": _default_model(self.objective), "learning_rate": default_learning_rate(self)}
        expected["tie_weights"] = self.objective == "language_model"
        if self.embedding == "random":
            expected["embed_size"] = self.hidden_size
        if self.time_budget is not None:
            expected["epochs"] = _UNBOUNDED_EPOCHS
        expected |= PRESETS.get(self.model, {})
        return {name: getattr(self, name) for name, value in expected.items() if getattr(self, name) != value}

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        yield from self.given.items()

    def _repr_html_(self) -> str:
        return html_table(self.given.items(), caption="RunConfig; all other settings are at their defaults")

    @property
    def embedding_size(self) -> int:
        """`embed_size`, which validation has filled in."""
        assert self.embed_size is not None
        return self.embed_size

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that share the run: ``("gpu:0", "gpu:1")``, or one."""
        return tuple(self.device.split("+"))

    @property
    def device_kind(self) -> str:
        """``auto``, ``cpu`` or ``gpu``."""
        return self.devices[0].partition(":")[0]


def _default_model(objective: Objective) -> str:
    return next(model for model, objectives in MODELS.items() if objective in objectives)


def default_learning_rate(config: RunConfig) -> float:
    """The learning rate that ``auto`` stands for in `config`; see `_SGD_RATES` and `_OPTIMIZER_RATES`.

    With momentum m a gradient eventually moves the parameters 1 / (1 - m) times as far, so SGD's rate is multiplied
    by 1 - m: 2 for an LSTM with a momentum of 0.9.
    """
    if config.optimizer in _OPTIMIZER_RATES:
        return _OPTIMIZER_RATES[config.optimizer]
    rate = _SGD_RATES.get(config.cell, _SGD_RATE) if config.objective == "language_model" else _LABEL_RATE
    return float(f"{rate * (1 - config.momentum):.6g}")  # 2, not 1.9999999999999996


def parse_steps(text: str) -> list[tuple[int, float]]:
    """The (epoch, learning rate) pairs of `lr_steps`: ``"2:0.001 5:1e-4"`` is [(2, 0.001), (5, 0.0001)].

    Raises:
        ValueError: it is not such a list, or its epochs do not rise from 2 on; in one line.
    """
    steps = []
    for part in text.split():
        epoch, colon, rate = part.partition(":")
        try:
            steps.append((int(epoch), float(rate)))
        except ValueError:
            raise ValueError(f"{quoted(part)} is not EPOCH:RATE, such as 2:0.001") from None
        if not colon or not 0 < steps[-1][1] < math.inf:
            raise ValueError(f"{quoted(part)} has no learning rate above 0")
    epochs = [1, *(epoch for epoch, _ in steps)]
    if any(after <= before for before, after in itertools.pairwise(epochs)):
        raise ValueError("its epochs must rise, from 2 on: the first epoch's rate is learning_rate")
    return steps


def _spelled(number: float) -> str:
    """The shortest usual spelling that reads back to the same number; run_ids are made of it."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def parse_device(text: str) -> str:
    """The canonical spelling of a device: ``gpu:1`` for ``gpu:01``.

    A device is ``auto``, ``cpu``, ``gpu``, ``cpu:N``, ``gpu:N``, or several numbered ones of a kind joined by ``+``.

    Raises:
        ValueError: it is not one of these, in one line.
    """
    parts = text.split("+")
    kinds = {part.partition(":")[0] for part in parts}
    numbered = all(":" in part for part in parts)
    if not all(map(_DEVICE.fullmatch, parts)) or (len(parts) > 1 and not (numbered and len(kinds) == 1)):
        meant = f"; did you mean {quoted(text.replace('cuda', 'gpu'))}?" if "cuda" in text else ""
        raise ValueError(
            f"unknown device {quoted(text)}{meant}; choose from auto, cpu, gpu, cpu:N and gpu:N, or join several of "
            "one kind, such as gpu:0+gpu:1"
        )
    device = re.sub(r"\d+", lambda number: str(int(number[0])), text)
    if len(set(device.split("+"))) < len(parts):
        raise ValueError(f"device {quoted(text)} names a device twice")
    return device


def unnumbered(device: str) -> str:
    """A device without its number, which does not affect results: ``gpu`` for gpu:1, ``gpu+gpu`` for gpu:0+gpu:1."""
    return re.sub(r":\d+", "", device)


def varying_fields(points: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields in which configurations (as mappings) differ; for a single one, its cell, bptt and hidden size."""
    names = [name for name in points[0] if not _follows(name, points)]
    varying = tuple(name for name in names if len({str(point[name]) for point in points}) > 1)
    return varying or ("cell", "bptt", "hidden_size")


def _follows(name: str, points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether other fields of each point determine the field `name`, so that it adds no information."""
    if name == "embed_size":
        # An embedding as wide as the layers, or as the vectors that were given.
        width = {point["embedding"]: point[name] for point in points}
        return all(
            point[name] == (point["hidden_size"] if point["embedding"] == "random" else width[point["embedding"]])
            for point in points
        )
    if name in ("model", "tie_weights"):
        network = {point.get("objective"): point[name] for point in points}
        return all(point[name] == network[point.get("objective")] for point in points)
    return False


def configure(settings: Mapping[str, Any]) -> RunConfig:
    """The configuration for `settings`; raises a one-line `UserError` if they are wrong."""
    for name in settings:
        check_name(name)
    return RunConfig(**settings)


def coerce(name: str, value: Any) -> Any:
    """A setting's value converted to its type (``'35'`` becomes 35); raises a `UserError` if it cannot be."""
    check_name(name)
    try:
        return _adapter(name).validate_python(value)
    except ValidationError as error:
        raise UserError(_one_line(error, name)) from None


@lru_cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = RunConfig.model_fields[name]
    field_type: Any = Annotated[info.annotation, info]
    return TypeAdapter(field_type, config=ConfigDict(allow_inf_nan=False))


@lru_cache
def number_type(name: str) -> type[int] | type[float] | None:
    """`int` for a setting that takes whole numbers, `float` for one that takes any; None for all others."""
    annotation: Any = RunConfig.model_fields[name].annotation
    kinds = {getattr(kind, "__origin__", kind) for kind in (annotation, *get_args(annotation))}
    return int if int in kinds else float if float in kinds else None


def fits(when: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether every field of `when` has its value at `point`, whose settings are given or are defaults."""
    return all(point.get(name, RunConfig.model_fields[name].default) == value for name, value in when.items())


def check_name(name: Any) -> None:
    """Raise a `UserError` unless `name` is a setting."""
    if name not in RunConfig.model_fields:
        raise UserError(_unknown(name))


def _unknown(name: Any) -> str:
    return f"unknown setting {quoted(name)}{meant_setting(name)}"


def meant_setting(name: object) -> str:
    """A hint at the setting that `name` may mean, such as another tool's name of it."""
    found = find_setting(name)
    return f"; did you mean {found!r}?" if found else did_you_mean(name, RunConfig.model_fields)


def find_setting(name: object) -> str | None:
    """The setting that `name` is another spelling or another tool's name of; None if there is none."""
    word = plain(name) if isinstance(name, str) else ""
    return word if word in RunConfig.model_fields else ALIASES.get(word)


def _one_line(error: ValidationError, name: str = "") -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        return _unknown(first["loc"][-1])
    where = name or ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not where:
        return message
    given, hint = first["input"], ""
    if isinstance(given, str):
        hint = _value_hint(where, given)
    if isinstance(given, list):
        hint = "; several values go to axes"
    if first["type"] == "string_type":
        hint = f"; {QUOTE_HINT}"
    return f"{where}={quoted(given)}: {message}{hint}".replace("\n", " ")


#: How people write numbers that YAML does not read, and what their unit multiplies them by.
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([kKmM%])")
_FACTORS = {"k": 1e3, "m": 1e6, "%": 1e-2}
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
_RANGE = re.compile(r"(\d+) ?(?:-|:|to) ?(\d+)")
#: What other tools call values of ours.
_VALUES = {"fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32", "bf16": "bfloat16"}


def _value_hint(name: str, given: str) -> str:
    """What the wrong text `given` for the setting `name` may have meant."""
    text, number = given.strip(), number_type(name) if name in RunConfig.model_fields else None
    if re.search(r",\s*\w+=", text):
        return "; put a space between settings, not a comma"
    if text.startswith("["):
        return "; write values without brackets, such as a,b"
    if number and (found := _RANGE.fullmatch(text)):
        return f"; write --axis {name}={found[1]}..{found[2]}"
    if number and (found := _AMOUNT.fullmatch(text)):
        return f"; write {float(found[1]) * _FACTORS[found[2].lower()]:.12g}"
    if number is int and _GROUPED.fullmatch(text):
        return f"; write {text.replace(',', '')}, or several values to --axis"
    if "," in text or re.match(r"[-+]?\d+\.\.", text):
        return "; several values go to --axis"
    choices = [value for value in _choices(name) if isinstance(value, str)]
    return f"; did you mean {_VALUES[text]!r}?" if _VALUES.get(text) in choices else did_you_mean(text, choices)


def _choices(name: str) -> tuple[Any, ...]:
    """The values of a setting that has a few, else none."""
    annotation = RunConfig.model_fields[name].annotation if name in RunConfig.model_fields else None
    return get_args(annotation) if get_origin(annotation) is Literal else ()
