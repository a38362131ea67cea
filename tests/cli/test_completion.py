"""What a shell is told may follow on a command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_rnn import cli
from gluon_rnn.cli.completion import SHELLS, complete_setting
from gluon_rnn.config.run import RunConfig


def completed(line: str, folder: Path) -> list[str]:
    """What argcomplete's protocol gives for a `line` whose cursor is at its end."""
    answer = folder / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "COMP_TYPE": "9",
    }
    subprocess.run([sys.executable, "-m", "gluon_rnn"], cwd=folder, env=environment, check=True)
    return sorted(answer.read_text().split("\n"))


@pytest.mark.slow
def test_commands_options_settings_and_sweeps_are_completed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    assert completed("gluon-rnn s", tmp_path) == ["status", "sweep"]
    assert completed("gluon-rnn sweep --rer", tmp_path) == ["--rerun", "--rerun-failed"]
    assert completed("gluon-rnn sweep --set hidden", tmp_path) == ["hidden_size="]
    assert completed("gluon-rnn sweep --axis cell=lstm,custom_", tmp_path) == [
        f"cell=lstm,custom_{name}" for name in ("gru", "lstm", "rnn")
    ]
    assert completed("gluon-rnn sweep m", tmp_path) == ["mine.yaml "]
    assert completed("gluon-rnn sweep cpu/s", tmp_path) == ["cpu/seeds "]


def test_values_are_those_that_a_setting_takes() -> None:
    assert complete_setting("opt") == [f"{name}=" for name in RunConfig.model_fields]
    assert complete_setting("tie_weights=") == ["tie_weights=true", "tie_weights=false"]
    assert "optimizer=adam" in complete_setting("optimizer=a")
    assert complete_setting("cell=lstm,") == [
        f"cell=lstm,{cell}" for cell in [v[5:] for v in complete_setting("cell=")]
    ]
    assert complete_setting("bptt=") == complete_setting("nonsense=") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_reads_its_script(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", shell])
    assert left.value.code == 0
    script = capsys.readouterr().out
    assert "gluon-rnn" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)
