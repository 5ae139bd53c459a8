"""Parked containers: created and started ahead of the request, each for one run and then removed."""

from __future__ import annotations

import logging
import secrets
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from light_run.engine.client import Engine
from light_run.engine.config import RunnerConfig
from light_run.engine.container import Streams
from light_run.engine.launcher import waiting_command
from light_run.engine.leftovers import Leftover, Leftovers
from light_run.engine.mounts import Mounts, Placement
from light_run.engine.sandbox import Sandbox, container_config, labels
from light_run.engine.spec import Limits
from light_run.engine.workspace import Workspace, Workspaces
from light_run.errors import EngineError

_log = logging.getLogger(__name__)

# Used this often within this many seconds, a kind of container is worth parking.
_USES, _WITHIN = 2, 60.0
# So many failures in a row, and a kind is left alone for so long.
_FAILURES, _LEFT_ALONE = 3, 300.0
# Seconds between tries to remove what could not be removed.
_RETRY = 10.0
# Seconds after which a pinned image is looked for again: it may have come, or be another one by that name.
_PIN_AGAIN = 30.0


class ParkKey(NamedTuple):
    """Everything that is fixed when a container is created."""

    image: str
    limits: Limits
    network: str
    workdir: str
    runtime: str | None


@dataclass(slots=True)
class Parked:
    """A container whose shell waits for a script ended by the line `marker`."""

    container: str
    workspace: Workspace | None
    streams: Streams
    marker: str

    @property
    def waiting(self) -> bool:
        """False once the container or the connection to it has ended."""
        poll = select.poll()
        poll.register(self.streams.stdio, select.POLLIN)
        poll.register(self.streams.exit, select.POLLIN)
        return not poll.poll(0) and not self.streams.stdio.buffered and not self.streams.exit.buffered


@dataclass(slots=True)
class _Kind:
    uses: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    ready: deque[Parked] = field(default_factory=deque)
    last_use: float = float("-inf")
    pinned: int = 0
    failures: int = 0
    left_alone_until: float = float("-inf")
    missed: int = 0

    def wanted(self, now: float, idle: float) -> int:
        if self.left_alone_until > now:
            return 0
        if self.pinned:
            return self.pinned
        if now - self.last_use > idle or len(self.uses) < _USES:
            return 0
        used_lately = sum(now - use <= _WITHIN for use in self.uses)
        if used_lately < _USES and not self.ready:
            return 0
        # One is enough for one client; each run that found none says there are more.
        return 1 + self.missed

    def fail(self, now: float) -> None:
        self.failures += 1
        if self.failures >= _FAILURES:
            self.failures = 0
            self.left_alone_until = now + _LEFT_ALONE


