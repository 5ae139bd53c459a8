"""Single flight: however many ask for the same thing at once, it is done once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from light_run.engine.cancel import CancelToken

T = TypeVar("T")

Progress = Callable[[str], None]


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.passengers = 0
        self.progress = ""
        self.landed = False
        self.result: T | None = None
        self.error: BaseException | None = None
        # Set when the last passenger has left: whoever does the work should give up.
        self.abandoned = CancelToken()


class SingleFlight(Generic[T]):
    """Runs a piece of work in a thread of its own, shared by all who ask for the same key meanwhile.

    A passenger that is cancelled leaves without disturbing the others; the work itself is given up
    when the last one has left.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._threads: set[threading.Thread] = set()

    def close(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for work that was given up to clean up behind itself."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def run(
        self,
        key: Hashable,
        work: Callable[[CancelToken, Progress], T],
        cancel: CancelToken,
        progress: Progress,
    ) -> T:
        """The result of `work(abandoned, progress)` for `key`. Raises what it raises, or Cancelled."""
        cancel.check()
        with self._lock:
            flight = self._flights.get(key)
            # One that was abandoned is on its way down: a newcomer starts afresh.
            if flight is None or flight.abandoned.cancelled:
                flight = _Flight()
                # Known once it flies: where no thread can be had, nobody may wait for one.
                thread = threading.Thread(
                    target=self._fly, args=(key, flight, work), name=f"{self._name}-{key}"[:60], daemon=True
                )
                thread.start()
                self._threads.add(thread)
                self._flights[key] = flight
            flight.passengers += 1
        try:
            return _ride(flight, cancel, progress)
        finally:
            with self._lock:
                flight.passengers -= 1
                if not flight.passengers and not flight.landed:
                    flight.abandoned.cancel()

    def _fly(self, key: Hashable, flight: _Flight[T], work: Callable[[CancelToken, Progress], T]) -> None:
        def report(message: str) -> None:
            with flight.changed:
                flight.progress = message
                flight.changed.notify_all()

        try:
            flight.result = work(flight.abandoned, report)
        except BaseException as error:  # noqa: BLE001 - it is raised again in every passenger
            flight.error = error
        with self._lock:
            self._threads.discard(threading.current_thread())
            if self._flights.get(key) is flight:
                del self._flights[key]
        with flight.changed:
            flight.landed = True
            flight.changed.notify_all()


def _ride(flight: _Flight[T], cancel: CancelToken, progress: Progress) -> T:
    def wake() -> None:
        with flight.changed:
            flight.changed.notify_all()

    told = ""
    with cancel.calling(wake):
        while True:
            with flight.changed:
                flight.changed.wait_for(
                    lambda: flight.landed or cancel.cancelled or flight.progress != told  # noqa: B023
                )
                news = flight.progress
                landed = flight.landed
            cancel.check()
            if landed:
                break
            told = news
            # Outside the lock: it may write to a disk.
            progress(news)
    if flight.error is not None:
        raise flight.error
    return flight.result  # type: ignore[return-value]
