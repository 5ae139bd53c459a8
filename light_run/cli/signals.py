"""Signals, while a run is looked after: the first ends the run, the second the command."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK = 0.1


class SignalHandler:
    """Within its block, SIGINT, SIGTERM and SIGHUP are KeyboardInterrupts; `signal` is the one that came."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._held = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._heed) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    @property
    def exit_code(self) -> int:
        """What shells expect of a command that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the first signal back in the block, until `check`; a second one is a KeyboardInterrupt at once."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where a signal has come."""
        if self.signal is not None:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep as `time.sleep` does, but not on after a signal."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK, left))
            self.check()

    def _heed(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if again or not self._held:
            raise KeyboardInterrupt
