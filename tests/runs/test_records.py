"""Run directories to tables and back: exact floats, whole rows, nothing of this machine's folders."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import seal, write_atomically
from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.runs.epochs import read_epochs, write_epochs
from gluon_rnn.runs.job import Job, Origin
from gluon_rnn.runs.live import LiveProgress, ProgressWatch, read_progress, read_so_far
from gluon_rnn.runs.progress import PROGRESS, Confusion, EpochResult, Lap, LossTotal, Prediction, Progress, Session
from gluon_rnn.runs.records import COLUMNS, RunRecord, make_record, read_record, read_records, write_record
from gluon_rnn.runs.tables import load_epochs, load_results, set_aside_damaged_tables, table_rows, write_tables
from tests.conftest import small_config

#: Sums that no short decimal number equals; the second is one that pandas' fast parser misses.
AWKWARD = (0.1 + 0.2, 0.9385958677423489, 1 / 3, 1e-300 / 7)

RESULTS = Path(__file__).parents[2] / "results"

#: What records and tables did not have before there was more than one objective.
ADDED = {
    *("objective", "level", "lower", "min_freq", "embedding", "train_embedding", "bidirectional", "last_batch"),
    *("stride", "lr_steps", "words_without_vector", "valid_accuracy", "test_accuracy", "predictions", "confusion"),
    *("embedding_sha1", "cell_sha1"),
}


def make_job(corpus: CorpusFiles, run_id: str = "0" * 12, **settings: object) -> Job:
    """A job as `plan_sweep` makes it."""
    origin = Origin(
        device_name="a processor",
        machine_id="f" * 12,
        mxnet_version="1.9.1",
        gluonnlp_version="0.10.0",
        numpy_version=None,
        git_commit=None,
        git_dirty=None,
        host="here",
    )
    return Job(run_id=run_id, config=small_config(**settings), corpus=corpus, threads=1, origin=origin)


def epoch(
    number: int, valid_loss: float, test_loss: float | None = None, accuracies: tuple[float, float] | None = None
) -> EpochResult:
    """Of validation and test, the accuracies of both where there are such."""
    return EpochResult(
        epoch=number,
        learning_rate=AWKWARD[0],
        train_loss=AWKWARD[1],
        valid_loss=valid_loss,
        valid_perplexity=math.exp(valid_loss) if valid_loss < 700 else math.inf,
        test_loss=test_loss,
        test_perplexity=None if test_loss is None else math.exp(test_loss),
        tokens_per_second=None,
        seconds=AWKWARD[3],
        valid_accuracy=accuracies and accuracies[0],
        test_accuracy=accuracies and accuracies[1],
    )


def make_done(
    job: Job, history: Sequence[EpochResult] = (), *, status: str = "ok", reason: str = "", nats: float = 700.0
) -> RunRecord:
    """The record of `job` after `history`."""
    progress = Progress(
        history=list(history),
        laps=[Lap(steps=1, tokens=20, seconds=4.0), Lap(steps=3, tokens=60, seconds=6.0)],
        steps=4,
        train_seconds=11.0,
        evaluation_seconds=2.5,
        last_epoch=LossTotal(nats, 350),
        train_tokens=80,
        train_sequences=16,
        parameters=99,
        vocab_size=17_000,
    )
    return make_record(
        job,
        progress,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        started_at="2024-01-02T03:04:05+00:00",
        wall_seconds=AWKWARD[2],
    )


def keep(sweep: Path, record: RunRecord, history: Sequence[EpochResult] = ()) -> Path:
    """Put a run's directory where a sweep would; of `history`, where that is not the record's already."""
    record = record.with_columns({"history": tuple(history)}) if history else record
    directory = sweep / "runs" / record.run_id
    directory.mkdir(parents=True)
    write_epochs(directory, record.run_id, history)
    write_record(directory, record)
    return directory


def as_before(directory: Path) -> None:
    """Make the record and the epochs of a run's `directory` those of the version before there were objectives."""
    path = directory / "record.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if name not in {*ADDED, "sha256"}}
    content["history"] = [{k: v for k, v in row.items() if k not in ADDED} for row in content["history"]]
    path.write_text(seal(content))
    for table in directory.glob("*.csv"):
        drop_columns(table)


