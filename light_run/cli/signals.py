"""Signal handling while attached to a run: the first signal cancels the run, the second ends the command."""

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
_POLL_INTERVAL = 0.1


class SignalHandler:
    """In its block, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; `signal` is the last one received."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._on_signal) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a command ended by a signal."""
        return 128 + (self.signal or signal.SIGINT)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal in the block until `check`; a second one raises KeyboardInterrupt at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was received."""
        if self.signal is not None:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep like `time.sleep`, but raise KeyboardInterrupt after a deferred signal."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_POLL_INTERVAL, left))
            self.check()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if again or not self._deferred:
            raise KeyboardInterrupt
