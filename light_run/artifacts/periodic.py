"""Periodic work: calls a function with the current time, in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Periodic:
    """Calls `step(now)` every `interval` seconds and after `wake`; `now` is `clock()`, in seconds."""

    def __init__(
        self,
        name: str,
        step: Callable[[float], object],
        interval: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._step = step
        self._interval = interval
        self._clock = clock
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread and run the first step at once."""
        self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Run the next step now."""
        self._wake.set()

    def wake_in(self, seconds: float) -> None:
        """Run the next step after `seconds`, if `interval` is longer. Call this only within a step."""
        self._due = seconds

    def close(self) -> None:
        """Wait for the current step, then stop the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._due = None
            try:
                self._step(self._clock())
            except Exception:  # noqa: BLE001
                # A failed step, for example because of a full disk, must not stop the thread.
                _log.exception("%s: a step failed", self._name)
            self._wake.wait(self._interval if self._due is None else min(self._due, self._interval))