def drop_columns(table: Path) -> None:
    """Make `table` one of the version before there were objectives."""
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    names = [name for name in table.read_text().splitlines()[0].split(",") if name not in ADDED]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_a_record_is_made_of_the_best_epoch_and_of_all_timed_steps(small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 3.0, 3.5), epoch(2, 2.0, 2.5), epoch(3, 2.25)]
    record = make_done(make_job(small_corpus, cell="gru", seed=7), history)
    assert tuple(getattr(record.config, name) for name in ("cell", "seed", "bptt", "embed_size")) == ("gru", 7, 5, 8)
    assert (record.config.dataset, record.dataset_sha1) == ("small", small_corpus.sha1)
    assert (record.vocab_size, record.config.threads, record.config.device) == (17_000, 1, "cpu")
    assert (record.epochs_run, record.best_epoch, record.steps) == (3, 2, 4)
    assert (record.valid_loss, record.valid_perplexity) == (2.0, math.exp(2.0))
    assert (record.test_loss, record.test_perplexity) == (2.5, math.exp(2.5))
    assert record.train_perplexity == math.exp(2.0)
    assert record.tokens_per_second == 8.0
    assert record.sequences_per_second == 8.0 * 16 / 80
    assert record.valid_accuracy is None
    # Three steps of 2 s and one of 4 s.
    assert (record.step_ms_p50, record.step_ms_p95) == (2000.0, 4000.0)
    assert (record.train_seconds, record.evaluation_seconds, record.wall_seconds) == (11.0, 2.5, 1 / 3)


def test_a_record_has_parts_in_code_and_is_flat_in_files_and_tables(small_corpus: CorpusFiles) -> None:
    job = make_job(small_corpus, cell="gru")
    record = make_done(job, [epoch(1, 3.0)])
    settings = {**job.config.model_dump(), "dataset": "small", "threads": 1}
    assert (dict(record.config), record.origin, tuple(record.row)) == (settings, job.origin, COLUMNS)
    flat = record.model_dump()
    assert list(flat) == [*COLUMNS, "history", "sittings", "predictions", "confusion"]
    assert (flat["cell"], flat["host"], flat["valid_loss"]) == ("gru", "here", 3.0)
    assert RunRecord.model_validate(flat) == record
    # What no column holds stays.
    other = record.with_columns({"cell": "mine", "host": "there", "valid_loss": 2.0})
    assert (other.config.cell, other.origin.host, other.valid_loss) == ("mine", "there", 2.0)
    assert (other.history, other.sessions) == (record.history, record.sessions)
    assert other.with_columns({"cell": "gru", "host": "here", "valid_loss": 3.0}) == record


def test_a_run_that_came_to_nothing_has_empty_columns(small_corpus: CorpusFiles) -> None:
    record = make_record(
        make_job(small_corpus), Progress(), status="failed", reason="why", started_at="", wall_seconds=1.0
    )
    empty = {name for name, value in record.row.items() if value is None}
    assert empty >= {"best_epoch", "train_perplexity", "valid_loss", "test_perplexity", "tokens_per_second"}
    assert (record.epochs_run, record.steps, record.reason) == (0, 0, "why")
    assert (record.times_resumed, record.wall_seconds) == (0, 1.0)


def resumed(threads: int, *, seconds: float, gb: float | None = None, **facts: Any) -> Session:
    """What one process did of a run that was resumed, on `threads`."""
    return Session(
        started_at=f"2024-01-0{threads}T00:00:00+00:00",
        machine_id="f" * 12,
        threads=threads,
        seconds=seconds,
        peak_rss_mb=None if gb is None else gb * 1024,
        **facts,
    )


