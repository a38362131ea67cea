"""What is said of a comparison, by the command line and in files: read back as those read it who get it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from gluon_rnn import UserError, assert_no_regression, cli
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.regression.comparison import compare, not_compared
from gluon_rnn.reporting.regression.verdicts import as_json, as_junit, as_markdown, as_text, escaped
from tests.cli.test_cli import CHECKOUT, environment
from tests.reporting.regression.test_comparison import WORSE, classified, repeats, run, table, worsened

SAME = [run(100.0, tokens_per_second=1000.0), run(200.0, cell="gru", tokens_per_second=500.0)]
#: The LSTM is worse by a tenth, the GRU was measured elsewhere, and there is a plain RNN.
OTHER = [
    run(110.0, tokens_per_second=990.0),
    run(200.0, cell="gru", tokens_per_second=5000.0, machine_id="n"),
    run(300.0, cell="rnn_tanh"),
]


def save(path: Path, *rows: dict[str, object]) -> Path:
    path.parent.mkdir(exist_ok=True)
    table(*rows).to_csv(path, index=False)
    return path


def cells(line: str, between: str = "  ") -> list[str]:
    return [cell.strip() for cell in line.split(between) if cell.strip()]


def test_the_table_says_for_each_point_what_was_found_and_could_have_been() -> None:
    lines = as_text(compare(table(*SAME), table(*OTHER))).splitlines()
    assert lines[0] == "regressed: 1 of 2 points; cell=lstm: validation perplexity +10.00 %"
    head, lstm, speed, test, gru, elsewhere = (cells(line) for line in [lines[2], *lines[4:9]])
    assert head[:7] == ["point", "quantity", "pairs", "baseline", "candidate", "change", "threshold"]
    assert head[7:] == ["detectable", "verdict"]
    assert lstm == ["cell=lstm", "valid ppl", "1", "100.00", "110.00", "+10.00 %", "+2.00 %", "+2.00 %", "regressed"]
    # One session on each side.
    assert speed == ["tokens/s", "1", "1,000", "990", "-1.00 %", "inconclusive"]
    assert test == ["test ppl", "90.48", "99.53", "+10.00 %"]
    assert gru == ["cell=gru", "valid ppl", "1", "200.00", "200.00", "+0.00 %", "+2.00 %", "+2.00 %", "held"]
    assert elsewhere == ["tokens/s", "1", "500", "5,000", "+900.00 %", "not compared"]
    assert "tokens/s decides nothing unless --throughput says what it may lose; by 10%: inconclusive at 1." in lines
    assert any(line.startswith("Speeds of one session cannot tell slower code from a machine") for line in lines)
    assert "new: cell=rnn_tanh" in lines
    assert lines[-1] == "cell=gru: tokens/s not measured on the same machine with as many threads"


def test_what_regressed_comes_first_and_what_improved_is_called_so() -> None:
    cells_ = ("lstm", "gru", "rnn_tanh", "rnn_relu")
    before = [run(100.0, cell=cell) for cell in cells_]
    after = [run(value, cell=cell) for cell, value in zip(cells_, (100.0, 90.0, 110.0), strict=False)]
    comparison = compare(table(*before), table(*after, run(None, cell="rnn_relu", status="failed", reason="killed")))
    lines = as_text(comparison, width=100).splitlines()
    assert lines[:3] == [
        "regressed: 2 of 4 points",
        "  cell=rnn_tanh: validation perplexity +10.00 %",
        "  cell=rnn_relu: seed 0 failed (killed)",
    ]
    rows = [cells(line) for line in lines if line.startswith(" cell=")]
    assert [(row[0], row[-1]) for row in rows] == [
        ("cell=rnn_tanh", "regressed"),
        ("cell=rnn_relu", "regressed"),
        ("cell=lstm", "held"),
        ("cell=gru", "improved"),
    ]
    assert rows[1] == ["cell=rnn_relu", "runs", "regressed"]
    assert [only.changes[0].improved for only in comparison.points[:3]] == [False, True, False]


def test_a_slowdown_stands_in_the_row_of_the_speed() -> None:
    comparison = compare(table(*sessions(1000.0)), table(*sessions(500.0)), throughput=0.1)
    rows = [cells(line) for line in as_text(comparison).splitlines()]
    (perplexity,) = (row for row in rows if "valid ppl" in row)
    (speed,) = (row for row in rows if "tokens/s" in row and "quantity" not in row)
    assert (perplexity[-1], speed[-1]) == ("held", "regressed")
    faster = compare(table(*sessions(500.0)), table(*sessions(1000.0)))
    assert [change.improved for change in faster.points[0].changes] == [False, True]
    assert faster.reason.endswith("1 improved")


def test_a_lone_session_improves_nothing() -> None:
    (point,) = compare(table(run(tokens_per_second=100.0)), table(run(tokens_per_second=900.0))).points
    assert [change.improved for change in point.changes] == [False, False]


def test_chance_is_no_improvement_and_what_a_gate_refuses_is_none() -> None:
    noisy = compare(table(*worsened([0, 0, 0])), table(*worsened([-0.5, 0.02, 0.3])))
    assert not noisy.points[0].changes[0].improved
    better = [[-0.1, -0.11, -0.12], [-0.1, -0.11, -0.12]]
    for two_sided, improved in ((False, True), (True, False)):
        comparison = compare(table(*worsened([0, 0, 0])), table(*worsened(better[0])), two_sided=two_sided)
        assert comparison.points[0].changes[0].improved == improved
        assert comparison.verdict == ("regressed" if two_sided else "held")


def test_speeds_may_be_left_out() -> None:
    comparison = compare(table(*SAME), table(*OTHER), speeds=False)
    assert "tokens/s" not in as_text(comparison) + as_markdown(comparison) + as_junit(comparison)
    assert comparison.verdict == "regressed"
    timed = table(run(None, max_steps=5, tokens_per_second=100.0))
    assert compare(timed, timed, speeds=False).verdict == "not compared"


@pytest.mark.parametrize("width", [100, 80])
def test_nothing_is_wider_than_a_terminal_and_no_number_is_cut(width: int) -> None:
    settings = {"bptt": 70, "hidden_size": 650}
    before = [
        run(123_456.78, cell=cell, **settings, tokens_per_second=12_345.0) for cell in ("lstm", "char_loop_concat")
    ]
    after = [run(234_567.89, cell=row["cell"], **settings, tokens_per_second=12_345.0) for row in before]
    text = as_text(
        compare(table(*before, run(cell="gru", **settings)), table(*after, run(cell="gru", **settings))), width=width
    )
    _, *lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for number in ("123,456.78", "234,567.89", "+90.00 %", "12,345"):
        assert number in text
    assert "…" not in text


def test_no_number_is_longer_than_a_person_reads() -> None:
    losses = {"valid_loss": 460.0, "test_loss": 650.0}
    huge = table(run() | losses, run(cell="gru") | {"valid_loss": math.log(43_886.14)})
    comparison = compare(table(run(), run(cell="gru")), huge)
    for text in (as_text(comparison), as_markdown(comparison)):
        assert "6.0e+199" in text
        assert "2.0e+282" in text
        assert "43,886.14" in text
        assert not re.search(r"[\d,]{12}", text)
    nats = compare(table(classified(0.1)), table(classified(0.1) | {"valid_loss": 1e99, "test_loss": 1e99}))
    assert "+1.0e+99 nats" in as_text(nats)
    assert not re.search(r"[\d,]{12}", as_text(nats) + as_junit(nats))


def test_where_an_accuracy_was_measured_all_is_said_in_nats() -> None:
    before, after = classified(0.176), classified(0.205, test_accuracy=0.7625)
    comparison = compare(table(before), table(after), two_sided=True)
    lines = as_text(comparison).splitlines()
    loss, test, accuracy = (cells(line) for line in lines[4:7])
    assert loss[1:] == [
        *("valid loss", "1", "0.1760", "0.2050", "+0.0290 nats", "±0.0198 nats", "+0.0198 nats", "regressed")
    ]
    assert test == ["test loss", "0.0760", "0.1050", "+0.0290 nats"]
    assert accuracy == ["test accuracy", "80.00 %", "76.25 %", "-3.75 points"]
    for text in (as_junit(comparison), as_markdown(comparison), lines[0]):
        assert "validation loss +0.0290 nats" in text
        assert "perplexity" not in text
    (point,) = json.loads(as_json(comparison))["points"]
    assert point["test_accuracy"] == [0.8, 0.7625]
    assert (point["changes"][0]["quantity"], point["changes"][0]["baseline"]) == ("valid_loss", pytest.approx(0.176))


def test_several_seeds_show_what_they_could_find_on_either_side() -> None:
    before = [*worsened([0, 0, 0]), *worsened([0, 0, 0], cell="gru")]
    after = [*worsened(WORSE), *worsened([0, 0.01, 0.02], cell="gru")]
    comparison = compare(table(*before), table(*after), two_sided=True)
    lines = as_text(comparison).splitlines()
    (overall,) = [line for line in lines if line.startswith(" all points together   valid ppl       2")]
    for line, change in ((lines[4], comparison.points[0].changes[0]), (overall, comparison.overall)):
        assert change is not None
        assert change.smallest is not None
        assert "±2.00 %" in line
        shown = "over +1,000 %" if change.smallest > 10 else f"{100 * change.smallest:+.2f} %"
        assert f"  {shown}  " in line
    assert "A single pair" not in "".join(lines)
    # A gate that could detect only an enormous change is not a success.
    gru = next(line for line in lines if line.startswith(" cell=gru"))
    assert cells(gru)[-1] == "inconclusive"
    assert any(line.startswith("Inconclusive: the repeats show neither") for line in lines)
    assert lines[0].endswith("regressed: 1 of 2 points; cell=lstm: validation perplexity +12.75 %")


def test_json_holds_everything_and_no_number_that_is_none() -> None:
    comparison = compare(table(*SAME, run(None, cell="m:C", status="oom")), table(*OTHER))
    content = json.loads(as_json(comparison))
    assert list(content) == [
        *("schema_version", "alpha", "power", "verdict", "reason", "limits", "points", "new", "overall", "remarks")
    ]
    assert (content["schema_version"], content["verdict"], content["new"]) == (1, "regressed", ["cell=rnn_tanh"])
    assert content["limits"] == {
        "perplexity": 0.02,
        "throughput": None,
        "floor": 0.05,
        "two_sided": False,
        "speeds": True,
    }
    lstm, gru, failed = content["points"]
    assert list(lstm) == ["label", "settings", "verdict", "reasons", "changes", "test_perplexity", "test_accuracy"]
    assert (lstm["settings"]["cell"], lstm["settings"]["dataset_sha1"]) == ("lstm", "d" * 40)
    assert (lstm["verdict"], gru["verdict"], failed["verdict"]) == ("regressed", "held", "not compared")
    assert lstm["changes"][0] == {
        "quantity": "valid_perplexity",
        "pairs": 1,
        "baseline": pytest.approx(100),
        "candidate": pytest.approx(110),
        "change": pytest.approx(0.1),
        "threshold": pytest.approx(0.02),
        "smallest": pytest.approx(0.02),
        "p_value": None,
        "verdict": "regressed",
        "reason": "",
        "sittings": None,
        "improved": False,
    }
    assert lstm["changes"][1]["sittings"] == [1, 1]
    assert gru["changes"][1]["threshold"] is None
    assert failed["changes"] == []


def test_json_writes_an_infinite_smallest_change_as_null() -> None:
    huge = compare(table(*repeats([100, 100])), table(*repeats([1e-300, 1e300])))
    assert huge.points[0].changes[0].smallest == math.inf
    assert json.loads(as_json(huge))["points"][0]["changes"][0]["smallest"] is None
    assert "over +1,000 %" in as_text(huge)


def suite_of(comparison: object) -> ElementTree.Element:
    (suite,) = ElementTree.fromstring(as_junit(comparison).encode())  # type: ignore[arg-type]
    return suite


def test_junit_has_a_case_for_each_point() -> None:
    failed = run(None, cell="m:<&|\x00>", status="oom")
    suite = suite_of(compare(table(*SAME, failed), table(*OTHER)))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["cell=lstm", "cell=gru", "cell=m:<&|?>"]
    assert [[child.tag for child in case] for case in cases] == [["failure"], [], ["skipped"]]
    assert cases[0][0].get("message") == "validation perplexity +10.00 %"
    assert "110.00" in (suite.findtext("system-out") or "")


def test_junit_is_red_where_nothing_was_compared() -> None:
    suite = suite_of(not_compared("there is nothing", Limits()))
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    (error,) = suite.findall("testcase/error")
    assert error.get("message") == "could not compare: there is nothing"


def test_junit_counts_all_points_together() -> None:
    after = [*worsened(WORSE), *worsened(WORSE, cell="gru")]
    suite = suite_of(compare(table(*worsened([0, 0, 0]), *worsened([0, 0, 0], cell="gru")), table(*after)))
    assert [case.get("name") for case in suite.findall("testcase")][-1] == "all points together"
    assert suite.get("tests") == "3"


def test_markdown_keeps_its_columns_whatever_stands_in_them() -> None:
    reason = "a|b\n<img> *x*"
    candidate = [run(None, status="failed", reason=reason), *OTHER[1:]]
    lines = as_markdown(compare(table(*SAME), table(*candidate))).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0].count("|") == 10
    assert {row.replace("\\|", "").count("|") for row in rows} == {10}
    assert "seed 0 failed (a\\|b \\<img\\> \\*x\\*)" in rows[2]
    assert lines[0].startswith("**regressed: 1 of 2 points; cell=lstm: ")
    assert "new: cell=rnn\\_tanh" in lines


def sessions(speed: float) -> list[dict[str, object]]:
    """Runs of three sessions, hours apart, that read about so many tokens a second."""
    return [
        run(
            100.0,
            seed=hour,
            tokens_per_second=speed * (1 + hour / 1000),
            started_at=f"2026-01-01T{3 * hour:02}:00:00+00:00",
        )
        for hour in range(3)
    ]


# In a user's own tests


def test_the_assertion_shows_the_table(tmp_path: Path) -> None:
    baseline, candidate = save(tmp_path / "a.csv", *SAME), save(tmp_path / "b.csv", *OTHER)
    assert_no_regression(baseline, str(baseline))
    assert_no_regression(baseline, table(*OTHER), perplexity=0.11)
    assert_no_regression(table(OTHER[0]), table(SAME[0]))
    with pytest.raises(AssertionError) as raised:
        assert_no_regression(baseline, candidate)
    assert str(raised.value) == as_text(compare(baseline, candidate), width=100)
    # The first line is what pytest's summary shows.
    assert str(raised.value).startswith("regressed: 1 of 2 points; cell=lstm: validation perplexity +10.00 %\n")
    with pytest.raises(AssertionError):
        assert_no_regression(table(OTHER[0]), table(SAME[0]), two_sided=True)
    with pytest.raises(UserError, match="could not compare: no configuration is in both"):
        assert_no_regression(baseline, table(run(epochs=9)))


# On the command line


@pytest.mark.parametrize(
    ("candidate", "options", "status"),
    [
        (SAME, [], 0),
        (OTHER, [], 1),
        (OTHER, ["--perplexity", "10.1%"], 0),
        (OTHER, ["--perplexity", "0.101"], 0),
        (OTHER, ["--perplexity", "0.101", "--throughput", "0.5%"], 2),
        (OTHER, ["--throughput", "0.5%"], 1),
        (OTHER, ["--no-throughput"], 1),
        (OTHER, ["--floor", "11"], 0),
        ([SAME[0] | {"valid_loss": 4.0}, SAME[1]], [], 0),
        ([SAME[0] | {"valid_loss": 4.0}, SAME[1]], ["--two-sided"], 1),
        ([run(epochs=9)], [], 2),
        (None, [], 2),
    ],
)
def test_the_exit_status_is_the_verdict_and_every_file_says_so(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    candidate: list[dict[str, object]] | None,
    options: list[str],
    status: int,
) -> None:
    save(tmp_path / "base" / "runs.csv", *SAME)
    if candidate:
        save(tmp_path / "new.csv", *candidate)
    names = {form: tmp_path / f"gate.{form}" for form in ("json", "junit", "markdown")}
    for path in names.values():
        path.write_text("of an earlier comparison")
    files = [word for form, path in names.items() for word in (f"--{form}", str(path))]
    gate = ["check-regression", str(tmp_path / "base"), str(tmp_path / "new.csv"), *options, *files]
    assert cli.main(gate) == status
    said = capsys.readouterr()
    verdict = ("held", "regressed", "not compared")[status]
    content = json.loads(names["json"].read_text())
    assert content["verdict"] == verdict
    if candidate:
        assert said.out.splitlines()[0] == content["reason"]
    else:
        (line,) = said.err.splitlines()
        assert line.startswith("error: cannot read")
    suite = ElementTree.parse(names["junit"]).getroot()[0]
    assert (int(suite.get("failures", "")) > 0, int(suite.get("errors", "")) > 0) == (status == 1, status == 2)
    assert names["markdown"].read_text().startswith(f"**{'could not compare' if status == 2 else verdict}")
    assert not list(tmp_path.glob(".gate*"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--perplexity", "two"], "'two' is not a tolerance"),
        (["--perplexity", "2"], "'2' is not a tolerance; give one below 100%, such as 2% or 0.02"),
        (["--perplexity", "100%"], "not a tolerance"),
        (["--perplexity=-1%"], "not a tolerance"),
        (["--throughput", "nan"], "not a tolerance"),
        (["--throughput", "%"], "not a tolerance"),
        (["--no-throughput", "--throughput", "5%"], "not allowed with argument"),
        (["--floor", "-1"], "--floor"),
        (["--floor", "inf"], "not a number of units"),
        (["--json", ""], "--json"),
        (["--json", "nowhere/gate.json"], "cannot write nowhere/gate.json: No such file or directory"),
    ],
)
def test_a_slip_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.csv", *SAME)
    assert cli.main(["check-regression", "a.csv", "a.csv", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.slow
def test_the_script_is_the_command(tmp_path: Path) -> None:
    baseline, candidate = save(tmp_path / "a.csv", *SAME), save(tmp_path / "b.csv", *OTHER)
    command = [sys.executable, str(CHECKOUT / "scripts" / "check_regression.py"), str(baseline), str(candidate)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("regressed: 1 of 2 points; cell=lstm: validation perplexity +10.00 %\n")


# A baseline on purpose


def promote(*arguments: object) -> int:
    return cli.main(["promote", *map(str, arguments)])


def test_a_baseline_is_the_table_without_the_machines_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    awkward = run(100.0, learning_rate=0.1 + 0.2, host="my-machine", valid_loss=0.9385958677423489)
    diverged = run(math.inf, cell="gru", host="my-machine", status="diverged", train_perplexity=math.inf)
    save(tmp_path / "sweep" / "runs.csv", awkward, diverged)
    assert promote(tmp_path / "sweep", tmp_path / "base.csv") == 0
    assert capsys.readouterr().out.endswith(f"base.csv now holds the 2 runs of {tmp_path / 'sweep'}\n")
    assert "my-machine" not in (tmp_path / "base.csv").read_text()
    before, after = pd.read_csv(tmp_path / "sweep" / "runs.csv"), pd.read_csv(tmp_path / "base.csv")
    assert before.drop(columns="host").equals(after.drop(columns="host"))
    assert cli.main(["check-regression", str(tmp_path / "base.csv"), str(tmp_path / "sweep"), "--two-sided"]) == 0


def test_a_new_baseline_shows_what_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "sweep" / "runs.csv", *OTHER)
    save(tmp_path / "base.csv", *SAME)
    assert promote(tmp_path / "sweep", tmp_path / "base.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "regressed: 1 of 2 points; cell=lstm: validation perplexity +10.00 %" in lines
    assert "new: cell=rnn_tanh" in lines
    assert len(pd.read_csv(tmp_path / "base.csv")) == 3
    save(tmp_path / "sweep" / "runs.csv", *SAME)
    assert promote(tmp_path / "sweep", tmp_path / "base.csv") == 0
    # What got better is a change, too.
    assert "validation perplexity -9.09 %" in capsys.readouterr().out


def test_an_unfinished_sweep_is_no_baseline_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, file = tmp_path / "sweep", tmp_path / "base.csv"
    save(sweep / "runs.csv", run(), run(None, cell="gru", status="oom", run_id="g" * 12))
    points = [{"run_id": "g" * 12, "label": "cell=gru"}, {"run_id": "h" * 12, "label": "cell=rnn_tanh"}]
    (sweep / "sweep.json").write_text(json.dumps({"name": "sweep", "points": points}))
    assert promote(sweep, file) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run {'g' * 12} oom, cell=rnn_tanh has not ended; make them again, or say --incomplete" in line
    assert not file.exists()
    assert promote(sweep, file, "--incomplete") == 0
    assert pd.read_csv(file)["status"].tolist() == ["ok", "oom"]
    save(sweep / "runs.csv", run(), run(cell="gru", run_id="g" * 12))
    assert promote(sweep, file) == 2
    assert "not a complete baseline: cell=rnn_tanh has not ended;" in capsys.readouterr().err
    save(sweep / "runs.csv", run(), run(cell="gru", run_id="g" * 12), run(cell="rnn_tanh", run_id="h" * 12))
    assert promote(sweep, file) == 0


def test_no_baseline_is_made_of_nothing_nor_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(*SAME).iloc[:0].to_csv(tmp_path / "empty.csv", index=False)
    save(tmp_path / "full.csv", *SAME)
    assert promote(tmp_path / "empty.csv", tmp_path / "base.csv") == 2
    assert promote(tmp_path / "full.csv", tmp_path / "nowhere" / "base.csv") == 2
    (tmp_path / "base.csv").write_text("a,b\n1,2\n")
    assert promote(tmp_path / "full.csv", tmp_path / "base.csv") == 2
    told = capsys.readouterr().err.splitlines()
    assert ["has no runs" in told[0], "cannot write" in told[1], "cannot read" in told[2]] == [True] * 3
    assert len(told) == 3
    assert (tmp_path / "base.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("digest", [None, "a" * 40])
def test_what_a_gate_refuses_is_no_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], digest: str | None
) -> None:
    """Two runs that nothing tells apart, as of an edited cell in tables without digests."""
    twice = [run(cell="mine:Cell", cell_sha1=digest, run_id=name * 12) for name in "ab"]
    sweep, file = save(tmp_path / "sweep" / "runs.csv", *twice).parent, tmp_path / "base.csv"
    assert cli.main(["check-regression", str(sweep), str(sweep)]) == 2
    assert promote(sweep, file) == 2
    refused, promoted = capsys.readouterr().err.splitlines()
    assert refused == promoted
    assert f"two runs of one configuration and seed, {'a' * 12} and {'b' * 12}; keep one of them" in promoted
    assert "--prune" in promoted
    assert not file.exists()
    # One that was promoted before is not in the way for ever.
    save(file, *twice)
    save(sweep / "runs.csv", twice[1])
    assert promote(sweep, file) == 2
    assert capsys.readouterr().err.endswith(f"or remove {file} to replace it without a comparison\n")
    file.unlink()
    assert promote(sweep, file) == 0
    assert cli.main(["check-regression", str(file), str(sweep)]) == 0


def test_every_baseline_that_was_promoted_holds_against_itself(tmp_path: Path) -> None:
    versions = [run(cell="mine:Cell", cell_sha1=digit * 40, bptt=35) for digit in "ab"]
    failed = run(None, cell="gru", status="failed", bptt=35)
    unscored = run(None, cell="lstm", bptt=9)
    for place, (rows, options) in enumerate([
        (versions, []),
        ([*versions, failed], ["--incomplete"]),
        ([*versions, unscored], []),
        ([run(None, max_steps=5, tokens_per_second=100.0)], []),
        ([run(math.inf, status="diverged")], []),
    ]):  # fmt: skip
        sweep = save(tmp_path / f"sweep{place}" / "runs.csv", *rows).parent
        assert promote(sweep, tmp_path / f"{place}.csv", *options) == 0
        assert cli.main(["check-regression", str(sweep), str(sweep)]) == 0
        assert cli.main(["check-regression", str(tmp_path / f"{place}.csv"), str(sweep), "--two-sided"]) == 0


@pytest.mark.parametrize("columns", [{"status": "failed"}, {}, {"max_steps": 5}])
def test_runs_with_nothing_to_compare_are_no_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: dict[str, object]
) -> None:
    sweep = save(tmp_path / "sweep" / "runs.csv", run(None, **columns)).parent
    assert promote(sweep, tmp_path / "base.csv", "--incomplete") == 2
    assert "is not a baseline, could not compare" in capsys.readouterr().err
    assert not (tmp_path / "base.csv").exists()


def test_names_that_are_not_utf8_are_written_as_escapes() -> None:
    assert escaped("caf\udce9 | a") == r"caf\\udce9 \| a"
