"""Work that is done now and then: a step that takes the time as a parameter, and a thread that calls it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Periodic:
    """Calls `step(now)` every `interval` seconds and when woken; `now` is what `clock` says, in seconds."""

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
        """Start the thread; its first step comes at once."""
        self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have the next step now."""
        self._wake.set()

    def wake_in(self, seconds: float) -> None:
        """From within a step: have the next one after so many seconds, if it would not come before anyway."""
        self._due = seconds

    def close(self) -> None:
        """Wait for a step under way, then stop the thread."""
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
                # One bad step (a full disk, say) must not end all that would follow.
                _log.exception("%s: a step failed", self._name)
            self._wake.wait(self._interval if self._due is None else min(self._due, self._interval))
