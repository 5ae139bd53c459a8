"""The one thing the API calls: runs submitted, watched, cancelled and deleted."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from light_run.artifacts.store import ArtifactStore
from light_run.artifacts.sweeper import INTERVAL, Sweeper
from light_run.engine.cancel import CancelToken
from light_run.engine.output import read_log
from light_run.engine.spec import Destinations, Reason
from light_run.errors import InsufficientStorage, RunActive, RunNotActive, RunNotFound
from light_run.runs.callbacks import Courier, Recipient
from light_run.runs.executor import Executor
from light_run.runs.life import Life
from light_run.runs.model import CallbackState, Delivery, Run, RunRequest, Status
from light_run.runs.ports import Health, LogLine, Runner
from light_run.runs.schedule import DEFAULT, Schedule
from light_run.runs.state import stream_state
from light_run.runs.store import RunStore

_log = logging.getLogger(__name__)

GIB = 1 << 30
# A cancel is answered once the run has ended, or after so many seconds where the engine takes its time.
CANCEL_WAIT = 5.0


class RunService:
    """Runs, from request to deletion.

    `concurrency` runs are at work at once, each holding its slot until its container is gone; `max_queue`
    more wait in order. `logs_dir` holds one spool a run. `max_artifacts_bytes` caps all artifact folders,
    looked after every `sweep_interval` seconds. `callback_private` allows callbacks to loopback and private
    addresses.
    The runner is the service's own from here on: `start` starts it, `close` closes it.
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
        callback_schedule: Schedule = DEFAULT,
        callback_private: bool = True,
    ) -> None:
        logs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.runner = runner
        self.artifacts = artifacts
        self.store = RunStore()
        self._logs_dir = logs_dir
        self._executor: Executor[Life] = Executor(concurrency=concurrency, max_queue=max_queue)
        self._lock = threading.Lock()
        self._lives: dict[str, Life] = {}
        self._recipients: dict[str, Recipient] = {}
        self._sweeper = Sweeper(
            artifacts,
            max_artifacts_bytes,
            protected=self.store.active,
            evicted=self._evicted,
            created=self._created,
            interval=sweep_interval,
        )
        self._courier = Courier(
            content=self._callback_body,
            record=self._callback_went,
            dropped=self._drop_log,
            schedule=callback_schedule,
            spool=logs_dir,
            private=callback_private,
        )

    def start(self) -> None:
        """Start everything that runs beside the requests. Call it in the process that serves."""
        self.runner.start()
        self._sweeper.start()
        self._courier.start()

    def close(self, grace: float = 10.0) -> None:
        """Take no new runs; give those at work `grace` seconds to end, then kill them; stop every thread.

        No container of theirs is left afterwards.
        """
        for life in self._executor.stop():
            life.abandon(Reason.INTERRUPTED, "the server was stopped before the run began")
        deadline = time.monotonic() + grace
        for life in self._active_lives():
            with suppress(RunNotFound):
                self.store.wait(life.run_id, max(0.0, deadline - time.monotonic()))
        for life in self._active_lives():
            with suppress(RunNotActive):
                life.stop(Reason.INTERRUPTED)
        self._executor.close()
        self._sweeper.close()
        self._courier.close()
        self.runner.close()

    def submit(self, request: RunRequest) -> Run:
        """Accept a run: its files are staged and it has a slot or a place in the queue.

        Raises `Overloaded` before anything is written, `InsufficientStorage` where the files do not fit.
        """
        self._executor.reserve()
        run_id = str(uuid.uuid4())
        try:
            self._stage(run_id, request)
        except BaseException:
            self._executor.release()
            raise
        run = Run(
            id=run_id,
            status=Status.QUEUED,
            created_at=datetime.now(timezone.utc),
            detached=request.detached,
            owner=request.owner,
            callback=None if request.callback_url is None else CallbackState(),
        )
        if request.callback_url is not None:
            self._recipients[run_id] = Recipient(request.callback_url, request.callback_secret)
        # The files are on disk; what waits in the queue must not hold them in memory as well.
        spec = replace(request.spec, files={})
        life = Life(run_id, spec, CancelToken(), self, detached=request.detached)
        with self._lock:
            self._lives[run_id] = life
        self.store.add(run)
        try:
            if self._executor.submit(life):
                life.begin()
        except BaseException:
            life.abandon(Reason.INTERRUPTED, "the server was stopped before the run began")
            self._forget(run_id)
            raise
        return self.store.get(run_id)

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has ended, or as it is after `timeout` seconds. Raises `RunNotFound`."""
        return self.store.wait(run_id, timeout)

    def get(self, run_id: str) -> Run:
        """The run as it is now. Raises `RunNotFound`."""
        return self.store.get(run_id)

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
    ) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first, and whether more follow; see `RunStore.list`."""
        return self.store.list(status=status, limit=limit, before=before, owner=owner)

    def cancel(self, run_id: str) -> None:
        """Cancel a run in whatever state; it has ended when this returns, if the engine does its part soon.

        Raises `RunNotFound`, and `RunNotActive` where it has ended already.
        """
        self.store.get(run_id)
        with self._lock:
            life = self._lives.get(run_id)
        if life is None:
            raise RunNotActive("the run has ended already")
        life.stop(Reason.CANCELLED)
        if self._executor.withdraw(run_id) is not None:
            life.abandon(Reason.CANCELLED, "the run was cancelled while it waited")
        else:
            with suppress(RunNotFound):
                self.store.wait(run_id, CANCEL_WAIT)

    def delete(self, run_id: str) -> None:
        """Forget a run that has ended, with its artifacts and its log. Raises `RunNotFound`, `RunActive`."""
        self._forget(run_id)
        self._sweeper.removed(run_id)
        self.artifacts.remove(run_id)

    def log_lines(self, run_id: str) -> Iterator[LogLine]:
        """The lines a run has written so far, all of them once it has ended; none for a run that is gone."""
        try:
            ended = self.store.get(run_id).ended
        except RunNotFound:
            ended = True
        return read_log(self._log(run_id), ended=ended)

    def redeliver(self, run_id: str) -> None:
        """Send the callback of a run that has ended once more, now. Raises `RunNotFound`, `RunActive`.

        A run that asked for no callback has none to be found.
        """
        run = self.store.get(run_id)
        recipient = self._recipients.get(run_id)
        if recipient is None or run.callback is None:
            raise RunNotFound("the run asked for no callback")
        if not run.ended:
            raise RunActive("the run has not ended yet; its callback follows by itself")
        now = time.time()
        self._callback_went(run_id, replace(run.callback, state=Delivery.PENDING, next_attempt_at=_utc(now)))
        self._courier.add(run, recipient, since=now, state=run.callback)
        self._courier.send(run_id, now)

    def health(self) -> Health:
        """What the engine is like now."""
        return self.runner.health()

    # What follows is called by the lives, see `Surroundings`.

    def destinations(self, run_id: str) -> Destinations:
        """Where a run's output goes."""
        return Destinations(log=self._log(run_id), artifacts=self.artifacts.folder(run_id))

    def settle(self, run: Run) -> None:
        """Make room for what the run left, and its callback ready."""
        now = time.time()
        self._sweeper.ended(run.id, sum(artifact.bytes for artifact in run.artifacts), now)
        recipient = self._recipients.get(run.id)
        if recipient is not None and run.callback is not None:
            self._courier.add(run, recipient, since=now, state=run.callback)

    def settled(self, run: Run) -> None:
        """Send the run's callback."""
        self._courier.send(run.id, time.time())

    def over(self, run_id: str) -> None:
        """Drop a run's life, and its spec with it."""
        with self._lock:
            self._lives.pop(run_id, None)

    def _stage(self, run_id: str, request: RunRequest) -> None:
        try:
            self.runner.stage(run_id, request.spec.files)
        except OSError as error:
            self.runner.discard(run_id)
            _log.warning("run %s: its files cannot be written: %s", run_id, error)
            raise InsufficientStorage("the files cannot be written: the state directory is full") from error

    def _active_lives(self) -> tuple[Life, ...]:
        with self._lock:
            return tuple(self._lives.values())

    def _log(self, run_id: str) -> Path:
        return self._logs_dir / run_id

    def _evicted(self, run_id: str) -> None:
        with suppress(RunNotFound):
            self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        self.store.remove(run_id)
        self._recipients.pop(run_id, None)
        # A callback still to be delivered needs the log.
        if not self._courier.forget(run_id):
            self._drop_log(run_id)

    def _drop_log(self, run_id: str) -> None:
        self._log(run_id).unlink(missing_ok=True)

    def _created(self, run_id: str) -> float | None:
        try:
            return self.store.get(run_id).created_at.timestamp()
        except RunNotFound:
            return None

    def _callback_body(self, run: Run) -> Iterator[bytes]:
        return stream_state(run, read_log(self._log(run.id)), callback=False)

    def _callback_went(self, run_id: str, state: CallbackState) -> None:
        with suppress(RunNotFound):
            self.store.update(run_id, callback=state)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
