"""Text from a run: what its model says, from the run's directory alone."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gluonnlp
import mxnet as mx
import numpy as np
import pytest

import gluon_rnn
from gluon_rnn import cli
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import seal, write_atomically
from gluon_rnn.common.printable import quoted
from gluon_rnn.data.corpora import CorpusFiles, find_corpus
from gluon_rnn.machine import mxnet_process
from gluon_rnn.networks.models import SequenceModel, build_model
from gluon_rnn.trained import generation
from gluon_rnn.trained.generation import generate, get_next, sample
from gluon_rnn.trained.run import load_run
from gluon_rnn.training import worker
from tests.cli.test_cli import environment, refusal
from tests.common.test_plain_text import ODD
from tests.conftest import AWD, write_folder
from tests.runs.test_records import make_job
from tests.trained.test_cache import same_without_awd

CPU = mx.cpu()
WORDS = ["<unk>", "<eos>", "one", "two", "three", "Four"]

#: Makes a run's directory, and its model.
Keep = Callable[..., tuple[Path, SequenceModel]]


def vocabulary(tokens: Sequence[str], **special: str | None) -> gluonnlp.Vocab:
    """In the order of `tokens`, but for special ones, which come first."""
    nothing = {"unknown_token": None, "padding_token": None, "bos_token": None, "eos_token": None}
    counter = gluonnlp.data.Counter({token: len(tokens) - place for place, token in enumerate(tokens)})
    return gluonnlp.Vocab(counter, **{**nothing, **special})


LETTERS = vocabulary("abc\n")
VOCABULARY = vocabulary(WORDS[2:], unknown_token="<unk>", eos_token="<eos>")
PADDED = vocabulary("abc", padding_token="<pad>")


@pytest.fixture
def keep(tmp_path: Path, small_corpus: CorpusFiles) -> Keep:
    """A run's directory as the worker leaves it, with parameters that are drawn wide, so that choices differ."""

    def make(
        vocab: gluonnlp.Vocab, *, directory: Path = tmp_path / "run", **settings: object
    ) -> tuple[Path, SequenceModel]:
        directory.mkdir(parents=True)
        job = make_job(small_corpus, **{"level": "character" if vocab is not VOCABULARY else "word", **settings})
        model = build_model(job.config, len(vocab), CPU)
        model.initialize(mx.init.Uniform(1.5), ctx=CPU, force_reinit=True)
        write_atomically(directory / "config.json", job.model_dump_json())
        write_atomically(directory / "vocabulary.json", seal({"vocabulary": vocab.to_json()}))
        model.save_parameters(str(directory / "best.params"))
        return directory, model

    return make


@pytest.fixture
def follow(keep: Keep) -> Callable[..., Path]:
    """A run whose logits are `table[last token, next token]`: one-hot in, the identity of it, and `table` out."""

    def make(vocab: gluonnlp.Vocab, table: object, **settings: object) -> Path:
        size = len(vocab)
        directory, model = keep(
            vocab,
            **{
                "cell": "rnn_relu",
                "num_layers": 1,
                "hidden_size": size,
                "embedding": "one_hot",
                "tie_weights": False,
                **settings,
            },
        )
        parameters = model._collect_params_with_prefix()
        for parameter in parameters.values():
            parameter.set_data(mx.nd.zeros(parameter.shape))
        parameters["encoder._unfused.0.i2h_weight"].set_data(mx.nd.eye(size))
        parameters["decoder.0.weight"].set_data(mx.nd.array(np.broadcast_to(np.asarray(table), (size, size)).T))
        model.save_parameters(str(directory / "best.params"))
        return directory

    return make


#: Each letter is followed by the next, the last by the first.
ROUND = 5 * np.roll(np.eye(4), 1, axis=1)


def predicted(model: SequenceModel, ids: Sequence[int]) -> int:
    """What the model, from zeros, says after `ids`, all in one."""
    logits, _ = model(mx.nd.array(ids, dtype="int32").reshape((-1, 1)), model.begin_state(1, CPU))
    return int(logits[-1, 0].argmax(axis=0).asscalar())


# What follows


