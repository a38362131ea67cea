"""The replies of this room's programs to the commands that start them: see `gluon_rnn.machine.mxnet_process`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from gluon_rnn.common.errors import UserError, refusal


def answer(work: Callable[..., dict[str, Any]]) -> int:
    """Print the result of `work` on the arguments from standard input, or a user's error, as a line of JSON.

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
