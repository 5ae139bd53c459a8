"""The executor: a bounded number of jobs at work, a bounded queue, and a refusal for the rest."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from typing import Generic

from light_run.errors import Overloaded
from light_run.runs.execution.queue import J

_log = logging.getLogger(__name__)

# Seconds after which an idle thread ends: starting another one costs less than keeping it.
IDLE = 30.0
LONGEST_RETRY = 60
THREAD_NAME = "light-run-executor"


class Executor(Generic[J]):
    """The `JobQueue` of one process: `concurrency` jobs are at work at once, at most `max_queue` wait."""

    def __init__(self, *, concurrency: int, max_queue: int) -> None:
        self._concurrency = concurrency
        self._max_queue = max_queue
        self._lock = threading.Lock()
        self._handed_over = threading.Condition(self._lock)
        self._reserved = 0
        self._busy = 0
        self._waiting: OrderedDict[str, J] = OrderedDict()
        # Waiting jobs whose command is at work already, since an earlier executor began them.
        self._at_work: list[str] = []
        self._ready: deque[J] = deque()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._typical = 1.0

    def reserve(self) -> None:
        """See `JobQueue`."""
        with self._lock:
            self.check()
            if self._busy + len(self._waiting) + self._reserved >= self._concurrency + self._max_queue:
                seconds = math.ceil(self._typical / self._concurrency)
                raise Overloaded("too many runs are waiting already", min(max(seconds, 1), LONGEST_RETRY))
            self._reserved += 1

    def check(self) -> None:
        """See `JobQueue`."""
        if self._closed:
            raise Overloaded("the server is stopping", retry_after=5)

    def release(self) -> None:
        """See `JobQueue`."""
        with self._lock:
            self._reserved -= 1

    def submit(self, job: J) -> bool:
        """See `JobQueue`."""
        with self._lock:
            self._reserved -= 1
            self.check()
            if self._waiting or self._busy >= self._concurrency:
                self._waiting[job.run_id] = job
                return False
            try:
                self._hand_over(job)
            except RuntimeError as error:
                raise Overloaded(f"the system has no thread left: {error}", retry_after=5) from error
            return True

    def preload(self, job: J, *, at_work: bool = False) -> None:
        """See `JobQueue`."""
        with self._lock:
            self._waiting[job.run_id] = job
            if at_work:
                self._at_work.append(job.run_id)

    def start(self) -> None:
        """See `JobQueue`."""
        with self._lock:
            if self._closed:
                return
            for run_id in self._at_work:
                # It may have been withdrawn.
                if (job := self._waiting.pop(run_id, None)) is not None:
                    self._hand_over(job)
            while self._waiting and self._busy < self._concurrency:
                self._hand_over(self._waiting.popitem(last=False)[1])

    def withdraw(self, run_id: str) -> J | None:
        """See `JobQueue`."""
        with self._lock:
            return self._waiting.pop(run_id, None)

    def counts(self) -> tuple[int, int]:
        """See `JobQueue`."""
        with self._lock:
            return self._busy, len(self._waiting)

    def stop(self) -> list[J]:
        """See `JobQueue`."""
        with self._lock:
            self._closed = True
            waited = list(self._waiting.values())
            self._waiting.clear()
            self._handed_over.notify_all()
        return waited

    def close(self) -> None:
        """See `JobQueue`."""
        self.stop()
        while True:
            with self._lock:
                threads = list(self._threads)
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _hand_over(self, job: J) -> None:
        # Called with the lock held. Raises RuntimeError if no thread can be started.
        if self._idle > len(self._ready):
            self._ready.append(job)
            self._handed_over.notify()
        else:
            thread = threading.Thread(target=self._serve, args=(job,), name=THREAD_NAME, daemon=True)
            thread.start()
            self._threads.add(thread)
        self._busy += 1

    def _serve(self, first: J) -> None:
        job: J | None = first
        while job is not None:
            begun = time.monotonic()
            try:
                job.begin()
                job.work()
            except Exception:  # noqa: BLE001
                # The slot must become free whatever happens; the job itself takes care of its run.
                _log.exception("job failed", extra={"run": job.run_id})
            job = self._next(time.monotonic() - begun)

    def _next(self, took: float) -> J | None:
        # Returns None if this thread is to end.
        with self._lock:
            self._typical += (took - self._typical) / 8
            if self._waiting and self._busy <= self._concurrency:
                return self._waiting.popitem(last=False)[1]
            self._busy -= 1
            self._idle += 1
            self._handed_over.wait_for(lambda: self._ready or self._closed, IDLE)
            self._idle -= 1
            if self._ready:
                return self._ready.popleft()
            self._threads.discard(threading.current_thread())
            return None
