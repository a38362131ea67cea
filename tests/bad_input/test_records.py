"""Results that were damaged, or made to do harm: each reader has a line for them, and keeps what else is there."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import seal
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.regression.comparison import compare
from gluon_rnn.reporting.report.document import compose
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.reporting.report.rendering import to_markdown
from gluon_rnn.reporting.tracking.base import remembered
from gluon_rnn.runs.epochs import EPOCH_COLUMNS
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import COLUMNS, read_records
from gluon_rnn.runs.tables import load_epochs, read_points, write_tables
from tests.bad_input.harness import FITTING, TEXT, answer, fresh_folder, snapshot
from tests.runs.test_records import epoch, keep, make_done, make_job

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
NASTY += [b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\r\n", b"\xe2\x80\xa8", b"\xc2\x85"]
RUNS = ("aaa", "bbb", "ccc")
FILES = [
    "sweep.json",
    "runs.csv",
    "epochs.csv",
    "runs/bbb/record.json",
    "runs/bbb/epochs.csv",
    "runs/ddd/progress.json",
]

#: Of what takes a while: pandas, statistics and plots.
FEWER = settings().max_examples // 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_corpus: CorpusFiles) -> Path:
    """Results of three runs, of which one has failed, and of one that still runs."""
    sweep = tmp_path_factory.mktemp("whole") / "mine"
    records = []
    for name, special, status in zip(RUNS, ({}, {"seed": 1}, {"cell": "gru"}), ("ok", "ok", "failed"), strict=True):
        history = [epoch(1, 5.0 + len(records), 5.1), epoch(2, 4.5 + len(records), 4.6)]
        records.append(make_done(make_job(small_corpus, run_id=name, **special), history, status=status, reason="why"))
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
def damage(draw: st.DrawFn, names: Sequence[str] = FILES) -> tuple[str, Callable[[bytes], bytes]]:
    """One of some files of the results, and what becomes of its bytes."""
    name = draw(st.sampled_from(names))
    ways = [_bytes_changed(draw)]
    if name.endswith(".json"):
        value, depth = draw(JSON), draw(st.integers(0, 4))
        ways += [lambda content: _json_changed(content, value, depth, draw)] * 2
    else:
        columns = COLUMNS if name == "runs.csv" else EPOCH_COLUMNS
        row, column, cell = draw(st.none() | st.integers(0, 3)), draw(st.sampled_from(columns)), draw(CELL)
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

    return _sealed(changed(json.loads(content), depth))


def _sealed(content: Any) -> bytes:
    """As an attacker would write it: a record with the checksum that fits it."""
    if isinstance(content, dict) and "sha256" in content:
        return seal({name: value for name, value in content.items() if name != "sha256"}).encode()
    return json.dumps(content).encode()


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


def _cell_changed(content: bytes, row: int | None, column: str, cell: str) -> bytes:
    """In one row, or in all."""
    columns, rows = _table(content)
    for changed in rows if row is None else [rows[row % len(rows)]]:
        changed[column] = cell
    return _written(columns, rows)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("seed", "", "has no seed: its table is damaged"),
        ("epochs_run", "", "has no epochs_run: its table is damaged"),
        ("bptt", "1.5", "cannot read {path}"),
        ("bptt", "x", "cannot read {path}"),
        ("bptt", "9" * 30, "cannot read {path}"),
        ("tie_weights", "maybe", "cannot read {path}"),
        ("valid_loss", "1e308", "has valid_loss=1e+308, which nothing measures"),
        ("valid_loss", "-1000", "has valid_loss=-1000.0, which nothing measures"),
        ("test_loss", "1e308", "has test_loss=1e+308, which nothing measures"),
        ("test_loss", "-inf", "has test_loss=-inf, which nothing measures"),
        ("tokens_per_second", "0", "has tokens_per_second=0.0, which nothing measures"),
        ("tokens_per_second", "-1", "has tokens_per_second=-1.0, which nothing measures"),
        ("tokens_per_second", "inf", "has tokens_per_second=inf, which nothing measures"),
    ],
)
@pytest.mark.parametrize("row", [0, None])
def test_a_number_that_no_run_has_is_named(
    tmp_path: Path, whole: Path, column: str, cell: str, words: str, row: int | None
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(_cell_changed((whole / "runs.csv").read_bytes(), row, column, cell))
    for sides in ((path, whole), (whole, path)):
        with pytest.raises(UserError) as caught:
            compare(*sides)
        assert words.format(path=path) in str(caught.value)


@pytest.mark.parametrize(
    "column", ["device", "cell", "host", "status", "reason", "valid_loss", "embed_size", "threads"]
)
def test_a_report_of_a_table_with_an_empty_column_is_written(tmp_path: Path, whole: Path, column: str) -> None:
    (tmp_path / "runs.csv").write_bytes(_cell_changed((whole / "runs.csv").read_bytes(), None, column, ""))
    assert "3 runs" in to_markdown(compose(read_folders([tmp_path])))


def test_perplexities_too_large_to_be_averaged_count_as_infinite(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "runs.csv").write_bytes(
        _cell_changed((whole / "runs.csv").read_bytes(), None, "valid_perplexity", "1e308")
    )
    assert "| inf |" in to_markdown(compose(read_folders([tmp_path])))


def _column_dropped(content: bytes, column: str) -> bytes:
    columns, rows = _table(content)
    return _written([name for name in columns if name != column], rows)


@settings(max_examples=FEWER)
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
        answer("status", str(mine))
        pairs = [f"{key}={value}" for key, value in {**FITTING, "dataset": "synthetic"}.items()]
        (folder / "mine.yaml").write_text("set: {}")
        planned = answer("sweep", "mine.yaml", "--dry-run", "--set", *pairs, "--axis", "cell=lstm,gru")
        assert (planned.status, planned.out.splitlines()[-1]) == (0, "2 points, 2 to run")
        assert planned.err.count("it is not a point of this sweep, and has no row") == len(damaged)
        write_tables(mine, records)


@pytest.mark.slow
@settings(max_examples=FEWER)
@given(damage(("sweep.json", "runs.csv", "runs.csv", "runs.csv")), st.booleans(), st.booleans())
def test_damaged_tables_are_compared_or_refused(
    whole: Path, drawn: tuple[str, Callable[[bytes], bytes]], swapped: bool, promoted: bool
) -> None:
    name, change = drawn
    with fresh_folder() as folder:
        mine = folder / "mine"
        shutil.copytree(whole, mine)
        (mine / name).write_bytes(change((whole / name).read_bytes()))
        sides = [str(mine), str(whole)] if swapped else [str(whole), str(mine)]
        if promoted:
            shutil.copy(Path(sides[0]) / "runs.csv", "baseline.csv")
            before = Path("baseline.csv").read_bytes()
            if answer("promote", sides[1], "baseline.csv", "--incomplete").status == 2:
                assert Path("baseline.csv").read_bytes() == before
        else:
            found = answer("check-regression", *sides, "--json", "x.json", "--junit", "x.xml", "--markdown", "x.md")
            assert (
                json.loads(Path("x.json").read_text())["verdict"] == ("held", "regressed", "not compared")[found.status]
            )
            assert ElementTree.parse("x.xml").getroot().tag == "testsuites"


@settings(max_examples=FEWER // 2)
@given(damage(("runs.csv", "runs.csv", "epochs.csv", "runs/bbb/record.json")))
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
        assert (found.status == 0) == (mine / "report.html").exists() == (mine / "report.md").exists()
        assert found.status == 0 or name == "runs.csv"


# Results that someone else has sent

#: In the place of a file's content.
PIPE = b"pipe"
SECRET = "a secret of this machine"


@pytest.fixture
def sent(tmp_path: Path, whole: Path) -> Path:
    """Someone else's results beside a folder that is none of theirs, and is neither to be shown nor changed."""
    (tmp_path / "private").mkdir()
    for name in ("log.txt", "epochs.csv", "progress.json", "record.json", "plain"):
        (tmp_path / "private" / name).write_text(SECRET)
    live = LiveProgress(doing=SECRET, fraction=0.5, progress=Progress())
    (tmp_path / "private" / "progress.json").write_text(live.model_dump_json())
    return Path(shutil.copytree(whole, tmp_path / "sent"))


