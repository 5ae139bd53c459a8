"""A wish to stop, passed from whoever has it to whoever works."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from light_run.engine.spec import Reason
from light_run.errors import Cancelled


class CancelToken:
    """Asks one run to stop; any thread may call `cancel`, as often as it likes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._subscribers: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the run to stop. Returns at once; the run's own thread does the work."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber()

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for a cancel; True where it came."""
        with self.descriptor() as descriptor:
            # Not by select, which takes no descriptor beyond 1023.
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(timeout * 1000))

    def check(self) -> None:
        """Raise `Cancelled` once `cancel` was called."""
        if self._cancelled:
            raise Cancelled("the run was cancelled")

    @contextmanager
    def calling(self, subscriber: Callable[[], None]) -> Iterator[None]:
        """Call `subscriber` on a cancel while the block runs; at once where it came before."""
        with self._lock:
            self._subscribers.append(subscriber)
            came_before = self._cancelled
        if came_before:
            subscriber()
        try:
            yield
        finally:
            with self._lock:
                self._subscribers.remove(subscriber)

    @contextmanager
    def descriptor(self) -> Iterator[int]:
        """A descriptor that becomes readable on a cancel, for a poll beside sockets."""
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        lock = threading.Lock()
        open_ = True

        def wake() -> None:
            with lock:
                if open_:
                    os.eventfd_write(descriptor, 1)

        try:
            with self.calling(wake):
                yield descriptor
        finally:
            # A cancel may have taken its copy of the subscribers just before: never write to a reused number.
            with lock:
                open_ = False
                os.close(descriptor)


class Left(Exception):
    """The run goes on without this process; another one will take it up."""


class Halt(CancelToken):
    """What a run's own thread listens to: a cancel token that also knows why."""

    def __init__(self) -> None:
        super().__init__()
        self._reason: Reason | None = None

    @property
    def reason(self) -> Reason | None:
        """Why the container is to be killed; None where it is to be left alone."""
        return self._reason

    def kill(self, reason: Reason) -> None:
        """Have the container killed. The first wish counts; but a cancel is heard behind any other kill, too."""
        with self._lock:
            if self._cancelled and (self._reason is None or reason is not Reason.CANCELLED):
                return
            self._reason = reason
        self.cancel()

    def leave(self) -> None:
        """Have the container left alone, as this process stops; who takes it up kills it where it must be."""
        with self._lock:
            if self._reason is not Reason.CANCELLED:
                self._reason = None
        self.cancel()

    def check(self) -> None:
        """Raise `Left` or `Cancelled` where one of them is wished."""
        if not self._cancelled:
            return
        if self._reason is None:
            raise Left
        if self._reason is Reason.CANCELLED:
            super().check()