def test_the_row_of_a_resumed_run_is_of_where_it_ran_last(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [replace(epoch(n, 5.0 - n), session=n, threads=threads) for n, threads in ((1, 1), (2, 2), (3, 1))]
    progress = Progress(
        history=history,
        laps=[Lap(2, 40, 1.0, 1), Lap(2, 40, 100.0, 2), Lap(1, 20, 4.0, 3), Lap(7, 140, 1.0)],
        train_tokens=80,
        train_sequences=16,
        sessions=[
            resumed(1, seconds=50.0, gb=3.0, blas="b", environment="E=1"),
            resumed(2, seconds=600.0, gb=1.0, blas="b", environment="E=1"),
            resumed(1, seconds=0.5, gb=2.0, blas="b", environment="E=1"),
        ],
    )
    record = make_record(make_job(small_corpus), progress, status="ok", started_at="now", wall_seconds=1.5)
    # Of both on one thread.
    assert (record.tokens_per_second, record.sequences_per_second) == (12.0, 12.0 * 16 / 80)
    assert (record.step_ms_p50, record.step_ms_p95) == (500.0, 4000.0)
    assert (record.config.threads, record.blas, record.environment, record.times_resumed) == (1, "b", "E=1", 2)
    assert (record.wall_seconds, record.peak_rss_mb, record.peak_gpu_mb) == (651.5, 3072.0, None)
    assert (record.started_at, record.sessions[0].started_at) == ("now", "2024-01-01T00:00:00+00:00")
    assert [session.seconds for session in record.sessions] == [50.0, 600.0, 1.5]
    assert read_record(keep(tmp_path, record, history)) == record
    write_tables(tmp_path, [record])
    assert load_results(tmp_path).loc[0, "times_resumed"] == 2
    epochs = load_epochs(tmp_path)
    assert (epochs["sitting"].tolist(), epochs["threads"].tolist()) == ([1, 2, 3], [1, 2, 1])


def test_where_nothing_was_timed_last_there_is_no_speed(small_corpus: CorpusFiles) -> None:
    progress = Progress(laps=[Lap(2, 40, 1.0, 1)], sessions=[resumed(1, seconds=9.0), resumed(2, seconds=0.1)])
    record = make_record(make_job(small_corpus), progress, status="ok", started_at="now", wall_seconds=1.0)
    speeds = ("tokens_per_second", "sequences_per_second", "step_ms_p50", "step_ms_p95")
    assert [getattr(record, name) for name in speeds] == [None] * 4
    assert record.wall_seconds == 10.0


def test_a_divergence_keeps_its_infinity_and_the_epochs_before(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 3.0, 3.5)]
    record = make_done(make_job(small_corpus), history, status="diverged", reason="the loss was nan", nats=math.inf)
    assert (record.train_perplexity, record.epochs_run, record.test_loss) == (math.inf, 1, 3.5)
    directory = keep(tmp_path, record, history)
    assert read_record(directory) == record
    write_tables(tmp_path, [record])
    assert load_results(tmp_path).loc[0, "train_perplexity"] == math.inf
    assert ",inf," in (tmp_path / "runs.csv").read_text()


def test_records_and_tables_read_back_to_the_bit(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, AWKWARD[1], AWKWARD[0]), epoch(2, 1000.0)]
    record = make_done(make_job(small_corpus, learning_rate=AWKWARD[1], clip=None), history)
    directory = keep(tmp_path, record, history)
    assert read_record(directory) == record
    write_tables(tmp_path, [record])
    row = load_results(tmp_path).iloc[0]
    for name, value in record.row.items():
        if value is None:
            assert row.isna()[name], name
        else:
            assert row[name] == value, name
    epochs = load_epochs(tmp_path)
    for number, result in enumerate(history):
        for name in ("learning_rate", "train_loss", "valid_loss", "valid_perplexity", "seconds"):
            assert epochs.loc[number, name] == getattr(result, name), name
    assert epochs.loc[1, "valid_perplexity"] == math.inf
    assert epochs["test_perplexity"].isna().tolist() == [False, True]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_that_an_editor_has_saved_anew_is_the_same(tmp_path: Path, small_corpus: CorpusFiles, end: str) -> None:
    """With a byte-order mark, other line ends, an empty last line and none at all."""
    history = [epoch(1, 3.0)]
    record = make_done(make_job(small_corpus), history)
    keep(tmp_path, record, history)
    write_tables(tmp_path, [record])
    for name, load in (("runs.csv", load_results), ("epochs.csv", load_epochs)):
        text = (tmp_path / name).read_text()
        expected = load(tmp_path)
        assert list(expected["run_id"]) == [record.run_id]
        for saved in (text, text.rstrip("\n"), f"{text}\n"):
            (tmp_path / name).write_bytes(f"\ufeff{saved.replace(chr(10), end)}".encode())
            assert load(tmp_path).equals(expected)
    assert set_aside_damaged_tables(tmp_path, [record]) == []


