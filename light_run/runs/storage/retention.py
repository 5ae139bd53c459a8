"""Retention of ended runs: how long, and how many."""

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


def choose(ended: Iterable[RunRecord], retention: Retention, now: float) -> list[str]:
    """The ids of those in `ended`, given in the order of their ends, that must go at `now`, seconds since the epoch.

    A run that ended in the future (the clock was put back) is as good as new.
    """
    runs = list(ended)
    excess = len(runs) - retention.count
    return [
        run.id
        for number, run in enumerate(runs)
        if number < excess
        or (run.finished_at is not None and now - run.finished_at.timestamp() > retention.age)
    ]
