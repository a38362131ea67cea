"""Nothing that is read can run: no code here unpickles, and a pickle in the place of each file is refused."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
import yaml

from gluon_rnn.common.files import cache_directory, seal, sha256_of
from gluon_rnn.config import sweep_file
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.networks.models import build_model
from gluon_rnn.sweeps.planning import plan_sweep
from gluon_rnn.training.checkpoints import CheckpointDirectory
from tests.bad_input.harness import FITTING, answer, fresh_folder
from tests.conftest import small_config, write_folder

CHECKOUT = Path(__file__).parents[2]
SOURCES = [path for folder in ("gluon_rnn", "scripts", "benchmarks") for path in (CHECKOUT / folder).rglob("*.py")]

_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle"}
_NAMES = {"eval", "exec", "compile", "__import__"}
_METHODS = {"load_states", "save_states", "read_pickle", "to_pickle", "unsafe_load", "full_load", "load_all"}
#: Which attributes called ``load`` read plain data, and how they must be called; whatever else is called so is refused.
_LOADS = {"yaml": "_Loader", "np": "allow_pickle=False", "mx.nd": ""}


def dangers(source: str) -> Iterator[str]:
    """The lines of `source` that could run what they read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = {(module or alias.name).partition(".")[0] for alias in node.names}
            if names & _MODULES:
                yield ast.unparse(node)
        elif isinstance(node, ast.Name) and node.id in _NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in _METHODS:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            needed = _LOADS.get(ast.unparse(node.func.value))
            if needed is None or needed not in ast.unparse(node):
                yield ast.unparse(node)


#: Where an array of words comes as a pickle, and is read by an unpickler that knows nothing else.
ALLOWED = {"gluon_rnn/data/vectors/published.py": ["from pickle import Unpickler", "_Words(file).load()"]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_code_runs_what_it_reads(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(CHECKOUT).as_posix(), [])
    assert sorted(dangers(path.read_text(encoding="utf-8"))) == sorted(allowed)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, dill as d",
        "import joblib.numpy_pickle",
        "eval(text)",
        "run = exec",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=False)",
        "torch.load(path)",
        "pickle.load(file)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(path)",
        "trainer.load_states(path)",
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert list(dangers(source))


def test_what_is_read_as_yaml_is_plain_data() -> None:
    assert issubclass(sweep_file._Loader, yaml.SafeLoader)
    own = sweep_file._Loader.yaml_constructors.items() - yaml.SafeLoader.yaml_constructors.items()
    assert own == {("tag:yaml.org,2002:int", sweep_file._Loader.construct_yaml_int)}
    assert sweep_file._Loader.yaml_constructors.keys() == yaml.SafeLoader.yaml_constructors.keys()
    assert sweep_file._Loader.yaml_multi_constructors is yaml.SafeLoader.yaml_multi_constructors


class Bomb:
    """Leaves a folder called ``ran`` where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.makedirs, ("ran", 0o777)


PICKLE = pickle.dumps({"embedding.0.weight": Bomb()})


def object_array() -> bytes:
    """A file of NumPy's whose one object is a bomb."""
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def object_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("train", "valid", "test", "vocab"):
            archive.writestr(f"{name}.npy", object_array())
    return stream.getvalue()


def test_the_bomb_goes_off() -> None:
    for content in (PICKLE, pickle.dumps(Bomb())):
        with fresh_folder() as folder:
            pickle.loads(content)
            assert (folder / "ran").exists()
    with fresh_folder() as folder, np.load(io.BytesIO(object_archive()), allow_pickle=True) as members:
        assert members["train"].shape == (1,)
        assert (folder / "ran").exists()


@pytest.mark.parametrize("content", [PICKLE, object_array(), object_archive()], ids=["pickle", "npy", "npz"])
def test_parameters_are_read_by_mxnets_format_alone(content: bytes) -> None:
    with fresh_folder() as folder:
        model = build_model(small_config(), 17, mx.cpu())
        path = folder / "best.params"
        path.write_bytes(content)
        with pytest.raises((mx.MXNetError, AssertionError, ValueError)):
            model.load_parameters(str(path))
        with pytest.raises((mx.MXNetError, ValueError)):
            mx.nd.load(str(path))
        assert not (folder / "ran").exists()


