"""How a program of this room answers the command that started it: see `gluon_rnn.cli.mxnet_process`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from gluon_rnn.common.errors import UserError, refusal


def answer(work: Callable[..., dict[str, Any]]) -> int:
    """Print what `work` makes of the arguments on standard input, or an error that the user can fix, as a line of JSON.

    Returns:
        The program's exit status.
    """
    try:
        found = work(**json.loads(sys.stdin.read()))
    except UserError as error:
        found = {"error": str(error)}
    except OSError as error:
        found = {"error": refusal(error)}
    print(json.dumps(found))
    return 0