OUTSIDE = ["../../private", "runs/../../../private", "/", ".", "..", "", "a/b", "a\\b", "a\0b", "a\nb", "ü", "x" * 65]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_that_a_list_of_points_names_is_in_its_folder(sent: Path, name: str) -> None:
    points = [{"run_id": "aaa", "label": "a"}, {"run_id": name, "label": "x"}]
    (sent / "sweep.json").write_text(json.dumps({"points": points}))
    with pytest.raises(UserError, match="is not a sweep's folder"):
        read_points(sent)
    found = answer("status", str(sent))
    assert found.status == 2
    assert SECRET not in found.out + found.err
    assert "is not a sweep's folder" in answer("promote", str(sent), str(sent / "baseline.csv")).err


@pytest.mark.parametrize("name", [*OUTSIDE, "{private}"])
def test_a_run_that_a_table_names_is_in_its_folder(sent: Path, name: str) -> None:
    name = name.format(private=sent.parent / "private")
    for path in sent.glob("runs/*/record.json"):
        path.unlink()
    columns, rows = _table((sent / "runs.csv").read_bytes())
    for row in rows:
        row |= {"run_id": name, "status": "failed"}
    (sent / "runs.csv").write_bytes(_written(columns, rows))
    try:
        assert {run.log for run in read_folders([sent]).runs} == {""}
    except UserError as error:
        assert "cannot read" in str(error)  # noqa: PT017 - a name of no characters or of strange ones belongs to no table
    assert SECRET not in answer("check-regression", str(sent), str(sent)).out


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_record_that_names_another_run_is_damaged_and_writes_nowhere(sent: Path, name: str) -> None:
    path = sent / "runs" / "aaa" / "record.json"
    path.write_bytes(_sealed({**json.loads(path.read_text()), "run_id": name}))
    before = snapshot(sent.parent / "private")
    records, damaged = read_records(sent)
    assert [record.run_id for record in records] == ["bbb", "ccc"]
    assert len(damaged) == 1
    write_tables(sent, records)
    assert snapshot(sent.parent / "private") == before