@pytest.mark.parametrize("name", ["runs.csv", "epochs.csv"])
def test_a_table_that_is_no_utf8_text_is_refused_with_its_line(
    tmp_path: Path, small_corpus: CorpusFiles, name: str
) -> None:
    write_tables(tmp_path, [make_done(make_job(small_corpus), [epoch(1, 3.0)])])
    load = load_results if name == "runs.csv" else load_epochs
    content = (tmp_path / name).read_bytes()
    for saved, told in (
        (
            content.decode().encode("utf-16"),
            "its byte-order mark is that of UTF-16; convert it, for instance with iconv",
        ),
        (content + b"\0", "line 3 has a NUL character, as UTF-16 and binary files do; convert it"),
        (content + b"\xe9", "byte 0xe9 in line 3, at offset "),
    ):
        (tmp_path / name).write_bytes(saved)
        with pytest.raises(UserError) as refused:
            load(tmp_path)
        assert str(refused.value).startswith(f"cannot read {tmp_path / name}: it is not UTF-8 text: {told}")


def test_dtypes_are_right_even_where_columns_are_empty(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    failed = make_record(make_job(small_corpus), Progress(), status="oom", started_at="", wall_seconds=1.0)
    keep(tmp_path, failed)
    write_tables(tmp_path, [failed])
    frame = load_results(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    kinds = {
        "Int64": ["vocab_size", "bptt", "steps", "best_epoch", "max_steps", "parameters", "early_stopping", "seed"],
        "float64": ["learning_rate", "clip", "valid_loss", "peak_gpu_mb", "tokens_per_second", "wall_seconds"],
        "boolean": ["tie_weights", "git_dirty"],
        "string": ["run_id", "status", "reason", "dataset", "git_commit", "numpy_version", "started_at", "device"],
    }
    assert {name: str(frame[name].dtype) for names in kinds.values() for name in names} == {
        name: kind for kind, names in kinds.items() for name in names
    }
    assert frame.loc[0, "reason"] == ""
    assert str(load_epochs(tmp_path)["epoch"].dtype) == "Int64"
    assert len(load_epochs(tmp_path)) == 0


def test_a_run_id_of_digits_and_a_dataset_called_nan_stay_words(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus, run_id="000123456789")).with_columns({"dataset": "nan"})
    write_tables(tmp_path, [record])
    row = load_results(tmp_path / "runs.csv").iloc[0]
    assert (row["run_id"], row["dataset"]) == ("000123456789", "nan")


def test_a_dataset_with_any_name_is_one_cell_of_the_table(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus)).with_columns({"dataset": 'a, "b"\nc'})
    write_tables(tmp_path, [record])
    frame = load_results(tmp_path)
    assert (len(frame), frame.loc[0, "dataset"]) == (1, 'a, "b"\nc')


