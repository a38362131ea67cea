from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_rnn import doctor

CHECKOUT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "echo", "rm", "touch", "dirname", "mkdir", "cp", "find", "awk")

# Stands for an interpreter, and in .venv for pip: it writes down what it was asked, and what is installed is a file.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*ensurepip*) {answer} ;;
    "-c "*get_config_var*) echo cc ;;
    "-c "*runs*) echo runs ;;
    --version*) echo Python 3.11.0 ;;
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip")
        shift 2
        echo "$*" >>log
        case "$*" in
            *show\\ *) for last in "$@"; do :; done; [ -e ".venv/have-$last" ] ;;
            *uninstall*) rm -f .venv/have-mxnet .venv/have-mxnet-cu112 ;;
            *requirements/cpu.txt) [ ! -e broken ] && touch .venv/have-mxnet ;;
            *requirements/cu112.txt) touch .venv/have-mxnet-cu112 ;;
        esac ;;
esac
"""


class Place:
    """A copy of what `make install` reads, with commands of the test's choosing and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "a checkout", folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "setup.py"):
            shutil.copy(CHECKOUT / name, self.folder)
        shutil.copytree(CHECKOUT / "requirements", self.folder / "requirements")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.command("uname", "echo x86_64")
        self.command("cc", ":")

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def python(self, name: str, answer: str = ":") -> None:
        self.command(name, FAKE_PYTHON.format(answer=answer))

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        make = str(shutil.which("make"))
        environ = {"PATH": str(self.bin)}
        return subprocess.run(
            [make, *arguments], cwd=self.folder, env=environ, capture_output=True, text=True, check=False
        )

    def installed(self) -> set[str]:
        return {path.name for path in (self.folder / ".venv").glob("have-*")}

    def stamps(self) -> set[str]:
        return {path.name for path in (self.folder / ".venv").glob("installed-*")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_make_alone_lists_the_targets(place):
    said = place.make()
    assert said.returncode == 0
    targets = "install sweep doctor test baseline check format columns pages docs lock clean"
    for target in targets.split():
        assert f"make {target}" in said.stdout


def test_the_first_interpreter_that_will_do_is_taken(place):
    place.command("python3", "echo 'pyenv: version 3.11 is not installed' >&2; exit 127")
    place.python("python3.11", "echo has no Python.h")
    place.python("python3.10")
    said = place.make("install")
    assert (said.returncode, said.stderr) == (0, "")
    assert "(python3.10)" in said.stdout
    assert place.stamps() == {"installed-cpu"}


def test_no_interpreter_ends_in_one_line_and_nothing_made(place):
    place.python("python3", "echo is Python 3.12")
    place.python("python3.11", "echo has no venv")
    said = place.make("install")
    first, rest = said.stderr.split("\n", 1)
    assert said.returncode != 0
    assert first.startswith("make install: no Python 3.10 or 3.11 with venv and Python.h (python3 is Python 3.12, ")
    assert "python3.11 has no venv, python3.10 does not run" in first
    assert "apt-get install" in first
    assert len(rest.splitlines()) == 1  # make's own
    assert not (place.folder / ".venv").exists()


def test_the_interpreter_that_is_asked_for_is_the_only_one_tried(place):
    place.python("python3")
    place.python("python3.9", "echo is Python 3.9")
    said = place.make("install", "PYTHON=python3.9")
    assert said.returncode != 0
    assert "(python3.9 is Python 3.9)" in said.stderr


def test_no_compiler_ends_in_one_line_and_nothing_made(place):
    place.python("python3")
    (place.bin / "cc").unlink()
    said = place.make("install")
    assert said.returncode != 0
    assert said.stderr.splitlines()[0].startswith("make install: no C compiler (cc), which GluonNLP needs; fix: ")
    assert not (place.folder / ".venv").exists()


def test_this_interpreter_passes_the_real_question(place):
    said = place.make("install", f"PYTHON={sys.executable}", "CC=no-such-compiler")
    assert "no C compiler (no-such-compiler)" in said.stderr


@pytest.mark.parametrize(
    ("gpus", "extra"),
    [
        ("echo 8.6", "cu112"),
        ("echo 5.0", "cu112"),
        ("echo 8.9", "cu112"),
        ("echo 3.7", "cpu"),
        ("echo 9.0", "cpu"),
        ("echo 12.0", "cpu"),
        ("echo 9.0; echo 7.5", "cu112"),
        ("echo 'Field \"compute_cap\" is not a valid field to query.'", "cpu"),
        ("echo no driver >&2; exit 9", "cpu"),
        (None, "cpu"),
    ],
)
def test_the_build_suits_the_gpu(place, gpus, extra):
    if gpus:
        place.command("nvidia-smi", gpus)
    said = place.make("help")
    assert (f"(now: {extra})" in said.stdout, said.stderr) == (True, "")


def test_the_cuda_build_is_for_x86_alone(place):
    place.command("nvidia-smi", "echo 8.6")
    place.command("uname", "echo aarch64")
    assert "(now: cpu)" in place.make("help").stdout
    assert "(now: cu112)" in place.make("help", "EXTRA=cu112").stdout


def test_an_unknown_build_is_refused(place):
    place.python("python3")
    (place.folder / "requirements" / "tpu.txt").write_text("")
    said = place.make("install", "EXTRA=tpu")
    assert said.returncode != 0
    assert "unknown EXTRA=tpu; there are cpu and cu112" in said.stderr


def test_a_second_install_does_nothing_until_a_lock_changes(place):
    place.python("python3")
    place.make("install")
    log = place.folder / "log"
    log.unlink()
    assert place.make("-q", "install").returncode == 0
    place.make("install")
    assert not log.exists()
    os.utime(place.folder / "requirements" / "cpu.txt", (2e9, 2e9))
    assert place.make("-q", "install").returncode == 1


def test_what_is_installed_is_locked_and_built_by_locked_tools(place):
    place.python("python3")
    place.make("dev")
    asked = [line for line in (place.folder / "log").read_text().splitlines() if " install " in line]
    assert [line.split()[-1] for line in asked] == [
        "requirements/build.txt",
        "requirements/cpu.txt",
        ".",
        "requirements/dev.txt",
    ]
    assert all("--require-hashes" in line for line in asked if line.endswith(".txt"))
    assert all("--no-build-isolation" in line for line in asked[1:3])


def test_an_interrupted_install_is_begun_again(place):
    place.python("python3")
    broken = place.folder / "broken"
    broken.touch()
    assert place.make("install").returncode != 0
    assert (place.installed(), place.stamps()) == (set(), set())
    broken.unlink()
    assert place.make("install").returncode == 0
    assert (place.installed(), place.stamps()) == ({"have-mxnet"}, {"installed-cpu"})


def test_an_environment_whose_interpreter_went_away_is_made_anew(place):
    place.python("python3")
    place.make("install")
    (place.folder / ".venv" / "bin" / "python").unlink()
    said = place.make("install")
    assert (said.returncode, "Making .venv" in said.stdout) == (0, True)


def test_the_other_build_replaces_the_first_and_stays(place):
    place.python("python3")
    place.make("install")
    place.make("install", "EXTRA=cu112")
    assert (place.installed(), place.stamps()) == ({"have-mxnet-cu112"}, {"installed-cu112"})
    assert place.make("-q", "install").returncode == 0
    assert "(now: cu112)" in place.make("help").stdout
    place.make("install", "EXTRA=cpu")
    assert (place.installed(), place.stamps()) == ({"have-mxnet"}, {"installed-cpu"})


@pytest.mark.parametrize("browser", ["chromium", "google-chrome", None])
def test_who_has_no_chromium_is_told_how_to_get_it(place, browser):
    place.python("python3")
    if browser:
        place.command(browser, "exit 1")  # it is not started
    for _ in range(2):  # as long as there is none
        said = place.make("dev")
        assert (said.returncode, said.stderr) == (0, "")
        assert ("There is no Chromium here" in said.stdout) == (browser is None)
        assert ("apt-get install chromium" in said.stdout) == (browser is None)


@pytest.mark.slow
def test_tests_that_need_a_browser_say_in_the_end_that_they_were_skipped(tmp_path):
    """In the process that speaks for the others, too."""
    page = CHECKOUT / "tests" / "reporting" / "report" / "test_report_page.py"
    command = [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", str(page)]
    shell = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=CHECKOUT, env=shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *_, heading, why, last = done.stdout.splitlines()
    number = re.search(r"= (\d+) TESTS IN A BROWSER WERE SKIPPED =", heading)
    assert number
    assert int(number[1]) > 10
    assert why.endswith("there is no Chromium; apt-get install chromium")
    assert f"{number[1]} skipped" in last


# The lock files


def locked(name: str) -> dict[str, str]:
    text = (CHECKOUT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_lock_files_agree_where_they_overlap():
    cpu = locked("cpu")
    for name in ("cu112", "dev", "docs", "build"):
        both = cpu.keys() & locked(name).keys()
        assert both
        assert {package: locked(name)[package] for package in both} == {package: cpu[package] for package in both}


def test_every_locked_version_has_a_hash_and_no_address():
    for path in (CHECKOUT / "requirements").glob("*.txt"):
        text = path.read_text()
        pins = re.findall(r"^[\w.-]+==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 0
        assert "://" not in text


def test_the_gpu_lock_carries_every_library_that_mxnet_links_to():
    pins = locked("cu112")
    packages = {package for package in doctor.CUDA_LIBRARIES.values() if package.startswith("nvidia-")}
    assert len(packages) == 9
    assert packages <= pins.keys()
    assert pins["mxnet-cu112"] == "1.9.1"
    assert pins["nvidia-cudnn-cu11"].startswith("8.")
    assert not {"mxnet"} & pins.keys()


# The scripts


def launch(
    folder: Path, *, python: str = sys.executable, script: str = "status", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a copy of a script that lies in `folder`, where only what is put there can be imported."""
    shutil.copytree(CHECKOUT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return subprocess.run(
        [python, "-S", str(folder / "scripts" / f"{script}.py"), "one", "--two"],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_passes_its_arguments_on_and_its_status_back(tmp_path):
    package = tmp_path / "path" / "gluon_rnn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("def main(arguments):\n    print(arguments)\n    return 3\n")
    done = launch(tmp_path, PYTHONPATH=str(package.parent))
    assert (done.stdout, done.returncode) == ("['status', 'one', '--two']\n", 3)


def test_a_script_without_the_package_says_so_in_one_line(tmp_path):
    done = launch(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gluon_rnn is not installed for this Python (No module named 'gluon_rnn'")
    assert "run 'make install'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def fake_environment(folder: Path, body: str) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)


def test_a_script_goes_on_with_the_checkouts_own_environment(tmp_path):
    fake_environment(tmp_path, 'echo "$@"; exit 5')
    done = launch(tmp_path)
    assert (done.stdout.split()[1:], done.returncode) == (["one", "--two"], 5)


def test_a_broken_environment_is_tried_once(tmp_path):
    fake_environment(tmp_path, f'exec "{sys.executable}" -S "$@"')
    done = launch(tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def fake_package(folder: Path, main: str) -> Path:
    """A ``gluon_rnn`` whose command line is `main`, and the folder for PYTHONPATH."""
    package = folder / "path" / "gluon_rnn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(main)
    return package.parent


COMMANDS = {
    "check_gpu": "check-gpu",
    "check_regression": "check-regression",
    "compare_commits": "compare-commits",
    "promote_baseline": "promote",
    "run_sweep": "sweep",
    **{name: name for name in ("compare", "doctor", "evaluate", "export", "generate", "prune", "report", "status")},
}


def test_every_script_starts_its_command_with_a_safe_path_too(tmp_path):
    """Then the scripts' own folder is not on Python's path, nor is it ever for what is imported."""
    scripts = {path.stem for path in (CHECKOUT / "scripts").glob("[!_]*.py")}
    assert scripts == COMMANDS.keys()
    path = fake_package(
        tmp_path, "import sys\ndef main(words):\n    print(words[0], [p for p in sys.path if 'scripts' in p])\n"
    )
    for number, (script, command) in enumerate(COMMANDS.items()):
        for safe in ("", "1"):
            folder = tmp_path / f"{number}-{safe}"
            folder.mkdir()
            done = launch(folder, script=script, PYTHONPATH=str(path), PYTHONSAFEPATH=safe)
            assert (done.stdout, done.stderr, done.returncode) == (f"{command} []\n", "", 0)


def test_a_script_takes_modules_in_the_current_folder_last(tmp_path, monkeypatch):
    path = fake_package(tmp_path, "import random\ndef main(words):\n    print(random.__file__)\n")
    (tmp_path / "random.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    done = launch(tmp_path, PYTHONPATH=f":{path}:.")
    assert done.stderr == ""
    assert str(tmp_path) not in done.stdout


def test_the_checkouts_own_environment_is_not_told_where_another_python_is(tmp_path):
    fake_environment(tmp_path, 'echo "home=$PYTHONHOME path=$PYTHONPATH"')
    home = str(Path(sys.base_prefix))
    done = launch(tmp_path, PYTHONHOME=home, PYTHONPATH="/of/my/own")
    assert (done.stdout, done.stderr) == ("home= path=/of/my/own\n", "")


@pytest.mark.parametrize("error", ["ValueError: numpy.dtype size changed", "ImportError: cannot import name x"])
def test_a_library_of_another_version_is_one_line_that_says_what_to_unset(tmp_path, error):
    kind, _, text = error.partition(": ")
    path = fake_package(tmp_path, f"raise {kind}({text!r})\n")
    done = launch(tmp_path, PYTHONPATH=str(path))
    assert (done.returncode, done.stdout) == (2, "")
    fix = f"unset PYTHONPATH, which puts {path} before what is installed; else "
    assert done.stderr.startswith(f"gluon_rnn cannot be loaded ({text}); {fix}")
    assert len(done.stderr.splitlines()) == 1


# What pip is told by others


def test_pip_obeys_the_user_in_how_packages_are_reached_and_in_nothing_else(tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\ntimeout = 7\nuser = true\nquiet = 3\nrequire-hashes = yes\n"
        "[install]\nextra-index-url =\n  https://two.example/a b\n  https://three.example\nno-binary = :all:\n"
        "prefix = /tmp/x\nconstraint = c.txt\n[download]\nproxy = http://none.example\n"
    )
    given = {
        "PIP_CONFIG_FILE": str(config),
        "PIP_INDEX_URL": "https://four.example/simple",
        "PIP_CERT": "/etc/it's mine.pem",
        "PIP_PROXY": "",
        **{
            f"PIP_{name}": "1"
            for name in ("USER", "REQUIRE_VIRTUALENV", "REQUIRE_HASHES", "NO_DEPS", "DRY_RUN", "QUIET")
        },
        **{
            f"PIP_{name}": "x"
            for name in ("TARGET", "PREFIX", "ROOT", "CONSTRAINT", "ONLY_BINARY", "PYTHON", "PLATFORM")
        },
    }
    left = "import json, os; print(json.dumps({k: v.split() for k, v in os.environ.items() if k.startswith('PIP_')}))"
    script = 'eval "$("$0" "$1")"; exec "$0" -I -c "$2"'
    command = ["sh", "-c", script, sys.executable, str(CHECKOUT / "requirements" / "pip_settings.py"), left]
    shell = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(command, env={**shell, **given}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "PIP_CONFIG_FILE": ["/dev/null"],
        "PIP_INDEX_URL": ["https://four.example/simple"],
        "PIP_EXTRA_INDEX_URL": ["https://two.example/a", "b", "https://three.example"],
        "PIP_TIMEOUT": ["7"],
        "PIP_CERT": ["/etc/it's", "mine.pem"],
    }


def test_an_installation_asks_how_packages_are_reached_before_it_installs(place):
    """And hides what is on other Pythons' paths, which would pass for installed."""
    place.python("python3")
    answer = 'echo "export PIP_INDEX_URL=https://mirror.example; unset PIP_USER"'
    body = FAKE_PYTHON.format(answer=":").replace(
        "shift 2", 'shift 2; echo "$PIP_INDEX_URL$PIP_USER$PYTHONPATH" >>told'
    )
    place.command("python3", body.replace('case "$1 $2" in', f'case "$1 $2" in *pip_settings.py*) {answer} ;;'))
    said = place.make("dev", "PIP_USER=1", "PYTHONPATH=/of/another", "PYTHONHOME=/of/another")
    assert (said.returncode, said.stderr) == (0, "")
    told = (place.folder / "told").read_text().splitlines()
    assert set(told[1:]) == {"https://mirror.example"}


@pytest.mark.parametrize(("found", "home"), [("/home/me", ""), ("'~'", "{checkout}/.venv 1")])
def test_pip_has_a_home_where_the_user_has_none(place, found, home):
    """It does not start without one, or leaves a folder named ~; and what it keeps would stay in ours."""
    body = FAKE_PYTHON.format(answer=":").replace("shift 2", 'shift 2; echo "$HOME $PIP_NO_CACHE_DIR" >>homes')
    place.command("python3", body.replace('case "$1 $2" in', f'case "$1 $2" in *expanduser*) echo {found} ;;'))
    assert place.make("dev").returncode == 0
    homes = (place.folder / "homes").read_text().splitlines()
    assert {line.strip() for line in homes[1:]} == {home.format(checkout=place.folder)}
