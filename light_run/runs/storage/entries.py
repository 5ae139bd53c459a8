"""The entries of the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import RunRecord


class JournalStep(str, Enum):
    """The state of a run when its row was last written; see `light_run.runs.model`."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    LAUNCHED = "launched"
    ENDED = "ended"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The journal's entry of a run.

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
    """An Idempotency-Key: its owner, the digest of its request's body, and the run it created."""

    owner: str
    key: str
    digest: str
    run_id: str
    created: float
