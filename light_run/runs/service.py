"""The one thing the API calls: runs submitted, watched, cancelled and deleted."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore
from light_run.artifacts.sweeper import INTERVAL, Budget
from light_run.engine.output.lines import OutputLine
from light_run.engine.spec import Reason, RunSpec
from light_run.engine.stop import CANCEL, Stop
from light_run.errors import EngineError, JournalError, Overloaded, RunError, RunNotActive, RunNotFound
from light_run.runs.callbacks import schedule
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.callbacks.schedule import Schedule
from light_run.runs.execution import idempotency
from light_run.runs.execution.cleanup import EngineCleanup
from light_run.runs.execution.job import RunJob
from light_run.runs.execution.maintenance import PeriodicMaintenance
from light_run.runs.execution.queue import JobQueue
from light_run.runs.execution.quota import Quota
from light_run.runs.execution.recovery import RecoveredJob, in_order
from light_run.runs.execution.reservation import Reservation, full_disk_refused
from light_run.runs.metrics import Levels, NoMetrics, RunMetrics
from light_run.runs.model import RunRecord, RunRequest, Status, accept
from light_run.runs.ports import HealthPort, NetworksPort, RunnerPort
from light_run.runs.storage import retention as retentions
from light_run.runs.storage.entries import IdempotencyKey, JournalStep
from light_run.runs.storage.journal import Journal
from light_run.runs.storage.registry import GIB, RegistryLimits, RunRegistry
from light_run.runs.storage.retention import Retention
from light_run.runs.tracing import NoTracer, Tracer

_log = logging.getLogger(__name__)

# A cancel is answered once the run has ended, or after so many seconds where the engine takes its time.
CANCEL_WAIT = 5.0
# Seconds between two looks at how long runs have been paused.
PAUSE_CHECKS = 10.0
# A spec with more input and environment than this does not wait in memory, in bytes.
LARGEST_HELD = 1 << 16


class RunService:
    """Runs, from request to deletion.

    Runs are recorded in `journal` and get their slots from `queue`; `logs_dir` holds one spool a run. What an earlier
    server left there is seen at once, and taken up by `start`. The runner, the journal and the queue are the service's
    own from here on. `max_artifacts_bytes` and `max_artifacts_files` cap all artifact folders, looked after every
    `sweep_interval` seconds;
    `callback_private` allows callbacks to loopback and private addresses; `metrics` counts what happens; no run
    is paused for more than `max_pause` seconds. A `copied` state directory is that of another server, to which the runs
    that have not ended are left. `tracer` takes spans.
    """

    def __init__(
        self,
        runner: RunnerPort,
        artifacts: ArtifactStore,
        journal: Journal,
        queue: JobQueue[RunJob],
        *,
        logs_dir: Path,
        max_artifacts_bytes: int = 20 * GIB,
        max_artifacts_files: float = float("inf"),
        sweep_interval: float = INTERVAL,
        retention: Retention = retentions.DEFAULT,
        callback_schedule: Schedule = schedule.DEFAULT,
        callback_private: bool = True,
        metrics: RunMetrics | None = None,
        copied: bool = False,
        max_pause: float = 3600.0,
        id_prefix: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self.runner = runner
        self.artifacts = artifacts
        bounds = RegistryLimits(
            artifacts=Budget(max_artifacts_bytes, max_artifacts_files),
            sweep_interval=sweep_interval,
            retention=retention,
            callbacks=callback_schedule,
            private=callback_private,
            tracer=tracer or NoTracer(),
        )
        self._metrics = metrics or NoMetrics()
        self.registry = RunRegistry(journal, logs_dir, artifacts, bounds, self._metrics)
        self._store = self.registry.store
        self.following = self.registry.following
        self._queue = queue
        self._keys = idempotency.KeyClaims()
        self.replays = idempotency.Replays(self.registry)
        self._quota = Quota(self._store)
        self._lock = threading.Lock()
        self._max_pause = max_pause
        self._id_prefix = id_prefix
        self._periodic = Periodic("light-run-pauses", self.step, PAUSE_CHECKS)
        self._jobs: dict[str, RunJob] = {}
        found = in_order(self.registry.load(copied=copied))
        self._cleanup = EngineCleanup(
            runner,
            self._store,
            found,
            self._alive,
            quarantined=self.registry.quarantined,
            incomplete=self.registry.incomplete,
        )
        self.maintenance = PeriodicMaintenance(runner, self._cleanup, self.networks_in_use)
        for entry in found:
            # A command that goes on anyway must be watched, also where there are fewer slots than there were.
            self._queue.preload(
                self._register(RecoveredJob(entry, self)), at_work=entry.step is JournalStep.LAUNCHED
            )

    def start(self) -> None:
        """Start everything that runs beside the requests. Call it in the process that serves."""
        self._queue.start()
        self.registry.start()
        self._cleanup.start()
        self.maintenance.start()
        self._periodic.start()

    def close(self, grace: float = 10.0) -> None:
        """Accept no more runs and stop every thread.

        Detached runs are left to the next server. Synchronous ones that still wait for a slot are withdrawn; the others
        get `grace` seconds to end and are killed then, so that none of their containers is left.
        """
        # Whoever follows a run takes up where it stopped with the next server.
        self.following.close()
        for job in self._queue.stop():
            if job.detached:
                self.release(job.run_id)
                self._store.detach(job.run_id)
            else:
                # Its client is told to send it again, and its Idempotency-Key must not stand for a run that never was.
                self._withdraw(job)
        for job in self._active_jobs(detached=True):
            job.detach()
            # It will not end under this server: whoever waits asks the next one.
            self._store.detach(job.run_id)
        deadline = time.monotonic() + grace
        for job in self._active_jobs(detached=False):
            with contextlib.suppress(RunNotFound):
                self._store.wait(job.run_id, max(0.0, deadline - time.monotonic()))
        for job in self._active_jobs(detached=False):
            with contextlib.suppress(RunNotActive):
                job.request(Stop(Reason.INTERRUPTED))
        self._periodic.close()
        self.maintenance.close()
        self._queue.close()
        self._cleanup.close()
        self.runner.close()
        self.registry.close()

    @contextlib.contextmanager
    def reserve(self, owner: str | None = None, max_runs: int | None = None) -> Iterator[Reservation]:
        """Room for one run, from before its files come until `submit` has it; what came goes otherwise.

        `max_runs` caps the runs of `owner`. Raises `Overloaded`; `InsufficientStorage` for a disk that fills.
        """
        run_id = self._new_id()
        with self._quota.reserve(owner, max_runs, run_id), full_disk_refused(run_id):
            try:
                self._queue.reserve(owner)
            except Overloaded:
                self._metrics.refused()
                raise
            # From before there is anything of it on the disk, lest that be cleared as an earlier server's.
            self._cleanup.accepting.add(run_id)
            reservation = Reservation(run_id, self.runner, self._queue.check)
            try:
                yield reservation
            finally:
                if not reservation.taken:
                    self._queue.release(owner)
                    self.runner.discard(run_id)
                self._cleanup.accepting.discard(run_id)

    def submit(self, request: RunRequest, reservation: Reservation | None = None) -> RunRecord:
        """Accept a run: it is on disk with its files, and has a slot or a place in the queue.

        Files that came by `place` are its files. With an Idempotency-Key that was used before, that run. Raises
        `Overloaded` before anything is written, `InsufficientStorage` where it does not fit, `IdempotencyConflict`.
        """
        key, owner = request.idempotency_key, request.owner or ""
        if key is None:
            return self._admit(request, reservation, None)
        with self._keys.claim(owner, key, request.body_digest):
            known = self.replays.run(owner, key, request.body_digest)
            return known or self._admit(request, reservation, key)

    def wait(
        self, run_id: str, timeout: float | None = None, is_gone: Callable[[], bool] | None = None
    ) -> RunRecord:
        """The run once it has ended, or as it is after `timeout` seconds or once the client `is_gone`.

        Raises `RunNotFound`.
        """
        return self._store.wait(run_id, timeout, is_gone)

    def get(self, run_id: str) -> RunRecord:
        """The run as it is now. Raises `RunNotFound`."""
        return self._store.get(run_id)

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[RunRecord], bool]:
        """At most `limit` runs, newest first, and whether more follow; see `RunTable.list`."""
        return self._store.list(status=status, limit=limit, before=before, owner=owner, labels=labels)

    @property
    def networks(self) -> NetworksPort:
        """The networks that clients create."""
        return self.runner.networks

    def stop(self, run_id: str, stop: Stop = CANCEL) -> None:
        """End a run in whatever state; it has ended when this returns, if the engine does its part soon.

        Raises `RunNotFound`, and `RunNotActive` if it has ended already.
        """
        job = self._job(run_id)
        job.request(stop)
        if job.can_requeue and self._queue.withdraw(run_id) is not None:
            job.end_queued(stop.reason, f"the run was {stop.reason} while it waited")
        else:
            with contextlib.suppress(RunNotFound):
                if not self._store.wait(run_id, stop.grace + CANCEL_WAIT).ended:
                    self.registry.cancelling(run_id)

    def write_stdin(
        self,
        run_id: str,
        pieces: Iterable[bytes],
        *,
        close: bool = False,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Append to the standard input of an interactive run; returns once the engine has all of it.

        Waits until the run has started, or its client `is_gone`. `close` ends the input. Raises `RunNotFound`,
        `RunNotActive`, `StdinClosed`.
        """
        self._job(run_id).write_stdin(pieces, is_gone, close=close)

    def pause(self, run_id: str) -> None:
        """Freeze a run. Raises `RunNotFound`, `RunNotActive`, `RunNotStarted`, EngineError."""
        self._job(run_id).pause()

    def resume(self, run_id: str) -> None:
        """Let a paused run go on. Raises as `pause` does."""
        self._job(run_id).resume()

    def step(self, now: float) -> None:
        """Resume the runs that have been paused for too long; `now` is in seconds since the epoch."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            with contextlib.suppress(RunError, EngineError):
                paused_at = self._store.get(job.run_id).paused_at
                if paused_at is not None and now - paused_at.timestamp() > self._max_pause:
                    job.resume()
                    _log.warning("run resumed: it was paused for too long", extra={"run": job.run_id})

    def _new_id(self) -> str:
        if not self._id_prefix:
            return str(uuid.uuid4())
        while (run_id := f"{self._id_prefix}{str(uuid.uuid4())[:12]}") in self._store:
            pass
        return run_id

    def _job(self, run_id: str) -> RunJob:
        self._store.get(run_id)
        with self._lock:
            job = self._jobs.get(run_id)
        if job is None:
            raise RunNotActive("the run has ended already")
        return job

    def delete(self, run_id: str) -> None:
        """Forget a run that has ended, with its artifacts and its log. Raises `RunNotFound`, `RunActive`."""
        self.registry.delete(run_id)

    def redeliver(self, run_id: str) -> None:
        """Send a run's callback once more; see `RunRegistry.redeliver`."""
        self.registry.redeliver(run_id)

    def log_lines(self, run_id: str) -> Iterator[OutputLine]:
        """The lines a run has written so far; see `LogFollowing.lines`."""
        return self.following.lines(run_id)

    def state(self, run: RunRecord, *, split: bool) -> Iterator[bytes]:
        """The state of `run` as JSON, with its output; see `RunRegistry.state`."""
        return self.registry.state(run, split=split)

    def health(self) -> HealthPort:
        """What the engine is like now."""
        return self.runner.health()

    def levels(self) -> Levels:
        """How much there is of everything; the engine is asked once a second at most."""
        at_work, waiting = self._queue.counts()
        return Levels(
            queued=waiting,
            at_work=at_work,
            kept=len(self._store) - len(self._store.active()),
            parked=self.runner.parked,
            callbacks=self.registry.callbacks,
            artifact_bytes=self.registry.artifact_bytes,
            engine=self.health().docker,
        )

    # What follows is called by the jobs, see `JobContext`.

    def prepare(self) -> None:
        """See `EngineCleanup.prepare`."""
        self._cleanup.prepare()

    def without_slot(self, job: RunJob) -> AbstractContextManager[None]:
        """See `JobQueue.without_slot`."""
        return self._queue.without_slot(job, lambda: job.stop.detached or job.stop.requested is not None)

    def release(self, run_id: str) -> None:
        """Drop a run's job, and its spec with it."""
        with self._lock:
            self._jobs.pop(run_id, None)

    def networks_in_use(self) -> set[str]:
        # Those of runs that wait for their container, too.
        names: set[str] = set()
        for run_id in self._store.active():
            with contextlib.suppress(JournalError):
                spec = self.registry.spec(run_id)
                names |= {spec.network or "", *spec.networks}
        return names

    def _alive(self, run_id: str) -> bool:
        # Seen as ended, a run still has its container until its job is released.
        with self._lock:
            return run_id in self._jobs or run_id in self._store.active()

    def _admit(self, request: RunRequest, reservation: Reservation | None, key: str | None) -> RunRecord:
        if reservation is not None:
            return self._accept(request, reservation, key)
        with self.reserve(request.owner, request.max_runs) as own:
            self.runner.stage(own.run_id, request.spec.files)
            return self._accept(request, own, key)

    def _accept(self, request: RunRequest, reservation: Reservation, key: str | None) -> RunRecord:
        run_id = reservation.run_id
        self._write_down(request, run_id, key)
        # Its files are on disk, and so is what else is large: what waits in the queue holds none of it.
        spec = replace(request.spec, files={})
        held = spec if _weight(spec) <= LARGEST_HELD else None
        auth = spec.registry_auth
        job = RunJob(
            run_id, self, detached=request.detached, owner=request.owner, spec=held, registry_auth=auth
        )
        self._register(job)
        reservation.taken = True
        try:
            if self._queue.submit(job):
                job.begin()
        except BaseException:
            self.release(run_id)
            self.runner.discard(run_id)
            self.registry.withdraw(run_id)
            raise
        return self._store.get(run_id)

    def _write_down(self, request: RunRequest, run_id: str, key: str | None) -> None:
        recipient = None
        if request.callback_url is not None:
            recipient = Recipient(request.callback_url, request.callback_secret)
        run = accept(request, run_id, at=datetime.now(timezone.utc))
        owner, now = request.owner or "", time.time()
        used = None if key is None else IdempotencyKey(owner, key, request.body_digest, run_id, now)
        self.registry.accept(run, request.spec, recipient, used)

    def _withdraw(self, job: RunJob) -> None:
        job.stop.close()
        self.release(job.run_id)
        self.runner.discard(job.run_id)
        self.registry.withdraw(job.run_id)
        self._metrics.refused()

    def _register(self, job: RunJob) -> RunJob:
        with self._lock:
            self._jobs[job.run_id] = job
        return job

    def _active_jobs(self, *, detached: bool) -> tuple[RunJob, ...]:
        with self._lock:
            return tuple(job for job in self._jobs.values() if job.detached is detached)


def _weight(spec: RunSpec) -> int:
    return len(spec.stdin or b"") + sum(len(name) + len(value) for name, value in spec.env.items())
