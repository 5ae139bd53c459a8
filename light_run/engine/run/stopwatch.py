"""How long each step of a run takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from light_run.engine.spec import RunTimings


class Stopwatch:
    """Takes the time of steps, each named as a field of `RunTimings`; `last` is the last that was begun."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self.last: str | None = None

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of the block, however it ends."""
        begun = time.monotonic()
        self.last = name
        try:
            yield
        finally:
            self._spent[name] = (time.monotonic() - begun) * 1000

    def timings(self) -> RunTimings:
        """What was taken so far."""
        return RunTimings(**{name: round(spent, 1) for name, spent in self._spent.items()})
