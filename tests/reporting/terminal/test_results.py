"""Results in a terminal: points with their seeds averaged, best first, whatever they are called and how wide it is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.reporting.terminal.results import BestSoFar, best_of, results_tables, summary
from gluon_rnn.runs.records import RunRecord
from tests.reporting.terminal.conftest import console_of
from tests.runs.test_records import epoch, make_done, make_job


def test_the_table_has_what_varies_and_what_came_of_it(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=False)
    good = make_done(make_job(small_corpus, cell="gru"), [epoch(1, 2.0, 2.5)])
    bad = make_done(make_job(small_corpus, cell="lstm"), status="failed", reason="[b]because:cat:")
    console.print(results_tables([bad, good], ["cell", "bptt"]))
    _, head, _, first, second, *_ = text.getvalue().splitlines()
    columns = ["cell", "bptt", "valid", "ppl", "test", "ppl", "tokens/s", "ms/step", "seconds", "status"]
    assert head.split() == columns
    assert first.split() == ["gru", "5", "7.39", "12.18", "8", "2,000.0", "0", "ok"]
    assert second.split()[-1] == "failed"


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
    for number in ("4.2e+13", "6.0e+199", "2,000.0"):
        assert number in shown
    assert "test 6.0e+199" in summary(huge(small_corpus))


def test_a_summary_says_how_it_ended(small_corpus: CorpusFiles) -> None:
    job = make_job(small_corpus)
    assert summary(make_done(job, status="timeout", reason="stopped after 3 s")) == "timeout (stopped after 3 s)"
    diverged = make_done(job, status="diverged", reason="the loss was nan", nats=math.inf)
    assert summary(diverged) == "diverged (the loss was nan), 8 tokens/s"


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
    shown = {line.split()[0] for line in text.getvalue().splitlines() if line.startswith(" small@")}
    assert shown == {f"small@{small_corpus.sha1[:7]}", "small@eeeeeee"}


def seeded(corpus: CorpusFiles, losses: dict[str, list[float]], **settings: object) -> list[RunRecord]:
    """A run for each seed of each cell, with these validation losses."""
    return [
        make_done(make_job(corpus, run_id=f"{cell}{seed}", cell=cell, seed=seed, **settings), [epoch(1, loss, loss)])
        for cell, seeds in losses.items()
        for seed, loss in enumerate(seeds)
    ]


def table_of(records: list[RunRecord], columns: list[str], width: int = 250) -> list[str]:
    console, text = console_of(terminal=True, width=width)
    console.print(results_tables(records, columns))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text.getvalue()
    return [line.rstrip() for line in lines]


def test_seeds_are_averaged_with_their_spread(small_corpus: CorpusFiles) -> None:
    records = seeded(small_corpus, {"lstm": [math.log(100), math.log(110)], "gru": [math.log(90), math.log(130)]})
    lines = table_of(records, ["cell", "seed"])
    assert "seed" not in lines[1]
    # By hand: deviations of ±5 and ±20 about the mean, times the square root of 2.
    assert lines[3].split()[:4] == ["lstm", "105.00", "±", "7.07"]
    assert lines[4].split()[:4] == ["gru", "110.00", "±", "28.28"]
    assert len([line for line in lines if "gru" in line]) == 1
    assert lines[-1] == "best: cell=lstm: validation perplexity 105.00 ± 7.07, 2 seeds"
    assert "mean ± standard deviation of 2 seeds" in lines[-2]


def test_seeds_alone_are_a_point(small_corpus: CorpusFiles) -> None:
    lines = table_of(seeded(small_corpus, {"lstm": [1.0, 1.2, 1.4]}), ["seed"])
    assert lines[1].split()[:3] == ["cell", "bptt", "hidden_size"]
    assert len([line for line in lines if "lstm" in line]) == 1
    assert not any(line.startswith("best") for line in lines)


def test_a_seed_that_went_wrong_is_counted_apart(small_corpus: CorpusFiles) -> None:
    records = seeded(small_corpus, {"lstm": [1.0, 1.2, 9.0], "gru": [2.0, 2.1, 2.2]})
    records[2] = make_done(make_job(small_corpus, cell="lstm", seed=2), status="diverged", reason="the loss was nan")
    lines = table_of(records, ["cell", "seed"])
    assert lines[3].split()[0] == "gru"  # all of its seeds are ok
    assert lines[4].endswith("2 ok, 1 diverged")
    assert any("of up to 3 seeds" in line for line in lines)


@pytest.mark.parametrize(("name", "values"), [("threads", (1, 2)), ("device", ("cpu", "gpu:0"))])
def test_a_place_that_the_sweep_varies_makes_a_point(
    small_corpus: CorpusFiles, name: str, values: tuple[object, ...]
) -> None:
    records = [
        make_done(make_job(small_corpus, run_id=str(place)), [epoch(1, math.log(100))]).with_columns(
            {name: value, "tokens_per_second": speed}
        )
        for place, (value, speed) in enumerate(zip(values, (3456.0, 1234.0), strict=True))
    ]
    lines = table_of(records, [name])
    rows = [line.split() for line in lines[3:5]]
    assert [row[0] for row in rows] == [str(value) for value in values]
    assert ["3,456" in rows[0], "1,234" in rows[1]] == [True, True]
    assert "seed" not in "".join(lines)
    assert lines[-1] == f"best: {name}={values[0]}: validation perplexity 100.00"


def test_seeds_on_several_gpus_are_one_point(small_corpus: CorpusFiles) -> None:
    records = [
        make_done(make_job(small_corpus, run_id=device, seed=seed), [epoch(1, math.log(100))]).with_columns(
            {"device": device}
        )
        for seed, device in enumerate(("gpu:0", "gpu:1", "cpu"))
    ]
    lines = table_of(records, ["device", "seed"])
    assert len([line for line in lines if "100.00" in line and "best" not in line]) == 2
    assert any("of up to 2 seeds" in line for line in lines)


def test_a_seed_on_two_machines_is_one_seed(small_corpus: CorpusFiles) -> None:
    records = [
        make_done(make_job(small_corpus, run_id=machine), [epoch(1, math.log(100))]).with_columns(
            {"machine_id": machine}
        )
        for machine in "ab"
    ]
    assert "seed" not in "".join(table_of(records, ["cell"]))


def test_a_caption_says_what_the_figures_are_of(small_corpus: CorpusFiles) -> None:
    records = seeded(small_corpus, {"lstm": [1.0], "gru": [2.0]})
    assert "small; 1 epoch of 80 tokens; 1 thread; cpu" in table_of(records, ["cell"])
    built_in = [record.with_columns({"dataset": "synthetic"}) for record in records]
    (caption,) = (line for line in table_of(built_in, ["cell"]) if line.startswith("synthetic"))
    assert "generated text that is built in, not a published corpus" in caption
    timed = [record.with_columns({"max_steps": 30, "valid_loss": None, "epochs_run": 0}) for record in records]
    assert "small; 30 timed steps, nothing evaluated; 1 thread; cpu" in table_of(timed, ["cell"])


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (120, ["valid ppl", "test ppl", "tokens/s", "ms/step", "peak MB", "seconds", "status"]),
        (96, ["valid", "test", "tokens/s", "ms/step", "peak", "seconds", "status"]),
        (80, ["valid", "test", "tokens/s", "ms/step", "seconds", "status"]),
        (72, ["valid", "test", "tokens/s", "ms/step", "status"]),
        (60, ["valid", "test", "tokens/s", "ms/step"]),
        (50, ["valid", "test", "tokens/s"]),
        (42, ["valid", "tokens/s"]),
    ],
)
def test_a_narrow_terminal_loses_columns_and_never_a_digit(
    small_corpus: CorpusFiles, width: int, columns: list[str]
) -> None:
    records = [
        record.with_columns({"peak_rss_mb": 1234.5, "tokens_per_second": 12345.0})
        for record in seeded(small_corpus, {"lstm": [7.0, 7.1], "gru": [7.2, 7.3]})
    ]
    lines = table_of(records, ["cell", "seed"], width)
    for column in ("valid", "test", "tokens/s", "ms/step", "peak", "seconds", "status"):
        assert (column in lines[1] or column in lines[2]) == any(name.startswith(column) for name in columns), column
    row = next(line for line in lines if line.split()[:1] == ["lstm"] or line.startswith(" lstm"))
    assert "1,154.30 ± 81.55" in row  # exp(7.0) and exp(7.1)
    assert "12,345" in row


def test_what_is_drawn_again_is_the_same(small_corpus: CorpusFiles) -> None:
    console, text = console_of(terminal=True, width=60)
    tables = results_tables(seeded(small_corpus, {"lstm": [7.0], "gru": [7.2]}), ["cell"])
    console.print(tables)
    once = text.getvalue()
    console.print(tables)
    assert text.getvalue() == 2 * once


def test_settings_share_a_column_where_there_is_no_room_for_each(small_corpus: CorpusFiles) -> None:
    columns = ["cell", "bptt", "hidden_size", "learning_rate", "num_layers", "dropout", "batch_size"]
    lines = table_of(seeded(small_corpus, {"lstm": [7.0], "gru": [7.2]}, num_layers=1), columns, 60)
    assert any(line.split()[:1] == ["settings"] for line in lines)
    shown = " ".join(lines)
    assert "1,096.63" in shown
    assert "1,339.43" in shown
    for name in columns:
        assert f"{name}=" in shown


def test_what_nobody_measured_has_no_column(small_corpus: CorpusFiles) -> None:
    without = {"test_loss": None, "test_perplexity": None}
    records = [record.with_columns(without) for record in seeded(small_corpus, {"lstm": [1.0], "gru": [2.0]})]
    assert "test" not in table_of(records, ["cell"])[1]


def test_what_is_best_is_followed_as_runs_end(small_corpus: CorpusFiles) -> None:
    losses = {"lstm": [1.0, 2.0, 3.0], "gru": [1.5, 1.6, 1.4], "rnn_tanh": [1.2, 1.9, 0.1]}
    records = seeded(small_corpus, losses)
    for order in (records, records[::-1], records[1::2] + records[::2]):
        best = BestSoFar([], ["cell", "seed"])
        assert best.lines == []
        for number, record in enumerate(order, 1):
            best.add(record)
            assert best.lines == [f"best so far: {found}" for found in best_of(order[:number], ["cell", "seed"])]
    assert best.lines[0].startswith("best so far: cell=rnn_tanh: validation perplexity")


def test_nothing_is_best_where_nothing_ended_well(small_corpus: CorpusFiles) -> None:
    assert best_of([make_done(make_job(small_corpus), status="failed")], ["cell"]) == []
    (fastest,) = best_of([make_done(make_job(small_corpus))], ["cell"])
    assert str(fastest) == "cell=lstm: 8 tokens/s"


def timed(corpus: CorpusFiles, *losses: float, **settings: object) -> RunRecord:
    """A run whose epochs took 10 s and 2 s of scoring each, of 1,000,000 tokens."""
    history = [
        replace(epoch(n, math.log(loss)), seconds=10.0, evaluation_seconds=2.0) for n, loss in enumerate(losses, 1)
    ]
    return make_done(make_job(corpus, **settings), history).with_columns({"train_tokens": 1_000_000})


def lines_of(records: list[RunRecord], *, targets: tuple[float, ...], width: int = 250) -> list[str]:
    console, text = console_of(terminal=True, width=width)
    console.print(results_tables(records, ["cell", "dropout", "learning_rate", "seed"], targets))
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.getvalue().splitlines()]


def test_times_to_targets_are_a_table_in_the_order_of_the_ranking(small_corpus: CorpusFiles) -> None:
    records = [
        timed(small_corpus, 300, 140, 149, cell="gru", dropout=0.1, seed=0, run_id="a"),
        timed(small_corpus, 200, 170, 155, cell="gru", dropout=0.1, seed=1, run_id="b"),
        timed(small_corpus, 180, 130, 110, cell="lstm", dropout=0.2, run_id="c"),
        timed(small_corpus, 900, 800, 700, cell="rnn_relu", run_id="d"),
    ]
    lines = lines_of(records, targets=(150, 120, 50, 150))
    head = next(place for place, line in enumerate(lines) if "s to 150" in line)
    assert lines[head].split("  ")[-1].strip() == "tokens to 120"
    rows = [line.split() for line in lines[head + 2 : head + 4]]
    assert rows == [
        ["lstm", "0.2", "1.0", "24", "2,000,000", "36", "3,000,000"],
        ["gru", "0.1", "1.0", "24", "(1", "of", "2", "runs)", "2,000,000", "-", "-"],
    ]
    assert lines[-1] == "no run reached perplexity 50"
    assert not any("rnn_relu" in line for line in lines[head:])
    assert lines_of(records, targets=(50,))[-1] == "no run reached perplexity 50"


def test_times_to_targets_are_of_the_runs_that_count_on_one_machine(small_corpus: CorpusFiles) -> None:
    good = timed(small_corpus, 300, 140, seed=0, run_id="a")
    diverged = timed(small_corpus, 120, seed=1, run_id="b").with_columns({"status": "diverged"})
    assert lines_of([good, diverged], targets=(150,))[-3].split()[-2:] == ["24", "2,000,000"]
    elsewhere = timed(small_corpus, 300, 140, seed=1, run_id="c").with_columns({"machine_id": "0" * 12})
    assert lines_of([good, elsewhere], targets=(150,))[-3].split()[-2:] == ["1.0", "2,000,000"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_times_to_targets_fit_a_narrow_terminal(small_corpus: CorpusFiles, width: int) -> None:
    records = [timed(small_corpus, 180, 130, 110, cell=cell, run_id=cell) for cell in ("lstm", "gru", "rnn_relu")]
    lines = lines_of(records, targets=(150, 120, 115), width=width)
    assert max(map(len, lines)) <= width
    head = next(place for place, line in enumerate(lines) if "to 150" in line)
    for figure in ("24", "36"):
        assert any(figure in line.split() for line in lines[head + 1 :])
    assert "…" not in "".join(lines)
    # Tokens go first.
    assert ("2,000,000" in "".join(lines)) == (width == 100)


def test_the_summary_of_a_run_has_the_targets_that_it_reached(small_corpus: CorpusFiles) -> None:
    record = timed(small_corpus, 180, 130, 110)
    assert summary(record, (120, 150, 100)) == (
        f"{summary(record)}, perplexity 150 after 24 s and 2,000,000 tokens, "
        "perplexity 120 after 36 s and 3,000,000 tokens"
    )


def test_there_is_no_time_to_a_perplexity_where_accuracy_is_measured(small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus, objective="classification"), [epoch(1, 0.64, 0.65, (0.7421, 0.7))])
    assert lines_of([record], targets=(150,))[-1] == (
        "no time to a perplexity: these results are read by cross-entropy"
    )
