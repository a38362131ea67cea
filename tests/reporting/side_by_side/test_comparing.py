"""Folders beside each other: verdicts with numbers worked out by hand, and tables that fit a terminal."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from gluon_rnn import cli
from gluon_rnn.common.errors import UserError
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.side_by_side.comparing import Point, compare_folders
from gluon_rnn.reporting.side_by_side.forms import as_json, as_markdown, as_text
from tests.reporting.regression.test_comparison import repeats, run, table, worsened

CHECKOUT = Path(__file__).parents[3]
SAME = repeats([100.0] * 3)


def points(first: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], **how: Any) -> tuple[Point, ...]:
    return compare_folders([table(*first), table(*other)], **how).against[0].points


def test_a_change_is_the_mean_over_seeds_with_its_interval() -> None:
    nats = (0.08, 0.10, 0.12)
    (point,) = points(SAME, worsened(nats))
    found = point.loss
    assert found
    assert (found.quantity, found.repeats, found.verdict) == ("valid_perplexity", (3, 3), "worse")
    assert (found.before, found.after) == pytest.approx((100, 100 * math.exp(0.1)))
    assert found.change == pytest.approx(math.expm1(0.1))
    half = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((math.expm1(0.1 - half), math.expm1(0.1 + half)))
    assert found.p_value == pytest.approx(stats.ttest_1samp(nats, 0).pvalue)
    assert point.verdict == "worse"
    (back,) = points(worsened(nats), SAME)
    assert back.verdict == "better"
    assert back.loss
    assert back.loss.change == pytest.approx(math.expm1(-0.1))


@pytest.mark.parametrize(
    ("nats", "verdict", "remark"),
    [
        ((0.0, 0.0, 0.0), "unchanged", ()),
        ((0.1, -0.1, 0.05), "undecided", ()),
        ((0.3,), "undecided", ("validation perplexity was measured once",)),
        ((0.0,), "unchanged", ()),
    ],
)
def test_what_chance_explains_is_undecided(nats: tuple[float, ...], verdict: str, remark: tuple[str, ...]) -> None:
    (point,) = points(SAME[: len(nats)], worsened(nats))
    assert (point.verdict, point.remarks) == (verdict, remark)


def test_many_points_need_more_evidence_than_one() -> None:
    nats = (0.08, 0.10, 0.12)  # p = 0.013
    assert points(SAME, worsened(nats))[0].verdict == "worse"
    first, other = ([{**row, "hidden_size": 9} for row in rows] for rows in (SAME, worsened(nats)))
    others = [row for size in (1, 2, 3) for row in repeats([100, 101, 99], hidden_size=size)]
    moved = [row for size in (1, 2, 3) for row in repeats([101, 99, 100], hidden_size=size)]
    found = points([*first, *others], [*other, *moved])
    assert [point.verdict for point in found] == ["undecided"] * 4
    assert found[0].loss
    assert found[0].loss.p_value == pytest.approx(4 * stats.ttest_1samp(nats, 0).pvalue)


def test_a_tolerance_lets_small_changes_pass() -> None:
    limits = Limits(perplexity=0.02, floor=0.0, two_sided=True)
    for nats, verdict in (
        ((0.010, 0.011, 0.012), "unchanged"),
        ((0.05, 0.051, 0.052), "worse"),
        ((0.01,), "unchanged"),
    ):
        assert points(SAME[: len(nats)], worsened(nats), limits=limits)[0].verdict == verdict


def test_ignored_settings_may_differ_and_are_told() -> None:
    first = repeats([100, 101, 102], cell="lstm", learning_rate=20.0, bptt=35)
    other = repeats([90, 91, 92], cell="gru", learning_rate=5.0, bptt=35)
    with pytest.raises(UserError, match=r"no point in common: they differ in .*; compare them with --ignore cell lea"):
        points(first, other)
    found = compare_folders([table(*first), table(*other)], ignore=("cell", "learning_rate"))
    assert [folder.ignored["cell"] for folder in found.folders] == [("lstm",), ("gru",)]
    (point,) = found.against[0].points
    assert (point.verdict, point.settings["cell"], point.settings["bptt"]) == ("better", None, 35)
    assert "cell" not in point.label


def test_another_corpus_is_ignored_by_its_setting() -> None:
    other = [{**row, "dataset_sha1": "e" * 40} for row in SAME]
    with pytest.raises(UserError, match=r"they differ in dataset; compare them with --ignore dataset$"):
        points(SAME, other)
    assert points(SAME, other, ignore=["dataset"])


def test_pooled_runs_that_went_wrong_are_told() -> None:
    before = repeats([100.0, 101.0])
    after = [{**row, "seed": row["seed"] + 10, "status": "diverged"} for row in before]
    (point,) = points(before, after, ignore=["seed"])
    assert (point.verdict, point.remarks) == ("worse", ("0% of the runs diverged, now 100%",))
    failed = [after[0] | {"status": "ok"}, after[1] | {"status": "timeout"}]
    (point,) = points(before, failed, ignore=["seed"])
    assert "1 of 2 runs in B: timeout" in point.remarks


def test_ignored_seeds_are_compared_as_two_samples() -> None:
    first, other = [100.0, 101.0, 102.0], [110.0, 112.0, 111.0, 113.0]
    before = repeats(first)
    after = [{**row, "seed": row["seed"] + 10} for row in repeats(other)]
    (apart,) = points(before, after)
    assert (apart.verdict, apart.loss) == ("undecided", None)
    assert apart.remarks == ("no seed is in both; --ignore seed compares the means",)
    (point,) = points(before, after, ignore=["seed"])
    logs = [[math.log(value) for value in side] for side in (first, other)]
    expected = stats.ttest_ind(logs[1], logs[0])
    assert point.loss
    assert point.loss.repeats == (3, 4)
    assert point.loss.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (point.loss.low, point.loss.high) == pytest.approx((math.expm1(low), math.expm1(high)))
    assert point.verdict == "worse"


def timed(speeds: Sequence[float], minutes: Sequence[int]) -> list[dict[str, Any]]:
    return [
        run(
            None,
            seed=seed,
            max_steps=20,
            tokens_per_second=speed,
            started_at=f"2026-01-01T00:{minute:02}:00+00:00",
            wall_seconds=9.0,
        )
        for seed, (speed, minute) in enumerate(zip(speeds, minutes, strict=True))
    ]


def test_speeds_of_runs_that_took_turns_are_compared_run_by_run() -> None:
    # The machine halves its speed for a while, for both.
    (point,) = points(timed([1000, 500, 1000], [0, 3, 4]), timed([901, 450, 899], [1, 2, 5]))
    assert point.speed
    assert (point.speed.repeats, point.speed.verdict) == ((3, 3), "worse")
    assert point.speed.change == pytest.approx(-0.1, abs=0.001)
    assert point.speed.low is not None
    assert point.speed.low < point.speed.change < (point.speed.high or 0) < 0
    (apart,) = points(timed([1000, 1001, 1002], [0, 1, 2]), timed([901, 900, 899], [3, 4, 5]))
    assert apart.speed
    assert (apart.speed.verdict, apart.speed.reason) == ("undecided", "was measured in one session")


def test_a_divergence_is_worse_and_its_end_better() -> None:
    ended = [run(100, seed=0), run(100, seed=1)]
    diverged = [run(100, seed=0), run(None, seed=1, status="diverged")]
    (worse,), (better,) = points(ended, diverged), points(diverged, ended)
    assert (worse.verdict, worse.remarks) == ("worse", ("seed 1 diverged",))
    assert (better.verdict, better.remarks) == ("better", ("seed 1 no longer diverged",))
    (lost,) = points(ended, [run(100, seed=0), run(None, seed=1, status="oom", reason="no room")])
    assert (lost.verdict, lost.remarks) == ("unchanged", ("seed 1 oom (no room)",))


def test_each_folder_is_compared_with_the_first() -> None:
    found = compare_folders([table(*SAME), table(*worsened((0.1, 0.11, 0.12))), table(*worsened((-0.1, -0.11, -0.12)))])
    assert [(against.folder, against.points[0].verdict) for against in found.against] == [
        ("B", "worse"),
        ("C", "better"),
    ]
    assert found.against[0].changes["valid_perplexity"] == pytest.approx(math.expm1(0.11))


def test_points_of_one_folder_are_named() -> None:
    first, other = [run(100, bptt=1), run(100, bptt=2)], [run(100, bptt=2), run(100, bptt=3)]
    against = compare_folders([table(*first), table(*other)]).against[0]
    assert (against.missing, against.new) == (("bptt=1",), ("bptt=3",))
    assert [point.label for point in against.points] == ["bptt=2"]


@pytest.fixture
def wide() -> list[Any]:
    """Results whose settings, numbers and changes are long."""
    sizes = [{"cell": f"my_package.my_cells:Cell{size}", "hidden_size": 100_000 + size} for size in range(3)]
    before = [row for size in sizes for row in repeats([123456.78, 123460, 123470], tokens_per_second=12345.6, **size)]
    after = [row for size in sizes for row in repeats([323456.78, 1234, 223470], tokens_per_second=98765.4, **size)]
    return [table(*before), table(*after)]


def test_tables_fit_eighty_columns_and_shorten_no_number(wide: list[Any]) -> None:
    text = as_text(compare_folders(wide))
    assert max(map(len, text.splitlines())) <= 80
    assert len(re.findall(r"123,462\.26 +44,680\.\d\d +-\d\d\.\d\d % ±over 1,000 +undecided", text)) == 3
    assert "…" not in text
    assert text.splitlines()[-2:] == [
        "B against A: 3 undecided; on average validation perplexity -63.81 %, tokens/s",
        "+700.00 %",
    ]


def test_markdown_has_a_row_a_point(wide: list[Any]) -> None:
    lines = as_markdown(compare_folders(wide)).splitlines()
    assert lines.count("| point | A | B | change | verdict |") == 2
    assert sum(line.startswith("| cell=my\\_package.my\\_cells:Cell") for line in lines) == 6
    assert lines[-1].startswith("- B against A: 3 undecided; on average validation perplexity")


def test_json_says_everything_and_only_what_json_can() -> None:
    first, other = [run(math.inf, bptt=2), run(100, bptt=3)], [run(100, bptt=2), run(200, bptt=3)]
    found = compare_folders([table(*first), table(*other)])
    content = json.loads(as_json(found), parse_constant=pytest.fail)
    assert content["schema_version"] == 1
    (against,) = content["against"]
    assert [point["verdict"] for point in against["points"]] == ["better", "undecided"]
    change = against["points"][1]["loss"]
    assert (change["before"], change["after"], change["low"]) == (pytest.approx(100), pytest.approx(200), None)
    assert content["summaries"] == ["B against A: 1 better, 1 undecided; on average validation perplexity +100.00 %"]


@pytest.mark.parametrize(
    ("count", "ignore", "message"),
    [
        (1, [], "name two or more folders to compare, not 1"),
        (2, ["sed"], "there is no setting 'sed' to ignore; did you mean 'seed'?"),
    ],
)
def test_what_cannot_be_compared_is_named(count: int, ignore: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compare_folders([table(*SAME)] * count, ignore=ignore)


def test_other_texts_are_remarked() -> None:
    other = [{**row, "dataset_sha1": "e" * 40} for row in worsened((0.1, 0.11, 0.12))]
    assert compare_folders([table(*SAME), table(*other)], ignore=["dataset"]).remarks == (
        "losses of other dataset do not measure the same",
    )


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["results/wikitext2-cpu", "results/seeds-cpu"]
    assert cli.main(["compare", *folders, "--ignore", "seed"]) == 0
    out = capsys.readouterr().out
    assert "cell=gru bptt=35 learning_rate=10.0   197.61   189.35   -4.18 %   undecided" in out
    assert out.splitlines()[0].startswith("A: results/wikitext2-cpu (11 runs, commit ")
    assert cli.main(["compare", folders[0]]) == 2
    assert capsys.readouterr().err == "error: name two or more folders to compare, not 1\n"


@pytest.mark.parametrize("whose", ["first", "other"])
def test_speeds_that_do_not_count_are_left_out(tmp_path: Path, whose: str) -> None:
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(CHECKOUT / "results" / "seeds-cpu" / "runs.csv", tmp_path / name)
    found = compare_folders([tmp_path / "first", tmp_path / "other"])
    assert all(point.speed for point in found.against[0].points)
    (tmp_path / whose / "notes.yaml").write_text("speeds_count: false")
    found = compare_folders([tmp_path / "first", tmp_path / "other"])
    assert [point.speed for point in found.against[0].points] == [None, None]
    assert all(point.loss for point in found.against[0].points)
    letter = "A" if whose == "first" else "B"
    assert found.remarks == (f"the speeds of {letter} do not count, as notes.yaml says there; they are left out",)