def test_what_follows_is_what_the_parameters_say(follow: Callable[..., Path]) -> None:
    run = follow(LETTERS, ROUND)
    assert generate(run, "cab", tokens=6, greedy=True) == "cabc\nabc\n"
    assert generate(str(run), "b", tokens=1, greedy=True) == "bc"
    assert [get_next(run, prompt) for prompt in ("a", "ab", "abc", "\n")] == ["b", "c", "\n", "a"]


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm"},
        {"cell": "gru", "embedding": "one_hot", "tie_weights": False, "num_layers": 1},
        {"cell": "rnn_tanh", "tie_weights": False, "embed_size": 3, "train_embedding": False},
        {"cell": "custom_lstm"},
        {"cell": "tests.cells_for_tests:OwnCell", "dropout": 0.9},
    ],
    ids=lambda settings: str(settings["cell"]),
)
def test_a_language_models_state_is_carried_over_the_prompt_and_on(keep: Keep, settings: dict[str, object]) -> None:
    run, model = keep(VOCABULARY, bptt=2, **settings)
    ids = [2, 4, 4, 3, 1, 5]
    text = [VOCABULARY.idx_to_token[token] for token in ids]
    for _ in range(12):
        ids.append(predicted(model, ids))
        text.append(VOCABULARY.idx_to_token[ids[-1]])
    written = "\n".join(line.strip() for line in " ".join(text).split("<eos>"))
    assert generate(run, "one three  three two\nFour", tokens=12, greedy=True) == written


def test_a_network_with_awd_lstms_dropouts_generates_without_them(keep: Keep, tmp_path: Path) -> None:
    run, model = keep(VOCABULARY, directory=tmp_path / "awd", **AWD)
    bare, _ = keep(VOCABULARY, directory=tmp_path / "bare", dropout=0)
    same_without_awd(model).save_parameters(str(bare / "best.params"))
    text = generate(run, "one", tokens=60, seed=1)
    assert text == generate(bare, "one", tokens=60, seed=1)
    assert len({*text.split()}) > 2


def test_a_next_token_is_predicted_from_a_window_and_zeros(keep: Keep) -> None:
    vocab = vocabulary("abcdefghijklm")
    run, model = keep(vocab, objective="next_token", bptt=3, hidden_size=12)
    ids, carried = [vocab["a"]], [vocab["a"]]
    for _ in range(30):
        ids.append(predicted(model, ids[-3:]))
        carried.append(predicted(model, carried))
    assert carried != ids
    assert generate(run, "a", tokens=30, greedy=True) == "".join(vocab.idx_to_token[token] for token in ids)
    assert get_next(run, "kabcd") == get_next(run, "bcd") == vocab.idx_to_token[predicted(model, vocab[list("bcd")])]


# How it is chosen


def test_with_one_candidate_every_draw_is_the_likeliest(keep: Keep) -> None:
    run, _ = keep(VOCABULARY)
    greedy = generate(run, "one", tokens=40, greedy=True)
    assert generate(run, "one", tokens=40, top_k=1, temperature=100.0, seed=7) == greedy
    assert generate(run, "one", tokens=40, seed=7) != greedy


def drawn() -> list[float]:
    """The next numbers of each random stream that a caller may use."""
    return [
        random.random(),
        *np.random.random_sample(2).tolist(),
        *mx.nd.random.uniform(shape=2).asnumpy().tolist(),
        *mx.nd.random.normal(shape=2).asnumpy().tolist(),
        mx.random.randint(0, 2**30).asscalar(),
    ]


def seeded() -> None:
    random.seed(3)
    np.random.seed(4)
    mx.random.seed(5)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm"},
        {"cell": "custom_gru", "initializer": "orthogonal", "dropout": 0.5},
        {"cell": "tests.cells_for_tests:OwnCell", "initializer": "normal", "embedding_initializer": "normal"},
        {"objective": "next_token", "bptt": 2, "initializer": "uniform"},
    ],
    ids=lambda settings: str(settings.get("cell", "next_token")),
)
def test_its_callers_random_streams_go_on_as_if_it_had_not_been_called(keep: Keep, settings: dict[str, object]) -> None:
    run, _ = keep(VOCABULARY, **settings)
    seeded()
    expected = drawn() + drawn()
    seeded()
    before = drawn()
    texts = {generate(run, "one two", tokens=5, seed=9), generate(run, "one two", tokens=5, seed=9)}
    get_next(run, "one two")
    assert before + drawn() == expected
    assert len(texts) == 1