@pytest.mark.parametrize("name", ["state.json", "epoch-1.params", "epoch-1.states"])
@pytest.mark.parametrize("content", [PICKLE, object_archive()], ids=["pickle", "npz"])
@pytest.mark.parametrize("fits", [False, True])
def test_a_checkpoint_that_is_a_bomb_does_not_go_off(name: str, content: bytes, fits: bool) -> None:
    """Neither one that took a file's place nor one whose maker has put down its checksum."""
    with fresh_folder() as folder:
        model = build_model(small_config(), 17, mx.cpu())
        trainer = mx.gluon.Trainer(model.collect_params(), "adam")
        (folder / "checkpoint").mkdir()
        model.save_parameters("checkpoint/epoch-1.params")
        mx.nd.save("checkpoint/epoch-1.states", {"0.0": mx.nd.ones(1)})
        if fits:
            (folder / "checkpoint" / name).write_bytes(content)
        arrays = ("epoch-1.params", "epoch-1.states")
        checksums = {array: sha256_of((folder / "checkpoint" / array).read_bytes()) for array in arrays}
        state = {"stem": "epoch-1", "checksums": checksums, "update_counts": {}, "progress": {}}
        (folder / "checkpoint" / "state.json").write_text(seal(state))
        (folder / "checkpoint" / name).write_bytes(content)
        checkpoint = CheckpointDirectory(folder)
        if fits and name != "state.json":
            with pytest.raises((mx.MXNetError, ValueError, AssertionError, KeyError)):
                checkpoint.restore(model, trainer)
        else:
            assert checkpoint.restore(model, trainer) is None
            assert (folder / "checkpoint.damaged" / name).read_bytes() == content
        assert not (folder / "ran").exists()


def test_a_checkpoint_names_no_files_elsewhere() -> None:
    with fresh_folder() as folder:
        model = build_model(small_config(), 17, mx.cpu())
        (folder / "checkpoint").mkdir()
        model.save_parameters("elsewhere.params")
        state = {"stem": "../elsewhere", "checksums": {}, "update_counts": {}, "progress": {}}
        (folder / "checkpoint" / "state.json").write_text(seal(state))
        assert CheckpointDirectory(folder).restore(model, mx.gluon.Trainer(model.collect_params(), "sgd")) is None


def test_a_kept_corpus_that_is_a_bomb_does_not_go_off(small_corpus: CorpusFiles) -> None:
    with fresh_folder() as folder:
        expected = load_corpus(small_corpus)
        (kept,) = cache_directory().glob("corpus-*")
        for content in (PICKLE, object_array(), object_archive()):
            kept.write_bytes(content)
            assert (load_corpus(small_corpus).train == expected.train).all()
            # Of one whose maker knows how they are written.
            kept.write_bytes(hashlib.sha256(content).digest() + content)
            with pytest.raises(ValueError, match="allow_pickle=False"):
                load_corpus(small_corpus)
            assert not (folder / "ran").exists()


@pytest.mark.slow
def test_a_sweep_amid_bombs_goes_on_and_sets_none_off() -> None:
    """In the place of every file that a sweep, its worker and its readers look at: a pickle."""
    with fresh_folder() as folder:
        write_folder(folder / "corpus")
        settings = {**FITTING, "dataset": "corpus", "hidden_size": 8, "epochs": 1, "learning_rate": 1.0}
        plan = plan_sweep(Sweep("quick", settings=settings), results=folder / "results", notice=lambda line: None)
        run = plan.directory / "runs" / plan.jobs[0].run_id
        other = plan.directory / "runs" / "other"
        for directory in (run / "checkpoint", other):
            directory.mkdir(parents=True)
        names = ["record.json", "progress.json", "config.json", "epochs.csv", "best.params", "log.txt"]
        names += ["tensorboard_run.txt", "mlflow_run.txt"]
        places = [directory / name for directory in (run, other) for name in names]
        places += [run / "checkpoint" / name for name in ("epoch-1.params", "epoch-1.states", "best.params")]
        places += [plan.directory / name for name in ("sweep.json", "runs.csv", "epochs.csv", ".lock")]
        for place in places:
            place.write_bytes(PICKLE)
        for arguments in (
            ["status", "results/quick"],
            ["report", "results/quick"],
            ["check-regression", "results/quick", "results/quick"],
            ["promote", "results/quick", "baseline.csv"],
        ):
            assert answer(*arguments).status == 2, arguments
        pairs = [f"{key}={value}" for key, value in settings.items()]
        (folder / "quick.yaml").write_text("set: {}")
        found = answer("sweep", "quick.yaml", "--set", *pairs, "--quiet")
        assert found.status == 0, found
        assert found.err.count("is damaged") == 2
        assert not list(folder.rglob("ran"))
