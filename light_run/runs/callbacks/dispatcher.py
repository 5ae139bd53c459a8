"""Callbacks: final run states on their way to who asked for them."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path

from light_run.artifacts.periodic import Periodic
from light_run.runs.callbacks.delivery import CallbackMessage, Recipient, write
from light_run.runs.callbacks.http import FAILURES, NO_ANSWER, PostDeadline, PostResponse, post
from light_run.runs.callbacks.schedule import Schedule, judge
from light_run.runs.callbacks.targets import TargetRefused, parse, resolve
from light_run.runs.fairness import is_fair
from light_run.runs.model import CallbackState, Delivery, RunRecord
from light_run.runs.tracing import NoTracer, Tracer, report_callback
from light_run.system.folders import make_private

_log = logging.getLogger(__name__)

TIMEOUT = 15.0
_LEVELS = {Delivery.PENDING: logging.INFO, Delivery.DELIVERED: logging.INFO, Delivery.FAILED: logging.WARNING}
# Threads in all, and for one receiver; those whose last answer took longer than SLOW share half of them.
THREADS = 32
PER_RECEIVER = 2
SLOW = 3.0
MOST_SLOW = 10_000
# Of runs that are forgotten already, so many callbacks wait at most: each keeps a log.
MOST_FORGOTTEN = 10_000
# A body up to this size is kept in memory while it is sent, a larger one on disk.
IN_MEMORY = 1 << 20
CLOSE_WAIT = 5.0
# Where the system has no thread to give, it is asked again after so many seconds.
NO_THREAD = 1.0
# Sleeping longer than this brings nothing.
INTERVAL = 60.0


class CallbackDispatcher:
    """Delivers callbacks, each again and again until a receiver takes it or `schedule` gives it up.

    `content` gives the pieces of a body; `record` is told how each callback goes, and `dropped` that one
    is over whose run was forgotten meanwhile. Large bodies wait in files below `spool`. `private` allows
    loopback and private addresses.
    """

    def __init__(
        self,
        *,
        content: Callable[[RunRecord], Iterable[bytes]],
        record: Callable[[str, CallbackState], None],
        dropped: Callable[[str], None],
        schedule: Schedule,
        spool: Path,
        private: bool = True,
        timeout: float = TIMEOUT,
        tracer: Tracer | None = None,
    ) -> None:
        self._content = content
        self._record = record
        self._dropped = dropped
        self._schedule = schedule
        self._spool = spool
        self._private = private
        self._timeout = timeout
        self._tracer = tracer or NoTracer()
        self._lock = threading.Lock()
        self._parcels: dict[str, CallbackMessage] = {}
        # Those whose run was forgotten, in that order.
        self._forgotten: dict[str, None] = {}
        # (due, tie-breaker, run id); entries whose parcel has another due time by now are passed over.
        self._later: list[tuple[float, int, str]] = []
        self._entries = 0
        # By owner of the run and receiver.
        self._ready: dict[tuple[str | None, str], deque[CallbackMessage]] = {}
        self._at_work: Counter[str] = Counter()
        self._owners_at_work: Counter[str | None] = Counter()
        self._slow: set[str] = set()
        self._threads: dict[threading.Thread, PostDeadline] = {}
        self._closed = False
        self._periodic = Periodic("light-run-courier", self.step, INTERVAL, time.monotonic)

    def start(self) -> None:
        """Start the thread that sends what is due."""
        self._periodic.start()

    def close(self) -> None:
        """Send nothing more, cut off what is being sent, and wait for it. What was not taken stays pending."""
        with self._lock:
            self._closed = True
            deadlines = list(self._threads.values())
        self._periodic.close()
        for deadline in deadlines:
            deadline.cut()
        for thread in list(self._threads):
            # A name server that does not answer is all that can take longer, and ends with the process.
            thread.join(CLOSE_WAIT)

    def add(self, run: RunRecord, recipient: Recipient, *, age: float, state: CallbackState) -> None:
        """Take the callback of `run`, which ended `age` seconds ago; `send` says when it is to be sent."""
        try:
            target = parse(recipient.url)
        except TargetRefused as error:
            _log.warning("callback cannot be sent", extra={"run": run.id, "error": str(error)})
            self._record(run.id, CallbackState(Delivery.FAILED, state.attempts, state.last_status))
            return
        since = time.monotonic() - age
        message = CallbackMessage(
            run, recipient, target, since, attempts=state.attempts, last_status=state.last_status
        )
        with self._lock:
            known = self._parcels.get(run.id)
            if known is not None and known.under_way:
                known.again = message
            else:
                self._parcels[run.id] = message

    def send(self, run_id: str, *, after: float = 0.0) -> None:
        """Send what was taken for `run_id` after so many seconds; nothing where there is nothing."""
        with self._lock:
            message = self._parcels.get(run_id)
            if message is None or message.under_way:
                return
            message.due = time.monotonic() + after
            self._enter(message)
        self._periodic.wake()

    def forget(self, run_id: str) -> bool:
        """True where the run's callback is still to be delivered; `dropped` is called once it is over."""
        with self._lock:
            message = self._parcels.get(run_id)
            if message is None:
                return False
            message.forgotten = True
            self._forgotten[run_id] = None
            too_many = self._too_many()
        for each in too_many:
            _log.warning("callback given up: too many of forgotten runs wait", extra={"run": each})
            self._dropped(each)
        return True

    @property
    def pending(self) -> int:
        """How many are still to be delivered."""
        with self._lock:
            return len(self._parcels)

    def step(self, now: float) -> int:
        """Begin to send what is due by the monotonic clock, as far as there are threads; how many that were."""
        begun = 0
        with self._lock:
            while self._later and self._later[0][0] <= now:
                due, _, run_id = heappop(self._later)
                message = self._parcels.get(run_id)
                if message is not None and message.due == due and not message.under_way:
                    message.under_way = True
                    self._ready.setdefault((message.run.owner, message.target.origin), deque()).append(
                        message
                    )
            while (message := self._next()) is not None:
                self._begin(message)
                begun += 1
            if self._later:
                self._periodic.wake_in(max(0.0, self._later[0][0] - now))
        return begun

    def _too_many(self) -> list[str]:
        # Those that were forgotten first; what is under way comes to its end by itself.
        excess = len(self._forgotten) - MOST_FORGOTTEN
        waiting = (each for each in self._forgotten if not self._parcels[each].under_way)
        chosen = list(islice(waiting, max(0, excess)))
        for each in chosen:
            del self._forgotten[each], self._parcels[each]
        return chosen

    def _enter(self, message: CallbackMessage) -> None:
        self._entries += 1
        heappush(self._later, (message.due, self._entries, message.run.id))

    def _next(self) -> CallbackMessage | None:
        # The token with the fewest threads at work comes first, then the receiver with the fewest: none is served at
        # another's cost.
        if self._closed or len(self._threads) >= THREADS:
            return None
        slow_at_work = sum(self._at_work[origin] for origin in self._slow)
        free = THREADS - len(self._threads)

        def rank(ready: tuple[str | None, str]) -> tuple[int, int]:
            owner, origin = ready
            return self._owners_at_work[owner], self._at_work[origin]

        for owner, origin in sorted(self._ready, key=rank):
            if self._at_work[origin] >= PER_RECEIVER or not is_fair(self._owners_at_work[owner], free, owner):
                continue
            if origin in self._slow and slow_at_work >= THREADS // 2:
                continue
            message = self._ready[owner, origin].popleft()
            if not self._ready[owner, origin]:
                del self._ready[owner, origin]
            return message
        return None

    def _begin(self, message: CallbackMessage) -> None:
        deadline = PostDeadline(self._timeout)
        thread = threading.Thread(
            target=self._deliver, args=(message, deadline), name="light-run-callback", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("callback waits: %s", error, extra={"run": message.run.id})
            message.under_way = False
            message.due = time.monotonic() + NO_THREAD
            self._enter(message)
            return
        self._threads[thread] = deadline
        self._at_work[message.target.origin] += 1
        self._owners_at_work[message.run.owner] += 1

    def _deliver(self, message: CallbackMessage, deadline: PostDeadline) -> None:
        begun, begun_at = time.monotonic(), datetime.now(timezone.utc)
        answer = self._attempt(message, deadline)
        slow = time.monotonic() - begun > SLOW
        report_callback(
            self._tracer, message.run, begun_at, attempt=message.attempts + 1, status=answer.status
        )
        try:
            # Cut off by `close`, it was no try; taken at the last moment, it was.
            if answer is not NO_ANSWER or not self._closed:
                self._judge(message, answer)
        finally:
            self._done(message, slow=slow)

    def _attempt(self, message: CallbackMessage, deadline: PostDeadline) -> PostResponse:
        try:
            addresses = resolve(message.target, private=self._private)
            make_private(self._spool)
            with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(self._spool)) as body:
                headers = write(message, self._content(message.run), body, int(time.time()))
                body.seek(0)
                return post(message.target, addresses, headers, body, deadline)
        except (TargetRefused, *FAILURES) as error:
            _log.info("callback not taken", extra={"run": message.run.id, "error": str(error)})
        except Exception:  # noqa: BLE001
            _log.exception("callback could not be sent", extra={"run": message.run.id})
        return NO_ANSWER

    def _judge(self, message: CallbackMessage, answer: PostResponse) -> None:
        message.attempts += 1
        message.last_status = answer.status
        verdict = judge(
            self._schedule,
            attempts=message.attempts,
            age=time.monotonic() - message.since,
            status=answer.status,
            retry_after=answer.retry_after,
            random=random.random,
        )
        next_attempt = None
        if verdict.again is not None:
            next_attempt = datetime.now(timezone.utc) + timedelta(seconds=verdict.again)
            state = Delivery.PENDING
        elif verdict.delivered:
            state = Delivery.DELIVERED
        else:
            state = Delivery.FAILED
        extra = {"run": message.run.id, "attempts": message.attempts, "status": answer.status}
        _log.log(_LEVELS[state], "callback %s", state, extra=extra)
        self._record(
            message.run.id, CallbackState(state, message.attempts, message.last_status, next_attempt)
        )
        self._put_back(message, verdict.again)

    def _put_back(self, message: CallbackMessage, again: float | None) -> None:
        with self._lock:
            message.under_way = False
            later = message.again
            if later is not None:
                later.attempts, later.last_status, later.forgotten = (
                    message.attempts,
                    message.last_status,
                    message.forgotten,
                )
                self._parcels[message.run.id] = message = later
                again = 0.0
            if again is None:
                del self._parcels[message.run.id]
                self._forgotten.pop(message.run.id, None)
            else:
                message.due = time.monotonic() + again
                self._enter(message)
        if later is not None:
            soon = datetime.now(timezone.utc)
            self._record(
                message.run.id, CallbackState(Delivery.PENDING, message.attempts, message.last_status, soon)
            )
        elif again is None and message.forgotten:
            self._dropped(message.run.id)

    def _done(self, message: CallbackMessage, *, slow: bool) -> None:
        origin, owner = message.target.origin, message.run.owner
        with self._lock:
            self._owners_at_work[owner] -= 1
            if not self._owners_at_work[owner]:
                del self._owners_at_work[owner]
            del self._threads[threading.current_thread()]
            self._at_work[origin] -= 1
            if not self._at_work[origin]:
                del self._at_work[origin]
            self._slow.discard(origin)
            if slow and len(self._slow) < MOST_SLOW:
                self._slow.add(origin)
        self._periodic.wake()
