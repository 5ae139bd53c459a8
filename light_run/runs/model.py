"""What a run is: its states and the transitions between them, and the request it came from.

::

    accept()   assigned()    launched()      end()        finished()
       │           │             │             │              │
       ▼           ▼             ▼             ▼              ▼
    queued ───► assigned ───► launched ───► ended ───────► finished
     ▲   │         │  │                       ▲
     │   │         │  └───────────────────────┤
     │   └─────────┼──────────────────────────┘
     └─ requeued() ┘

Each arrow is one row of the journal (`Step`), committed before a client can see its effect: `RunRegistry` writes it.
*queued*: the files are staged. *assigned*: the run has its container. *launched*: the command has been started and has
its input. *ended*: the result is known; a cancel or a failure leads here from any state. *finished*: container and
workspace are removed. After a restart, a queued run is queued again, an assigned one is requeued without its container,
a launched one is attached to again.

Clients see a `Status`: ``queued`` until `start` gives the run its slot, then ``running``, then what `end` makes of the
result: ``succeeded``, ``failed`` or ``cancelled``. Only `accept`, `start` and `end` make a
status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from light_run.artifacts.paths import printable
from light_run.engine.spec import (
    ExtractResult,
    Phase,
    Progress,
    Reason,
    RunArtifact,
    RunResult,
    RunSpec,
    RunTimings,
    RunUsage,
)
from light_run.engine.stop import Stop
from light_run.runs.artifact_list import packed
from light_run.runs.summary import summarise


class Status(str, Enum):
    """Where a run is in its life, in the words of the HTTP contract."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__

    @property
    def ended(self) -> bool:
        """True for the statuses that nothing follows."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Delivery(str, Enum):
    """Where a run's callback is: still to be delivered, taken with a 2xx, or given up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class CallbackState:
    """How far a run's callback has come; `last_status` is None where no answer was had at all."""

    state: Delivery = Delivery.PENDING
    attempts: int = 0
    last_status: int | None = None
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run at one moment; a change makes a new one. Times are UTC.

    `started_at` is when it left the queue. `duration_ms` runs from there to the end of its extraction.
    `phase` and `progress` are None once it has ended, `paused_at` while it is not paused. `split_output` has its output
    shown by stream, and not as lines. A finished run holds neither its spec nor its output: ten thousand of them stay
    in memory. `asked` is what `summarise` made of its spec.
    """

    id: str
    status: Status
    created_at: datetime
    detached: bool = False
    owner: str | None = None
    asked: str = "{}"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    phase: Phase | None = None
    progress: Progress | None = None
    paused_at: datetime | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    reason: Reason | None = None
    error: str | None = None
    artifacts: Sequence[RunArtifact] = ()
    artifacts_evicted: bool = False
    extracted: tuple[ExtractResult, ...] = ()
    queued_ms: float = 0.0
    timings: RunTimings | None = None
    usage: RunUsage = field(default_factory=RunUsage)
    logs_truncated: bool = False
    parked: bool = False
    callback: CallbackState | None = None
    trace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    split_output: bool = False
    signal: str | None = None

    @property
    def ended(self) -> bool:
        """True once nothing will change but the callback's state."""
        return self.status.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run somebody asks for; its repr shows none of what must not be logged.

    `max_runs` caps the runs of `owner` that have not ended, this one included; None is no cap. `body_digest`
    tells two requests with the same `idempotency_key` apart: any string that differs where the bodies do.
    `owner` is the name of the token that asks, None where there is but one. `labels` are the client's own. `trace` is
    the parent of the run's spans, in the form of the header ``traceparent``; None where nothing is traced.
    """

    spec: RunSpec = field(repr=False)
    detached: bool = False
    callback_url: str | None = field(default=None, repr=False)
    callback_secret: str | None = field(default=None, repr=False)
    idempotency_key: str | None = field(default=None, repr=False)
    body_digest: str = ""
    trace: str | None = None
    owner: str | None = None
    max_runs: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    split_output: bool = False


def advance(run: RunRecord, status: Status, **changes: Any) -> RunRecord:
    """Give `run` its next `status` and other `changes`. Raises ValueError where that cannot follow."""
    if status not in TRANSITIONS[run.status]:
        raise ValueError(f"run {run.id} cannot go from {run.status} to {status}")
    return replace(run, status=status, **changes)


def accept(request: RunRequest, run_id: str, *, at: datetime) -> RunRecord:
    """The run that `request`, accepted at `at`, becomes."""
    return RunRecord(
        id=run_id,
        status=Status.QUEUED,
        created_at=at,
        detached=request.detached,
        asked=summarise(request.spec, detached=request.detached),
        owner=request.owner,
        trace=request.trace,
        callback=None if request.callback_url is None else CallbackState(),
        labels=request.labels,
        split_output=request.split_output,
    )


def start(run: RunRecord, *, at: datetime, queued: float) -> RunRecord:
    """`run` with a slot of its own, taken at `at` after `queued` seconds of waiting."""
    return advance(run, Status.RUNNING, started_at=at, queued_ms=queued * 1000)


def end(run: RunRecord, result: RunResult, *, elapsed: float, stop: Stop | None = None) -> RunRecord:
    """`run` with its end: `result`, `elapsed` seconds after it left the queue (came in, where it never did).

    A run that `stop` cancelled is cancelled whatever its container did afterwards. The end is counted from the
    start: a clock that was put back meanwhile does not make a run end before it began. Artifacts get names
    that are fit for JSON.
    """
    result = _stopped(result, stop)
    if result.reason in (Reason.CANCELLED, Reason.STOPPED):
        status = Status.CANCELLED
    else:
        status = Status.SUCCEEDED if result.succeeded else Status.FAILED
    elapsed = max(0.0, elapsed)
    return advance(
        run,
        status,
        finished_at=(run.started_at or run.created_at) + timedelta(seconds=elapsed),
        duration_ms=None if run.started_at is None else round(elapsed * 1000),
        phase=None,
        progress=None,
        paused_at=None,
        exit_code=result.exit_code,
        reason=result.reason,
        error=result.error,
        artifacts=packed([_printable(artifact) for artifact in result.artifacts]),
        extracted=result.extracted,
        timings=result.timings,
        usage=result.usage,
        logs_truncated=result.logs_truncated,
        parked=result.parked,
        signal=result.signal,
    )


def _printable(artifact: RunArtifact) -> RunArtifact:
    path = printable(artifact.path)
    return artifact if path == artifact.path else replace(artifact, path=path)


def _stopped(result: RunResult, stop: Stop | None) -> RunResult:
    if stop is not None and stop.reason is Reason.CANCELLED and result.reason is not Reason.CANCELLED:
        return replace(result, reason=Reason.CANCELLED, error="the run was cancelled")
    return result
