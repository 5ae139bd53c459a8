"""Keys of the pool, the parked containers of one key, and how many of them are worth keeping."""

from __future__ import annotations

import select
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from light_run.engine.daemon.execution import Streams
from light_run.engine.files.workspace import Workspace
from light_run.engine.spec import Limits
from light_run.engine.stop import StopRequest

# Seconds: a second use within this time makes containers of a key worth parking.
_WITHIN = 60.0
# After this many failures in a row, nothing is parked for a key for this many seconds.
_FAILURES, _BACK_OFF = 3, 300.0


class ParkKey(NamedTuple):
    """Everything about a run that is fixed when its container is created."""

    image: str
    limits: Limits
    network: str
    workdir: str
    runtime: str | None
    user: str | None = None


@dataclass(eq=False, slots=True)
class ParkedContainer:
    """A container whose shell waits for a script that ends with the line `marker`.

    The shell may belong to a hostile image, so the disk is watched until `watch` is closed: `stop` is requested if the
    container fills it.
    """

    container: str
    workspace: Workspace | None
    streams: Streams
    marker: str
    stop: StopRequest
    watch: ExitStack

    @property
    def waiting(self) -> bool:
        """False once the container, its connection or its workspace is gone, or the container is to be stopped."""
        if self.stop.requested is not None or not (self.workspace is None or self.workspace.files.is_dir()):
            return False
        poll = select.poll()
        poll.register(self.streams.stdio, select.POLLIN)
        poll.register(self.streams.exit, select.POLLIN)
        return not poll.poll(0) and not self.streams.stdio.buffered


@dataclass(slots=True)
class ParkedSet:
    """The parked containers of one key (`ready`) and statistics of their use; times are `time.monotonic()` seconds."""

    ready: deque[ParkedContainer] = field(default_factory=deque)
    last_use: float = float("-inf")
    earned: bool = False
    missed: int = 0
    pinned: int = 0
    failures: int = 0
    backing_off_until: float = float("-inf")

    def use(self, now: float) -> None:
        """Note that a run asks for a container."""
        self.earned |= now - self.last_use <= _WITHIN
        self.last_use = now

    def take(self) -> tuple[ParkedContainer | None, list[ParkedContainer]]:
        """Take a container that waits; also returns the dead ones that were found before it."""
        dead: list[ParkedContainer] = []
        while self.ready:
            parked = self.ready.popleft()
            if parked.waiting:
                self.failures = 0
                return parked, dead
            dead.append(parked)
        return None, dead

    def wanted(self, now: float, idle: float) -> int:
        """Return how many containers to keep, if an unused one is kept for `idle` seconds."""
        if self.backing_off_until > now:
            return 0
        if self.pinned:
            return self.pinned
        if not self.earned or now - self.last_use > idle:
            return 0
        # One container is enough for one client. Each run that found none shows that there are more clients.
        return 1 + self.missed if self.in_use(now) else 1

    def in_use(self, now: float) -> bool:
        """True if the key was used a moment ago: its containers are not removed in favour of another key."""
        return now - self.last_use <= _WITHIN

    def fail(self, now: float) -> None:
        """Note that parking a container has failed."""
        self.failures += 1
        if self.failures >= _FAILURES:
            self.failures = 0
            self.backing_off_until = now + _BACK_OFF