@pytest.mark.parametrize("kind", ["file", "folder", "loop", "pipe"])
def test_a_link_in_results_does_not_fetch_a_log_from_elsewhere(sent: Path, kind: str) -> None:
    directory = sent / "runs" / "ccc"
    log = directory / "log.txt"
    log.unlink()
    if kind == "file":
        log.symlink_to(sent.parent / "private" / "plain")
    elif kind == "loop":
        log.symlink_to(log)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        (directory / "record.json").rename(sent.parent / "private" / "record.json")
        (directory / "epochs.csv").unlink()
        directory.rmdir()
        directory.symlink_to(sent.parent / "private")
    found = read_folders([sent])
    assert {run.log for run in found.runs} == {""}
    assert SECRET not in str(found)


def test_a_log_that_is_there_is_shown(sent: Path) -> None:
    assert {run.log for run in read_folders([sent]).runs} == {"", "its last words"}


def test_a_lock_that_is_a_link_changes_nothing_elsewhere(sent: Path) -> None:
    (sent / ".lock").symlink_to(sent.parent / "private" / "plain")
    answer("status", str(sent))
    assert (sent.parent / "private" / "plain").read_text() == SECRET


@pytest.mark.parametrize(
    "name", ["record.json", "progress.json", "epochs.csv", "sweep.json", "runs.csv", "../epochs.csv"]
)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "endless"])
def test_a_file_of_results_that_is_none(sent: Path, whole: Path, name: str, kind: str) -> None:
    directory = sent / "runs" / ("ddd" if name == "progress.json" else "bbb")
    path = sent / name.removeprefix("../") if name in ("sweep.json", "runs.csv", "../epochs.csv") else directory / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"loop": path, "endless": "/dev/zero"}[kind])
    os.chdir(sent.parent)
    records, damaged = read_records(sent)
    assert {"aaa", "ccc"} <= {record.run_id for record in records}
    assert len(damaged) == (name == "record.json")
    assert answer("status", str(sent)).status == (2 if name == "sweep.json" else 0)
    if name == "runs.csv":
        assert answer("check-regression", str(whole), str(sent)).status == 2
    assert {run.record.run_id for run in read_folders([sent]).runs} == {record.run_id for record in records}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"run_id,epoch\naaa,1\n",
        b"\xff",
        b"a\0b\n",
        b"epoch\n" + b"x" * 200_000,
        b"run_id,epoch\n" + b"," * 99,
        PIPE,
    ],
    ids=["empty", "columns missing", "no text", "null", "a long cell", "many cells", "pipe"],
)
def test_damaged_epochs_of_a_run_leave_the_others(sent: Path, content: bytes) -> None:
    path = sent / "runs" / "bbb" / "epochs.csv"
    path.unlink()
    if content is PIPE:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    # A record has its epochs.
    records, damaged = read_records(sent)
    history = {record.run_id: [epoch.valid_loss for epoch in record.history] for record in records}
    assert ({name: history[name] for name in ("aaa", "ccc")}, damaged) == ({"aaa": [5.0, 4.5], "ccc": [7.0, 6.5]}, {})
    write_tables(sent, records)
    assert {"aaa", "ccc"} <= {*load_epochs(sent)["run_id"]}


