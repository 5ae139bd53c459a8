"""One run's way through its slot: what the engine reports becomes the run's state."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone
from typing import Protocol

from light_run.engine.cancel import CancelToken
from light_run.engine.spec import Destinations, Phase, Reason, RunResult, RunSpec
from light_run.errors import RunNotActive
from light_run.runs.model import Run, concluded, started
from light_run.runs.ports import Runner
from light_run.runs.store import RunStore

_log = logging.getLogger(__name__)


class Surroundings(Protocol):
    """What a life needs of the service around it."""

    @property
    def store(self) -> RunStore:
        """Where runs are seen."""

    @property
    def runner(self) -> Runner:
        """What runs containers."""

    def destinations(self, run_id: str) -> Destinations:
        """Where the run's output goes."""

    def settle(self, run: Run) -> None:
        """Do what belongs to `run`'s end before anybody sees it."""

    def settled(self, run: Run) -> None:
        """Do what may wait until everybody sees `run` ended."""

    def over(self, run_id: str) -> None:
        """The run's container and workspace are gone, and its slot comes free."""


class Life:
    """A run that has not ended: a job of the executor, and the engine's observer."""

    def __init__(
        self, run_id: str, spec: RunSpec, cancel: CancelToken, around: Surroundings, *, detached: bool
    ) -> None:
        self.run_id = run_id
        self.detached = detached
        self._spec = spec
        self._cancel = cancel
        self._around = around
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._begun = False
        self._wish: Reason | None = None
        self._decided = False

    def begin(self) -> None:
        """The run leaves the queue; the second call of executor and submitter does nothing."""
        with self._lock:
            if self._begun or self._decided:
                return
            self._begun = True
            waited, self._since = time.monotonic() - self._since, time.monotonic()
            now = datetime.now(timezone.utc)
            self._around.store.change(self.run_id, lambda run: started(run, at=now, queued=waited))

    def work(self) -> None:
        """Run the container, from image to clean-up."""
        try:
            self.ended(self._run())
        finally:
            self._around.over(self.run_id)

    def stop(self, reason: Reason) -> None:
        """Have the run end as soon as it can, as `reason`. Raises `RunNotActive` where its end is decided."""
        with self._lock:
            if self._decided:
                raise RunNotActive("the run has ended already")
            # A cancel outweighs a stopping server, and whatever came before it.
            if self._wish is not Reason.CANCELLED:
                self._wish = reason
        self._cancel.cancel()

    def abandon(self, reason: Reason, error: str) -> None:
        """End a run that never got its slot."""
        self._around.runner.discard(self.run_id)
        self.ended(RunResult(reason=reason, error=error))
        self._around.over(self.run_id)

    def phase(self, phase: Phase) -> None:
        """See `Observer`."""
        self._around.store.update(self.run_id, phase=phase, progress=None)

    def progress(self, message: str) -> None:
        """See `Observer`."""
        self._around.store.update(self.run_id, progress=message)

    def assigned(self, container_id: str, *, parked: bool) -> None:
        """See `Observer`."""

    def launched(self, started_at: datetime) -> None:
        """See `Observer`."""

    def ended(self, result: RunResult) -> None:
        """See `Observer`; only the first result counts."""
        with self._lock:
            if self._decided:
                return
            self._decided = True
            elapsed = time.monotonic() - self._since
            final = concluded(self._around.store.get(self.run_id), result, elapsed=elapsed, wish=self._wish)
        try:
            self._around.settle(final)
        except Exception:  # noqa: BLE001
            # Whoever waits for the run must learn of its end all the same.
            _log.exception("run %s: its end could not be settled", self.run_id)
        self._around.store.change(self.run_id, lambda _: final)
        self._around.settled(final)

    def _run(self) -> RunResult:
        runner = self._around.runner
        if self._cancel.cancelled:
            runner.discard(self.run_id)
            return RunResult(reason=Reason.CANCELLED, error="the run was cancelled before it began")
        try:
            return runner.run(
                self._spec,
                run_id=self.run_id,
                cancel=self._cancel,
                to=self._around.destinations(self.run_id),
                observer=self,
            )
        except Exception:  # noqa: BLE001
            _log.exception("run %s: the runner failed", self.run_id)
            runner.discard(self.run_id)
            return RunResult(reason=Reason.INTERRUPTED, error="the server failed in the middle of the run")
