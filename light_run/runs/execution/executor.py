"""The executor: a bounded number of jobs at work, a bounded queue, and a refusal for the rest."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic

from light_run.errors import Overloaded
from light_run.runs.execution.fair_queue import FairQueue
from light_run.runs.execution.queue import J
from light_run.runs.fairness import is_fair

_log = logging.getLogger(__name__)

# Seconds after which an idle thread ends: starting another one costs less than keeping it.
IDLE = 30.0
LONGEST_RETRY = 60
THREAD_NAME = "light-run-executor"
# Jobs that wait without a slot: so many for each slot, and at least so many.
WAITING_FOR_EACH_SLOT, FEWEST_WAITING = 4, 16
# Seconds between two looks of a job that wants its slot back at whether its run is to end.
_LOOK = 0.25


class Executor(Generic[J]):
    """The `JobQueue` of one process: `concurrency` jobs are at work at once, at most `max_queue` wait.

    A slot that becomes free is for the token with the fewest jobs at work; of its jobs, for the one that came first. A
    named token gets a fair share of all places, see `is_fair`. A job that only waits can do so without its slot.
    """

    def __init__(self, *, concurrency: int, max_queue: int) -> None:
        self._concurrency = concurrency
        self._max_queue = max_queue
        # Threads at most: jobs in a slot, and jobs that have given theirs away for a while.
        self._most_at_work = concurrency + max(FEWEST_WAITING, WAITING_FOR_EACH_SLOT * concurrency)
        self._lock = threading.Lock()
        self._handed_over = threading.Condition(self._lock)
        self._freed = threading.Condition(self._lock)
        self._reserved: Counter[str | None] = Counter()
        self._busy = 0
        # Begun and not ended: those with a slot and those that wait without one.
        self._at_work: Counter[str | None] = Counter()
        self._returning: deque[str] = deque()
        self._waiting: FairQueue[J] = FairQueue()
        # Waiting jobs whose command is at work already, since an earlier executor began them.
        self._launched: list[str] = []
        self._ready: deque[J] = deque()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._typical = 1.0

    def reserve(self, owner: str | None = None) -> None:
        """See `JobQueue`."""
        with self._lock:
            self.check()
            places = self._concurrency + self._max_queue
            taken = self._at_work.total() + len(self._waiting) + self._reserved.total()
            mine = self._at_work[owner] + self._waiting.waiting(owner) + self._reserved[owner]
            if not is_fair(mine, places - taken, owner):
                seconds = min(max(math.ceil(self._typical / self._concurrency), 1), LONGEST_RETRY)
                whose = "runs" if taken >= places else "runs of this token"
                raise Overloaded(f"too many {whose} are waiting already", seconds)
            self._reserved[owner] += 1

    def check(self) -> None:
        """See `JobQueue`."""
        if self._closed:
            raise Overloaded("the server is stopping", retry_after=5)

    def release(self, owner: str | None = None) -> None:
        """See `JobQueue`."""
        with self._lock:
            self._reserved[owner] -= 1

    def submit(self, job: J) -> bool:
        """See `JobQueue`."""
        with self._lock:
            self._reserved[job.owner] -= 1
            self.check()
            self._waiting.add(job)
            try:
                self._fill()
            except RuntimeError as error:
                # Another job at work will take it, if there is one.
                if not self._busy and self._waiting.remove(job.run_id) is not None:
                    raise Overloaded(f"the system has no thread left: {error}", retry_after=5) from error
            return job.run_id not in self._waiting

    def preload(self, job: J, *, at_work: bool = False) -> None:
        """See `JobQueue`."""
        with self._lock:
            self._waiting.add(job)
            if at_work:
                self._launched.append(job.run_id)

    def start(self) -> None:
        """See `JobQueue`."""
        with self._lock:
            if self._closed:
                return
            for run_id in self._launched:
                # It may have been withdrawn.
                if (job := self._waiting.remove(run_id)) is not None:
                    self._hand_over(job)
            self._fill()

    def withdraw(self, run_id: str) -> J | None:
        """See `JobQueue`."""
        with self._lock:
            return self._waiting.remove(run_id)

    def counts(self) -> tuple[int, int]:
        """See `JobQueue`."""
        with self._lock:
            return self._at_work.total(), len(self._waiting)

    @contextmanager
    def without_slot(self, job: J, is_over: Callable[[], bool]) -> Iterator[None]:
        """See `JobQueue`."""
        with self._lock:
            self._busy -= 1
            self._fill_if_possible()
        urgent = True
        try:
            yield
            urgent = False
        finally:
            self._regain(job.run_id, lambda: urgent or is_over())

    def stop(self) -> list[J]:
        """See `JobQueue`."""
        with self._lock:
            self._closed = True
            waited = self._waiting.clear()
            self._handed_over.notify_all()
            self._freed.notify_all()
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

    # What follows is called with the lock held, but for `_regain`, `_serve` and `_next`.

    def _regain(self, run_id: str, at_once: Callable[[], bool]) -> None:
        with self._lock:
            self._returning.append(run_id)
            while self._busy >= self._concurrency or self._returning[0] != run_id:
                if self._closed or at_once():
                    break
                self._freed.wait(_LOOK)
            self._returning.remove(run_id)
            self._busy += 1
            self._freed.notify_all()

    def _take(self) -> J | None:
        # The next job, if there is a slot for it that nobody wants back.
        if self._busy + len(self._returning) >= self._concurrency:
            return None
        free = self._most_at_work - self._at_work.total()
        return self._waiting.take(
            self._at_work.__getitem__, lambda owner: is_fair(self._at_work[owner], free, owner)
        )

    def _fill(self) -> None:
        # Raises RuntimeError if no thread can be started.
        while (job := self._take()) is not None:
            try:
                self._hand_over(job)
            except RuntimeError:
                self._waiting.add(job, first=True)
                raise

    def _fill_if_possible(self) -> None:
        try:
            self._fill()
        except RuntimeError as error:
            _log.warning(
                "the system has no thread left: %s; a queued run starts once another one has ended", error
            )

    def _hand_over(self, job: J) -> None:
        # Raises RuntimeError if no thread can be started.
        if self._idle > len(self._ready):
            self._ready.append(job)
            self._handed_over.notify()
        else:
            thread = threading.Thread(target=self._serve, args=(job,), name=THREAD_NAME, daemon=True)
            thread.start()
            self._threads.add(thread)
        self._begin(job)

    def _begin(self, job: J) -> None:
        self._busy += 1
        self._at_work[job.owner] += 1

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
            job = self._next(job.owner, time.monotonic() - begun)

    def _next(self, owner: str | None, took: float) -> J | None:
        # Returns None if this thread is to end.
        with self._lock:
            self._typical += (took - self._typical) / 8
            self._busy -= 1
            self._at_work[owner] -= 1
            if not self._at_work[owner]:
                del self._at_work[owner]
            self._freed.notify_all()
            if (job := self._take()) is not None:
                self._begin(job)
                # Where the end of this job lets others begin that could not.
                self._fill_if_possible()
                return job
            self._idle += 1
            self._handed_over.wait_for(lambda: self._ready or self._closed, IDLE)
            self._idle -= 1
            if self._ready:
                return self._ready.popleft()
            self._threads.discard(threading.current_thread())
            return None