def test_tables_are_ordered_alike_whatever_the_order_of_finishing(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [
        make_done(make_job(small_corpus, run_id=name, cell=cell, bptt=bptt))
        for name, cell, bptt in (("c", "lstm", 10), ("b", "lstm", 5), ("a", "lstm", 10), ("d", "gru", 10))
    ]
    write_tables(tmp_path, records)
    before = (tmp_path / "runs.csv").read_bytes()
    assert load_results(tmp_path)["run_id"].tolist() == ["d", "b", "a", "c"]
    write_tables(tmp_path, records[::-1])
    assert (tmp_path / "runs.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("no file '/home/me/data/train.txt' here", "no file 'train.txt' here"),
        ("no file '/home/my own/data (1)/train set.txt' here", "no file 'train set.txt' here"),
        ('no file "/data" here', 'no file "data" here'),
        ("no file /data", "no file data"),
        ("in /tmp/a/b.py:12 and in /tmp/c.py", "in b.py:12 and in c.py"),
        ("path=/tmp/[red]x/y", "path=y"),
        ("error:/tmp/x/y", "error:y"),
        ("PATH /usr/bin:/usr/local/bin", "PATH bin:bin"),
        ("two\nlines  of text", "two lines of text"),
        ("../src/operator.cc:12: 3/4 and/or <unk>/<eos>", "../src/operator.cc:12: 3/4 and/or <unk>/<eos>"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_a_reason_is_one_line_without_the_folders_of_this_machine(
    small_corpus: CorpusFiles, reason: str, kept: str
) -> None:
    assert make_done(make_job(small_corpus), status="failed", reason=reason).reason == kept


def test_a_record_holds_no_path_of_a_folder_corpus(
    tmp_path: Path, small_corpus: CorpusFiles, small_folder: Path
) -> None:
    directory = keep(tmp_path, make_done(make_job(small_corpus, dataset=str(small_folder))))
    assert str(small_folder.parent) not in (directory / "record.json").read_text()
    assert list(json.loads((directory / "record.json").read_text())) == [
        *COLUMNS,
        "history",
        "sittings",
        "predictions",
        "confusion",
        "sha256",
    ]


def test_damaged_records_are_named_and_the_others_kept(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    good, cut, copied, folder, empty = (make_done(make_job(small_corpus, run_id=c * 12)) for c in "abcde")
    keep(tmp_path, good)
    path = keep(tmp_path, cut) / "record.json"
    path.write_text(path.read_text()[:300])
    directory = keep(tmp_path, copied)
    write_record(directory, good)
    path = keep(tmp_path, folder) / "record.json"
    path.unlink()
    path.mkdir()
    path = keep(tmp_path, empty) / "record.json"
    path.write_bytes(b"\xff\x00")
    (tmp_path / "runs" / "0waiting").mkdir()
    (tmp_path / "runs" / "notes.txt").touch()
    records, damaged = read_records(tmp_path)
    assert records == [good]
    assert list(damaged) == [tmp_path / "runs" / (c * 12) / "record.json" for c in "bcde"]
    lines = list(damaged.values())
    assert all(line.startswith(str(path)) for path, line in damaged.items())
    assert all("damaged: " in lines[place] for place in (0, 2, 3))
    assert lines[1].endswith(f"belongs to run {'a' * 12}")


def test_a_record_in_which_any_bit_has_turned_is_damaged(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus), [epoch(1, 3.0, 3.5)])
    path = keep(tmp_path, record) / "record.json"
    whole = path.read_bytes()
    assert read_records(tmp_path) == ([record], {})
    # Every place that gives it its form, its seal and a hundred others; `test_files` turns every bit of a sealed text.
    form = [place for place, byte in enumerate(whole) if byte in b"{}[]:"]
    for place in {*form, *range(len(whole) - 80, len(whole)), *random.Random(1).sample(range(len(whole)), 100)}:
        turned = whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for damaged in (turned, whole[:place]):
            path.write_bytes(damaged)
            records, lines = read_records(tmp_path)
            assert (records, list(lines)) == ([], [path]), place


def test_a_column_that_a_later_version_added_is_let_pass(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    record = make_done(make_job(small_corpus))
    path = keep(tmp_path, record) / "record.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(seal({**content, "watts": 3.0}))
    assert read_records(tmp_path) == ([record], {})


def test_no_folder_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nowhere") == ([], {})
    assert read_record(tmp_path) is None


def test_a_table_that_says_something_else_is_set_aside(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 3.0, 3.5), epoch(2, 4.0)]
    first, second = (make_done(make_job(small_corpus, run_id=c * 12), history) for c in "ab")
    for record in (first, second):
        keep(tmp_path, record)
    write_tables(tmp_path, [first, second])
    runs, epochs = (tmp_path / name for name in ("runs.csv", "epochs.csv"))
    assert set_aside_damaged_tables(tmp_path, [first, second]) == []
    # A sweep that was killed between a record and its row.
    write_tables(tmp_path, [first])
    assert set_aside_damaged_tables(tmp_path, [first, second]) == []
    # A run that is being made again, killed before it had a record; one whose directory has been removed.
    write_tables(tmp_path, [first, second])
    (tmp_path / "runs" / ("b" * 12) / "record.json").unlink()
    assert set_aside_damaged_tables(tmp_path, [first]) == []
    (tmp_path / "runs" / ("b" * 12)).rename(tmp_path / "elsewhere")
    assert set_aside_damaged_tables(tmp_path, [first]) == [
        tmp_path / "runs.csv.damaged",
        tmp_path / "epochs.csv.damaged",
    ]
    assert not runs.exists()
    write_tables(tmp_path, [first])
    # A failed run that was made again, and whose sweep was killed before it wrote the new row.
    (tmp_path / "elsewhere").rename(tmp_path / "runs" / ("b" * 12))
    for status in ("failed", "pruned"):
        write_tables(tmp_path, [first, make_done(make_job(small_corpus, run_id="b" * 12), history[:1], status=status)])
        assert set_aside_damaged_tables(tmp_path, [first, second]) == []
    write_tables(tmp_path, [first])
    whole = epochs.read_bytes()
    for place in range(len(whole)):
        epochs.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        (aside,) = set_aside_damaged_tables(tmp_path, [first])
        assert aside.name == "epochs.csv.damaged" + ("-2" if place == 0 else f"-{place + 2}")
    epochs.write_bytes(whole[:-9])
    assert len(set_aside_damaged_tables(tmp_path, [first])) == 1
    assert set_aside_damaged_tables(tmp_path, [first]) == []


def test_progress_survives_the_way_through_its_file(tmp_path: Path) -> None:
    live = LiveProgress(
        doing="epoch 1",
        perplexity=math.inf,
        progress=Progress(history=[epoch(1, 1000.0), epoch(2, AWKWARD[1])], last_epoch=LossTotal(math.inf, 3)),
    )
    (tmp_path / "progress.json").write_text(live.model_dump_json())
    assert read_progress(tmp_path) == live
    (tmp_path / "progress.json").write_text(live.model_dump_json()[:-20])
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").unlink()
    assert read_progress(tmp_path) is None


#: Of one process; another's begins later.
SESSION = Session(started_at="2026-01-01T00:00:00+00:00", host="here", seconds=70.0)


def make_progress(epochs: int, *, steps_since: int = 0, session: Session = SESSION) -> Progress:
    """Of a run with so many finished epochs of two laps each, and a lap for every further step."""
    laps = [Lap(10, 200, 0.1 * place, 1) for place in range(1, 2 * epochs + 1)]
    progress = Progress(
        history=[epoch(number, 5.0 - number / 1000, 4.5) for number in range(1, epochs + 1)],
        laps=[*laps, *(Lap(1, 20, 0.01 * place, 1) for place in range(1, steps_since + 1))],
        first_lap=len(laps) if steps_since else max(0, len(laps) - 2),
        steps=20 * epochs + steps_since,
        train_seconds=2.0 * epochs + steps_since,
        evaluation_seconds=1.0 * epochs,
        last_epoch=LossTotal(math.inf, 7),
        unigram_loss=5.5,
        train_tokens=400,
        parameters=1234,
        predictions=(Prediction("a", "b", "c"),) if epochs else (),
        confusion=Confusion(("x", "y"), ((1, 2), (3, 4))) if epochs else None,
        sessions=[session],
    )
    return progress


def save(directory: Path, progress: Progress) -> None:
    """As a worker does at the end of an epoch: the checkpoint, then the epochs."""
    (directory / "checkpoint").mkdir(exist_ok=True)
    content = {"stem": "epoch-1", "progress": PROGRESS.dump_python(progress, mode="json")}
    write_atomically(directory / "checkpoint" / "state.json", seal(content))
    write_epochs(directory, "x", progress.history)


def say(directory: Path, progress: Progress) -> int:
    """As a worker does at a log interval; how many bytes that takes."""
    live = LiveProgress(doing="it", epochs=len(progress.history), progress=progress.without_epochs())
    write_atomically(directory / "progress.json", live.model_dump_json())
    return (directory / "progress.json").stat().st_size


@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("steps_since", [0, 1, 4])
def test_a_run_that_dies_in_an_epoch_has_all_that_it_came_to(tmp_path: Path, epochs: int, steps_since: int) -> None:
    if epochs:
        save(tmp_path, make_progress(epochs))
    progress = make_progress(epochs, steps_since=steps_since)
    say(tmp_path, progress)
    assert read_so_far(tmp_path) == progress


def test_a_run_that_dies_before_it_tells_of_its_checkpoint_has_that(tmp_path: Path) -> None:
    say(tmp_path, make_progress(2, steps_since=3))
    save(tmp_path, make_progress(3))
    assert read_so_far(tmp_path) == make_progress(3)


@pytest.mark.parametrize("said", [True, False])
def test_a_run_that_dies_before_it_goes_on_has_what_it_was_to_go_on_from(tmp_path: Path, said: bool) -> None:
    save(tmp_path, make_progress(3))
    another = Session(started_at="2026-01-02T00:00:00+00:00", host="there") if said else Session()
    if said:
        say(tmp_path, Progress(sessions=[another]))
    assert read_so_far(tmp_path) == replace(make_progress(3), sessions=[SESSION, another])


def test_a_run_without_its_checkpoint_has_its_epochs_and_nothing_of_another(tmp_path: Path) -> None:
    """As where a node was lost between two files, or a bit has turned."""
    save(tmp_path, make_progress(2))
    write_epochs(tmp_path, "x", make_progress(3).history)
    progress = make_progress(3, steps_since=1)
    say(tmp_path, progress)
    # The laps of the third epoch are nowhere, nor are its predictions.
    laps = [*make_progress(2).laps, progress.laps[-1]]
    assert read_so_far(tmp_path) == replace(progress, laps=laps, predictions=(), confusion=None)
    (tmp_path / "checkpoint" / "state.json").write_text("{}")
    assert read_so_far(tmp_path) == replace(progress, laps=progress.laps[-1:], predictions=(), confusion=None)
    (tmp_path / "epochs.csv").write_text("damaged")
    assert read_so_far(tmp_path).steps == progress.steps
    (tmp_path / "progress.json").unlink()
    assert read_so_far(tmp_path) == Progress(sessions=[Session()])


def test_progress_takes_no_more_room_after_many_epochs(tmp_path: Path) -> None:
    few, many = (say(tmp_path, make_progress(epochs, steps_since=5)) for epochs in (10, 750))
    assert abs(many - few) < 20  # digits
    assert many < 2000


def test_progress_is_read_when_it_was_replaced(tmp_path: Path) -> None:
    read: list[Path] = []

    def reading(directory: Path) -> LiveProgress | None:
        read.append(directory)
        return read_progress(directory)

    watch = ProgressWatch(reading)
    assert (watch.newest(tmp_path), watch.news(tmp_path), read) == (None, None, [])
    for steps in (1, 2):
        say(tmp_path, Progress(steps=steps))
        first = watch.news(tmp_path)
        assert first is not None
        assert first.progress.steps == steps
        for _ in range(3):
            assert watch.newest(tmp_path) is first
            assert watch.news(tmp_path) is None
    assert read == [tmp_path] * 2
    (tmp_path / "progress.json").unlink()
    assert watch.newest(tmp_path) is None


@pytest.mark.parametrize("load", [load_results, load_epochs])
def test_a_table_that_is_none_is_a_line(tmp_path: Path, load: object) -> None:
    assert callable(load)
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path)
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError) as raised:
        load(tmp_path / "runs.csv")
    assert str(tmp_path / "runs.csv") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_model_answered_is_kept_with_the_best_epoch_and_its_accuracy(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    history = [epoch(1, 0.7, 0.8, (0.6, 0.5)), epoch(2, 0.6, 0.75, AWKWARD[1:3]), epoch(3, 0.65, None, (0.99, 0.99))]
    progress = Progress(
        history=history,
        predictions=(Prediction("a\nb", "x", "y"),),
        confusion=Confusion(("x", "y"), ((3, 1), (0, 2**53 - 1))),
        words_without_vector=3,
    )
    job = make_job(small_corpus, embedding="/home/me/glove.txt", tie_weights=False).model_copy(
        update={"vectors": FoundVectors("glove.txt", Path("/home/me/glove.txt"), "e" * 40, 50), "cell_sha1": "c" * 40}
    )
    record = make_record(job, progress, status="ok", started_at="", wall_seconds=1.0)
    assert (record.best_epoch, record.valid_accuracy, record.test_accuracy) == (2, *AWKWARD[1:3])
    assert (record.embedding_sha1, record.cell_sha1) == ("e" * 40, "c" * 40)
    assert (record.config.embedding, record.words_without_vector, record.sequences_per_second) == ("glove.txt", 3, None)
    directory = keep(tmp_path, record, history)
    assert read_record(directory) == record
    assert "/home/me" not in (directory / "record.json").read_text()
    write_tables(tmp_path, [record])
    assert load_results(tmp_path).loc[0, "valid_accuracy"] == AWKWARD[1]
    assert load_results(tmp_path).loc[0, ["embedding_sha1", "cell_sha1"]].tolist() == ["e" * 40, "c" * 40]
    assert load_epochs(tmp_path)["test_accuracy"].tolist() == [0.5, AWKWARD[2], 0.99]


@pytest.mark.parametrize(
    "counts", [((1, 2),), ((1, 2), (3,)), ((1, 2, 3), (4, 5, 6)), ((1, -1), (0, 0)), ((2**53, 0), (0, 0))]
)
def test_a_confusion_that_is_none_is_damage(
    tmp_path: Path, small_corpus: CorpusFiles, counts: tuple[tuple[int, ...], ...]
) -> None:
    record = make_done(make_job(small_corpus)).with_columns({"confusion": Confusion(("x", "y"), counts)})
    path = keep(tmp_path, record) / "record.json"
    records, damaged = read_records(tmp_path)
    assert (records, list(damaged)) == ([], [path])
    assert "confusion" in damaged[path]


def test_records_of_the_version_before_are_read_with_what_they_did(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 3.0, 3.5), epoch(2, 4.0)]
    record = make_done(make_job(small_corpus), history)
    as_before(keep(tmp_path, record, history))
    assert read_records(tmp_path) == ([record], {})
    assert read_epochs(tmp_path / "runs" / record.run_id) == history


def test_tables_of_the_version_before_are_rebuilt_and_others_are_damage(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    record = make_done(make_job(small_corpus), [epoch(1, 3.0, 3.5), epoch(2, 4.0)])
    keep(tmp_path, record)
    for name in ("runs.csv", "epochs.csv"):
        write_tables(tmp_path, [record])
        path = tmp_path / name
        drop_columns(path)
        assert set_aside_damaged_tables(tmp_path, [record]) == []
        head, *rows = path.read_text().splitlines()
        names = head.split(",")
        # A name that nothing has, one twice, and two that have changed places: no version wrote these.
        for wrong in ([*names, "watts"], [*names, names[-1]], [names[1], names[0], *names[2:]], [""]):
            path.write_text("\n".join([",".join(wrong), *rows, ""]))
            (aside,) = set_aside_damaged_tables(tmp_path, [record])
            assert aside.name.startswith(f"{name}.damaged")


def test_a_word_that_may_be_empty_is_no_missing_one(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """Else a run without `lr_steps` would be another one than that of an older table, which has no such column."""
    record = make_done(make_job(small_corpus))
    write_tables(tmp_path, [record])
    (row,) = table_rows(load_results(tmp_path))
    drop_columns(tmp_path / "runs.csv")
    (before,) = table_rows(load_results(tmp_path))
    assert (row["lr_steps"], row["reason"]) == ("", "")
    assert {name: row[name] for name in COLUMNS} == {name: before[name] for name in COLUMNS}


def test_a_record_or_table_without_a_rate_is_of_the_time_when_it_was_20(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    record = make_done(make_job(small_corpus, cell="gru", learning_rate="auto"))
    assert record.config.learning_rate == 10
    content = json.loads((keep(tmp_path, record) / "record.json").read_text())
    del content["learning_rate"], content["sha256"]
    (tmp_path / "runs" / record.run_id / "record.json").write_text(seal(content))
    (older,), damaged = read_records(tmp_path)
    assert (older.config.learning_rate, damaged) == (20, {})
    write_tables(tmp_path, [record])
    frame = load_results(tmp_path).drop(columns="learning_rate")
    assert [row["learning_rate"] for row in table_rows(frame)] == [20]


def pruned(content: Any, like: Any) -> Any:
    """The part of `content`, JSON, that has a place in `like`."""
    if isinstance(like, dict):
        return {name: pruned(content[name], item) for name, item in like.items()}
    if isinstance(like, list):
        return [pruned(*items) for items in zip(content, like, strict=True)]
    return content


def test_committed_results_are_written_again_to_the_byte(tmp_path: Path) -> None:
    """But for columns that a later version added: results are empty, and settings at their defaults."""
    folders = sorted({path.parents[2] for path in RESULTS.glob("**/record.json")})
    defaults = {name: info.default for name, info in RunConfig.model_fields.items()}
    for folder in folders:
        records, damaged = read_records(folder)
        assert (bool(records), damaged) == (True, {})
        for record in records:
            path = folder / "runs" / record.run_id / "record.json"
            write_record(tmp_path, record)
            before, again = (json.loads(file.read_text()) for file in (path, tmp_path / "record.json"))
            assert all(again[name] in (None, [], defaults.get(name)) for name in again.keys() - before.keys())
            assert seal({k: v for k, v in pruned(again, before).items() if k != "sha256"}) == path.read_text()
        write_tables(tmp_path, records)
        for name in ("runs.csv", "epochs.csv"):
            before, again = (list(csv.DictReader(io.StringIO((f / name).read_text()))) for f in (folder, tmp_path))
            assert pruned(again, before) == before
    # A checkout may hold sweeps of its own, too.
    assert len(folders) >= 13


def test_a_record_has_the_unigram_models_loss(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    progress = Progress(history=[epoch(1, 2.0)], unigram_loss=AWKWARD[1])
    record = make_record(make_job(small_corpus), progress, status="ok", started_at="", wall_seconds=1.0)
    keep(tmp_path, record)
    write_tables(tmp_path, [record])
    assert read_records(tmp_path)[0][0].unigram_loss == AWKWARD[1]
    assert load_results(tmp_path)["unigram_loss"].tolist() == [AWKWARD[1]]
    # A record of an earlier version has none, and says so.
    assert RunRecord(**record.model_dump(exclude={"unigram_loss"})).unigram_loss is None
