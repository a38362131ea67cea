"""Sweep files of any kind: a plan, or one line and nothing made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import MOST_POINTS, load_sweep
from gluon_rnn.sweeps.executors import LocalExecutor
from tests.bad_input.harness import FITTING, SCALARS, TEXT, answer, fresh_folder, refused
from tests.conftest import write_folder

VALID: dict[str, Any] = {
    "name": "mine",
    "set": {**FITTING, "dataset": "corpus", "epochs": 3},
    "axes": {"cell": ["lstm", "gru"], "seed": [0, 1, 2]},
    "overrides": [{"when": {"cell": "gru"}, "set": {"learning_rate": 5}}],
}
VALID_BYTES = yaml.safe_dump(VALID, sort_keys=False).encode()

#: What stands in one of the places of a valid file.
NASTY = [
    b"\0",
    b"\t",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
    b"\xc2\x85",
    b"\xe3\x80\x80",
    b"\xff\xfe",
    b"\x0c",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!python/object/apply:os.system [touch ran]",
    b"!!python/name:os.system",
    b"!!binary AAAA",
    b"!!set {a, b}",
    b"!!bool 5",
    b"!!timestamp x",
    b"!!int ''",
    b"!!float ''",
    b"2001-01-01",
    b"2001-13-45",
    b".nan",
    b".inf",
    b"1:59:59:59:59.5",
    b"1" + b":59" * 300 + b".5",
    b"0x" + b"f" * 5000,
    b"9" * 5000,
    b"[" * 500,
    b"{" * 500,
    b"- " * 500,
    b"? ",
    b"? [a]\n: b\n",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"|\n",
    b"'",
    b'"\\x1b[31m"',
    b"name: ../../x\n",
    b"name: mine\n",
    b"set: {}\n",
    b"axes: []\n",
    b"overrides: 5\n",
]

#: What no editor takes for the end of a line, and YAML allows.
NO_LINE_END = st.sampled_from(["\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\ufeff"])

DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT | st.integers() | st.sampled_from(list(RunConfig.model_fields)), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file with up to three things wrong."""
    content = VALID_BYTES
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        content = content[:start] + draw(st.sampled_from(NASTY) | st.binary(max_size=4)) + content[end:]
    return content


@st.composite
def with_one_value_wrong(draw: st.DrawFn) -> bytes:
    """A valid file in which one value, at any depth, is something else."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict) and value and draw(st.integers(0, 3)):
            key = draw(st.sampled_from(list(value)))
            return {**value, key: changed(value[key])}
        if isinstance(value, list) and value and draw(st.integers(0, 3)):
            place = draw(st.integers(0, len(value) - 1))
            return [*value[:place], changed(value[place]), *value[place + 1 :]]
        return draw(DATA)

    return dumped(changed(VALID))


def dumped(content: Any) -> bytes:
    try:
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except ValueError:  # an integer of too many digits to be written
        return b"set: {epochs: 0x" + b"f" * 5000 + b"}\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("corpora") / "corpus")


@pytest.fixture(autouse=True, scope="module")
def _no_workers() -> Any:
    """A sweep that is started although it must not be."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a worker would have been started")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "run", reached)
        yield


def is_planned_or_refused(content: bytes, corpus: Path, *options: str) -> bool:
    """Whether it is planned; where it is not, the dry run and the real one refuse it alike and make nothing."""
    with fresh_folder() as folder:
        (folder / "corpus").symlink_to(corpus)
        (folder / "sweep.yaml").write_bytes(content)
        line = refused("sweep", "sweep.yaml", "--dry-run", *options)
        if line is not None:
            assert refused("sweep", "sweep.yaml", *options) == line
        # Nor does a dry run of what is right make anything; nothing in the file was run.
        assert {path.name for path in folder.iterdir()} == {"corpus", "sweep.yaml"}
        return line is None


def test_the_file_that_is_damaged_here_is_right_before(corpus: Path) -> None:
    assert is_planned_or_refused(VALID_BYTES, corpus)


@given(st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(corpus: Path, content: bytes) -> None:
    is_planned_or_refused(content, corpus)


@given(DATA.map(dumped))
def test_any_data(corpus: Path, content: bytes) -> None:
    is_planned_or_refused(content, corpus)


@given(damaged())
def test_a_valid_file_with_something_in_it_that_is_not(corpus: Path, content: bytes) -> None:
    is_planned_or_refused(content, corpus)


@given(
    st.lists(st.lists(NO_LINE_END | st.sampled_from(list("a: ,")), max_size=6).map("".join), min_size=30, max_size=30),
    st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=31, max_size=31),
    st.sampled_from(["", "\ufeff"]),
)
def test_comments_and_line_ends_of_any_kind_change_nothing(comments: list[str], ends: list[str], start: str) -> None:
    lines = VALID_BYTES.decode().splitlines()
    assert len(lines) <= len(comments)
    text = "".join(f"{line} # {comment}{end}" for line, comment, end in zip(lines, comments, ends, strict=False))
    with fresh_folder() as folder:
        (folder / "plain.yaml").write_bytes(VALID_BYTES)
        (folder / "sweep.yaml").write_bytes(f"{start}{text}{ends[-1]}".encode())
        assert load_sweep(folder / "sweep.yaml") == load_sweep(folder / "plain.yaml")


@given(with_one_value_wrong())
def test_a_valid_file_with_one_value_that_is_not(corpus: Path, content: bytes) -> None:
    is_planned_or_refused(content, corpus)


