"""What the pool keeps: parked containers, and how many of which kind are worth keeping."""

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

# Two uses within so many seconds make a kind of container worth parking.
_WITHIN = 60.0
# So many failures in a row, and a kind is left alone for so long.
_FAILURES, _LEFT_ALONE = 3, 300.0


class ParkKey(NamedTuple):
    """Everything that is fixed when a container is created."""

    image: str
    limits: Limits
    network: str
    workdir: str
    runtime: str | None


@dataclass(eq=False, slots=True)
class ParkedContainer:
    """A container whose shell waits for a script ended by the line `marker`.

    It may be a hostile image's shell: `stop` is requested if it fills the disk, which is watched until `watch` closes.
    """

    container: str
    workspace: Workspace | None
    streams: Streams
    marker: str
    stop: StopRequest
    watch: ExitStack

    @property
    def waiting(self) -> bool:
        """False once the container or the connection to it has ended, or is to."""
        if self.stop.requested is not None:
            return False
        poll = select.poll()
        poll.register(self.streams.stdio, select.POLLIN)
        poll.register(self.streams.exit, select.POLLIN)
        return not poll.poll(0) and not self.streams.stdio.buffered


@dataclass(slots=True)
class ParkedSet:
    """The parked containers of one key (`ready`), and what is known of their use; times are `time.monotonic()`."""

    ready: deque[ParkedContainer] = field(default_factory=deque)
    last_use: float = float("-inf")
    earned: bool = False
    missed: int = 0
    pinned: int = 0
    failures: int = 0
    left_alone_until: float = float("-inf")

    def use(self, now: float) -> None:
        """Another run asks for one."""
        self.earned |= now - self.last_use <= _WITHIN
        self.last_use = now

    def take(self) -> tuple[ParkedContainer | None, list[ParkedContainer]]:
        """One that waits, and those that were found dead on the way."""
        dead: list[ParkedContainer] = []
        while self.ready:
            parked = self.ready.popleft()
            if parked.waiting:
                self.failures = 0
                return parked, dead
            dead.append(parked)
        return None, dead

    def wanted(self, now: float, idle: float) -> int:
        """How many are worth keeping, where an unused one is kept for `idle` seconds."""
        if self.left_alone_until > now:
            return 0
        if self.pinned:
            return self.pinned
        if not self.earned or now - self.last_use > idle:
            return 0
        # One is enough for one client; each run that found none said there are more, for the time being.
        return 1 + self.missed if self.in_use(now) else 1

    def in_use(self, now: float) -> bool:
        """True where it was asked for a moment ago: what is parked of it is not another kind's to take."""
        return now - self.last_use <= _WITHIN

    def fail(self, now: float) -> None:
        """Parking one has failed."""
        self.failures += 1
        if self.failures >= _FAILURES:
            self.failures = 0
            self.left_alone_until = now + _LEFT_ALONE
