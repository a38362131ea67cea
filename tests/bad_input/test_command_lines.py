"""Command lines of any kind, amid files and folders that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gluon_rnn import cli
from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.corpora import CorpusFiles
from tests.bad_input.harness import FITTING, SCALARS, TEXT, answer, fresh_folder, refused, snapshot
from tests.conftest import write_folder
from tests.runs.test_records import keep, make_done, make_job

#: What a surrounding folder holds; see `surroundings`.
PATHS = [
    "sweep.yaml",
    "results",
    "results/mine",
    "results/mine/runs.csv",
    "results/mine/sweep.json",
    "file",
    "file/below",
    "loop",
    "loop/below",
    "pipe",
    "broken",
    "nowhere",
    "nowhere/below",
    ".",
    "..",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    "x" * 300,
    "x/" * 3000,
    "~nobody-here/x",
    "bad\udcffname",
    "esc\x1b[31m\nname",
    "nul\0name",
]
ANY_PATH = st.sampled_from(PATHS) | TEXT.filter(lambda text: not text.startswith("/"))
VALUE = (TEXT | SCALARS.filter(lambda value: not isinstance(value, int) or abs(value) < 10**400).map(str)).map(str)
FIELD = st.sampled_from(list(RunConfig.model_fields))
PAIR = st.builds("{}={}".format, FIELD, VALUE) | st.builds("{}={}".format, FIELD, st.integers(-1, 40)) | VALUE
AXIS = st.builds(lambda name, values: f"{name}={','.join(values)}", FIELD, st.lists(VALUE, max_size=3))
NUMBER = VALUE | st.sampled_from(["0", "-1", "1", "2", "1%", "0.5", "1000000000", "1e9"])


def option(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return values.map(lambda value: [name, value]) | values.map(lambda value: [f"{name}={value}"])


def command(name: str, places: int, *options: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    """A command with about as many places as it has, and some of its options."""
    return st.tuples(
        st.lists(ANY_PATH, min_size=max(0, places - 1), max_size=places + 1), st.lists(st.one_of(*options), max_size=3)
    ).map(lambda drawn: [name, *drawn[0], *(word for words in drawn[1] for word in words)])


SWEEP = command(
    "sweep",
    1,
    option("--set", PAIR),
    option("--axis", AXIS),
    option("--results", ANY_PATH),
    option("--data-dir", ANY_PATH),
    option("--device", VALUE | st.sampled_from(["cpu", "gpu:0", "gpu:0,gpu:0", "gpu:٣", "gpu:²", "auto,cpu", ","])),
    option("--jobs", NUMBER),
    option("--timeout", NUMBER),
    st.sampled_from([["--quiet"], ["--fail-fast"], ["--rerun-failed"], ["--tensorboard", "file"], ["--nonsense"]]),
    VALUE.map(lambda value: [value]),
)
READING = st.one_of(
    command("status", 1, VALUE.map(lambda value: [value])),
    command("report", 1, option("--output", ANY_PATH)),
    command(
        "check-regression",
        2,
        option("--perplexity", NUMBER),
        option("--throughput", NUMBER),
        option("--floor", NUMBER),
        st.just(["--two-sided"]),
        *(option(name, ANY_PATH) for name in ("--json", "--junit", "--markdown")),
    ),
    command("promote", 2, st.just(["--incomplete"])),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("corpora") / "corpus")


def surroundings(folder: Path, corpus: Path, small_corpus: CorpusFiles) -> None:
    """A sweep file that is right, results of it, and things that are in the way."""
    (folder / "corpus").symlink_to(corpus)
    content = {"name": "mine", "set": {**FITTING, "dataset": "corpus"}, "axes": {"cell": ["lstm", "gru"]}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    keep(folder / "results" / "mine", make_done(make_job(small_corpus, run_id="abc")))
    (folder / "results" / "mine" / "sweep.json").write_text('{"points": [{"run_id": "abc", "label": "cell=lstm"}]}')
    (folder / "results" / "mine" / "runs.csv").write_text("run_id,status\nabc,ok\n")
    (folder / "file").write_text("kept")
    (folder / "loop").symlink_to("loop")
    (folder / "broken").symlink_to("gone")
    os.mkfifo(folder / "pipe")


@given(SWEEP)
def test_a_sweep_is_planned_or_refused(corpus: Path, small_corpus: CorpusFiles, arguments: list[str]) -> None:
    with fresh_folder() as folder:
        surroundings(folder, corpus, small_corpus)
        before = snapshot(folder)
        # A sweep may be piped in, and is waited for as by any reader.
        arguments = ["file" if word == "pipe" and place == 1 else word for place, word in enumerate(arguments)]
        answer(*arguments, "--dry-run")
        assert snapshot(folder) == before


@given(READING)
def test_a_command_that_reads_answers_in_lines(corpus: Path, small_corpus: CorpusFiles, arguments: list[str]) -> None:
    with fresh_folder() as folder:
        surroundings(folder, corpus, small_corpus)
        answer(*arguments)
        assert (folder / "corpus" / "train.txt").read_bytes() == (corpus / "train.txt").read_bytes()


@given(st.lists(VALUE | st.sampled_from(["sweep", "status", "-h", "--version", "--", "-", "@file"]), max_size=4))
def test_any_words(arguments: list[str]) -> None:
    with fresh_folder() as folder:
        # Without "sweep" there is nothing that could start one.
        answer(*(word for word in arguments if word not in ("sweep", "doctor")))
        assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--results", "pipe"], "pipe is not a folder"),
        (["--results", "loop"], "cannot write results to loop/mine"),
        (["--results", "broken"], "broken"),
        (["--results", "nul\0name"], "null character"),
        (["--results", "x" * 300], "File name too long"),
        (["--data-dir", "~nobody-here/x"], "~nobody-here/x is not a folder"),
        (["--data-dir", "loop"], "loop is not a folder"),
        (["--data-dir", "esc\x1b[31m\nname"], r"esc\x1b[31m\nname is not a folder"),
        (["--data-dir", os.fsdecode(b"bad\xffname")], r"bad\udcffname is not a folder"),
        (["--device", "gpu:٣"], "unknown device"),
        (["--device", "gpu:²"], "unknown device"),
        (["--device", "gpu:" + "9" * 5000], "unknown device"),
        (["--device", "cpu,cpu"], "names a device twice"),
        (["--jobs", "1000000000"], "at most 1,024"),
        (["--jobs", "9" * 5000], "--jobs"),
        (["--set", "seed=" + "9" * 5000], "seed="),
        (["--set", "epochs=1" + "0" * 400], "less than or equal to 2147483647"),
        (["--set", "hidden_size=1000000000000"], "less than or equal to 16384"),
        (["--set", "num_layers=1000000000"], "less than or equal to 128"),
        (["--set", "learning_rate=1e400"], "finite"),
        (["--set", "dataset=\udcff"], r"\udcff"),
        (["--set", "dataset=a\nb"], r"'a\nb'"),
        (["--set", "dataset=nul\0name"], r"'nul\x00name'"),
        (["--set", "dataset=loop"], "'loop' is neither a known name nor a folder"),
        (["--set", "dataset=" + "x" * 5000], "neither a known name nor a folder"),
        (["--set", "cell=" + "x" * 5000 + ":Cell"], "no module"),
        (["--tensorboard", "file"], "--tensorboard file is not a folder"),
        (["--mlflow", "http://"], "names no host"),
        (["--tensorboard", "new", "--mlflow", "http://"], "names no host"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_made(
    corpus: Path, small_corpus: CorpusFiles, arguments: list[str], words: str
) -> None:
    with fresh_folder() as folder:
        surroundings(folder, corpus, small_corpus)
        line = refused("sweep", "sweep.yaml", *arguments)
        assert line is not None
        assert words in line


def test_a_name_with_a_terminals_commands_does_not_reach_it(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    with fresh_folder() as folder:
        name = "\x1b]0;title\x07\x1b[2J\u202e\nx"
        write_folder(folder / name)
        settings = [f"{key}={value}" for key, value in FITTING.items()]
        found = answer(
            "sweep", "--dry-run", "--set", f"dataset={name}", *settings, "--axis", f"dataset={name},synthetic"
        )
        assert found.status == 2  # given both ways
        found = answer("sweep", "--dry-run", "--set", *settings, "--axis", f"dataset={name},synthetic")
        assert found.status == 0, found.err
        assert r"dataset=\x1b]0;title\x07\x1b[2J\u202e\nx" in found.out


def test_a_corpus_in_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with fresh_folder() as folder:
        write_folder(folder / os.fsdecode(b"\xff"))
        (folder / "link").symlink_to(os.fsdecode(b"\xff"))
        line = refused("sweep", "--set", "dataset=link", *(f"{key}={value}" for key, value in FITTING.items()))
        assert r"/\udcff is not UTF-8; rename it" in (line or "")


def test_a_name_that_the_terminals_encoding_lacks_is_written_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    import io
    import sys

    write_folder(tmp_path / "漢")
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.chdir(tmp_path)
    pairs = [f"{key}={value}" for key, value in FITTING.items()]
    assert cli.main(["sweep", "--dry-run", "--set", *pairs, "--axis", "dataset=漢,synthetic"]) == 0
    assert b"dataset=\\u6f22" in sys.stdout.buffer.getvalue()
