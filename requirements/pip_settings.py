"""Prints shell commands after which pip obeys the user in how packages are reached, and in nothing else.

An index, a proxy or a certificate may be the only way to packages here. Whatever else a ``pip.conf`` or a variable
``PIP_*`` says (``user``, ``target``, ``no-binary``, ``constraint`` ...) would install something else than what is
locked, or install it elsewhere. `install.sh` evaluates the commands. It is run by the Python whose pip is meant.
"""

import ast
import os
import re
import shlex
import subprocess
import sys

#: The options, as pip names them, that say how packages are reached.
REACHING = {
    *("index-url", "pypi-url", "extra-index-url", "find-links", "no-index"),
    *("proxy", "trusted-host", "cert", "client-cert", "keyring-provider", "use-feature", "use-deprecated"),
    *("timeout", "default-timeout", "retries", "resume-retries", "cache-dir", "no-cache-dir", "no-input"),
}


def from_files() -> dict[str, str]:
    """The options in pip's configuration files that hold for ``pip install``."""
    environ = {name: value for name, value in os.environ.items() if name not in from_variables()}
    # Said loudly, since a file may ask for silence.
    command = [sys.executable, "-m", "pip", "-vvv", "config", "list"]
    said = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = re.findall(r"^(global|install)\.([\w-]+)=(.+)$", said, re.MULTILINE)
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for section, option, value in lines:
        sections[section][option] = ast.literal_eval(value)
    return {**sections["global"], **sections["install"]}


def from_variables() -> dict[str, str]:
    """The variables that stand for options."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") and name != "PIP_CONFIG_FILE"}


def main() -> None:
    """Print the commands."""
    variables = from_variables()
    options = from_files() | {name[4:].lower().replace("_", "-"): value for name, value in variables.items() if value}
    kept = {option: value for option, value in options.items() if option in REACHING}
    for name in filter(str.isidentifier, variables):
        print(f"unset {name}")
    for option, value in {"config-file": os.devnull, **kept}.items():
        print(f"export PIP_{option.upper().replace('-', '_')}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
