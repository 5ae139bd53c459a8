"""The registry: keeps the run table, the journal, logs, artifacts and callbacks consistent."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore
from light_run.artifacts.sweeper import INTERVAL, Budget, Origin, Sweeper
from light_run.engine.output.lines import read_log
from light_run.engine.spec import Phase, Reason, RunResult, RunSpec
from light_run.errors import RunActive, RunNotFound
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.callbacks.dispatcher import CallbackDispatcher
from light_run.runs.callbacks.schedule import DEFAULT, Schedule
from light_run.runs.logs.following import LogFollowing
from light_run.runs.metrics import RunMetrics
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status, end
from light_run.runs.presentation import progress_fields, stream_split_state, stream_state
from light_run.runs.storage import retention
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry, JournalStep
from light_run.runs.storage.journal import Journal
from light_run.runs.storage.retention import Retention
from light_run.runs.storage.table import RunTable
from light_run.runs.tracing import NoTracer, Tracer
from light_run.system.folders import make_private

_log = logging.getLogger(__name__)

GIB = 1 << 30
DEFAULT_BUDGET = Budget(20 * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLimits:
    """Limits of what is kept, and the schedule of callbacks; see `RunService`."""

    artifacts: Budget = DEFAULT_BUDGET
    sweep_interval: float = INTERVAL
    retention: Retention = retention.DEFAULT
    callbacks: Schedule = DEFAULT
    private: bool = True
    tracer: Tracer = field(default_factory=NoTracer)


class RunRegistry:
    """Keeps runs in `journal`, their output in `logs_dir` and their files in `artifacts`, within `bounds`."""

    def __init__(
        self,
        journal: Journal,
        logs_dir: Path,
        artifacts: ArtifactStore,
        bounds: RegistryLimits,
        metrics: RunMetrics,
    ) -> None:
        make_private(logs_dir)
        self.store = RunTable()
        self.artifacts = artifacts
        self._journal = journal
        self._logs_dir = logs_dir
        self._retention = bounds.retention
        self.following = LogFollowing(self.store, self._log)
        self._metrics = metrics
        # Of runs that have not ended.
        self._recipients: dict[str, Recipient] = {}
        self._sweeper = Sweeper(
            artifacts,
            bounds.artifacts,
            protected=self.store.active,
            evicted=self._evicted,
            origin=self._origin,
            interval=bounds.sweep_interval,
        )
        self._dispatcher = CallbackDispatcher(
            content=self._body,
            record=self._lost_artifacts,
            dropped=self._drop,
            schedule=bounds.callbacks,
            spool=logs_dir,
            private=bounds.private,
            tracer=bounds.tracer,
        )
        self.tracer = bounds.tracer
        self._periodic = Periodic("light-run-keeper", self.step, INTERVAL)

    @property
    def quarantined(self) -> frozenset[str]:
        """The ids of runs whose rows cannot be read, and of their containers."""
        return self._journal.quarantined

    @property
    def incomplete(self) -> bool:
        """True if runs may be unknown, as a damaged journal was set aside."""
        return self._journal.incomplete

    def load(self, *, copied: bool = False) -> list[JournalEntry]:
        """Load the runs of an earlier server. Returns those that have not ended, in the order of acceptance.

        In a `copied` state directory, these belong to the server of the original: they are interrupted here.
        """
        unended = []
        kept = set()
        for entry in self._journal.load():
            kept.add(entry.run.id)
            if entry.step in (JournalStep.ENDED, JournalStep.FINISHED):
                self._load_ended(entry)
            elif copied:
                self._disown(entry)
            else:
                unended.append(self._load_unended(entry))
        self.store.order()
        kept |= self.quarantined
        for path in () if self.incomplete else self._logs_dir.iterdir():
            if path.name not in kept and path.is_file():
                path.unlink(missing_ok=True)
        return unended

    def start(self) -> None:
        """Start the threads."""
        self._sweeper.start()
        self._dispatcher.start()
        self._periodic.start()

    def close(self) -> None:
        """Stop the threads and close the journal."""
        self._periodic.close()
        self._sweeper.close()
        self._dispatcher.close()
        self._journal.close()

    def step(self, now: float) -> None:
        """Delete runs beyond the retention time, and let the journal write what it postponed."""
        for run_id in retention.choose(self.store.ended(), self._retention.age, now):
            self._expire(run_id)
        for run_id in self.store.ended_beyond(self._retention.count):
            self._expire(run_id)
        self._journal.step(now)

    # -- transitions of a run

    def accept(
        self, run: RunRecord, spec: RunSpec, recipient: Recipient | None, key: IdempotencyKey | None
    ) -> None:
        """Record a run whose files are staged. Raises `InsufficientStorage`, `Overloaded`."""
        self._journal.accept(run, spec, recipient, key)
        _log.info("run accepted", extra={"run": run.id, "image": spec.image, "detached": run.detached})
        if recipient is not None:
            self._recipients[run.id] = recipient
        self.store.add(run)

    def spec(self, run_id: str) -> RunSpec:
        """Return the spec of a run that has not ended. Raises `JournalError`."""
        return self._journal.spec(run_id)

    def destinations(self, run_id: str) -> tuple[Path, Path]:
        """Return the paths of a run's log and of its artifact folder."""
        return self._log(run_id), self.artifacts.folder(run_id)

    def assigned(self, run_id: str, container: str) -> None:
        """Record that the run has its container."""
        self._journal.assigned(self.store.get(run_id), container)

    def launched(self, run_id: str, started_at: datetime, timeout: float) -> None:
        """Record that the command was started at `started_at`, with a timeout of `timeout` seconds."""
        self._journal.launched(run_id, started_at + timedelta(seconds=timeout))

    def requeued(self, run_id: str) -> None:
        """Record that the run is queued again: its command was not started in its container."""
        self._journal.requeued(self.store.get(run_id))

    def paused(self, run_id: str, at: datetime) -> None:
        """Record that the run is paused."""
        self._journal.paused(self.store.update(run_id, phase=Phase.PAUSED, paused_at=at))

    def resumed(self, run_id: str, at: datetime) -> None:
        """Record that the run goes on after a pause."""
        since = self.store.get(run_id).paused_at or at
        run = self.store.update(run_id, phase=Phase.RUNNING, paused_at=None)
        self._journal.resumed(run, max(0.0, (at - since).total_seconds()))

    def record_end(self, run: RunRecord) -> RunRecord:
        """Commit the end of `run` and make room for its artifacts; returns the record to publish."""
        now = time.time()
        if run.callback is not None:
            run = replace(run, callback=replace(run.callback, next_attempt_at=_utc(now)))
        self._journal.ended(run, now)
        recipient = self._recipients.pop(run.id, None)
        if recipient is not None and run.callback is not None:
            self._dispatcher.add(run, recipient, age=0.0, state=run.callback)
        self._sweeper.ended(run.id, (artifact.bytes for artifact in run.artifacts), now, run.owner)
        return run

    def announce_end(self, run: RunRecord) -> None:
        """Publish the end of `run`: send its callback, and delete older runs if there are too many."""
        self.following.changed(run.id)
        self._metrics.ended(run)
        _log.info("run ended", extra=progress_fields(run))
        self._dispatcher.send(run.id)
        for run_id in self.store.ended_beyond(self._retention.count):
            self._expire(run_id)

    def state(self, run: RunRecord, *, split: bool, callback: bool = True) -> Iterator[bytes]:
        """Return the state of `run` as JSON with its output, as lines or `split` by stream; see `run_state`."""
        if split:
            return stream_split_state(run, self._log(run.id), callback=callback)
        return stream_state(run, read_log(self._log(run.id), ended=run.ended), callback=callback)

    def cancelling(self, run_id: str) -> None:
        """Record that the run is to be cancelled, if need be by the next server."""
        self._journal.cancelling(self.store.get(run_id))

    def finished(self, run_id: str) -> None:
        """Record that the container and the workspace are removed."""
        self._journal.finished(run_id)

    # -- ended runs

    def delete(self, run_id: str) -> None:
        """Delete an ended run with its artifacts and its log. Raises `RunNotFound`, `RunActive`."""
        self._forget(run_id)
        self._sweeper.removed(run_id)
        self.artifacts.remove(run_id)

    def withdraw(self, run_id: str) -> None:
        """Delete a run that was not accepted after all, or not begun; its client has no id of it."""
        self._recipients.pop(run_id, None)
        self.store.withdraw(run_id)
        self._drop(run_id)

    def key(self, owner: str, key: str) -> IdempotencyKey | None:
        """Return the entry of an Idempotency-Key, or None."""
        return self._journal.key(owner, key, time.time())

    def redeliver(self, run_id: str) -> None:
        """Send the callback of an ended run again, now. Raises `RunNotFound`, `RunActive`.

        A run that asked for no callback has none to be found.
        """
        run = self.store.get(run_id)
        recipient = None if run.callback is None else self._journal.recipient(run_id)
        if recipient is None or run.callback is None:
            raise RunNotFound("the run asked for no callback")
        if not run.ended:
            raise RunActive("the run has not ended yet; its callback follows by itself")
        now = time.time()
        state = replace(run.callback, state=Delivery.PENDING, next_attempt_at=_utc(now))
        self.store.update(run_id, callback=state)
        self._journal.callback(run_id, state, since=now)
        self._dispatcher.add(run, recipient, age=0.0, state=state)
        self._dispatcher.send(run_id)

    @property
    def artifact_bytes(self) -> int:
        """The size of all artifacts, in bytes."""
        return self._sweeper.total

    @property
    def callbacks(self) -> int:
        """The number of callbacks that are still to be delivered."""
        return self._dispatcher.pending

    # -- internal

    def _load_ended(self, entry: JournalEntry) -> None:
        run, recipient = entry.run, entry.recipient
        if entry.step is JournalStep.ENDED:
            self._journal.finished(run.id)
        if not entry.forgotten:
            self.store.add(run)
        if recipient is not None and run.callback is not None and run.callback.state is Delivery.PENDING:
            now, due = time.time(), run.callback.next_attempt_at
            age = 0.0 if entry.since is None else now - entry.since
            self._dispatcher.add(run, recipient, age=max(0.0, age), state=run.callback)
            # If the clock was put back, the time to wait is unknown.
            after = 0.0 if due is None or age < 0 else max(0.0, due.timestamp() - now)
            self._dispatcher.send(run.id, after=after)
            if entry.forgotten:
                self._dispatcher.forget(run.id)
        elif entry.forgotten:
            self._drop(run.id)

    def _disown(self, entry: JournalEntry) -> None:
        # Without a callback, which the original sends with another state.
        error = "the state directory was copied: the run belongs to the server of the original"
        result = RunResult(reason=Reason.INTERRUPTED, error=error)
        run = replace(entry.run, callback=None)
        elapsed = (datetime.now(timezone.utc) - (run.started_at or run.created_at)).total_seconds()
        run = end(run, result, elapsed=elapsed)
        self._journal.ended(run, time.time())
        self._journal.finished(run.id)
        self.store.add(run)
        _log.warning("run not taken up: the state directory was copied", extra={"run": run.id})

    def _load_unended(self, entry: JournalEntry) -> JournalEntry:
        if entry.recipient is not None:
            self._recipients[entry.run.id] = entry.recipient
        # Its end is for its job to decide, and not shown before.
        cancelled = entry.run.reason is Reason.CANCELLED
        entry = replace(entry, run=replace(entry.run, reason=None), cancelled=cancelled)
        if entry.step is not JournalStep.LAUNCHED:
            run = replace(entry.run, status=Status.QUEUED, started_at=None, queued_ms=0.0, paused_at=None)
            entry = replace(entry, run=run)
            # The run starts again, and so does its log.
            self._log(run.id).unlink(missing_ok=True)
        elif entry.run.paused_at is not None:
            entry = replace(entry, run=replace(entry.run, phase=Phase.PAUSED))
        self.store.add(entry.run)
        return entry

    def _forget(self, run_id: str) -> None:
        self.store.remove(run_id)
        # A pending callback needs the row and the log.
        if self._dispatcher.forget(run_id):
            self._journal.hide(run_id)
        else:
            self._drop(run_id)

    def _drop(self, run_id: str) -> None:
        self._journal.drop(run_id)
        self._log(run_id).unlink(missing_ok=True)

    def _evicted(self, run_id: str) -> None:
        # The record stays, and says so.
        self._metrics.evicted()
        with suppress(RunNotFound):
            self._journal.evicted(self.store.update(run_id, artifacts=(), artifacts_evicted=True))

    def _expire(self, run_id: str) -> None:
        with suppress(RunNotFound):
            self._forget(run_id)
            self._sweeper.removed(run_id)
            self.artifacts.discard(run_id)

    def _log(self, run_id: str) -> Path:
        return self._logs_dir / run_id

    def _origin(self, run_id: str) -> Origin:
        # A run's folder is created at its end.
        try:
            run = self.store.get(run_id)
        except RunNotFound:
            return Origin()
        return Origin(None if run.finished_at is None else run.finished_at.timestamp(), run.owner)

    def _body(self, run: RunRecord) -> Iterator[bytes]:
        return self.state(run, split=run.split_output, callback=False)

    def _lost_artifacts(self, run_id: str, state: CallbackState) -> None:
        self._metrics.callback_tried(state.state)
        with suppress(RunNotFound):
            self.store.update(run_id, callback=state)
        self._journal.callback(run_id, state)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