@pytest.mark.parametrize("column", ["run_id", "status"])
def test_a_table_without_what_every_run_has_is_a_line(tmp_path: Path, whole: Path, column: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(_column_dropped((whole / "runs.csv").read_bytes(), column))
    for command in (["promote", str(path), str(tmp_path / "baseline.csv"), "--incomplete"], ["report", str(tmp_path)]):
        said = answer(*command)
        assert (said.status, said.err.count("it has no column ")) == (2, 1)
    assert not (tmp_path / "baseline.csv").exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, '{"points": 5}', '{"points": [[]]}', "", "null", "\0"])
def test_a_list_of_points_that_is_none_is_a_line(sent: Path, content: str) -> None:
    (sent / "sweep.json").write_text(content)
    assert "is not a sweep's folder" in answer("status", str(sent)).err
    assert "is not a sweep's folder" in answer("promote", str(sent), str(sent / "baseline.csv")).err


def test_a_trackers_memory_names_a_folder_within_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tensorboard_run.txt"
    assert remembered(path) == ""
    for name in ("cell=gru,bptt=35,0123456789ab", "0123456789abcdef0123456789abcdef"):
        path.write_text(name)
        assert remembered(path) == name
    for name in OUTSIDE:
        if name not in ("ü", "x" * 65):
            path.write_text(name)
            assert remembered(path) == "", name


def test_what_a_file_says_reaches_no_terminal_raw(sent: Path) -> None:
    """Names, labels and reasons of someone else's results, in whatever is printed of them."""
    evil = "\x1b]0;title\x07\x1b[2J\r\u202e\ud800\nx"
    (sent / "sweep.json").write_text(json.dumps({"points": [{"run_id": "ccc", "label": evil}]}))
    path = sent / "runs" / "ccc" / "record.json"
    path.write_bytes(_sealed({**json.loads(path.read_text()), "reason": evil.replace("\ud800", ""), "cell": "gru"}))
    said = answer("status", str(sent))
    assert r"\x1b]0;title\x07\x1b[2J\r\u202e\ud800\nx: failed (\x1b]0;" in said.out
    columns, rows = _table((sent / "runs.csv").read_bytes())
    for row in rows:
        row |= {"cell": evil.replace("\ud800", "") + row["cell"]}
    (sent / "runs.csv").write_bytes(_written(columns, rows))
    said = answer("check-regression", str(sent), str(sent))
    assert r"cell=\x1b]0;title\x07\x1b[2J\r\u202e\nxlstm" in said.out
