"""Retention of ended runs: how long, and how many.

Runs that are too many go by `RunTable.ended_beyond`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from light_run.runs.model import RunRecord

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Ended runs are kept for `age` seconds, and at most `count` of them."""

    age: float = 7 * DAY
    count: int = 10_000


DEFAULT = Retention()


def choose(ended: Iterable[RunRecord], age: float, now: float) -> list[str]:
    """Return the ids of those in `ended` that ended more than `age` seconds before `now` (seconds since the epoch).

    A run that ended in the future (the clock was put back) is as good as new.
    """
    return [
        run.id for run in ended if run.finished_at is not None and now - run.finished_at.timestamp() > age
    ]
