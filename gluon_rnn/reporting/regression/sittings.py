"""Groups the runs of a table into measuring sessions, which share the state of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median

from gluon_rnn.reporting.regression.pairing import Row

#: Seconds without a run, after which the next one begins another session. What slows a machine from outside (a busy
#: neighbour on its host, heat, a backup) is taken to have passed after an hour.
APART = 3600.0


def sittings_of(rows: Iterable[Row]) -> dict[str, int]:
    """The number of the session of each run, by its run_id.

    A session is a stretch of runs in which none starts `APART` or more after all before it have ended. If a start time
    is unknown, all runs count as one session.
    """
    starts = {str(row["run_id"]): (seconds_of(row["started_at"]), max(0.0, row["wall_seconds"] or 0.0)) for row in rows}
    known = [(start, start + lasted, run_id) for run_id, (start, lasted) in starts.items() if start is not None]
    if len(known) < len(starts):
        return dict.fromkeys(starts, 0)
    numbers: dict[str, int] = {}
    number, end = -1, float("-inf")
    for start, ended, run_id in sorted(known):
        number += start >= end + APART
        end = max(end, ended)
        numbers[run_id] = number
    return numbers


def interleaved(pairs: Iterable[tuple[Row, Row]]) -> bool:
    """Whether the runs of two sides took turns: of each two that started one after the other, one is of each side.

    Then whatever slows the machine for a while slows both, and pairs are compared as they are.
    """
    starts = [(seconds_of(row["started_at"]), side) for pair in pairs for side, row in enumerate(pair)]
    if any(start is None for start, _ in starts):
        return False
    sides = [side for _, side in sorted(starts)]
    return all(sides[place] != sides[place + 1] for place in range(0, len(sides), 2))


def by_sitting(rows: Iterable[Row], values: Sequence[float], sittings: Mapping[str, int]) -> tuple[float, ...]:
    """The median of `values`, one for each of `rows`, in each of their sittings.

    The median, as in reports: now and then something slows a run by half, and nothing speeds one up.
    """
    gathered: dict[int, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        gathered.setdefault(sittings[str(row["run_id"])], []).append(value)
    return tuple(median(sitting) for _, sitting in sorted(gathered.items()))


def seconds_of(started_at: object) -> float | None:
    """Seconds since 1970; None if the text is not a time."""
    try:
        return datetime.fromisoformat(str(started_at)).timestamp()
    except (ValueError, OverflowError):
        return None
