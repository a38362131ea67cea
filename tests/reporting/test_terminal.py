"""What people see: plain lines, bars, the table and the status, whatever the points are called."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.reporting import terminal as display_module
from gluon_rnn.reporting.terminal import (
    PlainDisplay,
    TerminalDisplay,
    choose_display,
    make_console,
    results_tables,
    status_lines,
    summary,
)
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display
from tests.runs.test_records import epoch, make_done, make_job

#: Each would be eaten, or be a mistake, if it were read as rich's markup or as an emoji's name.
NAMES = ("[red]x", "[/bold]", ":cat:", "two words=x", "[link=y")


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def console_of(*, terminal: bool) -> tuple[Console, io.StringIO]:
    """What `make_console` makes where standard output is a terminal, or a file, that can be read."""
    text = io.StringIO()
    text.isatty = lambda: terminal  # type: ignore[method-assign]
    with contextlib.redirect_stdout(text):
        console = make_console()
    console.file = text
    console.width = 250
    return console, text


def make_plan(directory: Path, jobs: Sequence[Job]) -> Plan:
    return Plan(
        name="grid",
        directory=directory,
        jobs=tuple(jobs),
        missing=tuple(jobs),
        slots=(Slot("cpu", "a processor", "cpu"),) * 2,
    )


@pytest.fixture
def plan(tmp_path: Path, small_corpus: CorpusFiles) -> Plan:
    """Points that differ in the names of their corpora."""
    return make_plan(
        tmp_path, [make_job(small_corpus, run_id=str(place), dataset=name) for place, name in enumerate(NAMES)]
    )


def say(plan: Plan, job: Job, fraction: float, doing: str) -> None:
    directory = plan.directory / "runs" / job.run_id
    directory.mkdir(parents=True, exist_ok=True)
    live = LiveProgress(
        doing=doing, fraction=fraction, perplexity=12.345, tokens_per_second=6789.4, progress=Progress()
    )
    (directory / "progress.json").write_text(live.model_dump_json())


def show(display: Display, plan: Plan) -> None:
    """A sweep of which all points run side by side, and end one by one."""
    display.started(plan)
    display.running(plan.jobs)
    for job in plan.jobs:
        say(plan, job, 0.5, "epoch 1/2 [step]")
    display.running(plan.jobs)
    for place, job in enumerate(plan.jobs):
        display.running(plan.jobs[place:])
        display.ended(job, make_done(job, [epoch(1, 2.0, 2.5)], status="ok"))
    display.stopped()


@pytest.mark.parametrize("terminal", [True, False])
def test_labels_are_shown_as_they_are(plan: Plan, terminal: bool) -> None:
    console, text = console_of(terminal=terminal)
    display = choose_display(console, quiet=False)
    assert type(display) is (TerminalDisplay if terminal else PlainDisplay)
    show(display, plan)
    console.print(results_tables([make_done(job) for job in plan.jobs], plan.varying))
    shown = text.getvalue()
    for place, name in enumerate(NAMES, 1):
        assert f"[{place}/5] dataset={name}: ok, validation perplexity 7.39, test 12.18, 8 tokens/s" in shown
    assert shown.startswith("grid: 5 points, 0 done already, 5 to run on cpu, 2 at a time; results in ")
    if terminal:
        for name in NAMES:
            assert f"dataset={name} " in shown
        assert "epoch 1/2 [step], 6,789 tokens/s, perplexity 12.35" in shown
        assert "5/5" in shown
        assert "\x1b[?25h" in shown[shown.rindex("\x1b[?25l") :]  # the cursor is back
    else:
        assert "\x1b" not in shown
        assert [f"started dataset={name} (run {place})" for place, name in enumerate(NAMES)] == [
            line for line in shown.splitlines() if line.startswith("started")
        ]


def test_a_quiet_sweep_shows_nothing(plan: Plan) -> None:
    console, text = console_of(terminal=True)
    show(choose_display(console, quiet=True), plan)
    assert text.getvalue() == ""


def test_a_log_gets_a_line_of_each_run_every_half_minute(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: now[0])
    console, text = console_of(terminal=False)
    display = PlainDisplay(console)
    display.started(plan)
    say(plan, plan.jobs[0], 0.5, "epoch 1/2")
    for seconds in (0, 29, 1, 15, 14, 1):
        now[0] += seconds
        display.running(plan.jobs[:2])
    lines = [line for line in text.getvalue().splitlines() if line.startswith("  ")]
    # A tenth of five points took 30 s, then 60 s.
    said = "  dataset=[red]x: epoch 1/2, 6,789 tokens/s, perplexity 12.35; 0 of 5 points done, about "
    assert lines == [f"{said}4 min 30 s left", f"{said}9 min 00 s left"]


def test_an_interrupted_terminal_is_given_back(plan: Plan) -> None:
    console, text = console_of(terminal=True)
    display = TerminalDisplay(console)
    display.started(plan)
    display.running(plan.jobs[:2])
    display.stopped()
    assert text.getvalue().rstrip().endswith("\x1b[?25h")


def test_the_table_has_what_varies_and_what_came_of_it(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=False)
    good = make_done(make_job(small_corpus, cell="gru"), [epoch(1, 2.0, 2.5)])
    bad = make_done(make_job(small_corpus, cell="lstm"), status="failed", reason="[b]because:cat:")
    console.print(results_tables([bad, good], ["cell", "bptt"]))
    _, head, _, first, second, *_ = text.getvalue().splitlines()
    columns = ["cell", "bptt", "valid", "ppl", "test", "ppl", "tokens/s", "ms/step", "peak", "MB", "seconds", "status"]
    assert head.split() == columns
    assert first.split() == ["gru", "5", "7.39", "12.18", "8", "2,000.0", "0", "ok"]
    assert second.split()[-2:] == ["failed:", "[b]because:cat:"]


def huge(corpus: CorpusFiles, **settings: object) -> RunRecord:
    """It ended well at a perplexity of 4.2e13, and so did not learn."""
    record = make_done(make_job(corpus, **settings), [epoch(1, 31.37, 460.0)])
    return record.with_columns({"unigram_loss": 6.9, "peak_rss_mb": 1234.0})


def test_a_run_that_learned_nothing_is_said_to_be_so_and_is_not_best(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=False)
    good = make_done(make_job(small_corpus, cell="gru"), [epoch(1, 6.8, 6.5)]).with_columns({"unigram_loss": 6.9})
    even = good.with_columns({"unigram_loss": 6.8, "cell": "lstm"})
    console.print(results_tables([huge(small_corpus, cell="rnn_tanh"), even, good], ["cell"]))
    rows = [line.rstrip() for line in text.getvalue().splitlines()[3:6]]
    assert [row.split()[0] for row in rows] == ["gru", "lstm", "rnn_tanh"]
    assert [row.endswith("  ok") for row in rows] == [True, False, False]
    assert [row.endswith("  worse than unigram") for row in rows] == [False, True, True]
    assert summary(good).startswith("ok, validation perplexity 897.85, ")
    assert summary(even).startswith("worse than unigram, validation perplexity 897.85, ")


def test_numbers_of_any_size_fit_a_narrow_terminal(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=True)
    console.width = 80
    console.print(results_tables([huge(small_corpus, cell="rnn_tanh", bptt=5)], ["cell", "learning_rate"]))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for number in ("4.2e+13", "6.0e+199", "2,000.0", "1,234"):
        assert number in shown
    assert "test 6.0e+199" in summary(huge(small_corpus))


def test_a_live_perplexity_of_any_size_is_short(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan = make_plan(tmp_path, [make_job(small_corpus)])
    directory = tmp_path / "runs" / plan.jobs[0].run_id
    directory.mkdir(parents=True)
    for perplexity, shown in ((1e300, "1.0e+300"), (math.inf, "inf")):
        state = LiveProgress(doing="epoch 1/2", perplexity=perplexity, progress=Progress())
        (directory / "progress.json").write_text(state.model_dump_json())
        points = [{"run_id": plan.jobs[0].run_id, "label": "x"}]
        assert status_lines(tmp_path, points, [], active=None)[0].endswith("; whether a sweep is running is not known")
        assert status_lines(tmp_path, points, [], active=None)[1] == f"  x: epoch 1/2, perplexity {shown}"
        assert status_lines(tmp_path, points, [], active=True)[1] == f"  x: epoch 1/2, perplexity {shown}"


def test_a_summary_says_how_it_ended(small_corpus: CorpusFiles) -> None:
    job = make_job(small_corpus)
    assert summary(make_done(job, status="timeout", reason="stopped after 3 s")) == "timeout (stopped after 3 s)"
    diverged = make_done(job, status="diverged", reason="the loss was nan", nats=math.inf)
    assert summary(diverged) == "diverged (the loss was nan), 8 tokens/s"


def test_status_tells_what_runs_only_while_a_sweep_does(plan: Plan) -> None:
    points = [{"run_id": job.run_id, "label": plan.label(job)} for job in plan.jobs]
    records = [
        make_done(plan.jobs[0], [epoch(1, 2.0, 2.5)]),
        make_done(plan.jobs[1], status="oom", reason="why"),
        make_done(plan.jobs[1].model_copy(update={"run_id": "no point of this sweep"})),
    ]
    say(plan, plan.jobs[2], 0.5, "epoch 1/2")
    first, *lines = status_lines(plan.directory, points, records, active=True)
    assert first == f"{plan.directory}: 2 of 5 points ended (1 ok, 1 oom); a sweep is running"
    assert lines == [
        "  dataset=[red]x: ok, validation perplexity 7.39, test 12.18, 8 tokens/s",
        "  dataset=[/bold]: oom (why)",
        "  dataset=:cat:: epoch 1/2, 6,789 tokens/s, perplexity 12.35",
        "  dataset=two words=x: waiting",
        "  dataset=[link=y: waiting",
    ]
    first, *lines = status_lines(plan.directory, points, [], active=False)
    assert first == f"{plan.directory}: 0 of 5 points ended (none ended); no sweep is running"
    assert lines[2] == "  dataset=:cat:: interrupted"


def test_where_an_accuracy_was_measured_it_is_read_beside_the_loss(small_corpus: CorpusFiles) -> None:
    job = make_job(small_corpus, objective="classification")
    good = make_done(job, [epoch(1, 0.64, 0.65, (0.7421, 0.7))])
    better = make_done(job, [epoch(1, 0.63, 0.66, (0.5, 0.6))])
    untested = make_done(job, [epoch(1, 0.7, None, (0.5, None))])  # type: ignore[arg-type]
    assert summary(good) == (
        "ok, validation cross-entropy 0.6400, accuracy 74.21 %, test cross-entropy 0.6500, accuracy 70.00 %, 8 tokens/s"
    )
    assert summary(untested) == "ok, validation cross-entropy 0.7000, accuracy 50.00 %, 8 tokens/s"
    console, text = console_of(terminal=False)
    failed = make_done(job, status="failed")
    console.print(results_tables([failed, good, better], ["cell"]))
    _, head, _, *rows = text.getvalue().splitlines()
    assert " ".join(head.split()).startswith("cell valid loss valid acc. % test loss test acc. % tokens/s ms/step")
    assert [row.split()[1:5] for row in rows[:2]] == [
        ["0.6300", "50.00", "0.6600", "60.00"],
        ["0.6400", "74.21", "0.6500", "70.00"],
    ]
    assert rows[2].split()[-1] == "failed"


def test_what_does_not_compare_has_a_table_each(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=False)
    words, characters = ({"objective": "language_model", "level": level} for level in ("word", "character"))
    tagging = {"objective": "tagging"}
    accuracies = {"tagging": (0.9, 0.9)}
    records = [
        make_done(
            make_job(small_corpus, cell=cell, **task), [epoch(1, 1.0 + place, 1.0, accuracies.get(task["objective"]))]
        )
        for place, cell in enumerate(("lstm", "gru"))
        for task in (words, characters, tagging)
    ]
    console.print(results_tables(records, ["objective", "level", "cell"]))
    lines = [line.split() for line in text.getvalue().splitlines()]
    heads = [place for place, line in enumerate(lines) if line[:1] == ["objective"]]
    tables = [[row[:3] for row in lines[place + 2 : place + 4]] for place in heads]
    assert tables == [
        [["language_model", level, "lstm"], ["language_model", level, "gru"]] for level in ("word", "character")
    ] + [[["tagging", "word", "lstm"], ["tagging", "word", "gru"]]]
    assert ["ppl" in lines[place] for place in heads] == [True, True, False]


def test_contents_of_one_name_are_told_apart_in_the_last_table(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=False)
    vectors = [FoundVectors("vec.txt", Path(f"/v{digit}/vec.txt"), digit * 40, 8) for digit in "ab"]
    records = [
        make_done(make_job(small_corpus, embedding=str(found.path), tie_weights=False, cell=cell).model_copy(
            update={"vectors": found, "cell_sha1": "c" * 40 if cell == "mine:Cell" else None}
        ))
        for found in vectors
        for cell in ("lstm", "mine:Cell")
    ]  # fmt: skip
    console.print(results_tables(records, ["embedding", "cell"]))
    rows = [line.split()[:2] for line in text.getvalue().splitlines()]
    assert sorted(row for row in rows if row and row[0].startswith("vec.txt")) == [
        [f"vec.txt@{digit * 7}", cell] for digit in "ab" for cell in ("lstm", "mine:Cell")
    ]
    other = replace(small_corpus, sha1="e" * 40)
    console.print(results_tables([make_done(make_job(corpus)) for corpus in (small_corpus, other)], ["dataset"]))
    shown = {line.split()[0] for line in text.getvalue().splitlines() if "small@" in line}
    assert shown == {f"small@{small_corpus.sha1[:7]}", "small@eeeeeee"}
