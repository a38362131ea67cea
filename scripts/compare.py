"""Show results side by side: ``gluon-rnn compare`` from a checkout."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    # Not imported: with PYTHONSAFEPATH or python -P this folder is not on Python's path.
    runpy.run_path(str(Path(__file__).with_name("_launch.py")))["launch"]("compare")
