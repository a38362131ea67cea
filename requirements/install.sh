#!/bin/sh
# Makes or repairs .venv and installs gluon_rnn into it with one of the two builds of MXNet; `make install` runs it. Or adds
# what developers or the documentation site need; `make dev` and `make docs` run that.
#
#   sh requirements/install.sh cpu|cu112|dev|docs
#
# PYTHON names the interpreter to use. Nothing is made unless one is found that can build what has to be built.
set -eu
extra=$1
CDPATH='' cd "$(dirname "$0")/.."
# What these name is not in .venv, and would pass for installed. With the third, Python 3.11 does not look for its own
# modules in the current folder first.
unset PYTHONHOME PYTHONPATH
export PYTHONSAFEPATH=1

fail() {
    echo "make install: $1" >&2
    exit 1
}

# pip's chatter is left out, its errors are not.
pip() {
    .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check "$@"
}

# pip does not start without a home folder, or leaves a folder named ~. $1 is the Python that is asked for it.
settle_home() {
    [ -n "${HOME:-}" ] || unset HOME
    case $("$1" -c 'import os; print(os.path.expanduser("~"))') in
        /*) ;;
        *) export HOME="$PWD/.venv" PIP_NO_CACHE_DIR=1 ;;
    esac
}

case $extra in
    dev | docs)
        [ "$extra" = dev ] && purpose='developers need' || purpose='the documentation needs'
        echo "Installing what $purpose, as locked in requirements/$extra.txt"
        settle_home .venv/bin/python
        eval "$(.venv/bin/python requirements/pip_settings.py)"
        pip install --require-hashes -r "requirements/$extra.txt"
        exit
        ;;
    cpu) other=mxnet-cu112 size='1.7 GB on the disk' ;;
    cu112) other=mxnet size='5.3 GB on the disk' ;;
    *) fail "unknown EXTRA=$extra; there are cpu and cu112" ;;
esac

# Says in a word or two what an interpreter lacks; nothing if it will do.
lacks='
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 11):
    sys.exit(print("is Python %d.%d" % sys.version_info[:2]))
import os, sysconfig
try:
    import ensurepip, venv
except ImportError:
    sys.exit(print("has no venv"))
if not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")):
    sys.exit(print("has no Python.h"))
'
chosen='' tried=''
[ -n "${PYTHON:-}" ] && set -- "$PYTHON" || set -- python3 python3.11 python3.10
for python in "$@"; do
    # A pyenv shim exists for every version and fails for those that are not active.
    lack=$("$python" -c "$lacks" 2>/dev/null) || lack='does not run'
    [ -n "$lack" ] || { chosen=$python; break; }
    tried="${tried:+$tried, }$python $lack"
done
[ -n "$chosen" ] || fail "no Python 3.10 or 3.11 with venv and Python.h ($tried); fix: apt-get install python3.11 python3.11-venv python3.11-dev, or make install PYTHON=/path/to/python3.11"

# GluonNLP has an extension to compile, by the compiler that this Python was built with unless CC says otherwise.
compiler=$("$chosen" -c 'import os, sysconfig; print((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])')
command -v "$compiler" >/dev/null || fail "no C compiler ($compiler), which GluonNLP needs; fix: apt-get install build-essential, or make install CC=/path/to/cc"

settle_home "$chosen"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "Making .venv with $("$chosen" --version) ($chosen)"
    rm -rf .venv
    "$chosen" -m venv .venv
fi

eval "$(.venv/bin/python requirements/pip_settings.py)"

# Both builds own the folder mxnet/: whichever goes takes the other's files with it.
if pip show "$other" >/dev/null 2>&1; then
    echo "Removing $other"
    pip uninstall --yes mxnet mxnet-cu112
fi
echo "Installing MXNet ($extra) and what it needs, as locked in requirements/$extra.txt: one to two minutes, $size"
pip install --require-hashes -r requirements/build.txt
pip install --require-hashes --no-build-isolation --use-pep517 -r "requirements/$extra.txt"
pip install --no-deps --no-build-isolation --use-pep517 --editable .
# The checkout's place, as a relative path: Python reads it in the locale's encoding, which may lack a letter of the other.
for file in .venv/lib/python3.*/site-packages/__editable__.gluon_rnn-*.pth; do
    [ ! -f "$file" ] || echo ../../../.. > "$file"
done
echo "Installed into .venv"
