"""`StdinFeed`: the standard input of a run that is written while the run is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from light_run.errors import StdinClosed

# Seconds between two looks at whether a writer is still wanted.
_LOOK = 1.0


def _nothing() -> None:
    pass


class StdinFeed:
    """Hands what clients write to the thread that sends it to the container. All methods are thread-safe.

    One piece is under way at a time: a writer returns once the engine has taken all of its piece, so nothing waits in
    memory and nothing that was acknowledged is lost with this process.
    """

    def __init__(self) -> None:
        self._wake: Callable[[], object] = _nothing
        self._changed = threading.Condition()
        self._piece: memoryview | None = None
        self._closed = False
        self._broken = False

    def write(self, data: bytes, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Append `data`; returns once the engine has it, however long the run waits for its start.

        A writer that `is_given_up` meanwhile is not waited for: the rest of its piece may be sent or not. Raises
        `StdinClosed` if the input has ended, or the command takes no more of it.
        """
        if not data:
            self.check()
            return
        with self._changed:
            self._await(lambda: self._piece is None, is_given_up)
            self.check()
            if is_given_up():
                return
            mine = self._piece = memoryview(data)
            self._wake()
            self._await(lambda: self._piece is not mine, is_given_up)
            if self._piece is mine:
                # Given up, or the command has gone.
                self._piece = None
                self._changed.notify_all()
                self._check_broken()

    def close(self) -> None:
        """End the input behind what was written. Raises `StdinClosed` if it has ended."""
        with self._changed:
            self.check()
            self._closed = True
            self._changed.notify_all()
            self._wake()

    def check(self) -> None:
        """Raise `StdinClosed` if nothing can be appended any more."""
        self._check_broken()
        if self._closed:
            raise StdinClosed("the standard input of the run was closed")

    # -- called by the thread that sends

    @contextmanager
    def attached(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` when there is something to send, while the block runs; nobody sends after it."""
        with self._changed:
            self._wake = wake
        try:
            yield
        finally:
            with self._changed:
                self._wake = _nothing
            self.abandon()

    def piece(self) -> memoryview | None:
        """What is to be sent now, None if nothing is."""
        return self._piece

    def sent(self, piece: memoryview) -> None:
        """Note that all of `piece` was sent."""
        with self._changed:
            if self._piece is piece:
                self._piece = None
                self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """True once everything was sent, and no more will come."""
        with self._changed:
            return self._piece is None and (self._closed or self._broken)

    def abandon(self) -> None:
        """Let writers fail from now on: nobody sends what they write."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def _check_broken(self) -> None:
        if self._broken:
            raise StdinClosed("the run takes no standard input, or no more of it")

    def _await(self, done: Callable[[], bool], is_given_up: Callable[[], bool]) -> None:
        while not (done() or self._broken or is_given_up()):
            self._changed.wait(_LOOK)
