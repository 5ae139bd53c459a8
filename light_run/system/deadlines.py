"""Deadlines for reading from clients: who sends slower than that does not keep a thread.

A timeout of the socket would begin anew with each byte. Here the receiving half of the connection is shut
at the deadline, which ends a read under way as if the client had; the answer can still be sent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# How late a deadline may be noticed, in seconds.
PRECISION = 0.25
# How long the thread stays without anything to watch.
_IDLE = 1.0


class Deadline:
    """One connection's; `passed` is True from when it was shut."""

    def __init__(self, connection: socket.socket, at: float) -> None:
        self._connection = connection
        self.at = at
        self.passed = False

    def shut(self) -> None:
        """Shut down the connection, which ends a read."""
        self.passed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)


class Deadlines:
    """Watches over any number of connections with one thread, which ends when there is nothing to watch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: set[Deadline] = set()
        self._watching = False
        # When the thread looks again by itself: most requests are over by then, and need not wake it.
        self._wakes_at = float("inf")

    def start(self, connection: socket.socket, seconds: float) -> Deadline:
        """Start a deadline for reading from `connection`, in seconds; end it with `stop`."""
        deadline = Deadline(connection, time.monotonic() + seconds)
        with self._changed:
            self._pending.add(deadline)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="light-run-deadlines", daemon=True).start()
            elif deadline.at < self._wakes_at:
                self._changed.notify()
        return deadline

    def stop(self, deadline: Deadline) -> None:
        """End `deadline`: it no longer shuts its connection down. May be called again."""
        with self._changed:
            self._pending.discard(deadline)

    @contextmanager
    def within(self, connection: socket.socket | None, seconds: float) -> Iterator[Deadline | None]:
        """`start` and `stop` around a block; yields None if there is no connection."""
        if connection is None:
            yield None
            return
        deadline = self.start(connection, seconds)
        try:
            yield deadline
        finally:
            self.stop(deadline)

    def _watch(self) -> None:
        with self._changed:
            while self._pending or self._sleep(time.monotonic() + _IDLE) or self._pending:
                now = time.monotonic()
                # With the lock held, so that nothing is shut after its `stop`; shutting does not block.
                for deadline in [each for each in self._pending if each.at <= now]:
                    self._pending.discard(deadline)
                    deadline.shut()
                self._sleep(min([each.at for each in self._pending], default=now) + PRECISION)
            self._watching = False

    def _sleep(self, until: float) -> bool:
        self._wakes_at = min(until, time.monotonic() + _IDLE)
        return self._changed.wait(self._wakes_at - time.monotonic())


DEADLINES = Deadlines()