def test_a_seed_is_a_text(keep: Keep) -> None:
    run, _ = keep(VOCABULARY)
    texts = [generate(run, "one", tokens=40, seed=seed) for seed in (0, 0, 1, 2**32 - 1)]
    assert generate(run, "one", tokens=40) == texts[0] == texts[1]
    assert len(set(texts)) == 3
    # The longer one begins as the shorter.
    assert generate(run, "one", tokens=60, seed=1).startswith(texts[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [4, 1, 2, 1]),
        ({"temperature": 0.5}, [16, 1, 4, 1]),
        ({"temperature": 2.0}, [2, 1, math.sqrt(2), 1]),
        ({"top_k": 2}, [2, 0, 1, 0]),
        ({"top_k": 9, "temperature": 0.01}, [1, 0, 0, 0]),
    ],
)
def test_ids_come_as_often_as_they_are_likely(options: dict[str, float], weights: list[float]) -> None:
    """The standard deviation of a share of 20,000 draws is below 0.0036."""
    random = np.random.RandomState(0)
    logits = np.log([0.5, 0.125, 0.25, 0.125]) - 3
    counts = np.bincount([sample(logits, random, **options) for _ in range(20_000)], minlength=4)
    for count, weight in zip(counts, weights, strict=True):
        share = weight / sum(weights)
        assert count / 20_000 == pytest.approx(share, abs=0.012 if 0 < share < 1 else 0)


def test_what_is_asked_for_reaches_the_draw(follow: Callable[..., Path]) -> None:
    run = follow(LETTERS, np.log([0.5, 0.1, 0.3, 0.1]))
    assert set(generate(run, "a", tokens=200)[1:]) == set("abc\n")
    assert set(generate(run, "a", tokens=200, top_k=2)[1:]) == set("ac")
    assert set(generate(run, "a", tokens=50, temperature=0.02)) == {"a"}
    text = generate(run, "b", tokens=400, seed=1)
    assert text.count("a") / 400 == pytest.approx(0.5, abs=0.1)
    assert text.count("c") / 400 == pytest.approx(0.3, abs=0.1)


def test_a_draw_is_among_the_likeliest_wherever_they_stand() -> None:
    """GluonNLP's own sampler drew the last of these."""
    logits = np.array([0.1, 5.0, 0.2, 0.3])
    random = np.random.RandomState(0)
    assert {sample(logits, random, top_k=1, temperature=50.0) for _ in range(50)} == {1}
    assert {sample(logits, random, top_k=2, temperature=50.0) for _ in range(50)} == {1, 3}
    # No logit is too large, nor is one that is ruled out.
    assert {sample(np.array([-np.inf, 1e4, -1e4]), random, temperature=0.01) for _ in range(50)} == {1}


def test_padding_is_never_chosen(follow: Callable[..., Path]) -> None:
    run = follow(PADDED, [9.0, 0.0, 0.0, 0.1])  # <pad>, a, b, c
    assert PADDED["<pad>"] == 0
    assert get_next(run, "a") == "c"
    text = generate(run, "a", tokens=300, top_k=3)
    assert (len(text), set(text)) == (301, set("abc"))


# What is read


