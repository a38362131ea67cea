"""Results that were damaged, or made by someone else to do harm: each reader has a line for it, and keeps the others'."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gluon_rnn.corpora import CorpusFiles
from gluon_rnn.metrics import Progress
from gluon_rnn.records import COLUMNS, EPOCH_COLUMNS, LiveProgress, read_records, write_tables
from gluon_rnn.report import reading
from gluon_rnn.sweep import read_points
from tests.bad_input.harness import FITTING, TEXT, answer, fresh_folder
from tests.test_records import epoch, keep, make_done, make_job

#: As JSON has them; those that Python's parser takes although JSON has none, too.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from([0, -1, 0.0, -1e308, 1e308, 1e-320, 2**63, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CELL = TEXT | st.sampled_from(
    ["0", "-1", "1.5", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "9223372036854775808", "1e400", "True", "ok"]
)
NASTY = [b"\0", b"\xff", b"\n", b'"', b",", b"{", b"[" * 5000, b"9" * 5000, b"NaN", b"Infinity", b"null", b"\x1b[31m"]
RUNS = ("aaa", "bbb", "ccc")
FILES = ["sweep.json", "runs.csv", "epochs.csv", "runs/bbb/record.json", "runs/bbb/epochs.csv", "runs/ddd/progress.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_corpus: CorpusFiles) -> Path:
    """Results of three runs, of which one has failed, and of one that still runs."""
    sweep = tmp_path_factory.mktemp("whole") / "mine"
    records = []
    for name, settings, status in zip(RUNS, ({}, {"seed": 1}, {"cell": "gru"}), ("ok", "ok", "failed"), strict=True):
        history = [epoch(1, 5.0 + len(records), 5.1), epoch(2, 4.5 + len(records), 4.6)]
        records.append(make_done(make_job(small_corpus, run_id=name, **settings), history, status=status, reason="why"))
        directory = keep(sweep, records[-1], history)
        (directory / "log.txt").write_text("its last words\n")
    write_tables(sweep, records)
    (sweep / "runs" / "ddd").mkdir()
    live = LiveProgress(doing="epoch 1/2", fraction=0.5, progress=Progress())
    (sweep / "runs" / "ddd" / "progress.json").write_text(live.model_dump_json())
    points = [{"run_id": name, "label": f"point={name}"} for name in (*RUNS, "ddd")]
    (sweep / "sweep.json").write_text(json.dumps({"name": "mine", "points": points}))
    return sweep


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes]]:
    """A file of the results, and what becomes of its bytes."""
    name = draw(st.sampled_from(FILES))
    ways = [_bytes_changed(draw)]
    if name.endswith(".json"):
        value, depth = draw(JSON), draw(st.integers(0, 4))
        ways += [lambda content: _json_changed(content, value, depth, draw)] * 2
    else:
        columns = COLUMNS if name == "runs.csv" else EPOCH_COLUMNS
        row, column, cell = draw(st.integers(0, 3)), draw(st.sampled_from(columns)), draw(CELL)
        ways += [lambda content: _cell_changed(content, row, column, cell)] * 3
        ways.append(lambda content: _column_dropped(content, column))
    return name, draw(st.sampled_from(ways))


def _bytes_changed(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    start, length = draw(st.floats(0, 1)), draw(st.sampled_from([0, 0, 1, 5, 10**6]))
    middle = draw(st.sampled_from(NASTY) | st.binary(max_size=4))

    def change(content: bytes) -> bytes:
        place = int(start * len(content))
        return content[:place] + middle + content[place + length :]

    return change


def _json_changed(content: bytes, value: Any, depth: int, draw: st.DrawFn) -> bytes:
    def changed(found: Any, left: int) -> Any:
        if isinstance(found, dict | list) and found and left:
            keys = list(found) if isinstance(found, dict) else range(len(found))
            key = draw(st.sampled_from(keys))
            copy = found.copy()
            copy[key] = changed(found[key], left - 1)
            return copy
        return value

    return json.dumps(changed(json.loads(content), depth)).encode()


def _table(content: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or ()), rows


def _written(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _cell_changed(content: bytes, row: int, column: str, cell: str) -> bytes:
    columns, rows = _table(content)
    rows[row % len(rows)][column] = cell
    return _written(columns, rows)


def _column_dropped(content: bytes, column: str) -> bytes:
    columns, rows = _table(content)
    return _written([name for name in columns if name != column], rows)


@given(damage())
def test_damaged_results_are_read_as_far_as_they_go(whole: Path, drawn: tuple[str, Callable[[bytes], bytes]]) -> None:
    name, change = drawn
    with fresh_folder() as folder:
        mine = folder / "results" / "mine"
        shutil.copytree(whole, mine)
        (mine / name).write_bytes(change((whole / name).read_bytes()))
        records, damaged = read_records(mine)
        # Whatever became of one, the others are there.
        assert {"aaa", "ccc"} <= {record.run_id for record in records}
        assert len(records) + len(damaged) == 3
        reads_everything(whole, mine)


def reads_everything(whole: Path, mine: Path) -> None:
    answer("status", str(mine))
    answer("check-regression", str(whole), str(mine), "--json", "x.json", "--junit", "x.xml", "--markdown", "x.md")
    answer("check-regression", str(mine / "runs.csv"), str(whole), "--two-sided")
    answer("promote", str(mine), "baseline.csv", "--incomplete")
    answer("promote", str(whole), "baseline.csv", "--incomplete")
    corpus = mine.parents[1] / "corpus"
    corpus.mkdir()
    for split in ("train", "valid", "test"):
        (corpus / f"{split}.txt").write_text("a b c d e f g h\n" * 9)
    (mine.parents[1] / "sweep.yaml").write_text(
        yaml.safe_dump({"name": "mine", "set": {**FITTING, "dataset": "corpus"}, "axes": {"cell": ["lstm", "gru"]}})
    )
    planned = answer("sweep", "sweep.yaml", "--dry-run")
    assert (planned.status, planned.out.splitlines()[-1]) == (0, "2 points, 2 to run")


@given(damage())
def test_a_report_of_damaged_results_is_written_or_refused(
    whole: Path, drawn: tuple[str, Callable[[bytes], bytes]]
) -> None:
    name, change = drawn
    with fresh_folder() as folder:
        mine = folder / "mine"
        shutil.copytree(whole, mine)
        (mine / name).write_bytes(change((whole / name).read_bytes()))
        if name == "runs.csv":  # which is looked at where there are no records
            for path in mine.glob("runs/*/record.json"):
                path.unlink()
        found = answer("report", str(mine))
        assert (found.status == 0) == (mine / "report.html").exists()
        assert found.status == 0 or name == "runs.csv"
