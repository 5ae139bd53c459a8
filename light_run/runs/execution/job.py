"""The job of one run in its slot: what the engine reports becomes the run's state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Protocol

from light_run.engine.spec import Destinations, Phase, Progress, Reason, RegistryAuth, RunResult, RunSpec
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import Stop, StopRequest
from light_run.errors import EngineRefused, Overloaded, RunNotActive, RunNotStarted, StdinClosed
from light_run.runs.model import RunRecord, end, start
from light_run.runs.ports import RunnerPort
from light_run.runs.storage.registry import RunRegistry
from light_run.runs.tracing import RunSteps

_log = logging.getLogger(__name__)

# The result of a detached run, which nobody looks at.
_NOTHING = RunResult(reason=Reason.INTERRUPTED)

_BEFORE_START = {
    Reason.CANCELLED: "the run was cancelled before it began",
    Reason.INTERRUPTED: "the server was stopped before the run began",
    Reason.STOPPED: "the run was stopped before it began",
}


class JobContext(Protocol):
    """What a job needs of the service."""

    @property
    def registry(self) -> RunRegistry:
        """Where runs are kept."""

    @property
    def runner(self) -> RunnerPort:
        """What runs containers."""

    def prepare(self) -> None:
        """Remove what an earlier server left at the engine."""

    def without_slot(self, job: RunJob) -> AbstractContextManager[None]:
        """Give the slot of `job` to others while the block runs."""

    def release(self, run_id: str) -> None:
        """Drop the job of a run: its slot is free."""


class RunJob:
    """A run that has not ended: a job of the executor, and the engine's observer.

    `stop` ends the run, or detaches it from this server. A `spec` of None is read from the journal when it is needed;
    `registry_auth` is not there.
    """

    def __init__(
        self,
        run_id: str,
        context: JobContext,
        *,
        detached: bool,
        owner: str | None = None,
        spec: RunSpec | None = None,
        registry_auth: RegistryAuth | None = None,
    ) -> None:
        self.run_id = run_id
        self.owner = owner
        self.detached = detached
        self.stop = StopRequest()
        self.stdin = StdinFeed()
        self.context = context
        self._spec = spec
        self._registry_auth = registry_auth
        self._timeout = 0.0
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._begun = False
        self._container: str | None = None
        self._interactive: bool | None = None
        self._pausing = threading.Lock()
        # None where nothing is traced.
        self._steps: RunSteps | None = None

    @property
    def can_requeue(self) -> bool:
        """True if nothing is lost when the run is taken out of the queue again."""
        return True

    def begin(self) -> None:
        """Take the run out of the queue; the second call of executor and submitter does nothing."""
        with self._lock:
            if self._begun or self.stop.closed:
                return
            self._begun = True
            waited, self._since = time.monotonic() - self._since, time.monotonic()
            self._show_start(waited)

    def work(self) -> None:
        """Run the container, from image to clean-up."""
        try:
            result = self._run_or_fail()
            if not self.stop.detached:
                self.ended(result)
                self.context.registry.finished(self.run_id)
            elif self._steps is not None:
                self._steps.leave()
        finally:
            self.context.release(self.run_id)

    def request(self, stop: Stop) -> None:
        """Have the run end as soon as possible, as `stop` says.

        Raises `RunNotActive` if it has ended, `Overloaded` if it was detached from this server.
        """
        if self.stop.request(stop):
            return
        if self.stop.closed:
            raise RunNotActive("the run has ended already")
        if self.stop.detached:
            raise Overloaded("the server is stopping; the run is the next one's", retry_after=5)

    def detach(self) -> None:
        """Leave the run to the next server, unless it is about to end anyway."""
        self.stop.detach()
        # With this server's connection its input ends.
        self.stdin.abandon()

    def write_stdin(self, pieces: Iterable[bytes], is_given_up: Callable[[], bool], *, close: bool) -> None:
        """Append `pieces` to the run's standard input, and end it with `close`; waits for the run's start.

        Raises `StdinClosed` if the run takes no input, or no more of it, `RunNotActive` if it has ended.
        """
        if self._interactive is None:
            self._interactive = self.context.registry.spec(self.run_id).interactive
        if not self._interactive:
            raise StdinClosed("the run is not interactive")
        try:
            self.stdin.check()
            for piece in pieces:
                self.stdin.write(piece, is_given_up)
            if close and not is_given_up():
                self.stdin.close()
        except StdinClosed:
            if self.stop.closed:
                raise RunNotActive("the run has ended already") from None
            raise

    def pause(self) -> None:
        """Freeze the run and stop its clock; a paused run is fine.

        Raises `RunNotStarted`, `RunNotActive`, EngineError.
        """
        with self._pausing:
            if self._phase() is not Phase.PAUSED:
                self._refreeze(self.context.runner.pause, self._started_container())
                self.stop.pause()
                self.context.registry.paused(self.run_id, datetime.now(timezone.utc))

    def resume(self) -> None:
        """Let the run go on; one that is not paused is fine. Raises as `pause` does."""
        with self._pausing:
            container = self._started_container()
            if self._phase() is Phase.PAUSED:
                self._refreeze(self.context.runner.resume, container)
                self.stop.resume()
                self.context.registry.resumed(self.run_id, datetime.now(timezone.utc))

    def _refreeze(self, act: Callable[[str], None], container: str) -> None:
        try:
            act(container)
        except EngineRefused as error:
            raise RunNotActive("the run has ended already") from error

    def _phase(self) -> Phase | None:
        return self.context.registry.store.get(self.run_id).phase

    def _started_container(self) -> str:
        phase = self._phase()
        if self.stop.closed or phase is Phase.EXTRACTING:
            raise RunNotActive("the run has ended already")
        if self._container is None or phase not in (Phase.RUNNING, Phase.PAUSED):
            raise RunNotStarted("the run has not started yet")
        return self._container

    def end_queued(self, reason: Reason, error: str) -> None:
        """End a run that never got its slot."""
        self.context.runner.discard(self.run_id)
        self.ended(RunResult(reason=reason, error=error))
        self.context.registry.finished(self.run_id)
        self.context.release(self.run_id)

    def phase(self, phase: Phase) -> None:
        """See `Observer`."""
        if self._steps is not None:
            self._steps.enter(phase)
        self.context.registry.store.update(self.run_id, phase=phase, progress=None)

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        self.context.registry.store.update(self.run_id, progress=progress)

    def assigned(self, container_id: str, *, parked: bool) -> None:
        """See `Observer`."""
        self._container = container_id
        if self._steps is not None:
            self._steps.assigned(parked=parked)
        self.context.registry.assigned(self.run_id, container_id)

    def launched(self, started_at: datetime) -> None:
        """See `Observer`."""
        self.context.registry.launched(self.run_id, started_at, self._timeout)

    def waiting(self) -> AbstractContextManager[None]:
        """See `Observer`."""
        return self.context.without_slot(self)

    def wrote(self) -> None:
        """See `Observer`."""
        self.context.registry.following.changed(self.run_id)

    def ended(self, result: RunResult) -> None:
        """See `Observer`; only the first result counts."""
        registry = self.context.registry
        with self._lock:
            if not self.stop.close():
                return
            self.stdin.abandon()
            elapsed = time.monotonic() - self._since
            final = end(registry.store.get(self.run_id), result, elapsed=elapsed, stop=self.stop.requested)
        try:
            final = registry.record_end(final)
        except Exception:  # noqa: BLE001
            # Whoever waits for the run must learn of its end all the same.
            _log.exception("the end of a run could not be recorded", extra={"run": self.run_id})
        registry.store.change(self.run_id, lambda _: final)
        if final.trace is not None:
            (self._steps or self._traced(final, final.trace)).end(result)
        registry.announce_end(final)

    def _traced(self, run: RunRecord, parent: str) -> RunSteps:
        steps = RunSteps(self.context.registry.tracer, parent, run.id)
        if self.can_requeue:
            steps.queued(run.created_at, run.started_at)
        return steps

    def run(self, spec: RunSpec) -> RunResult:
        """Take the run to its end and clean up; `ended` may be called on the way."""
        if not self.context.runner.staged(self.run_id):
            # Without them, it would not be what was asked for.
            self.context.runner.discard(self.run_id)
            return RunResult(
                reason=Reason.START_FAILED,
                error="the run's files are gone: somebody has removed them from the server's state directory",
            )
        return self.context.runner.run(
            spec,
            run_id=self.run_id,
            stop=self.stop,
            to=self._destinations(),
            observer=self,
            feed=self.stdin,
        )

    def _run_or_fail(self) -> RunResult:
        runner = self.context.runner
        try:
            self.context.prepare()
            if self.stop.requested is not None and self.can_requeue:
                runner.discard(self.run_id)
                return RunResult(
                    reason=self.stop.requested.reason, error=_BEFORE_START[self.stop.requested.reason]
                )
            if self.stop.detached:
                return _NOTHING
            spec, self._spec = self._spec or self._kept_spec(), None
            self._timeout = spec.timeout
            run = self.context.registry.store.get(self.run_id)
            if run.trace is not None:
                self._steps = self._traced(run, run.trace)
                self._steps.describe(spec)
            return self.run(spec)
        except Exception:  # noqa: BLE001
            _log.exception("the runner failed", extra={"run": self.run_id})
            runner.discard(self.run_id)
            return RunResult(reason=Reason.INTERRUPTED, error="the server failed in the middle of the run")

    def _kept_spec(self) -> RunSpec:
        spec = self.context.registry.spec(self.run_id)
        return spec if self._registry_auth is None else replace(spec, registry_auth=self._registry_auth)

    def _show_start(self, waited: float) -> None:
        now = datetime.now(timezone.utc)
        self.context.registry.store.change(self.run_id, lambda run: start(run, at=now, queued=waited))

    def _destinations(self) -> Destinations:
        log, artifacts = self.context.registry.destinations(self.run_id)
        return Destinations(log=log, artifacts=artifacts)