class Pool:
    """Keeps parked containers, at most `config.parked_max` unpinned ones; `step` is one turn of its thread."""

    def __init__(
        self,
        engine: Engine,
        config: RunnerConfig,
        *,
        mounts: Mounts,
        leftovers: Leftovers,
        workspaces: Workspaces,
        pins: Callable[[], Mapping[ParkKey, int]],
    ) -> None:
        self._engine = engine
        self._config = config
        self._mounts = mounts
        self._leftovers = leftovers
        self._workspaces = workspaces
        self._pins = pins
        self._lock = threading.Lock()
        self._kinds: dict[ParkKey, _Kind] = {}
        self._busy = 0
        self._news = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._retried = float("-inf")
        self._pinned = float("-inf")

    # -- what a run does with it

    def take(self, key: ParkKey) -> Parked | None:
        """A parked container of that kind, now the caller's; None where there is none. Counts as a use."""
        if not self._config.parked_max:
            return None
        now = time.monotonic()
        with self._lock:
            kind = self._kinds.setdefault(key, _Kind())
            kind.uses.append(now)
            kind.last_use = now
            dead = []
            taken = None
            while kind.ready and taken is None:
                parked = kind.ready.popleft()
                if parked.waiting:
                    taken = parked
                else:
                    dead.append(parked)
            if taken is None and len(kind.uses) >= _USES:
                kind.missed = min(kind.missed + 1, self._config.parked_max - 1)
        for parked in dead:
            self._discard(parked)
        self._news.set()
        return taken

    def run_begins(self) -> None:
        """A run needs the engine from now on: parking waits for it."""
        with self._lock:
            self._busy += 1

    def run_ends(self) -> None:
        """That run needs the engine no more."""
        with self._lock:
            self._busy -= 1
        self._news.set()

    def pin(self, pins: Mapping[ParkKey, int]) -> None:
        """Keep so many containers of these kinds parked, used or not, and no longer those pinned before."""
        with self._lock:
            for kind in self._kinds.values():
                kind.pinned = 0
            for key, count in pins.items():
                self._kinds.setdefault(key, _Kind()).pinned = count

    @property
    def size(self) -> int:
        """How many containers are parked."""
        with self._lock:
            return sum(len(kind.ready) for kind in self._kinds.values())

    # -- what the keeper does

    def start(self) -> None:
        """Start the keeper's thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="pool-keeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the keeper and remove every parked container."""
        self._stop.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            left = [parked for kind in self._kinds.values() for parked in kind.ready]
            self._kinds.clear()
        for parked in left:
            self._discard(parked)

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._news.wait(timeout=10.0)
            self._news.clear()
            while not self._stop.is_set() and self.step(time.monotonic()):
                pass

    def step(self, now: float) -> bool:
        """Discard what is dead or idle, park one container where one is wanted; True where it parked one."""
        for parked in self._take_stale(now):
            self._discard(parked)
        if now - self._retried > _RETRY:
            self._retried = now
            self._leftovers.retry()
        if self._config.parked_pins and now - self._pinned > _PIN_AGAIN:
            self._pinned = now
            self.pin(self._pins())
        key = self._next_key(now)
        if key is None:
            return False
        try:
            parked = self._park(key)
        except (EngineError, OSError) as error:
            _log.info("a container of image %s cannot be parked: %s", key.image, error)
            with self._lock:
                self._kinds.setdefault(key, _Kind()).fail(now)
            return True
        with self._lock:
            kind = self._kinds.setdefault(key, _Kind())
            kind.ready.append(parked)
        return True

    def _take_stale(self, now: float) -> list[Parked]:
        stale: list[Parked] = []
        with self._lock:
            for key, kind in list(self._kinds.items()):
                keep: deque[Parked] = deque()
                wanted = kind.wanted(now, self._config.parked_idle)
                for parked in kind.ready:
                    waiting = parked.waiting
                    (keep if waiting and len(keep) < wanted else stale).append(parked)
                    if not waiting:
                        kind.fail(now)
                kind.ready = keep
                if not keep and not kind.pinned and now - kind.last_use > self._config.parked_idle:
                    del self._kinds[key]
        return stale

    def _next_key(self, now: float) -> ParkKey | None:
        with self._lock:
            if self._busy:
                return None
            unpinned = sum(len(kind.ready) for kind in self._kinds.values() if not kind.pinned)
            for key, kind in sorted(self._kinds.items(), key=lambda item: -item[1].last_use):
                room = kind.pinned or unpinned < self._config.parked_max
                if room and len(kind.ready) < kind.wanted(now, self._config.parked_idle):
                    return key
        return None

    def _park(self, key: ParkKey) -> Parked:
        marker = secrets.token_hex(16)
        placement = self._mounts.placement(key.image, key.workdir, key.runtime)
        workspace = self._workspaces.of(f"parked-{marker}") if placement is Placement.BIND else None
        container = None
        try:
            if workspace is not None:
                workspace.create()
            sandbox = Sandbox(
                image=key.image,
                command=waiting_command(marker),
                limits=key.limits,
                network=key.network,
                workdir=key.workdir,
                runtime=key.runtime,
                source=str(workspace.files) if workspace else None,
                volume=placement is Placement.VOLUME,
                labels=labels("parked", self._config),
            )
            container = self._engine.create(container_config(sandbox, self._config))
            streams = Streams.before_start(self._engine, container)
            try:
                self._engine.start(container)
            except BaseException:
                streams.close()
                raise
            return Parked(container, workspace, streams, marker)
        except BaseException:
            if container is not None:
                self._engine.remove(container)
            if workspace is not None:
                workspace.remove()
            raise

    def _discard(self, parked: Parked) -> None:
        parked.streams.close()
        left = Leftover(parked.container, [parked.workspace] if parked.workspace is not None else [])
        if not self._leftovers.remove(left):
            self._leftovers.remember(left)