@pytest.mark.parametrize("place", ["", "name: ", "set: ", "axes: ", "set: {bptt: ", "axes: {bptt: [", "overrides: ["])
@pytest.mark.parametrize("nasty", NASTY, ids=map(str, range(len(NASTY))))
def test_every_nasty_thing_in_every_place(corpus: Path, place: str, nasty: bytes) -> None:
    closing = {"set: {bptt: ": b"}", "axes: {bptt: [": b"]}", "overrides: [": b"]"}.get(place, b"")
    is_planned_or_refused(place.encode() + nasty + closing + b"\n", corpus)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; write a mapping"),
        ("set: !!python/object/apply:os.system ['touch ran']", "not valid YAML: could not determine a constructor"),
        ("!!python/object/new:type\nargs: [x, !!python/tuple [], {}]", "not valid YAML"),
        ("set: {tie_weights: !!bool 5}", "not valid YAML: KeyError"),
        ("set: {epochs: !!int ''}", "not valid YAML: IndexError"),
        ("set: {dropout: 1" + ":59" * 300 + ".5}", "dropout='1:59:59"),
        ("set: {dropout: !!float 1" + ":59" * 300 + ".5}", "not valid YAML: OverflowError"),
        ("set: " + "[" * 500, "not valid YAML: RecursionError"),
        ("set: {epochs: " + "9" * 5000 + "}", "not valid YAML: Exceeds the limit"),
        ("set: {epochs: 0x" + "f" * 5000 + "}", "epochs=an integer of 20,000 bits"),
        ("set: {epochs: 1e400}", "epochs"),
        ("set: {learning_rate: .inf}", "finite"),
        ("set: {learning_rate: .nan}", "finite"),
        ("set: {learning_rate: 2001-01-01}", "learning_rate='2001-01-01': input should be a valid number"),
        ("set: {learning_rate: !!timestamp 2001-01-01}", "learning_rate=datetime.date(2001, 1, 1)"),
        ("axes: {seed: !!binary AAAA}", "axis seed must be a list"),
        ("axes: {seed: !!set {1, 2}}", "axis seed must be a list"),
        ("name: ..", "'..' must be letters"),
        ("name: ../../x", "must be letters"),
        ("name: /etc", "must be letters"),
        ('name: "x\\0"', "must be letters"),
        ('name: "x\\n"', "must be letters"),
        ("name: ٣", "must be letters"),
        ("name: [&a [*a]]", "must be letters"),
        ("set: &a {bptt: *a}", "bptt={"),
        ('set: {"\\e[31m": 5}', r"unknown setting '\x1b[31m'"),
    ],
)
def test_what_is_wrong_is_said(corpus: Path, text: str, words: str) -> None:
    with fresh_folder() as folder:
        (folder / "sweep.yaml").write_text(text)
        line = refused("sweep", "sweep.yaml")
        assert line is not None
        assert words in line
        assert len(line) < 500


@pytest.mark.parametrize("merge", [False, True], ids=["aliases", "merge keys"])
def test_a_bomb_of_aliases_is_refused_before_it_grows(corpus: Path, merge: bool) -> None:
    """Eight times eight, twenty times over: nothing that was counted or written out would come to an end."""
    lines = ["set: {bptt: 5}", "a0: &a0 {bptt: 5}" if merge else "a0: &a0 [x]"]
    for level in range(1, 21):
        aliases = ", ".join([f"*a{level - 1}"] * 8)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{aliases}]}}" if merge else f"[{aliases}]"))
    assert not is_planned_or_refused("\n".join(lines).encode(), corpus)
    if not merge:
        inside = "\n".join(lines[1:]).replace("\n", "\n  ")
        assert not is_planned_or_refused(f"set:\n  {inside}\n  bptt: *a20\n".encode(), corpus)
        assert not is_planned_or_refused(f"overrides:\n- {inside}\n  bptt: *a20\n".encode(), corpus)


def test_merge_keys_of_a_usual_size_are_understood(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "set: &base {bptt: 5, epochs: 2}\noverrides:\n- when: {cell: gru}\n  set: {<<: *base, seed: 3}\n"
    )
    assert load_sweep(tmp_path / "x.yaml").overrides[0].settings == {"bptt": 5, "epochs": 2, "seed": 3}


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("start", ["\ufeff", ""])
def test_line_ends_and_a_byte_order_mark_change_nothing(corpus: Path, start: str, end: str) -> None:
    text = start + VALID_BYTES.decode().replace("\n", end)
    assert is_planned_or_refused(text.encode(), corpus)


def test_a_file_without_end_is_not_read_to_it() -> None:
    assert "longer than 262,144 bytes" in (refused("sweep", "/dev/zero") or "")


def test_too_many_points_are_refused_at_once(corpus: Path) -> None:
    axes = ", ".join(f"{name}: [{', '.join(map(str, range(1, 101)))}]" for name in ("bptt", "seed", "epochs", "steps"))
    text = f"set: {{dataset: corpus}}\naxes: {{{axes}}}\n".replace("steps", "max_steps")
    assert not is_planned_or_refused(text.encode(), corpus)
    with fresh_folder() as folder:
        (folder / "sweep.yaml").write_text(text)
        assert f"make 100,000,000 points, and a sweep has up to {MOST_POINTS:,}" in (
            refused("sweep", "sweep.yaml") or ""
        )


@pytest.mark.parametrize("kind", ["folder", "loop", "closed", "long"])
def test_a_path_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x" * 300 if kind == "long" else "x.yaml")
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    with pytest.raises(UserError, match="cannot read the sweep file"):
        load_sweep(path)
    assert answer("sweep", str(path), "--dry-run").status == 2
