"""A run's directory kept alike in two places, whenever either side is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gluon_rnn.common.files import write_atomically
from gluon_rnn.sweeps.executors import mirror as mirror_module
from gluon_rnn.sweeps.executors.mirror import Change, Mirror


def save(directory: Path, epoch: int) -> None:
    """A checkpoint as a run leaves it: arrays, the best parameters, then the state; the one before goes."""
    folder = directory / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / f"arrays-{epoch}").write_text(f"arrays {epoch}")
    write_atomically(directory / "best.params", f"best {epoch}")
    write_atomically(folder / "state.json", f"state {epoch}")
    (folder / f"arrays-{epoch - 1}").unlink(missing_ok=True)


def tree(directory: Path) -> dict[str, str]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in paths}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def test_a_run_is_the_same_there_at_every_step_and_nothing_is_told_twice(here: Path, there: Path) -> None:
    mirror = Mirror(here)
    assert not mirror.changes()
    for epoch in (1, 2):
        with (here / "log.txt").open("a") as log:
            log.write(f"epoch {epoch}\n")
        (here / "config.json").write_text("of the node alone")
        save(here, epoch)
        write_atomically(here / "vocabulary.json", f"words {epoch}")
        write_atomically(here / "epochs.csv", f"row {epoch}")
        write_atomically(here / "progress.json", f"at {epoch}")
        change = mirror.changes()
        assert change.log == f"epoch {epoch}\n".encode()
        change.apply(there)
        (here / "config.json").unlink()
        assert tree(there) == tree(here)
        assert not mirror.changes()


def test_the_state_is_written_after_its_arrays_and_the_record_last(here: Path) -> None:
    save(here, 1)
    for name in ("epochs.csv", "progress.json", "record.json"):
        (here / name).write_text(name)
    change = Mirror(here).changes(ended=True)
    assert list(change.files) == [
        "best.params",
        "checkpoint/arrays-1",
        "checkpoint/state.json",
        "epochs.csv",
        "progress.json",
        "record.json",
    ]


def test_the_record_and_the_best_parameters_wait_for_their_time(here: Path) -> None:
    mirror = Mirror(here)
    (here / "record.json").write_text("a record")
    (here / "best.params").write_text("of an epoch whose checkpoint is being written")
    assert not mirror.changes()
    assert set(mirror.changes(ended=True).files) == {"record.json", "best.params"}


def test_a_checkpoint_that_is_just_being_replaced_is_told_later(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, 1)
    mirror = Mirror(here)
    read = Path.read_bytes

    def read_late(path: Path) -> bytes:
        if path.name == "arrays-1":
            save(here, 2)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(mirror_module.Path, "read_bytes", read_late)
        assert not mirror.changes().files
    assert mirror.changes().files == {
        "best.params": b"best 2",
        "checkpoint/arrays-2": b"arrays 2",
        "checkpoint/state.json": b"state 2",
    }


def test_a_state_replaced_while_it_is_read_is_told_later(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, 1)
    mirror = Mirror(here)
    read = Path.read_bytes

    def read_early(path: Path) -> bytes:
        content = read(path)
        if path.name == "state.json":
            write_atomically(path, "state 2")
        return content

    with monkeypatch.context() as patch:
        patch.setattr(mirror_module.Path, "read_bytes", read_early)
        assert not mirror.changes().files
    assert mirror.changes().files["checkpoint/state.json"] == b"state 2"


def test_a_stop_while_a_checkpoint_comes_over_leaves_the_one_before(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(here)
    save(here, 1)
    mirror.changes().apply(there)
    save(here, 2)

    def full(path: Path, content: bytes) -> None:
        if path.name == "state.json":
            raise OSError("no space left")
        write_atomically(path, content)

    monkeypatch.setattr(mirror_module, "write_atomically", full)
    with pytest.raises(OSError, match="no space"):
        mirror.changes().apply(there)
    kept = tree(there)
    assert (kept["checkpoint/state.json"], kept["checkpoint/arrays-1"]) == ("state 1", "arrays 1")


def test_what_an_ended_run_has_no_more_goes_and_the_rest_stays(here: Path, there: Path) -> None:
    save(there, 1)
    for name in ("progress.json", "log.txt", "tensorboard_run.txt"):
        (there / name).write_text(name)
    change = Mirror(here).changes(ended=True)
    assert change.gone == ("checkpoint", "progress.json")
    change.apply(there)
    assert sorted(tree(there)) == ["best.params", "log.txt", "tensorboard_run.txt"]


def test_what_a_failed_run_leaves_stays_there_too(here: Path, there: Path) -> None:
    save(here, 1)
    (here / "progress.json").write_text("at 1")
    Mirror(here).changes(ended=True).apply(there)
    assert tree(there) == tree(here)


def test_the_log_goes_on_below_that_of_an_earlier_attempt(here: Path, there: Path) -> None:
    (there / "log.txt").write_text("before\n")
    (here / "log.txt").write_text("after\n")
    Mirror(here).changes().apply(there)
    assert (there / "log.txt").read_text() == "before\nafter\n"


def test_a_checkpoint_is_sent_whole_or_not_at_all(here: Path, there: Path) -> None:
    assert Mirror(here).checkpoint() == Change()
    (here / "best.params").write_text("without a checkpoint the run starts afresh")
    assert Mirror(here).checkpoint() == Change()
    save(here, 3)
    (here / "checkpoint" / ".arrays-4.x.tmp").write_text("unfinished")
    (here / "epochs.csv").write_text("the run writes it anew")
    Mirror(here).checkpoint().apply(there)
    assert tree(there) == {
        "best.params": "best 3",
        "checkpoint/arrays-3": "arrays 3",
        "checkpoint/state.json": "state 3",
    }
