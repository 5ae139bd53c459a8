"""Which finished runs go."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from light_run.runs.model import RunRecord, Status
from light_run.runs.storage.retention import DAY, Retention, choose

NOW = datetime(2026, 4, 20, 10, tzinfo=timezone.utc)


def ended(*days_ago: float) -> list[RunRecord]:
    """Runs a, b, c, ... that ended so many days ago."""
    return [
        RunRecord(
            id=chr(ord("a") + number),
            status=Status.SUCCEEDED,
            created_at=NOW - timedelta(days=100 - number),
            finished_at=NOW - timedelta(days=days),
        )
        for number, days in enumerate(days_ago)
    ]


@pytest.mark.parametrize(
    ("days_ago", "age", "count", "expected"),
    [
        ((), 7, 10, ""),
        ((6.9, 3, 1), 7, 10, ""),
        ((8, 3, 7.1), 7, 10, "ac"),
        ((3, 2, 1), 7, 3, ""),
        ((3, 2, 1), 7, 2, "a"),
        ((1, 2, 3), 7, 2, "a"),
        ((3, 2, 1), 7, 0, "abc"),
        ((9, 2, 9, 1), 7, 3, "ac"),
        ((-5, 1), 7, 10, ""),
    ],
)
def test_the_oldest_and_the_too_old_go(
    days_ago: tuple[float, ...], age: float, count: int, expected: str
) -> None:
    chosen = choose(ended(*days_ago), Retention(age=age * DAY, count=count), NOW.timestamp())
    assert "".join(chosen) == expected
