"""Which finished runs are too old."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from light_run.runs.model import RunRecord, Status
from light_run.runs.storage.retention import DAY, choose

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
    ("days_ago", "expected"),
    [
        ((), ""),
        ((6.9, 3, 1), ""),
        ((8, 3, 7.1), "ac"),
        ((-5, 1), ""),
    ],
)
def test_the_too_old_go(days_ago: tuple[float, ...], expected: str) -> None:
    assert "".join(choose(ended(*days_ago), 7 * DAY, NOW.timestamp())) == expected
