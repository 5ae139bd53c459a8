"""The one thing the API calls: runs submitted, watched, cancelled and deleted."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from light_run.artifacts.store import ArtifactStore
from light_run.artifacts.sweeper import INTERVAL
from light_run.engine.output import LogLine
from light_run.engine.spec import Reason, RunSpec
from light_run.errors import Overloaded, RunNotActive, RunNotFound
from light_run.runs import idempotency, schedule
from light_run.runs import retention as retentions
from light_run.runs.clearing import Clearing
from light_run.runs.entries import Key, Step
from light_run.runs.executor import Executor
from light_run.runs.journal import Journal
from light_run.runs.keeping import GIB, Bounds, Keeping
from light_run.runs.life import Life
from light_run.runs.model import Run, RunRequest, Status, queued
from light_run.runs.parcels import Recipient
from light_run.runs.place import Place, no_room
from light_run.runs.ports import Health, Runner
from light_run.runs.quota import Quota
from light_run.runs.recovery import TakenUp, in_order
from light_run.runs.retention import Retention
from light_run.runs.schedule import Schedule
from light_run.runs.tally import Levels, Tally, Uncounted

_log = logging.getLogger(__name__)

# A cancel is answered once the run has ended, or after so many seconds where the engine takes its time.
CANCEL_WAIT = 5.0
# A spec with more input and environment than this does not wait in memory, in bytes.
LARGEST_HELD = 1 << 16


class RunService:
    """Runs, from request to deletion.

    `concurrency` runs are at work at once, each holding its slot until its container is gone; `max_queue`
    more wait in order. The journal lies beside `logs_dir`, which holds one spool a run; what an earlier
    server left there is seen at once, and taken up by `start`. The runner is the service's own from here
    on. `max_artifacts_bytes` caps all artifact folders, looked after every `sweep_interval` seconds;
    `callback_private` allows callbacks to loopback and private addresses; `tally` is told what happens. Raises
    `JournalError`.
    """

    def __init__(
        self,
        runner: Runner,
        artifacts: ArtifactStore,
        *,
        logs_dir: Path,
        concurrency: int,
        max_queue: int = 1000,
        max_artifacts_bytes: int = 20 * GIB,
        sweep_interval: float = INTERVAL,
        retention: Retention = retentions.DEFAULT,
        callback_schedule: Schedule = schedule.DEFAULT,
        callback_private: bool = True,
        tally: Tally | None = None,
    ) -> None:
        self.runner = runner
        self.artifacts = artifacts
        logs_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = Journal(logs_dir.with_name("journal.sqlite"))
        bounds = Bounds(
            artifacts=max_artifacts_bytes,
            sweep_interval=sweep_interval,
            retention=retention,
            callbacks=callback_schedule,
            private=callback_private,
        )
        self._tally = tally or Uncounted()
        self.keeping = Keeping(journal, logs_dir, artifacts, bounds, self._tally)
        self._store = self.keeping.store
        self.following = self.keeping.following
        self._executor: Executor[Life] = Executor(concurrency=concurrency, max_queue=max_queue)
        self._keys = idempotency.Keys()
        self.replays = idempotency.Replays(self.keeping)
        self._quota = Quota(self._store)
        self._lock = threading.Lock()
        self._lives: dict[str, Life] = {}
        found = in_order(self.keeping.load())
        self._clearing = Clearing(runner, self._store, found, self._alive)
        for entry in found:
            # A command that goes on anyway must be watched, also where there are fewer slots than there were.
            self._executor.preload(self._live(TakenUp(entry, self)), at_work=entry.step is Step.LAUNCHED)

    def start(self) -> None:
        """Start everything that runs beside the requests. Call it in the process that serves."""
        self._executor.start()
        self.keeping.start()
        self._clearing.start()

    def close(self, grace: float = 10.0) -> None:
        """Take no new runs and stop every thread.

        Detached runs are left as they are, for the next server to take up. The others get `grace` seconds
        to end, then they are killed: no container of theirs is left.
        """
        # Whoever follows a run takes up where it stopped with the next server.
        self.following.close()
        for life in self._executor.stop():
            if life.detached:
                self.over(life.run_id)
                self._store.let_go(life.run_id)
            else:
                life.abandon(Reason.INTERRUPTED, "the server was stopped before the run began")
        for life in self._active_lives(detached=True):
            life.leave()
            # It will not end under this server: whoever waits asks the next one.
            self._store.let_go(life.run_id)
        deadline = time.monotonic() + grace
        for life in self._active_lives(detached=False):
            with contextlib.suppress(RunNotFound):
                self._store.wait(life.run_id, max(0.0, deadline - time.monotonic()))
        for life in self._active_lives(detached=False):
            with contextlib.suppress(RunNotActive):
                life.stop(Reason.INTERRUPTED)
        self._executor.close()
        self._clearing.close()
        self.runner.close()
        self.keeping.close()

    @contextlib.contextmanager
    def place(self, owner: str | None = None, max_runs: int | None = None) -> Iterator[Place]:
        """Room for one run, from before its files come until `submit` has it; what came goes otherwise.

        `max_runs` caps the runs of `owner`. Raises `Overloaded`; `InsufficientStorage` for a disk that fills.
        """
        run_id = str(uuid.uuid4())
        with self._quota.place(owner, max_runs, run_id), no_room(run_id):
            try:
                self._executor.reserve()
            except Overloaded:
                self._tally.refused()
                raise
            # From before there is anything of it on the disk, lest that be cleared as an earlier server's.
            self._clearing.accepting.add(run_id)
            place = Place(run_id, self.runner, self._executor.check)
            try:
                yield place
            finally:
                if not place.taken:
                    self._executor.release()
                    self.runner.discard(run_id)
                self._clearing.accepting.discard(run_id)

    def submit(self, request: RunRequest, place: Place | None = None) -> Run:
        """Accept a run: it is on disk with its files, and has a slot or a place in the queue.

        Files that came by `place` are its files. With an Idempotency-Key that was used before, that run. Raises
        `Overloaded` before anything is written, `InsufficientStorage` where it does not fit, `IdempotencyConflict`.
        """
        key, owner = request.idempotency_key, request.owner or ""
        if key is None:
            return self._admit(request, place, None)
        with self._keys.claim(owner, key, request.body_digest):
            known = self.replays.run(owner, key, request.body_digest)
            return known or self._admit(request, place, key)

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has ended, or as it is after `timeout` seconds. Raises `RunNotFound`."""
        return self._store.wait(run_id, timeout)

    def get(self, run_id: str) -> Run:
        """The run as it is now. Raises `RunNotFound`."""
        return self._store.get(run_id)

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
    ) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first, and whether more follow; see `RunStore.list`."""
        return self._store.list(status=status, limit=limit, before=before, owner=owner)

    def cancel(self, run_id: str) -> None:
        """Cancel a run in whatever state; it has ended when this returns, if the engine does its part soon.

        Raises `RunNotFound`, and `RunNotActive` where it has ended already.
        """
        self._store.get(run_id)
        with self._lock:
            life = self._lives.get(run_id)
        if life is None:
            raise RunNotActive("the run has ended already")
        life.stop(Reason.CANCELLED)
        if life.may_wait and self._executor.withdraw(run_id) is not None:
            life.abandon(Reason.CANCELLED, "the run was cancelled while it waited")
        else:
            with contextlib.suppress(RunNotFound):
                if not self._store.wait(run_id, CANCEL_WAIT).ended:
                    self.keeping.cancelling(run_id)

    def delete(self, run_id: str) -> None:
        """Forget a run that has ended, with its artifacts and its log. Raises `RunNotFound`, `RunActive`."""
        self.keeping.delete(run_id)

    def redeliver(self, run_id: str) -> None:
        """Send a run's callback once more; see `Keeping.redeliver`."""
        self.keeping.redeliver(run_id)

    def log_lines(self, run_id: str) -> Iterator[LogLine]:
        """The lines a run has written so far; see `Following.lines`."""
        return self.following.lines(run_id)

    def health(self) -> Health:
        """What the engine is like now."""
        return self.runner.health()

    def levels(self) -> Levels:
        """How much there is of everything; the engine is asked once a second at most."""
        at_work, waiting = self._executor.counts()
        return Levels(
            queued=waiting,
            at_work=at_work,
            kept=len(self._store) - len(self._store.active()),
            parked=self.runner.parked,
            callbacks=self.keeping.callbacks,
            artifact_bytes=self.keeping.artifact_bytes,
            engine=self.health().docker,
        )

    # What follows is called by the lives, see `Surroundings`.

    def prepare(self) -> None:
        """See `Clearing.prepare`."""
        self._clearing.prepare()

    def over(self, run_id: str) -> None:
        """Drop a run's life, and its spec with it."""
        with self._lock:
            self._lives.pop(run_id, None)

    def _alive(self, run_id: str) -> bool:
        # Seen as ended, a run still has its container until its life is over.
        with self._lock:
            return run_id in self._lives or run_id in self._store.active()

    def _admit(self, request: RunRequest, place: Place | None, key: str | None) -> Run:
        if place is not None:
            return self._accept(request, place, key)
        with self.place(request.owner, request.max_runs) as own:
            self.runner.stage(own.run_id, request.spec.files)
            return self._accept(request, own, key)

    def _accept(self, request: RunRequest, place: Place, key: str | None) -> Run:
        run_id = place.run_id
        self._write_down(request, run_id, key)
        # Its files are on disk, and so is what else is large: what waits in the queue holds none of it.
        spec = replace(request.spec, files={})
        held = spec if _weight(spec) <= LARGEST_HELD else None
        life = self._live(Life(run_id, self, detached=request.detached, spec=held))
        place.taken = True
        try:
            if self._executor.submit(life):
                life.begin()
        except BaseException:
            self.over(run_id)
            self.runner.discard(run_id)
            self.keeping.withdraw(run_id)
            raise
        return self._store.get(run_id)

    def _write_down(self, request: RunRequest, run_id: str, key: str | None) -> None:
        recipient = None
        if request.callback_url is not None:
            recipient = Recipient(request.callback_url, request.callback_secret)
        run = queued(request, run_id, at=datetime.now(timezone.utc))
        owner, now = request.owner or "", time.time()
        used = None if key is None else Key(owner, key, request.body_digest, run_id, now)
        self.keeping.accept(run, request.spec, recipient, used)

    def _live(self, life: Life) -> Life:
        with self._lock:
            self._lives[life.run_id] = life
        return life

    def _active_lives(self, *, detached: bool) -> tuple[Life, ...]:
        with self._lock:
            return tuple(life for life in self._lives.values() if life.detached is detached)


def _weight(spec: RunSpec) -> int:
    return len(spec.stdin or b"") + sum(len(name) + len(value) for name, value in spec.env.items())