def test_unknown_words_are_named_and_read_as_unk(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = keep(VOCABULARY)
    text = generate(run, "one 1 four 1 three", tokens=5, greedy=True)
    assert capsys.readouterr().err == "not in the vocabulary, read as <unk>: '1', 'four'\n"
    assert text.startswith("one 1 four 1 three ")
    spelt_out = generate(run, "one <unk> <unk> <unk> three", tokens=5, greedy=True)
    assert text.removeprefix("one 1 four 1 three") == spelt_out.removeprefix("one <unk> <unk> <unk> three")
    assert capsys.readouterr().err == ""
    generate(run, "1 2 3 4 5 6 \x1b[2J", tokens=1)
    assert capsys.readouterr().err.endswith("'1', '2', '3', '4', '5', ...\n")


@pytest.mark.parametrize("character", ODD)
def test_a_prompt_is_cut_as_the_corpus_was(keep: Keep, capsys: pytest.CaptureFixture[str], character: str) -> None:
    run, _ = keep(VOCABULARY)
    prompt = f"\ufeffone\t two{character}three\r\n{character}\rone\n"
    text = generate(run, prompt, tokens=1)
    begun = f"one two{character}three\n{character}\none\n"
    assert text.startswith(begun)
    assert " " not in text.removeprefix(begun)
    named = f"{quoted(f'two{character}three')}, {quoted(character)}"
    assert capsys.readouterr().err == f"not in the vocabulary, read as <unk>: {named}\n"


def test_a_prompt_of_characters_keeps_each_but_a_byte_order_mark(follow: Callable[..., Path]) -> None:
    run = follow(vocabulary("a\r\u2028\u3000"), np.zeros((4, 4)))
    assert generate(run, "\ufeffa\u2028\r\u3000", tokens=1).startswith("a\u2028\r\u3000")


def test_a_prompt_is_made_lower_case_where_the_corpus_was(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = keep(VOCABULARY, lower=True)
    assert generate(run, "One  TWO", tokens=1).startswith("one two")
    assert capsys.readouterr().err == ""


def test_an_unknown_letter_of_an_alphabet_is_refused(follow: Callable[..., Path]) -> None:
    run = follow(LETTERS, ROUND)
    with pytest.raises(UserError, match=r"^the vocabulary of this run has no character 'é', 'x'; it has .\\nabc'$"):
        generate(run, "aéxé", tokens=1)
    shutil.rmtree(run)
    with pytest.raises(UserError, match=r"^the vocabulary of this run has no character 'x'; it has 'abc'$"):
        generate(follow(PADDED, [0] * 4), "x", tokens=1)


def test_without_a_prompt_a_text_begins_after_eos_which_is_a_line_break(follow: Callable[..., Path]) -> None:
    table = np.zeros((6, 6))
    for before, after in [("<eos>", "two"), ("two", "three"), ("three", "<eos>"), ("one", "<eos>")]:
        table[VOCABULARY[before], VOCABULARY[after]] = 5
    run = follow(VOCABULARY, table)
    assert generate(run, "", tokens=7, greedy=True) == "two three\ntwo three\ntwo"
    assert generate(run, "one\n", tokens=2, greedy=True) == "one\ntwo three"
    assert generate(run, "one <eos> <eos>", tokens=1, greedy=True) == "one\n\ntwo"
    assert get_next(run, "one") == "<eos>"
    shutil.rmtree(run)
    with pytest.raises(UserError, match="an empty prompt begins after <eos>, which this run's vocabulary lacks"):
        generate(follow(LETTERS, ROUND), "", tokens=1)


# What a run must have


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens=0 is not from 1 to 100,000"),
        ({"tokens": 100_001}, "tokens=100001 is not from 1 to 100,000"),
        ({"temperature": 0.0}, "temperature=0 is not from 0.01 to 100; use greedy for the most likely token each time"),
        ({"temperature": math.nan}, "temperature=nan is not from 0.01 to 100"),
        ({"top_k": 0}, "top_k=0 leaves no token to choose; give 1 or more"),
        ({"seed": -1}, "seed=-1 is not from 0 to 2**32 - 1"),
        ({"seed": 2**32}, "seed=4294967296 is not from 0 to 2**32 - 1"),
        ({"greedy": True, "seed": 1}, "greedy takes the most likely token each time"),
        ({"greedy": True, "top_k": 3}, "greedy takes the most likely token each time"),
        ({"greedy": True, "temperature": 2.0}, "greedy takes the most likely token each time"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as refused:
        generate(tmp_path, "one", **{"tokens": 5, **options})
    assert str(refused.value).startswith(message)


def flip(path: Path, place: int = -40) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def no_parameters_for_it(run: Path) -> None:
    content = json.loads((run / "config.json").read_text())
    content["config"]["hidden_size"] = content["config"]["embed_size"] = 9
    (run / "config.json").write_text(json.dumps(content))


def measures_speed(run: Path) -> None:
    content = json.loads((run / "config.json").read_text())
    content["config"]["max_steps"] = 20
    (run / "config.json").write_text(json.dumps(content))
    (run / "best.params").unlink()


def another_vocabulary(run: Path) -> None:
    (run / "vocabulary.json").write_text(seal({"vocabulary": LETTERS.to_json()}))


def not_finite(run: Path) -> None:
    arrays = mx.nd.load(str(run / "best.params"))
    arrays["decoder.0.bias"][0] = math.nan
    mx.nd.save(str(run / "best.params"), arrays)


def as_committed(run: Path) -> None:
    for path in run.iterdir():
        path.unlink()
    (run / "record.json").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "there is no folder {run}; name a run's, such as"),
        (lambda run: (run / "config.json").unlink(), "{run} is not a run's folder; name one such as"),
        (as_committed, "{run} holds the run's record alone, as a clone does: no parameters are committed; train the"),
        (
            lambda run: (run / "config.json").write_text("{"),
            "{run}/config.json cannot be read: it is not what a run is",
        ),
        (
            lambda run: (run / "vocabulary.json").unlink(),
            "{run} has no vocabulary.json, which a run writes when training begin",
        ),
        (lambda run: flip(run / "vocabulary.json", 60), "{run}/vocabulary.json is damaged: its content does not fit"),
        (
            lambda run: (run / "best.params").unlink(),
            "{run} has no best.params: a run has some from the end of its fir",
        ),
        (measures_speed, "{run} has no best.params: max_steps=20 measures speed and keeps none"),
        (lambda run: (run / "best.params").write_bytes(b""), "{run}/best.params does not hold this run's parameters: "),
        (lambda run: (run / "best.params").write_bytes(b"x" * 999), "{run}/best.params does not hold this run's para"),
        (
            lambda run: (run / "best.params").write_bytes((run / "best.params").read_bytes()[:-1000]),
            "{run}/best.params does not hold this run's parameters: ",
        ),
        (no_parameters_for_it, "{run}/best.params does not hold this run's parameters: "),
        (another_vocabulary, "{run}/best.params does not hold this run's parameters: "),
        (not_finite, "{run}/best.params is damaged: it gives no finite logits; train the run again"),
    ],
)
def test_what_a_run_has_kept_is_checked(keep: Keep, damage: Callable[[Path], None], message: str) -> None:
    run, _ = keep(VOCABULARY)
    damage(run)
    with pytest.raises(UserError) as refused:
        generate(run, "one", tokens=5)
    assert str(refused.value).startswith(message.format(run=run))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_labels_are_no_text(tmp_path: Path, small_corpus: CorpusFiles, objective: str) -> None:
    (tmp_path / "config.json").write_text(make_job(small_corpus, objective=objective).model_dump_json())
    with pytest.raises(UserError, match=f"is a run of {objective}, which predicts labels, not text"):
        generate(tmp_path, "one", tokens=5)


