"""How a run is to end: the request to stop it, passed from its origin to the thread that executes the run."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from light_run.engine.spec import Reason
from light_run.errors import Cancelled

# A stop replaces one of a lower rank; of two with the same rank, the first counts.
_RANKS = {Reason.CANCELLED: 3, Reason.INTERRUPTED: 2, Reason.STOPPED: 1}
_DISCARDING = (Reason.CANCELLED, Reason.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run is to end, by which signal, and how many seconds of `grace` follow before SIGKILL.

    Without grace, the command is killed with SIGKILL at once, whatever `signal` is.
    """

    reason: Reason
    signal: str = "SIGKILL"
    grace: float = 0.0

    @property
    def discards(self) -> bool:
        """True if the run's results are no longer wanted: pulls and builds are given up, nothing is extracted."""
        return self.reason in _DISCARDING

    def outranks(self, other: Stop | None) -> bool:
        """True if this stop replaces `other`."""
        return other is None or _RANKS.get(self.reason, 0) > _RANKS.get(other.reason, 0)


CANCEL = Stop(Reason.CANCELLED)


class Detached(Exception):
    """The run goes on without this process; the next server takes it up."""


class StopRequest:
    """The mailbox of one run for requests to end it, and the clock of its pauses. All methods are thread-safe.

    A cancel replaces any other stop, a stopping server's that of a client, and both those of the limits (time, disk);
    otherwise the first one counts. Each run needs an object of its own, since the engine requests stops as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested: Stop | None = None
        self._detached = False
        self._closed = False
        self._subscribers: list[Callable[[], object]] = []
        self._paused_since: float | None = None
        self._paused_before = 0.0

    @property
    def requested(self) -> Stop | None:
        """The stop that counts; None if none was requested."""
        return self._requested

    @property
    def detached(self) -> bool:
        """True once the run was detached from this process."""
        return self._detached

    @property
    def closed(self) -> bool:
        """True once the run has ended."""
        return self._closed

    def request(self, stop: Stop = CANCEL) -> bool:
        """Ask the run to end. Returns at once; the run's own thread does the work.

        Returns False if the request changes nothing: the run has ended or was detached, or an earlier request counts.
        """
        with self._lock:
            if self._closed or self._detached or not stop.outranks(self._requested):
                return False
            self._requested = stop
        self._notify()
        return True

    def detach(self) -> bool:
        """Leave the container running, as this process stops; the next server takes the run up.

        Returns False if the run has ended or is to be discarded. A kill at a limit is left to the next server, too.
        """
        with self._lock:
            discarded = self._requested is not None and self._requested.discards
            if self._closed or self._detached or discarded:
                return False
            self._requested, self._detached = None, True
        self._notify()
        return True

    def close(self) -> bool:
        """Note that the run has ended: later requests change nothing. Returns True on the first call."""
        with self._lock:
            first, self._closed, self._detached = not self._closed, True, False
            return first

    def wake(self) -> None:
        """Have the run's own thread look what there is for it to do."""
        self._notify()

    def pause(self) -> None:
        """Stop the run's clock: its time does not count until `resume`."""
        with self._lock:
            if self._paused_since is None:
                self._paused_since = time.monotonic()
        self._notify()

    def resume(self) -> None:
        """Let the run's clock go on."""
        with self._lock:
            if self._paused_since is not None:
                self._paused_before += time.monotonic() - self._paused_since
                self._paused_since = None
        self._notify()

    @property
    def paused(self) -> bool:
        """True while the clock stands still."""
        return self._paused_since is not None

    def paused_seconds(self) -> float:
        """Seconds of all pauses so far."""
        with self._lock:
            now = 0.0 if self._paused_since is None else time.monotonic() - self._paused_since
            return self._paused_before + now

    def check_start(self) -> None:
        """Raise Detached or Cancelled if the run's command is not to be started."""
        self.check()
        if self._requested is not None:
            raise Cancelled("the run was stopped before its command was started")

    def check(self) -> None:
        """Raise Detached or Cancelled if the run is not to go on here."""
        if self._detached:
            raise Detached
        if self._requested is not None and self._requested.discards:
            raise Cancelled("the run was cancelled")

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a request; True if there is one."""
        with self.descriptor() as descriptor:
            # Not by select, which takes no descriptor beyond 1023.
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(timeout * 1000))

    @contextmanager
    def subscribed(self, subscriber: Callable[[], object]) -> Iterator[None]:
        """Call `subscriber` on each request while the block runs, and at once if one was made before."""
        with self._lock:
            self._subscribers.append(subscriber)
            made_before = self._detached or self._requested is not None
        if made_before:
            subscriber()
        try:
            yield
        finally:
            with self._lock:
                self._subscribers.remove(subscriber)

    @contextmanager
    def descriptor(self) -> Iterator[int]:
        """An eventfd that becomes readable on each request, for a poll beside sockets."""
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        lock = threading.Lock()
        open_ = True

        def wake() -> None:
            with lock:
                if open_:
                    os.eventfd_write(descriptor, 1)

        try:
            with self.subscribed(wake):
                yield descriptor
        finally:
            # A request may have copied the subscribers just before: never write to a number that is used again.
            with lock:
                open_ = False
                os.close(descriptor)

    def _notify(self) -> None:
        with self._lock:
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber()
