"""What people see of a sweep while it runs: plain lines, bars, what is best so far."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.terminal import displays
from gluon_rnn.reporting.terminal.displays import PlainDisplay, TerminalDisplay, choose_display
from gluon_rnn.reporting.terminal.results import results_tables
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display
from tests.reporting.terminal.conftest import NAMES, console_of, make_plan, say
from tests.runs.test_records import epoch, keep, make_done, make_job


def plain(shown: str) -> str:
    """What a terminal shows, without colours and cursors."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def grid(folder: Path, corpus: CorpusFiles, count: int) -> Plan:
    """Points that differ in three settings, the last two in their seed alone."""
    settings = [{"cell": "lstm", "hidden_size": 100, "learning_rate": 20.0, "seed": seed} for seed in range(count - 1)]
    settings.append({"cell": "gru", "hidden_size": 50, "learning_rate": 5.0, "seed": 0})
    return make_plan(folder, [make_job(corpus, run_id=f"{n:012}", **each) for n, each in enumerate(settings[::-1])])


def show(display: Display, plan: Plan) -> None:
    """A sweep of which all points run side by side, and end one by one."""
    display.started(plan)
    display.running(plan.jobs)
    for job in plan.jobs:
        say(plan, job, 0.5, "epoch 1/2 [step]")
    display.running(plan.jobs[:1])
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
            assert re.search(
                rf"^ ?{re.escape(name)}  .*epoch 1/2 \[step\] +6,789 +train 12.35", plain(shown), re.MULTILINE
            )
        assert "4/5" in shown
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
    monkeypatch.setattr(displays.time, "monotonic", lambda: now[0])
    console, text = console_of(terminal=False)
    display = PlainDisplay(console)
    display.started(plan)
    for seconds in (0, 27, 3, 15, 14, 1):
        now[0] += seconds
        if seconds == 27:
            say(plan, plan.jobs[0], 0.5, "epoch 1/2")
        display.running(plan.jobs[:2])
    lines = [line for line in text.getvalue().splitlines() if line.startswith("  ")]
    # A tenth of five points took 27 s, so that 243 s were left. No news came after that.
    said = "  dataset=[red]x: epoch 1/2, 6,789 tokens/s, training perplexity 12.35; 0 of 5 points done, about "
    assert lines == [f"{said}4 min 00 s left", f"{said}3 min 30 s left"]


