"""Traces: what a run's steps and its requests are reported to, and the steps of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from light_run.engine.spec import Phase, Reason, RunResult, RunSpec
from light_run.runs.model import RunRecord

Attributes = Mapping[str, str | int | bool | Sequence[str]]

# The names of spans; what happens before the image is looked for is the queue.
_STEPS = {
    Phase.PULLING: "pull",
    Phase.BUILDING: "build",
    Phase.STARTING: "start",
    Phase.RUNNING: "run",
    Phase.PAUSED: "run",
    Phase.EXTRACTING: "extract",
}


class RequestSpan(Protocol):
    """The span of a request that is being answered."""

    @property
    def parent(self) -> str:
        """What the spans below it have for a parent, in the form of the header ``traceparent``."""

    def end(self, *, route: str | None, status: int) -> None:
        """The answer was sent; `route` is the template that the path matched."""


class Tracer(Protocol):
    """Takes spans. Each call is quick and raises nothing."""

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> RequestSpan | None:
        """Begin the span of a request, below that of the header ``traceparent``; None where nothing is traced."""

    def step(
        self,
        parent: str,
        name: str,
        times: tuple[datetime, datetime],
        attributes: Attributes,
        *,
        failed: str | None = None,
    ) -> None:
        """Record a span that began and ended at `times` below `parent`; `failed` is the word for what went wrong."""

    def close(self) -> None:
        """Send what is left, within a few seconds, and end."""


class NoTracer:
    """Takes nothing."""

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> RequestSpan | None:
        return None

    def step(
        self,
        parent: str,
        name: str,
        times: tuple[datetime, datetime],
        attributes: Attributes,
        *,
        failed: str | None = None,
    ) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    begun: datetime


class RunSteps:
    """The steps of one run that this server sees, reported as spans when the run ends or is left to the next server."""

    def __init__(self, tracer: Tracer, parent: str, run_id: str) -> None:
        self._tracer = tracer
        self._parent = parent
        self._common: dict[str, str | int | bool | Sequence[str]] = {"light_run.run.id": run_id}
        self._done: list[tuple[str, datetime, datetime]] = []
        self._open: _Step | None = None

    def queued(self, since: datetime, until: datetime | None) -> None:
        """The run waited for a slot."""
        self._done.append(("queue", since, until or datetime.now(timezone.utc)))

    def describe(self, spec: RunSpec) -> None:
        """Say what is run, and on which networks; nothing of its content."""
        self._common["container.image.name"] = spec.image
        self._common["light_run.network"] = [spec.network or "default", *spec.networks]

    def enter(self, phase: Phase) -> None:
        """The run has entered `phase`."""
        name = _STEPS[phase]
        if self._open is None or self._open.name != name:
            self._close()
            self._open = _Step(name, datetime.now(timezone.utc))

    def assigned(self, *, parked: bool) -> None:
        """The run has its container, which was started ahead if `parked`."""
        self._common["light_run.parked"] = parked

    def leave(self) -> None:
        """Report the steps that are over; the one that is under way is the next server's."""
        self._open = None
        self._report(None)

    def end(self, result: RunResult) -> None:
        """Report all of them; `result` tells how the run ended."""
        last = self._open
        self._close()
        if result.started_at is not None:
            # A run that was taken up began under an earlier server.
            self._done = [
                (name, min(begun, result.started_at) if name == "run" else begun, ended)
                for name, begun, ended in self._done
            ]
            self._common["light_run.parked"] = result.parked
        self._report(result, last.name if last is not None and last.name != "extract" else "run")

    def _close(self) -> None:
        if self._open is not None:
            self._done.append((self._open.name, self._open.begun, datetime.now(timezone.utc)))
            self._open = None

    def _report(self, result: RunResult | None, last: str = "") -> None:
        done, self._done = self._done, []
        for name, begun, ended in done:
            attributes = dict(self._common)
            failed = None
            if result is not None and name == last:
                attributes["light_run.reason"] = str(result.reason)
                if result.exit_code is not None:
                    attributes["process.exit.code"] = result.exit_code
                if not result.succeeded and result.reason not in (Reason.CANCELLED, Reason.STOPPED):
                    failed = str(result.reason)
            self._tracer.step(self._parent, name, (begun, ended), attributes, failed=failed)


def report_callback(
    tracer: Tracer, run: RunRecord, begun: datetime, *, attempt: int, status: int | None
) -> None:
    """Report one attempt to deliver the callback of `run`."""
    if run.trace is None:
        return
    attributes: dict[str, str | int | bool | Sequence[str]] = {
        "light_run.run.id": run.id,
        "light_run.callback.attempt": attempt,
    }
    if status is not None:
        attributes["http.response.status_code"] = status
    delivered = status is not None and 200 <= status < 300
    times = (begun, datetime.now(timezone.utc))
    tracer.step(run.trace, "callback", times, attributes, failed=None if delivered else "not_delivered")
