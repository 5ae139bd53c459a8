"""What the journal has of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import RunRecord


class JournalStep(str, Enum):
    """How far a run had come when its row was last written."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    LAUNCHED = "launched"
    ENDED = "ended"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A run as the journal has it.

    `container` is known from ``assigned`` on, `deadline` (UTC) from ``launched`` on. `recipient` is who
    asked for a callback, `since` (seconds since the epoch) when the run ended. A `forgotten` run is there
    for its callback alone, and one that is `cancelled` must be killed.
    """

    run: RunRecord
    step: JournalStep
    container: str | None
    deadline: datetime | None
    recipient: Recipient | None
    since: float | None
    forgotten: bool
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key: whose it is, what it stands for, the body it came with, and which run it made."""

    owner: str
    key: str
    digest: str
    run_id: str
    created: float
