"""What a plan makes of an embedding, and where its file comes to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.copies import bring, read_files
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors, find_vectors
from tests.conftest import small_config
from tests.runs.test_records import make_done
from tests.sweeps.test_sweep import plan, refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "tiny.3d.txt"
    path.parent.mkdir()
    path.write_text("the 1 2 3\ncat 4 5 6\n")
    return path


@pytest.fixture
def found(file: Path) -> FoundVectors:
    vectors = find_vectors(str(file))
    assert vectors
    return vectors


Make = Callable[..., Sweep]


@pytest.fixture
def sweep(small_folder: Path) -> Make:
    """A sweep of one point, untied unless said."""

    def make(**settings: object) -> Sweep:
        config = small_config(dataset=str(small_folder), **{"tie_weights": False, **settings})
        return Sweep("one", settings=config.model_dump(exclude_unset=True))

    return make


def test_an_embedding_is_as_wide_as_its_vectors(sweep: Make, file: Path, tmp_path: Path) -> None:
    (job,) = plan(sweep(embedding=str(file)), tmp_path).jobs
    assert job.config.embed_size == 3
    assert job.vectors == find_vectors(str(file))
    (said,) = plan(sweep(embedding=str(file), embed_size=3), tmp_path).jobs
    assert said.run_id == job.run_id
    (tied,) = plan(sweep(embedding=str(file), hidden_size=3, tie_weights=True), tmp_path).jobs
    assert tied.config.embed_size == 3
    (narrowed,) = plan(sweep(embedding=str(file), hidden_size=8, tie_weights=True), tmp_path).jobs
    assert (narrowed.config.embed_size, narrowed.config.hidden_size) == (3, 8)


def test_a_size_that_does_not_fit_is_refused(sweep: Make, file: Path, tmp_path: Path) -> None:
    assert refused(sweep(embedding=str(file), embed_size=4), tmp_path).startswith(
        "embed_size=4, but the vectors of tiny.3d.txt have 3 numbers each; leave it out"
    )
    assert refused(sweep(embedding=str(file), tie_weights=True, num_layers=1), tmp_path) == (
        "tie_weights=true with num_layers=1 needs embed_size equal to hidden_size, not 3 and 8; set tie_weights=false "
        "or leave embed_size out"
    )
    wide = Sweep("one", settings={"model": "standard_lstm_lm_200", "embedding": str(file)})
    assert refused(wide, tmp_path).startswith("embed_size=200, but the vectors of tiny.3d.txt have 3")
    file.write_text("a 1 2 3\nb 1 2 3\nc 1\n")
    assert "line 3: it has 1 numbers where 3 are needed" in refused(sweep(embedding=str(file)), tmp_path)


def test_a_run_is_known_by_its_vectors_not_by_their_place(sweep: Make, file: Path, tmp_path: Path) -> None:
    def name(**settings: object) -> str:
        (job,) = plan(sweep(**settings), tmp_path).jobs
        return job.run_id

    elsewhere = tmp_path / "elsewhere.txt"
    shutil.copy(file, elsewhere)
    assert name(embedding=str(file)) == name(embedding=str(elsewhere))
    elsewhere.write_text("the 1 2 3\ncat 4 5 7\n")
    assert name(embedding=str(file)) != name(embedding=str(elsewhere))
    assert len({name(), name(embedding="one_hot"), name(embedding=str(file)), name(embed_size=3)}) == 4


def test_random_embeddings_keep_the_names_that_runs_had(sweep: Make, small_corpus: CorpusFiles, tmp_path: Path) -> None:
    (job,) = plan(sweep(), tmp_path).jobs
    assert job.run_id == run_id(job.config, content={"corpus": small_corpus.sha1})
    (job,) = plan(sweep(embedding="one_hot"), tmp_path).jobs
    assert job.run_id == run_id(job.config, content={"corpus": small_corpus.sha1, "embedding": "one_hot"})
    assert (job.vectors, job.config.embed_size, job.contents["embedding"]) == (None, None, "one_hot")


def test_vectors_are_looked_for_in_the_data(sweep: Make, file: Path, tmp_path: Path) -> None:
    (job,) = plan(sweep(embedding="mine/tiny.3d.txt"), tmp_path, data_dir=tmp_path).jobs
    assert job.vectors
    assert job.vectors.path == file


def test_a_record_shows_the_bare_name(sweep: Make, file: Path, tmp_path: Path) -> None:
    (job,) = plan(sweep(embedding=str(file)), tmp_path).jobs
    assert type(job).model_validate_json(job.model_dump_json()) == job
    record = make_done(job)
    assert (record.config.embedding, record.config.embed_size) == ("tiny.3d.txt", 3)
    assert str(tmp_path) not in record.model_dump_json()


# On another machine.


def never() -> dict[str, bytes]:
    raise AssertionError("the file is here")


def test_a_file_that_is_shared_is_used_as_it_is(found: FoundVectors, tmp_path: Path) -> None:
    assert bring(found, tmp_path / "place", never) is found
    assert not (tmp_path / "place").exists()


def test_a_file_that_is_not_here_is_written(found: FoundVectors, tmp_path: Path) -> None:
    content = read_files(found)
    found.path.write_text("another 1 2 3\n")
    here = bring(found, tmp_path / "place", lambda: content)
    assert here == replace(found, path=tmp_path / "place" / "tiny.3d.txt")
    assert read_files(here) == content
    with pytest.raises(
        UserError, match=r"tiny.3d.txt are not those that were found: SHA-1 \w{40}, not \w{40}; start the sweep again$"
    ):
        read_files(found)
    found.path.unlink()
    with pytest.raises(UserError, match=r"tiny.3d.txt was found earlier and cannot be read now: No such .*; start"):
        read_files(found)
