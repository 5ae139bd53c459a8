"""Runs that an earlier server left: each goes on from the step the journal has it at.

| found        | then |
| ------------ | --- |
| queued       | it waits again |
| assigned     | its container goes, its files come back, it waits again: nothing was started that counts; |
|              | certainly started, and without input: launched, which its server had no time to write down |
| launched     | attached to again, running or ended, its log going on and its deadline as it was |
| container gone | ``interrupted`` |
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from light_run.engine.spec import Reason, RunResult, RunSpec
from light_run.engine.stop import CANCEL, Stop
from light_run.errors import EngineError
from light_run.runs.execution.job import JobContext, RunJob
from light_run.runs.storage.entries import JournalEntry, JournalStep

_log = logging.getLogger(__name__)

# Seconds between two attempts to reach an engine that does not answer.
ASK_AGAIN = 1.0


class RecoveredJob(RunJob):
    """The job of a run that an earlier server accepted and did not finish."""

    def __init__(self, entry: JournalEntry, context: JobContext) -> None:
        super().__init__(entry.run.id, context, detached=entry.run.detached, owner=entry.run.owner)
        self.entry = entry
        self._news = threading.Event()
        self._stopping = False
        self._container = entry.container
        if entry.run.paused_at is not None:
            self.stop.pause()
        if entry.cancelled:
            self.stop.request(CANCEL)
        if entry.step is JournalStep.LAUNCHED:
            began = entry.run.started_at or entry.run.created_at
            # If the clock was put back, the run must not begin in the future.
            self._since -= max(0.0, (datetime.now(timezone.utc) - began).total_seconds())
            self._begun = True
            # The input of a command at work ended with the earlier server's connection.
            self.stdin.abandon()

    @property
    def can_requeue(self) -> bool:
        """False if the command is at work in a container."""
        return self.entry.step is not JournalStep.LAUNCHED

    def detach(self) -> None:
        """See `RunJob`."""
        super().detach()
        self._note_stopping()

    def request(self, stop: Stop) -> None:
        """See `RunJob`."""
        super().request(stop)
        if stop.reason is Reason.INTERRUPTED:
            self._note_stopping()

    def _note_stopping(self) -> None:
        # A cancelled run takes no other request; an engine that is away is not waited for all the same.
        self._stopping = True
        self._news.set()

    def run(self, spec: RunSpec) -> RunResult:
        """Continue from the step the journal has; an engine that is away is waited for."""
        with self.stop.subscribed(self._news.set):
            return self._run(spec)

    def _run(self, spec: RunSpec) -> RunResult:
        runner = self.context.runner
        _log.info("run taken up", extra={"run": self.run_id, "step": self.entry.step.value})
        while self._engine_is_there():
            try:
                entry = self.entry = self._as_found(spec)
                if entry.step is JournalStep.LAUNCHED:
                    return self._adopt(spec)
                there = runner.staged(self.run_id)
                if entry.step is JournalStep.ASSIGNED and entry.container is not None:
                    there = runner.unassign(entry.container, self.run_id)
                    self.context.registry.requeued(self.run_id)
                if not there:
                    runner.discard(self.run_id)
                    return RunResult(
                        reason=Reason.INTERRUPTED, error="the run's files were lost with the server"
                    )
                return super().run(spec)
            except EngineError as error:
                _log.warning("run cannot be taken up yet", extra={"run": self.run_id, "error": str(error)})
                self._news.wait(ASK_AGAIN)
        # Detached or cancelled before the engine came back; its container is removed as a leftover.
        reason = Reason.CANCELLED if self.stop.requested is None else self.stop.requested.reason
        return RunResult(reason=reason, error=f"the run was {reason} while the engine was away")

    def _as_found(self, spec: RunSpec) -> JournalEntry:
        # The run may have been launched without its server recording it. A command with input is not resumed: the rest
        # of the input can no longer be delivered.
        entry = self.entry
        takes_input = bool(spec.stdin) or spec.interactive
        if entry.step is not JournalStep.ASSIGNED or entry.container is None or takes_input:
            return entry
        begun = self.context.runner.begun(entry.container)
        if begun is None:
            return entry
        self.context.registry.launched(self.run_id, begun, spec.timeout)
        return replace(entry, step=JournalStep.LAUNCHED, deadline=begun + timedelta(seconds=spec.timeout))

    def _adopt(self, spec: RunSpec) -> RunResult:
        entry = self.entry
        now = datetime.now(timezone.utc)
        deadline = entry.deadline or now
        if entry.run.paused_at is not None:
            # The time from the pause to this restart does not count.
            deadline += now - entry.run.paused_at
        log, artifacts = self.context.registry.destinations(self.run_id)
        return self.context.runner.adopt(
            entry.container or "",
            spec,
            run_id=self.run_id,
            deadline=deadline,
            log=log,
            artifacts=artifacts,
            stop=self.stop,
            observer=self,
        )

    def _engine_is_there(self) -> bool:
        # Returns False if the run is no longer to wait for the engine.
        while not self._given_up:
            self._news.clear()
            if self.context.runner.health().docker:
                return True
            self._news.wait(ASK_AGAIN)
        return False

    @property
    def _given_up(self) -> bool:
        # A command at work must be killed as soon as possible, unless this server stops.
        return self._stopping or (self.stop.requested is not None and self.can_requeue)


def in_order(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """Sort `entries` by the order of their slots: launched runs first, the others as they were accepted."""
    return sorted(entries, key=lambda entry: entry.step is not JournalStep.LAUNCHED)
