"""Thirty-six mistakes of new users and twenty slips: what is typed, and the one line that says how to fix it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from gluon_rnn import cli
from tests.cli.test_cli import refusal

FILES = {
    "lone.yaml": "axes: {cell: lstm}",
    "axis.yaml": "axis: {cell: [lstm]}",
    "commas.yaml": "axes: {learning_rate: log(1, 40, 5)}",
    "listed.yaml": "set: {seed: [0, 1]}",
    "always.yaml": "overrides: [{set: {seed: 1}}]",
    "tabs.yaml": "set:\n\tseed: 1",
    "mine.py": "class Lstm:\n    pass\n",
    "table.csv": "a,b\n1,2\n",
    "empty.yaml": "# nothing yet",
}

MISTAKES = [
    # Commands
    ("swep", "unknown command 'swep'; did you mean 'sweep'?"),
    ("run quick", "unknown command 'run'; did you mean gluon-rnn sweep?"),
    ("quick", "unknown command 'quick'; did you mean gluon-rnn sweep quick?"),
    ("promote_baseline results/a base.csv", "did you mean gluon-rnn promote?"),
    ("--set epochs=1", "a command goes before '--set', such as gluon-rnn sweep"),
    # Sweep files
    ("sweep quik", "there is no sweep file 'quik'; did you mean 'quick'?"),
    ("sweep nowhere.yaml", "cannot read the sweep file nowhere.yaml: No such file or directory"),
    ("sweep lone.yaml", "axis cell must be a list of values"),
    ("sweep axis.yaml", "unknown key 'axis'; did you mean 'axes'?"),
    ("sweep commas.yaml", "put a range in quotes inside [ ] or { }"),
    ("sweep listed.yaml", "seed=[0, 1]: input should be a valid integer; several values go to axes"),
    ("sweep always.yaml", "an override is a mapping with 'when: {field: value}'"),
    ("sweep tabs.yaml", "is not valid YAML: while scanning for the next token found character"),
    ("sweep --set epochs=1 lone.yaml", "a sweep file goes before the options"),
    # Names of settings
    ("sweep --set lr=5", "unknown setting 'lr'; did you mean 'learning_rate'?"),
    ("sweep --set nhid=650", "did you mean 'hidden_size'?"),
    ("sweep --set tied=true", "did you mean 'tie_weights'?"),
    ("sweep --set log-interval=10", "did you mean 'log_interval'?"),
    ("sweep --set bbtt=35", "unknown setting 'bbtt'; did you mean 'bptt'?"),
    # Settings as options
    ("sweep --epochs 1", "unknown option '--epochs'; write --set epochs=1"),
    ("sweep --lr=5", "unknown option '--lr'; write --set learning_rate=5"),
    ("sweep --cell lstm gru", "unknown option '--cell'; write --axis cell=lstm,gru"),
    ("sweep --gpu 1", "unknown option '--gpu'; write --device gpu:1"),
    ("sweep --output here", "unknown option '--output'; did you mean --results?"),
    ("sweep --dryrun", "unknown option '--dryrun'; did you mean '--dry-run'?"),
    # Values
    ("sweep --axis cell=lstm gru", "--axis takes KEY=VALUE, not 'gru'; write --axis cell=lstm,gru"),
    ("sweep --set epochs 1", "--set takes KEY=VALUE, not 'epochs'; write --set epochs=1"),
    ("sweep --set cell=lstm,gru", "several values go to --axis"),
    ("sweep --axis seed=4..0", "axis seed: '4..0' is empty; write '0..4'"),
    ("sweep --set cell=lsmt", "unknown cell 'lsmt'; did you mean 'lstm'?"),
    ("sweep --set dropout=50", "dropout='50': input should be less than 1"),
    ("sweep --set dataset=wikitext2", "did you mean 'wikitext-2'?"),
    ("sweep --set dataset=synthetic cell=mine.py:LSTM", "cell mine:LSTM: mine has no class LSTM; did you mean 'Lstm'?"),
    # Results
    ("status reslts", "reslts is not a sweep's folder; name one such as results/quick"),
    ("check-regression table.csv table.csv --perplexity 2", "'2' is not a tolerance; give one below 100%, such as 2%"),
    ("generate results/quick/runs/x --tokens 5", "the following arguments are required: --prompt"),
]

SLIPS = [
    ("help", "did you mean gluon-rnn --help?"),
    ("-v", "unknown option '-v'; did you mean --version?"),
    ("list-settings", "did you mean gluon-rnn sweep --list-settings?"),
    ("completion bash", "did you mean gluon-rnn --print-completion bash?"),
    ("sweep .", "cannot read the sweep file .: Is a directory; name a file such as benchmarks/quick.yaml"),
    ("sweep empty.yaml", "empty.yaml is empty; write a mapping with name, set, axes"),
    ("sweep --resume", "unknown option '--resume'; run the same command again: it resumes"),
    ("sweep --set epochs = 3", "--set takes KEY=VALUE, not 'epochs'; write --set epochs=3, without spaces"),
    ("sweep --set hidden_size=50,embed_size=20", "put a space between settings, not a comma"),
    ("sweep --set seed=0-4", "write --axis seed=0..4"),
    ("sweep --axis seed=0:4", "write --axis seed=0..4"),
    ("sweep --axis 'cell=[lstm, gru]'", "write values without brackets, such as a,b"),
    ("sweep --set dropout=20%", "; write 0.2"),
    ("sweep --set max_train_tokens=1.5M", "; write 1500000"),
    ("sweep --set max_train_tokens=100,000", "; write 100000, or several values to --axis"),
    ("sweep --set optimizer=Adam", "did you mean 'adam'?"),
    ("sweep --set precision=fp16", "did you mean 'float16'?"),
    ("sweep --set device=cuda:1", "unknown device 'cuda:1'; did you mean 'gpu:1'?"),
    ("sweep --device cuda", "unknown device 'cuda'; did you mean 'gpu'?"),
    ("report table.csv", "table.csv is not a folder of results; name one such as results/quick"),
]


def test_there_are_thirty_six_and_twenty() -> None:
    assert (len({typed for typed, _ in MISTAKES}), len({typed for typed, _ in SLIPS})) == (36, 20)


@pytest.mark.parametrize(
    ("typed", "fix"),
    [pytest.param(*each, marks=[pytest.mark.slow] if ".py:" in each[0] else []) for each in [*MISTAKES, *SLIPS]],
    ids=[typed for typed, _ in [*MISTAKES, *SLIPS]],
)
def test_a_mistake_is_answered_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, fix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    line = refusal(capsys, *shlex.split(typed))
    assert fix in line
    assert len(line) < 400
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == sorted(FILES)


@pytest.mark.parametrize(
    ("other", "ours"),
    [
        *[("lr", "learning_rate"), ("wd", "weight_decay"), ("nhid", "hidden_size"), ("emsize", "embed_size")],
        *[("tied", "tie_weights"), ("batch", "batch_size"), ("bsz", "batch_size"), ("log-interval", "log_interval")],
        *[("nlayers", "num_layers"), ("seq_len", "bptt"), ("dropouth", "dropout_hidden"), ("wdrop", "weight_drop")],
        *[
            ("batchSize", "batch_size"),
            ("LearningRate", "learning_rate"),
            ("grad_clip", "clip"),
            ("optim", "optimizer"),
        ],
    ],
)
def test_other_tools_names_are_known(capsys: pytest.CaptureFixture[str], other: str, ours: str) -> None:
    assert refusal(capsys, "sweep", "--axis", f"{other}=1").endswith(f"did you mean {ours!r}?")


def test_blanks_around_names_and_values_are_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["sweep", "--dry-run", "--set", "dataset=synthetic", "epochs = 1"]
    assert cli.main([*sweep, "--axis", "cell=lstm, gru", "bptt = 5 ,7"]) == 0
    shown = capsys.readouterr().out
    assert all(f"cell={cell} bptt={bptt}" in shown for cell in ("lstm", "gru") for bptt in (5, 7))


def test_an_alias_is_never_a_setting_of_ours() -> None:
    from gluon_rnn.config.aliases import ALIASES
    from gluon_rnn.config.run import RunConfig

    assert not ALIASES.keys() & RunConfig.model_fields.keys()
    assert {*ALIASES.values()} <= RunConfig.model_fields.keys()


@pytest.mark.parametrize("name", ["quick", "quick.yaml", "benchmarks/quick.yaml", "cpu/seeds", "reference/c_hihello"])
def test_a_sweep_of_the_suite_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", name, "--set", "dataset=synthetic", "--dry-run"]) == 0
    assert "points, " in capsys.readouterr().out
    # A file of that name here comes first.
    (tmp_path / "quick.yaml").write_text("set: {dataset: synthetic, seed: 77}\naxes: {bptt: [5, 6]}")
    if name in ("quick", "quick.yaml"):
        assert cli.main(["sweep", name, "--dry-run"]) == 0
        assert capsys.readouterr().out.endswith("2 points, 2 to run\n")
