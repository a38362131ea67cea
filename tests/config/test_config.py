"""Settings become configurations, or one line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.run import PRESETS, Optimizer, RunConfig, SettingError, configure, parse_steps, varying_fields
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.runs.records import read_records

RESULTS = Path(__file__).parents[2] / "results"
CONTENT = {"corpus": "0123"}


def sweep_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_system_a() -> None:
    config = RunConfig()
    assert (config.learning_rate, config.clip, config.lr_decay, config.lr_patience) == (20.0, 0.25, 0.25, 0)
    assert (config.bptt, config.batch_size, config.epochs) == (35, 20, 3)
    assert (config.optimizer, config.momentum, config.weight_decay, config.initializer) == ("sgd", 0, 0, "xavier")
    preset = RunConfig(model="standard_lstm_lm_200")
    assert config.model_dump(exclude={"model"}) == preset.model_dump(exclude={"model"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bbtt": 35}, "unknown setting 'bbtt'; did you mean 'bptt'?"),
        ({"bptt": "20,35"}, "several values go to --axis"),
        ({"bptt": True}, "bptt=True: a number is needed"),
        ({"bptt": 0}, "bptt=0: input should be greater than or equal to 1"),
        ({"bptt": "3.5"}, "bptt='3.5'"),
        ({"hidden_size": None}, "hidden_size=None"),
        ({"cell": "lsmt"}, "did you mean 'lstm'?"),
        ({"cell": "pkg:"}, "module:CellClass or file.py:CellClass"),
        ({"model": "standard_lstm_lm_20"}, "did you mean 'standard_lstm_lm_200'?"),
        (
            {"model": "standard_lstm_lm_650", "hidden_size": 200},
            "hidden_size=200 contradicts model=standard_lstm_lm_650",
        ),
        ({"model": "standard_lstm_lm_200", "cell": "gru"}, "cell=gru contradicts"),
        (
            {"embed_size": 100, "num_layers": 1},
            "tie_weights=true with num_layers=1 needs embed_size equal to hidden_size, not 100 and 200",
        ),
        (
            {"model": "standard_lstm_lm_650", "dropout_input": 0.1},
            "dropout_input=0.1 contradicts model=standard_lstm_lm_650, which fixes dropout_input=none; use model=rnn",
        ),
        ({"model": "awd_lstm_lm_600", "weight_drop": 0.5}, "weight_drop=0.5 contradicts model=awd_lstm_lm_600, which"),
        ({"averaging": "always"}, "averaging='always': choose none, ntasgd, the number of an epoch, from 1 on, or"),
        ({"averaging": "step 0"}, "averaging='step 0': choose none, ntasgd"),
        ({"averaging": "step"}, "averaging='step': choose none, ntasgd"),
        ({"averaging": 0}, "averaging=0: choose none, ntasgd"),
        ({"averaging": True}, "averaging=True: choose none, ntasgd"),
        ({"averaging": None}, "averaging=None: choose none, ntasgd"),
        ({"lr_schedule": "linea"}, "lr_schedule='linea'"),
        ({"lr_schedule": "linear", "lr_steps": "2:0.1"}, "lr_steps needs lr_schedule=plateau, not linear"),
        ({"objective": "tagging", "alpha": 2}, "alpha=2.0 needs objective=language_model, not tagging"),
        (
            {"objective": "next_token", "random_bptt": True},
            "random_bptt=true needs objective=language_model, not next_token",
        ),
        ({"objective": "tagging", "sampled_softmax": 9}, "sampled_softmax=9 needs a text, not objective=tagging"),
        ({"beta": -1}, "beta=-1: input should be greater than or equal to 0"),
        ({"random_bptt": True, "last_batch": "keep"}, "random_bptt=true has no last batch to keep"),
        ({"weight_drop": 1}, "weight_drop=1: input should be less than 1"),
        ({"dropout_embedding": None}, "dropout_embedding=None"),
        ({"dropout_hidden": -0.1}, "dropout_hidden=-0.1: input should be greater than or equal to 0"),
        ({"learning_rate": "nan"}, "finite"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate": "often"}, "learning_rate='often'"),
        ({"learning_rate": None}, "learning_rate=None"),
        ({"dropout": 1}, "dropout=1"),
        ({"clip": 0}, "clip=0"),
        ({"optimizer": "sdg"}, "'sgd', 'nag'"),
        ({"optimizer": "rmsprop", "momentum": 0.9}, "momentum=0.9 needs optimizer=sgd, nag or adam, not rmsprop"),
        ({"min_momentum": 0.8, "momentum": 0.9}, "min_momentum=0.8 needs lr_schedule=one_cycle, not plateau"),
        (
            {"min_momentum": 0.8, "lr_schedule": "one_cycle", "optimizer": "rmsprop"},
            "min_momentum=0.8 needs optimizer=sgd, nag or adam, not rmsprop",
        ),
        ({"min_momentum": 0.8, "lr_schedule": "one_cycle"}, "min_momentum=0.8 must be below momentum, which is 0"),
        (
            {"min_momentum": 0.9, "lr_schedule": "one_cycle", "optimizer": "adam"},
            "min_momentum=0.9 must be below momentum, which is 0.9",
        ),
        ({"min_momentum": 0}, "min_momentum=0: input should be greater than 0"),
        ({"tie_weights": "maybe"}, "tie_weights='maybe'"),
        ({"dataset": ""}, "dataset=''"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "gpu:"}, "unknown device 'gpu:'"),
        ({"device": "auto:1"}, "unknown device 'auto:1'"),
        ({"device": "cpu:100"}, "unknown device 'cpu:100'"),
        ({"device": "gpu:0+"}, "unknown device 'gpu:0+'"),
        (
            {"device": "gpu:0+cpu:1"},
            "unknown device 'gpu:0+cpu:1'; choose from auto, cpu, gpu, cpu:N and gpu:N, or join several",
        ),
        ({"device": "gpu+gpu"}, "unknown device 'gpu+gpu'"),
        ({"device": "gpu:1+gpu:01"}, "device 'gpu:1+gpu:01' names a device twice"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        configure(settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_command_line_words_take_their_fields_type() -> None:
    config = configure(
        {"bptt": "20", "learning_rate": "1e-3", "clip": "none", "tie_weights": "false", "embed_size": "30"}
    )
    assert (config.bptt, config.learning_rate, config.clip, config.tie_weights) == (20, 1e-3, None, False)
    assert (config.embedding_size, config.hidden_size) == (30, 200)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_equal_gluonnlps_zoo(name: str) -> None:
    from gluonnlp.model.language_model import awd_lstm_lm_hparams, standard_lstm_lm_hparams

    theirs = {**standard_lstm_lm_hparams, **awd_lstm_lm_hparams}[name]
    ours = {"mode": "cell", "drop_i": "dropout_input", "drop_h": "dropout_hidden", "drop_e": "dropout_embedding"}
    expected = {ours.get(field, field): value for field, value in theirs.items()}
    off = {"dropout_input": None, "dropout_hidden": None, "dropout_embedding": 0, "weight_drop": 0}
    assert PRESETS[name] == off | expected
    config = RunConfig(model=name)
    assert {field: getattr(config, field) for field in PRESETS[name]} == PRESETS[name]


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 20),
        ({"cell": "custom_lstm", "hidden_size": 8}, 20),
        ({"model": "standard_lstm_lm_650"}, 20),
        ({"cell": "gru"}, 10),
        ({"cell": "custom_gru"}, 10),
        ({"cell": "rnn_tanh"}, 2.5),
        ({"cell": "custom_rnn"}, 2.5),
        ({"cell": "rnn_relu"}, 2.5),
        ({"cell": "char_loop"}, 1),
        ({"cell": "my_module:MyCell"}, 2.5),
        # In the end a gradient moves the parameters 1 / (1 - momentum) times as much.
        ({"momentum": 0.9}, 2),
        ({"cell": "gru", "optimizer": "nag", "momentum": 0.5}, 5),
        ({"optimizer": "nag"}, 20),
        ({"objective": "classification"}, 1),
        ({"objective": "tagging", "cell": "gru"}, 1),
        ({"objective": "next_token", "momentum": 0.9}, 0.1),
        ({"model": "standard_lstm_lm_200", "optimizer": "adam"}, 0.003),
        ({"objective": "classification", "optimizer": "adam", "cell": "gru"}, 0.003),
    ],
)
def test_the_rate_suits_the_rest_unless_it_is_given(settings: dict[str, Any], rate: float) -> None:
    assert RunConfig(**settings).learning_rate == rate
    assert configure({**settings, "learning_rate": "auto"}) == RunConfig(**settings)
    assert configure({**settings, "learning_rate": "3.5"}).learning_rate == 3.5


def test_the_other_optimizers_have_mxnets_own_rates_where_those_learn() -> None:
    import mxnet as mx

    changed = {"adam": 0.003, "rmsprop": 0.01, "signum": 0.001, "adamax": 0.02}
    for name in set(get_args(Optimizer)) - {"sgd", "nag", "adadelta"}:
        assert RunConfig(optimizer=name).learning_rate == changed.get(name, mx.optimizer.create(name).lr), name
    # Its update does not read the rate (AdaDelta.update in MXNet 1.9.1).
    assert RunConfig(optimizer="adadelta").learning_rate == 1


def test_auto_may_be_written_wherever_a_rate_may(tmp_path: Path) -> None:
    rates = "{when: {learning_rate: auto, cell: gru}, set: {bptt: 7}}"
    sweep = load_sweep(
        sweep_file(tmp_path, f"axes: {{cell: [lstm, gru], learning_rate: [auto, 3]}}\noverrides: [{rates}]")
    )
    assert [(p.cell, p.learning_rate, p.bptt) for p in sweep.points()] == [
        *(("lstm", 20, 35), ("lstm", 3, 35), ("gru", 10, 7), ("gru", 3, 35)),
    ]
    assert [p.learning_rate for p in sweep.with_arguments({"learning_rate": "auto"}, {}).points()] == [20, 10]
    # 20 and what comes out as 20 are one point.
    swept = sweep.with_arguments({"cell": "lstm"}, {"learning_rate": ["auto", "20", "Auto"]})
    assert [p.learning_rate for p in swept.points()] == [20]


def test_a_rate_that_was_not_given_is_not_passed_on_as_given() -> None:
    config = RunConfig(cell="gru")
    assert config.model_dump(exclude_unset=True) == {"cell": "gru"}
    for given in (config, RunConfig(cell="gru", learning_rate="auto")):  # type: ignore[arg-type]
        assert RunConfig(**given.model_dump(exclude_unset=True)) == config
        assert RunConfig.model_validate_json(given.model_dump_json()) == config


def test_a_run_keeps_the_name_it_had_when_the_rate_was_20_for_all() -> None:
    """Names that were given then: of the default, of a GRU at 20, of a GRU at 10, and of Adam at 0.001."""
    names = {
        "3234d22369e8": {},
        "2f9f17a7ddf3": {"cell": "gru", "learning_rate": 20},
        "b4bb458ee0cd": {"cell": "gru"},
        "6ac40663dc95": {"optimizer": "adam", "learning_rate": 0.001},
    }
    for name, settings in names.items():
        assert run_id(RunConfig(device="cpu", **settings), content=CONTENT) == name  # type: ignore[arg-type]


def test_the_committed_runs_have_the_names_that_they_would_get() -> None:
    """But those with vectors, whose file is part of the name and not at hand."""
    records = [
        record
        for folder in {path.parents[2] for path in RESULTS.glob("**/record.json")}
        for record in read_records(folder)[0]
        if record.config.embedding in ("random", "one_hot")
    ]
    assert len(records) > 200
    for record in records:
        settings = record.config.model_dump()
        content = {"corpus": record.dataset_sha1}
        if record.config.embedding != "random":
            content["embedding"] = record.config.embedding
        # A record says how many threads a run had, not whether they were set.
        names = {run_id(RunConfig(**settings | {"threads": n}), content=content) for n in (None, record.config.threads)}
        assert record.run_id in names


def test_run_id_names_what_decides_the_result_and_nothing_else() -> None:
    base = RunConfig(device="cpu")
    name = run_id(base, content=CONTENT)
    same = [RunConfig(device="cpu", dataset="elsewhere"), RunConfig(device="cpu", log_interval=1)]
    assert {run_id(config, content=CONTENT) for config in same} == {name}
    for one, other in (("gpu:0", "gpu:1"), ("gpu", "gpu:1"), ("cpu", "cpu:1"), ("gpu:0+gpu:1", "gpu:5+gpu:3")):
        assert run_id(RunConfig(device=one), content=CONTENT) == run_id(RunConfig(device=other), content=CONTENT)
    others = [
        RunConfig(device="cpu", **change)  # type: ignore[arg-type]
        for change in ({"bptt": 36}, {"seed": 1}, {"threads": 1}, {"threads": 2}, {"epochs": 4}, {"clip": None})
    ]
    # How many devices share the batch decides how its gradients are rounded.
    others += [RunConfig(device=device) for device in ("gpu", "gpu:0+gpu:1", "cpu:0+cpu:1", "cpu:0+cpu:1+cpu:2")]
    names = [run_id(config, content=CONTENT) for config in [base, *others]]
    names.append(run_id(base, content={"corpus": "4567"}))
    assert len(set(names)) == len(names)
    # Results that were committed are found by this name: it may only change together with the schema version.
    assert name == "3234d22369e8"


@pytest.mark.parametrize(
    ("text", "device", "kind", "count"),
    [
        ("auto", "auto", "auto", 1),
        ("cpu", "cpu", "cpu", 1),
        ("gpu:01", "gpu:1", "gpu", 1),
        ("cpu:00+cpu:12", "cpu:0+cpu:12", "cpu", 2),
        ("gpu:3+gpu:1+gpu:2", "gpu:3+gpu:1+gpu:2", "gpu", 3),
    ],
)
def test_a_device_has_one_spelling(text: str, device: str, kind: str, count: int) -> None:
    config = RunConfig(device=text)
    assert (config.device, config.device_kind, len(config.devices)) == (device, kind, count)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2:0.001 5:1e-4", "2:0.001 5:0.0001"),
        ("2:1e-05", "2:1e-05"),
        ("2:20.0", "2:20"),
        ("2:0.1234567890123456", "2:0.1234567890123456"),
        ("2:1000000.5", "2:1000000.5"),
        ("2:1e-7 3:1.2345678e-7", "2:1e-07 3:1.2345678e-07"),
    ],
)
def test_a_later_rate_keeps_all_its_digits(given: str, kept: str) -> None:
    """In the spelling that committed run_ids are made of."""
    config = RunConfig(lr_steps=given)
    assert config.lr_steps == kept
    assert parse_steps(config.lr_steps) == parse_steps(given)
    assert RunConfig(lr_steps=kept) == config


def test_points_are_the_product_of_the_axes_in_order_without_repeats() -> None:
    sweep = Sweep("s", axes={"cell": ("lstm", "gru"), "bptt": (20, 35, 20)})
    assert [(p.cell, p.bptt) for p in sweep.points()] == [("lstm", 20), ("lstm", 35), ("gru", 20), ("gru", 35)]


def test_later_wins(tmp_path: Path) -> None:
    sweep = load_sweep(
        sweep_file(
            tmp_path,
            """
            name: order
            set: {learning_rate: 3, bptt: 10, epochs: 9}
            axes: {cell: [lstm, gru], bptt: [20, 35]}
            overrides:
              - {when: {cell: gru}, set: {learning_rate: 1e-1, batch_size: 7}}
              - {when: {cell: gru, bptt: 35}, set: {learning_rate: 2}}
            """,
        )
    )
    rates = {(p.cell, p.bptt): p.learning_rate for p in sweep.points()}
    assert rates == {("lstm", 20): 3, ("lstm", 35): 3, ("gru", 20): 0.1, ("gru", 35): 2}
    pinned = sweep.with_arguments({"learning_rate": "5", "bptt": "7"}, {})
    assert [(p.cell, p.bptt, p.learning_rate, p.batch_size) for p in pinned.points()] == [
        ("lstm", 7, 5, 20),
        ("gru", 7, 5, 7),
    ]
    # A pinned field is seen by the conditions of the overrides.
    assert [p.learning_rate for p in sweep.with_arguments({"cell": "gru", "bptt": "35"}, {}).points()] == [2]
    swept = sweep.with_arguments({"cell": "gru"}, {"learning_rate": ["6", "8"], "bptt": ["35"]})
    assert [(p.bptt, p.learning_rate, p.batch_size) for p in swept.points()] == [(35, 6, 7), (35, 8, 7)]


def test_a_sweep_under_another_name_has_the_same_points() -> None:
    sweep = Sweep("s", axes={"bptt": [20, 35]})
    assert sweep.with_arguments({}, {}).name == "s"
    renamed = sweep.with_arguments({}, {}, name="s-cpu")
    assert (renamed.name, renamed.points()) == ("s-cpu", sweep.points())
    with pytest.raises(UserError, match=r"^name '\.\./up' must be letters"):
        sweep.with_arguments({}, {}, name="../up")


def test_an_override_sees_defaults() -> None:
    sweep = Sweep("s").with_arguments({}, {"seed": ["0"]})
    assert len(sweep.points()) == 1
    from gluon_rnn.config.sweep_file import Override

    sweep = Sweep("s", overrides=(Override({"hidden_size": 200}, {"epochs": 8}),))
    assert sweep.points()[0].epochs == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "not a mapping"),
        ("", "is empty; write a mapping with name, set, axes"),
        ("set: [", "not valid YAML"),
        ("axis: {bptt: [1]}", "unknown key 'axis'; did you mean 'axes'?"),
        ("name: ../up", "name '../up' must be letters"),
        ("name: 3", "name 3 must be letters"),
        ("set: {bbtt: 1}", "unknown setting 'bbtt'"),
        ("set: {bptt: [1]}", "bptt=[1]"),
        ("set: 3", "set must be a mapping"),
        ("axes: {bptt: []}", "axis bptt has no values"),
        ("axes: {bptt: }", "axis bptt must be a list"),
        ("axes: {bptt: 20}", "axis bptt must be a list"),
        ("axes: {1: [2]}", "unknown setting 1"),
        ("axes: [bptt]", "axes must map"),
        ("overrides: {when: 1}", "overrides must be a list"),
        ("overrides: [{when: {cell: gru}}]", "an override is a mapping"),
        ("overrides: [3]", "an override is a mapping"),
        ("overrides: [{when: {cel: gru}, set: {bptt: 2}}]", "unknown setting 'cel'; did you mean 'cell'?"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("axes: {bptt: [1]}\nset: {}\naxes: {cell: [gru]}", "not valid YAML: 'axes' is there twice, in lines 1 and 3"),
        ("set:\n  bptt: 20\n  bptt: 35", "'bptt' is there twice, in lines 2 and 3"),
    ],
)
def test_wrong_sweep_files_are_one_line_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = sweep_file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "+1E+1", 10.0),
        ("learning_rate", "2.", 2.0),
        ("dropout", ".5", 0.5),
        ("dropout", "0.25e0", 0.25),
        ("epochs", "010", 10),
        ("epochs", "09", 9),
        ("epochs", "+7", 7),
        ("epochs", "1e3", 1000),
        ("epochs", "1_000", 1000),
        ("epochs", "0o10", 8),
        ("epochs", "0x1F", 31),
        ("max_train_tokens", "2_088_628", 2_088_628),
        ("clip", "null", None),
        ("clip", "~", None),
        ("clip", "", None),
        ("clip", "none", None),
        ("lower", "yes", True),
        ("lower", "On", True),
        ("lower", "TRUE", True),
        ("tie_weights", "no", False),
        ("tie_weights", "off", False),
        ("lr_steps", "2:0.001", "2:0.001"),
        ("lr_steps", "2:30", "2:30"),
        ("lr_steps", "2:1e-3 10:1e-4", "2:1e-3 10:1e-4"),
        ("dataset", "2024-11-26", "2024-11-26"),
        ("dataset", "1:30", "1:30"),
        ("dataset", "no", "no"),
        ("dataset", "0b11", "0b11"),
        ("dataset", "1_000", "1_000"),
        ("dataset", "'010'", "010"),
        ("embedding", "=", "="),
    ],
)
def test_a_value_in_a_sweep_file_means_what_it_looks_like(
    tmp_path: Path, field: str, written: str, value: object
) -> None:
    sweep = load_sweep(sweep_file(tmp_path, f"set:\n  {field}: {written}\naxes:\n  {field}:\n  - {written}\n"))
    assert sweep.settings == {field: value}
    assert sweep.axes == {field: (value,)}
    assert type(sweep.settings[field]) is type(value)


@pytest.mark.parametrize(
    ("field", "written", "told"),
    [
        ("learning_rate", "1:30", "learning_rate='1:30': input should be a valid number"),
        ("learning_rate", "2001-01-01", "learning_rate='2001-01-01': input should be a valid number"),
        ("epochs", "1:30", "epochs='1:30': input should be a valid integer"),
        ("epochs", "0b11", "epochs='0b11': input should be a valid integer"),
        ("epochs", "0o8", "epochs='0o8': input should be a valid integer"),
        ("epochs", "1.5", "epochs=1.5: input should be a valid integer"),
        ("epochs", "yes", "epochs='yes': input should be a valid integer"),
        ("dataset", "2024", "dataset=2024: input should be a valid string; put it in quotes if it is text"),
        ("dataset", "1e3", "dataset=1000.0: input should be a valid string; put it in quotes if it is text"),
        ("dataset", "010", "dataset=10: input should be a valid string; put it in quotes if it is text"),
        ("dataset", "~", "dataset=None: input should be a valid string; put it in quotes if it is text"),
        ("embedding", "true", "embedding=True: input should be a valid string; put it in quotes if it is text"),
        ("lr_steps", "5", "lr_steps=5: input should be a valid string; put it in quotes if it is text"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(tmp_path: Path, field: str, written: str, told: str) -> None:
    for text in (f"set: {{{field}: {written}}}", f"axes: {{{field}: [{written}]}}"):
        with pytest.raises(UserError) as refused:
            load_sweep(sweep_file(tmp_path, text))
        assert str(refused.value).startswith(f"{tmp_path / 'mine.yaml'}: {told}")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2024", "2024"),
        ("1e3", "1000.0"),
        ("010", "10"),
        ("0x1F", "31"),
        (".5", "0.5"),
        ("true", "True"),
        ("null", "None"),
    ],
)
def test_a_name_that_yaml_does_not_read_as_text_is_to_be_put_in_quotes(
    tmp_path: Path, written: str, shown: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_sweep(sweep_file(tmp_path, f"name: {written}"))
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yaml'}: name {shown} must be letters")
    assert str(refused.value).endswith("; put it in quotes if it is text")
    if written[0] != ".":
        assert load_sweep(sweep_file(tmp_path, f"name: '{written}'")).name == written


@pytest.mark.parametrize("written", ["yes", "No", "2024-11-26", "1_000", "0b11", "0o8", "3rd", "e3"])
def test_a_name_that_only_yaml_1_1_took_for_something_else_is_text(tmp_path: Path, written: str) -> None:
    assert load_sweep(sweep_file(tmp_path, f"name: {written}")).name == written


SWEEP = "name: mine\nset:\n  epochs: 3  # few\naxes:\n  seed: [0, 1]\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("character", ["\x85", "\xa0", "\u2028", "\u2029", "\u3000", "\u2003", "\ufeff"])
def test_a_sweep_files_lines_end_where_an_editor_ends_them(tmp_path: Path, character: str, end: str) -> None:
    text = SWEEP.replace("few", f"few{character}  epochs: 4").replace("\n", end)
    path = tmp_path / "x.yaml"
    for start in ("", "\ufeff"):
        path.write_bytes(f"{start}{text}{end}".encode())
        sweep = load_sweep(path)
        assert (sweep.name, sweep.settings, sweep.axes) == ("mine", {"epochs": 3}, {"seed": (0, 1)})
    path.write_bytes(f"set: {{dataset: a{character}b}}".encode())
    assert load_sweep(path).settings == {"dataset": f"a{character}b"}
    path.write_bytes(f"name: a{character}b{end}set: [{end}".encode())
    with pytest.raises(UserError, match=r"is not valid YAML: .* line 3, column 1") as refused:
        load_sweep(path)
    assert "\n" not in str(refused.value)


def test_a_sweep_file_of_another_encoding_is_told_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for encoding in ("UTF-16", "UTF-32"):
        path.write_bytes(SWEEP.encode(encoding))
        with pytest.raises(UserError) as refused:
            load_sweep(path)
        assert str(refused.value) == (
            f"cannot read the sweep file {path}: it is not UTF-8 text: its byte-order mark is that of {encoding}; "
            f"convert it, for instance with iconv -f {encoding} -t UTF-8"
        )
    for content, line in ((SWEEP.encode("utf-16-le"), 1), (SWEEP.replace("few", "\0").encode(), 3)):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"x.yaml: it is not UTF-8 text: line {line} has a NUL character, as UTF-16"
        ):
            load_sweep(path)


def test_what_a_mapping_merges_it_may_say_anew(tmp_path: Path) -> None:
    text = """
    overrides:
      - &gru {when: {cell: gru}, set: &small {bptt: 20, epochs: 2}}
      - {<<: *gru, set: &smaller {<<: *small, bptt: 5}}
      - {when: {cell: lstm}, set: {<<: *smaller, epochs: 3}}
    """
    found = [(dict(item.when), dict(item.settings)) for item in load_sweep(sweep_file(tmp_path, text)).overrides]
    assert found == [
        ({"cell": "gru"}, {"bptt": 20, "epochs": 2}),
        ({"cell": "gru"}, {"bptt": 5, "epochs": 2}),
        ({"cell": "lstm"}, {"bptt": 5, "epochs": 3}),
    ]


def test_unreadable_sweep_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the sweep file .*none\.yaml: No such file"):
        load_sweep(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        load_sweep(tmp_path / "latin.yaml")


def test_a_field_given_both_ways_is_refused() -> None:
    with pytest.raises(UserError, match="bptt is given both to --set and to --axis"):
        Sweep("s").with_arguments({"bptt": "1"}, {"bptt": ["2"]})


def test_the_sweeps_of_the_project_are_valid() -> None:
    sweeps = {path: load_sweep(path) for path in (Path(__file__).parents[2] / "benchmarks").rglob("*.yaml")}
    assert len(sweeps) > 10
    # Those of one name would share a folder.
    assert len({sweep.name for sweep in sweeps.values()}) == len(sweeps)
    for path, sweep in sweeps.items():
        assert sweep.points(), path
        kind = path.parent.name
        if kind != "reference":
            assert sweep.name == path.stem + ("-cpu" if kind == "cpu" else "")


def test_the_full_grid() -> None:
    points = load_sweep(Path(__file__).parents[2] / "benchmarks" / "wikitext2.yaml").points()
    grid = {(p.cell, p.bptt, p.hidden_size) for p in points}
    assert len(points) == len(grid) == 4 * 3 * 3
    assert {p.dropout for p in points if p.hidden_size == 1500} == {0.65}


def test_what_follows_from_other_settings_tells_no_points_apart() -> None:
    def varying(*settings: dict[str, Any]) -> tuple[str, ...]:
        return varying_fields([configure(item).model_dump() for item in settings])

    # The network and its ties are the objective's, and so is the rate, which is shown wherever it differs.
    assert varying({}, {"objective": "classification"}) == ("objective", "learning_rate")
    rate = {"learning_rate": 1}
    assert varying(rate, {"objective": "tagging"}, {"objective": "next_token"}) == ("objective",)
    assert varying(rate, {**rate, "objective": "classification"}) == ("objective",)
    assert varying({}, {"model": "standard_lstm_lm_650"})[0] == "model"
    assert varying(rate, {**rate, "tie_weights": False}, {**rate, "objective": "tagging"}) == (
        *("objective", "tie_weights"),
    )
    # The embedding's width is the layers', or the vectors'.
    untied = {"tie_weights": False}
    vectors = {**untied, "embedding": "glove.txt"}
    assert varying(untied, vectors, {**untied, "embedding": "one_hot"}) == ("embedding",)
    assert varying(untied, {**untied, "hidden_size": 8}) == ("hidden_size",)
    assert varying({**vectors, "embed_size": 50}, {**vectors, "embed_size": 50, "cell": "gru"}) == (
        *("cell", "learning_rate"),
    )
    assert varying(untied, {**untied, "embed_size": 8}) == ("embed_size",)
    assert varying(untied, {**vectors, "embed_size": 50}) == ("embedding",)
    assert varying(untied, {**vectors, "embed_size": 50}, {**vectors, "embed_size": 60}) == ("embed_size", "embedding")


def test_the_beginning_of_averaging_has_one_spelling() -> None:
    spelled = {
        value: configure({"averaging": value}).averaging for value in ("none", "NTASGD", 3, "03", " 12 ", "Step  05")
    }
    assert spelled == {
        **{"none": "none", "NTASGD": "ntasgd", 3: "3", "03": "3", " 12 ": "12", "Step  05": "step 5"},
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cel": "gru"}, "unknown setting 'cel'; did you mean 'cell'?"),
        ({"bptt": 0}, "bptt=0: input should be greater than or equal to 1"),
        ({"tie_weights": True, "embedding": "one_hot"}, "tie_weights=true has nothing to tie with embedding=one_hot"),
    ],
)
def test_python_is_told_what_the_command_line_says(settings: dict[str, Any], message: str) -> None:
    for make in (RunConfig, lambda **given: configure(given)):
        with pytest.raises(UserError) as refused:
            make(**settings)
        assert str(refused.value).startswith(message)
        assert "\n" not in str(refused.value)
        assert isinstance(refused.value, ValueError | UserError)
    with pytest.raises(SettingError) as plain:
        RunConfig(**settings)
    assert plain.value.__cause__ is None
    assert plain.value.__suppress_context__


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "RunConfig()"),
        ({"cell": "gru", "hidden_size": 20}, "RunConfig(cell='gru', hidden_size=20)"),
        ({"cell": "gru", "learning_rate": 3}, "RunConfig(cell='gru', learning_rate=3.0)"),
        ({"objective": "tagging", "bidirectional": True}, "RunConfig(objective='tagging', bidirectional=True)"),
        ({"model": "standard_lstm_lm_650"}, "RunConfig(model='standard_lstm_lm_650')"),
        ({"time_budget": 9, "epochs": 3}, "RunConfig(epochs=3, time_budget=9.0)"),
        ({"time_budget": 9}, "RunConfig(time_budget=9.0)"),
        ({"embed_size": 100, "momentum": 0.9}, "RunConfig(embed_size=100, momentum=0.9)"),
        (
            {"embedding": "one_hot", "tie_weights": False, "model": "rnn_lm"},
            "RunConfig(embedding='one_hot', tie_weights=False)",
        ),
    ],
)
def test_a_configuration_is_written_as_what_differs_from_the_defaults(settings: dict[str, Any], text: str) -> None:
    config = RunConfig(**settings)
    assert repr(config) == text
    again = RunConfig(**eval(f"dict{text.removeprefix('RunConfig')}"))
    assert again.model_dump() == config.model_dump()
    assert all(f"<td>{name}</td>" in config._repr_html_() for name in config.given)