def test_the_time_left_is_that_of_the_work_left(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(displays.time, "monotonic", lambda: now[0])
    console, text = console_of(terminal=False)
    display = PlainDisplay(console)
    first, second, *_ = plan.jobs
    say(plan, first, 0.8, "epoch 9/10")
    display.started(plan)
    # It resumes from its checkpoint after epoch 6. In 30 s a tenth of a run was made; 0.3 + 4 are left.
    say(plan, first, 0.0, "starting", before=None)
    display.running([first])
    say(plan, first, 0.6, "starting", before=0.6)
    display.running([first])
    say(plan, first, 0.7, "epoch 7/10 done", before=0.6)
    now[0] += 30
    display.running([first])
    # The second tenth took as long, but half of it was another run's, which begins anew.
    say(plan, first, 0.75, "epoch 8/10", before=0.6)
    say(plan, second, 0.05, "epoch 1/10")
    now[0] += 30
    display.running([first, second])
    display.ended(first, make_done(first, [epoch(1, 2.0, 2.5)], status="ok"))
    now[0] += 180
    display.running([second])
    left = [line.rpartition("about ")[2] for line in text.getvalue().splitlines() if "about" in line]
    assert left == ["21 min 30 s left", *["21 min 00 s left"] * 2, "35 min 07 s left"]


def test_what_a_shorter_run_did_is_not_the_speed_of_the_one_that_continues_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(displays.time, "monotonic", lambda: now[0])
    console, text = console_of(terminal=False)
    display = PlainDisplay(console)
    job = plan.jobs[0]
    display.started(plan)
    now[0] += 30
    say(plan, job, 0.5, "starting", before=0.5)
    display.running([job])
    # 0.1 took a minute; 0.4 + 4 are left.
    now[0] += 30
    say(plan, job, 0.6, "epoch 6/10 done", before=0.5)
    display.running([job])
    left = [line.rpartition("done, ")[2] for line in text.getvalue().splitlines() if line.startswith("  ")]
    assert left == ["time left unknown", "about 44 min 00 s left"]


def test_an_interrupted_terminal_is_given_back(plan: Plan) -> None:
    console, text = console_of(terminal=True)
    display = TerminalDisplay(console)
    display.started(plan)
    display.running(plan.jobs[:2])
    display.stopped()
    shown = text.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_two_parallel_runs_are_told_apart_at_80_columns(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan = grid(tmp_path, small_corpus, 4)
    console, text = console_of(terminal=True, width=80)
    display = TerminalDisplay(console)
    display.started(plan)
    jobs = plan.jobs[-2:]
    say(plan, jobs[0], 0.25, "epoch 1/2, step 350/745")
    say(plan, jobs[1], 0.5, "epoch 1/2 done", trained=False)
    display.running(jobs)
    display.stopped()
    lines = plain(text.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    first, second = (next(line for line in lines if f" {fraction} " in line) for fraction in ("25%", "50%"))
    assert re.search(r"━.* 25% +epoch 1/2 +6,789 +train 12\.35", first)
    assert re.search(r"━.* 50% +epoch 1/2 done +6,789 +valid 12\.35", second)
    # What they have in common is said once, above; their seeds are told.
    assert any(line.strip() == "cell=lstm hidden_size=100 learning_rate=20.0" for line in lines)
    assert [line.split()[0] for line in (first, second)] == [str(job.config.seed) for job in jobs] == ["1", "0"]


def test_there_is_room_for_all_settings_and_steps_in_a_wide_terminal(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan = grid(tmp_path, small_corpus, 4)
    console, text = console_of(terminal=True, width=140)
    display = TerminalDisplay(console)
    display.started(plan)
    say(plan, plan.jobs[0], 0.25, "epoch 1/2, step 350/745")
    display.running(plan.jobs[:1])
    display.stopped()
    line = next(line for line in plain(text.getvalue()).splitlines() if " 25% " in line)
    assert line.split()[:4] == ["gru", "50", "5.0", "0"]
    assert "epoch 1/2, step 350/745" in line


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_best_so_far_is_said(tmp_path: Path, small_corpus: CorpusFiles, terminal: bool) -> None:
    plan = grid(tmp_path, small_corpus, 4)
    console, text = console_of(terminal=terminal, width=80 if terminal else 250)
    display = choose_display(console, quiet=False)
    display.started(plan)
    losses = (2.0, 1.0, 1.2, 3.0)
    for place, (job, loss) in enumerate(zip(plan.jobs, losses, strict=True)):
        display.ended(job, make_done(job, [epoch(1, loss, loss)]))
        display.running(plan.jobs[place + 1 :])
    display.stopped()
    said = " ".join(plain(text.getvalue()).split())
    gru, lstm = "cell=gru hidden_size=50 learning_rate=5.0", "cell=lstm hidden_size=100 learning_rate=20.0"
    assert f"best so far: {gru}: validation perplexity 7.39" in said
    assert f"best so far: {lstm}: validation perplexity 2.72" in said
    assert f"best so far: {lstm}: validation perplexity 3.02 ± 0.43, 2 seeds" in said
    if terminal:
        # With its third seed the LSTM is worse than the GRU.
        assert said.rindex(f"best so far: {gru}") > said.rindex(f"best so far: {lstm}")
    else:
        assert said.count("best so far") == 3


def test_results_of_before_count_for_what_is_best(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan = grid(tmp_path, small_corpus, 3)
    done, *missing = plan.jobs
    keep(tmp_path, make_done(done, [epoch(1, 1.0, 1.0)]))
    console, text = console_of(terminal=False)
    display = PlainDisplay(console)
    display.started(replace(plan, missing=tuple(missing)))
    assert text.getvalue().startswith("grid: 3 points, 1 done already, 2 to run on cpu, 2 at a time; results in ")
    display.ended(missing[0], make_done(missing[0], [epoch(1, 2.0, 2.0)]))
    assert "best so far" not in text.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_to_run_and_a_lone_point_are_said_in_english(
    tmp_path: Path, small_corpus: CorpusFiles, terminal: bool
) -> None:
    plan = make_plan(tmp_path, [make_job(small_corpus)])
    console, text = console_of(terminal=terminal)
    display = choose_display(console, quiet=False)
    display.started(replace(plan, missing=()))
    display.running([])
    display.stopped()
    assert plain(text.getvalue()) == f"grid: 1 point, all done already; results in {tmp_path}\n"


def test_lines_of_a_terminal_are_folded_between_words(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    plan = grid(tmp_path, small_corpus, 2)
    console, text = console_of(terminal=True, width=40)
    display = TerminalDisplay(console)
    display.started(plan)
    display.ended(plan.jobs[0], make_done(plan.jobs[0], [epoch(1, 2.0, 2.5)]))
    display.stopped()
    shown = plain(text.getvalue())
    words = "[1/2] cell=gru hidden_size=50 learning_rate=5.0: ok, validation perplexity 7.39, test 12.18, 8 tokens/s"
    assert words in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 40
