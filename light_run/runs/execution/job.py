"""One run's way through its slot: what the engine reports becomes the run's state."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone
from typing import Protocol

from light_run.engine.spec import Destinations, Phase, Progress, Reason, RunResult, RunSpec
from light_run.engine.stop import CancelToken
from light_run.errors import Overloaded, RunNotActive
from light_run.runs.model import concluded, started
from light_run.runs.ports import RunnerPort
from light_run.runs.storage.registry import RunRegistry

_log = logging.getLogger(__name__)

# What a run that was let go of ends with; nobody looks at it.
_NOTHING = RunResult(reason=Reason.INTERRUPTED)


class JobContext(Protocol):
    """What a life needs of the service around it."""

    @property
    def registry(self) -> RunRegistry:
        """Where runs are kept."""

    @property
    def runner(self) -> RunnerPort:
        """What runs containers."""

    def prepare(self) -> None:
        """See that the engine holds nothing of an earlier server any more."""

    def over(self, run_id: str) -> None:
        """Nothing of this life is needed any more; its slot comes free."""


class RunJob:
    """A run that has not ended: a job of the executor, and the engine's observer.

    `spec` None is to be read from the journal once it is needed.
    """

    def __init__(
        self, run_id: str, context: JobContext, *, detached: bool, spec: RunSpec | None = None
    ) -> None:
        self.run_id = run_id
        self.detached = detached
        self.cancel = CancelToken()
        self.context = context
        self._spec = spec
        self._timeout = 0.0
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._begun = False
        self._wish: Reason | None = None
        self._decided = False
        self._left = False

    @property
    def can_requeue(self) -> bool:
        """True where nothing is lost when it is taken out of the queue again."""
        return True

    def begin(self) -> None:
        """The run leaves the queue; the second call of executor and submitter does nothing."""
        with self._lock:
            if self._begun or self._decided:
                return
            self._begun = True
            waited, self._since = time.monotonic() - self._since, time.monotonic()
            self._show_begun(waited)

    def work(self) -> None:
        """Run the container, from image to clean-up."""
        try:
            result = self._live_or_fail()
            with self._lock:
                left = self._left and not self._decided
            if not left:
                self.ended(result)
                self.context.registry.finished(self.run_id)
        finally:
            self.context.over(self.run_id)

    def stop(self, reason: Reason) -> None:
        """Have the run end as soon as it can, as `reason`.

        Raises `RunNotActive` where its end is decided, `Overloaded` where this server has let go of it.
        """
        with self._lock:
            if self._decided:
                raise RunNotActive("the run has ended already")
            if self._left:
                raise Overloaded("the server is stopping; the run is the next one's", retry_after=5)
            # A cancel outweighs a stopping server, and whatever came before it.
            if self._wish is not Reason.CANCELLED:
                self._wish = reason
        self.cancel.cancel()

    def leave(self) -> None:
        """Let go of the run, for the next server to take up; unless it is about to end anyway."""
        with self._lock:
            if self._decided or self._wish is not None:
                return
            self._left = True
        self.context.runner.leave(self.run_id)

    def abandon(self, reason: Reason, error: str) -> None:
        """End a run that never got its slot."""
        self.context.runner.discard(self.run_id)
        self.ended(RunResult(reason=reason, error=error))
        self.context.registry.finished(self.run_id)
        self.context.over(self.run_id)

    def phase(self, phase: Phase) -> None:
        """See `Observer`."""
        if self._left:
            # It was let go of before the runner knew of it.
            self.context.runner.leave(self.run_id)
        self.context.registry.store.update(self.run_id, phase=phase, progress=None)

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        self.context.registry.store.update(self.run_id, progress=progress)

    def assigned(self, container_id: str, *, parked: bool) -> None:
        """See `Observer`."""
        self.context.registry.assigned(self.run_id, container_id)

    def launched(self, started_at: datetime) -> None:
        """See `Observer`."""
        self.context.registry.launched(self.run_id, started_at, self._timeout)

    def wrote(self) -> None:
        """See `Observer`."""
        self.context.registry.following.changed(self.run_id)

    def ended(self, result: RunResult) -> None:
        """See `Observer`; only the first result counts."""
        registry = self.context.registry
        with self._lock:
            if self._decided:
                return
            self._decided = True
            elapsed = time.monotonic() - self._since
            final = concluded(registry.store.get(self.run_id), result, elapsed=elapsed, wish=self._wish)
        try:
            final = registry.settle(final)
        except Exception:  # noqa: BLE001
            # Whoever waits for the run must learn of its end all the same.
            _log.exception("the end of a run could not be settled", extra={"run": self.run_id})
        registry.store.change(self.run_id, lambda _: final)
        registry.settled(final)

    def live(self, spec: RunSpec) -> RunResult:
        """Take the run to its end and clean up; `ended` may be called on the way."""
        return self.context.runner.run(
            spec, run_id=self.run_id, cancel=self.cancel, to=self._destinations(), observer=self
        )

    def _live_or_fail(self) -> RunResult:
        registry, runner = self.context.registry, self.context.runner
        try:
            self.context.prepare()
            if self.cancel.cancelled and self.can_requeue:
                runner.discard(self.run_id)
                return RunResult(reason=Reason.CANCELLED, error="the run was cancelled before it began")
            if self._left:
                return _NOTHING
            spec, self._spec = self._spec or registry.spec(self.run_id), None
            self._timeout = spec.timeout
            return self.live(spec)
        except Exception:  # noqa: BLE001
            _log.exception("the runner failed", extra={"run": self.run_id})
            runner.discard(self.run_id)
            return RunResult(reason=Reason.INTERRUPTED, error="the server failed in the middle of the run")

    def _show_begun(self, waited: float) -> None:
        now = datetime.now(timezone.utc)
        self.context.registry.store.change(self.run_id, lambda run: started(run, at=now, queued=waited))

    def _destinations(self) -> Destinations:
        log, artifacts = self.context.registry.destinations(self.run_id)
        return Destinations(log=log, artifacts=artifacts)
