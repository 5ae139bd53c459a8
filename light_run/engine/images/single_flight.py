"""Single flight: concurrent requests for the same work share one execution."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

from light_run.engine.spec import Progress
from light_run.engine.stop import StopRequest

T = TypeVar("T")

Report = Callable[[Progress], None]
Waiting = Callable[[], AbstractContextManager[None]]

# Seconds between two progress reports to a waiter: engines send about ten messages a second for each layer.
_LOOK = 0.25
# Seconds that abandoned work gets to clean up. If it takes longer, the engine hangs.
_ABANDON_SECONDS = 15.0


class OutOfTime(Exception):
    """The deadline of a waiter has passed.

    `error` is what the work ended with, where this was its last passenger and it was given up for that.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__("out of time")
        self.error = error


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiters = 0
        self.progress: Progress | None = None
        self.finished = False
        self.result: T | None = None
        self.error: BaseException | None = None
        # Requested when the last waiter has left: the work should stop.
        self.abandoned = StopRequest()


class SingleFlight(Generic[T]):
    """Runs work in its own thread; all callers with the same key share one execution.

    A passenger that is cancelled leaves without disturbing the others; the work itself is given up
    when the last one has left.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._threads: set[threading.Thread] = set()

    def close(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until abandoned work has cleaned up."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def run(
        self,
        key: Hashable,
        work: Callable[[StopRequest, Report], T],
        stop: StopRequest,
        report: Report,
        *,
        deadline: float = math.inf,
        waiting: Waiting = nullcontext,
    ) -> T:
        """Return the result of `work(abandoned, report)` for `key`; `report` is called with its progress now and then.

        `waiting` is entered while the caller waits for the work of another one.

        Raises what `work` raises, Cancelled or Detached. At the `deadline` (`time.monotonic()` seconds), raises
        OutOfTime: at once if others still wait for the work, otherwise once it has cleaned up.
        """
        stop.check_start()
        if time.monotonic() >= deadline:
            raise OutOfTime
        with self._lock:
            flight = self._flights.get(key)
            # Abandoned work is about to end: a new caller starts it again.
            mine = flight is None or flight.abandoned.requested is not None
            if flight is None or mine:
                flight = _Flight()
                # Registered after the thread has started: if it cannot be started, nobody must wait for it.
                thread = threading.Thread(
                    target=self._run, args=(key, flight, work), name=f"{self._name}-{key}"[:60], daemon=True
                )
                thread.start()
                self._threads.add(thread)
                self._flights[key] = flight
            flight.waiters += 1
        try:
            with nullcontext() if mine else waiting():
                return _wait_for(flight, stop, report, deadline)
        except OutOfTime:
            pass
        finally:
            with self._lock:
                flight.waiters -= 1
                if not flight.waiters and not flight.finished:
                    flight.abandoned.request()
        raise OutOfTime(_error_of_abandoned(flight))

    def _run(self, key: Hashable, flight: _Flight[T], work: Callable[[StopRequest, Report], T]) -> None:
        def report(progress: Progress) -> None:
            # Does not wake the waiters: with a hundred of them, they would be busy all the time.
            flight.progress = progress

        try:
            flight.result = work(flight.abandoned, report)
        except BaseException as error:  # noqa: BLE001 - it is raised again in every passenger
            flight.error = error
        with self._lock:
            self._threads.discard(threading.current_thread())
            if self._flights.get(key) is flight:
                del self._flights[key]
        with flight.changed:
            flight.finished = True
            flight.changed.notify_all()


def _error_of_abandoned(flight: _Flight[T]) -> BaseException | None:
    if flight.abandoned.requested is None:
        return None
    with flight.changed:
        flight.changed.wait_for(lambda: flight.finished, _ABANDON_SECONDS)
    return flight.error


def _wait_for(flight: _Flight[T], stop: StopRequest, report: Report, deadline: float) -> T:
    def wake() -> None:
        with flight.changed:
            flight.changed.notify_all()

    reported: Progress | None = None
    with stop.subscribed(wake):
        while True:
            with flight.changed:
                patience = max(0.0, min(_LOOK, deadline - time.monotonic()))
                flight.changed.wait_for(
                    lambda: flight.finished or stop.detached or stop.requested is not None, patience
                )
                news = flight.progress
                finished = flight.finished
            stop.check_start()
            if finished:
                break
            if time.monotonic() >= deadline:
                raise OutOfTime
            if news is not None and news != reported:
                reported = news
                # Without the lock, because it may take long.
                report(news)
    if flight.error is not None:
        raise flight.error
    return flight.result  # type: ignore[return-value]