def test_a_cell_that_is_not_there_is_named(keep: Keep) -> None:
    run, _ = keep(VOCABULARY, cell="tests.cells_for_tests:OwnCell")
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace("tests.cells_for_tests", "no_such_module"))
    with pytest.raises(UserError, match="the run's cell no_such_module:OwnCell cannot be made: ModuleNotFoundError"):
        generate(run, "one", tokens=5)


def test_a_cell_that_has_changed_or_fails_is_named(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = keep(VOCABULARY, cell="tests.cells_for_tests:OwnCell")

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by hand")

    with monkeypatch.context() as patched:
        patched.setattr("tests.cells_for_tests.OwnCell.__init__", fail)
        with pytest.raises(UserError, match="OwnCell cannot be made: ZeroDivisionError: by hand"):
            generate(run, "one", tokens=5)
    job = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**job, "cell_sha1": "0" * 40}))
    with pytest.raises(UserError, match=f"OwnCell has changed since {run} was trained; train the run again"):
        generate(run, "one", tokens=5)


def test_a_sweeps_folder_names_its_runs(keep: Keep, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    points = [{"run_id": f"run{number}", "label": f"bptt={number}"} for number in range(8)]
    sweep.mkdir()
    (sweep / "sweep.json").write_text(json.dumps({"points": points}))
    with pytest.raises(UserError, match="is a sweep's folder, and none of its runs has parameters yet"):
        generate(sweep, "one", tokens=5)
    for number in (1, 2, 4, 5, 6, 7):
        keep(VOCABULARY, directory=sweep / "runs" / f"run{number}", bptt=number)
    with pytest.raises(UserError) as refused:
        generate(sweep, "one", tokens=5)
    runs = ", ".join(f"{sweep}/runs/run{number} (bptt={number})" for number in (1, 2, 4, 5, 6))
    assert str(refused.value) == f"{sweep} is a sweep's folder; name one of its runs: {runs}, and 1 more"


# From a run's first step to its text


def test_a_run_writes_wherever_it_lies_and_without_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_die_with", lambda parent: None)
    monkeypatch.setattr(worker.processes, "take_faults_back", lambda: None)
    corpus = find_corpus(str(write_folder(tmp_path / "text")))
    run = tmp_path / "here"
    run.mkdir()
    (run / "config.json").write_text(make_job(corpus, epochs=1).model_dump_json())
    assert worker.main(run) == 0
    shutil.rmtree(tmp_path / "text")
    shutil.rmtree(tmp_path / "cache")
    text = generate(run, "the cat", tokens=30, seed=5)
    shutil.move(run, tmp_path / "there")
    assert generate(tmp_path / "there", "the cat", tokens=30, seed=5) == text
    words = text.replace("\n", " <eos> ").split()
    assert (len(words), words[:2]) == (32, ["the", "cat"])
    # Nothing else of a run is needed.
    for name in ("log.txt", "epochs.csv", "record.json"):
        (tmp_path / "there" / name).unlink(missing_ok=True)
    assert generate(tmp_path / "there", "the cat", tokens=30, seed=5) == text


#: What a terminal, a locale or a line of text could make something else of.
STRANGE = "\t\u3000\u200c\r\x1b\u202e\u2028\x85é漢🙂\ufeff\n"


@pytest.mark.slow
def test_the_command_writes_the_text_itself_byte_for_byte_in_any_locale(follow: Callable[..., Path]) -> None:
    vocab = vocabulary(STRANGE, unknown_token="<unk>")
    size = len(vocab)
    run = follow(vocab, 5 * np.roll(np.eye(size), 1, axis=1))
    command = [sys.executable, str(Path(__file__).parents[2] / "scripts" / "generate.py"), str(run)]
    done = subprocess.run(
        [*command, "--prompt", b"\xff\xe9" + STRANGE.encode(), "--tokens", str(size), "--greedy"],
        # Python then takes bytes beyond ASCII for no characters at all.
        env=environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        capture_output=True,
        check=False,
    )
    following = "".join(vocab.idx_to_token).encode()
    assert (done.stdout, done.returncode) == (b"\xff\xe9" + STRANGE.encode() + following + b"\n", 0)
    assert done.stderr == rb"not in the vocabulary, read as <unk>: '\udcff', '\udce9'" + b"\n"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_command_escapes_on_a_terminal_what_that_would_obey(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    answer = json.dumps({"text": f"{STRANGE}\udcff"})
    monkeypatch.setattr(
        mxnet_process.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, f"{answer}\n")
    )
    for stream, expected in (
        (
            Terminal,
            "\t\u3000\u200c\\r\\x1b\\u202e\u2028\\x85é漢🙂\ufeff\n\\udcff\n".encode(encoding, "backslashreplace"),
        ),
        (io.TextIOWrapper, STRANGE.encode() + b"\xff\n"),
    ):
        shown = io.BytesIO()
        with contextlib.redirect_stdout(stream(shown, encoding=encoding)):
            assert cli.main(["generate", "run", "--prompt", "a", "--tokens", "3"]) == 0
            assert shown.getvalue() == expected


def test_the_command_refuses_what_contradicts_itself(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(
        capsys, "generate", "run", "--prompt", "a", "--tokens", "3", "--greedy", "--seed", "0", "--top-k", "2"
    )
    assert line == "error: --greedy always takes the most likely token; drop it or --top-k and --seed"
    assert "--prompt" in refusal(capsys, "generate", "run", "--tokens", "3")


def test_the_command_passes_on_what_the_other_process_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def answering(stdout: str, code: int = 0) -> None:
        def run(command: list[str], *, input: str, **options: object) -> subprocess.CompletedProcess[str]:
            asked.append(json.loads(input))
            return subprocess.CompletedProcess(command, code, stdout)

        monkeypatch.setattr(mxnet_process.subprocess, "run", run)

    words = [
        "generate",
        "a run",
        "--prompt",
        "é",
        "--tokens",
        "3",
        "--temperature",
        "0.5",
        "--top-k",
        "2",
        "--seed",
        "9",
    ]
    answering('a cell of one\'s own says this\n{"text": "one\\ntwo"}\n')
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert asked == [{"run": "a run", "prompt": "é", "tokens": 3, "temperature": 0.5, "top_k": 2, "seed": 9}]
    answering('{"error": "not a run"}\n')
    assert refusal(capsys, *words) == "error: not a run"
    answering("", -11)
    assert "ended with SIGSEGV for a run" in refusal(capsys, *words)
    answering("Traceback\n", 1)
    assert "ended with status 1 for a run" in refusal(capsys, *words)


def test_the_other_process_answers_in_a_line(
    follow: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"run": str(follow(LETTERS, ROUND)), "prompt": "a", "tokens": 3, "greedy": True}
    for change, answer in (({}, {"text": "abc\n"}), ({"tokens": 0}, {"error": "tokens=0 is not from 1 to 100,000"})):
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({**request, **change})))
        assert generation.main() == 0
        assert json.loads(capsys.readouterr().out) == answer


def test_the_package_offers_them_by_name() -> None:
    assert (gluon_rnn.generate, gluon_rnn.get_next, gluon_rnn.load_run) == (generate, get_next, load_run)
    with pytest.raises(AttributeError, match="has no attribute 'generation_of_text'"):
        _ = gluon_rnn.generation_of_text
