"""Parked containers: created and started ahead of the request, each for one run and then removed."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.execution import Streams
from light_run.engine.files.mounts import Mounts, Placement
from light_run.engine.files.workspace import Workspace, Workspaces
from light_run.engine.pool.keys import ParkedContainer, ParkedSet, ParkKey
from light_run.engine.pool.launcher import waiting_command
from light_run.engine.sandbox.disk import DiskWatch
from light_run.engine.sandbox.networks import Networks
from light_run.engine.sandbox.options import Sandbox, container_config, labels
from light_run.engine.stop import StopRequest
from light_run.engine.upkeep.leftovers import Leftover, Leftovers
from light_run.errors import EngineError, EngineUnavailable

_log = logging.getLogger(__name__)

# So many seconds after its launch, a run is taken for a long one.
_SETTLED = 1.0
# Where there are cores to spare, parking goes on beside so many runs.
_ROOM = max(0, (os.cpu_count() or 1) // 2 - 1)
# The keeper looks again after so many seconds without news.
_TURN = 1.0
# Seconds after which a pinned image is looked for again: it may have come, or be another one by that name.
_PIN_AGAIN = 30.0
# Whether what is parked fills the disk is looked at every so many seconds: a shell that waits writes nothing.
_LOOK = 10.0


class Pool:
    """Keeps parked containers, at most `config.parked_max` unpinned ones; `step` is one turn of its thread."""

    def __init__(
        self,
        engine: Engine,
        config: RunnerConfig,
        *,
        mounts: Mounts,
        networks: Networks,
        leftovers: Leftovers,
        disk: DiskWatch,
        workspaces: Workspaces,
        pins: Callable[[], Mapping[ParkKey, int]],
    ) -> None:
        self._engine = engine
        self._config = config
        self._mounts = mounts
        self._networks = networks
        self._leftovers = leftovers
        self._disk = disk
        self._workspaces = workspaces
        self._pins = pins
        self._lock = threading.Lock()
        self._kinds: dict[ParkKey, ParkedSet] = {}
        # Runs that need the engine: None while they start, then the time at which they were launched.
        self._busy: dict[object, float | None] = {}
        self._news = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pinned = float("-inf")

    # -- what a run does with it

    def take(self, key: ParkKey) -> ParkedContainer | None:
        """A parked container of that kind, now the caller's; None where there is none. Counts as a use."""
        if not self._config.parked_max:
            return None
        now = time.monotonic()
        with self._lock:
            kind = self._kinds.setdefault(key, ParkedSet())
            kind.use(now)
            taken, dead = kind.take()
            if taken is None and kind.earned:
                kind.missed = min(kind.missed + 1, self._config.parked_max - 1)
        for parked in dead:
            self._discard(parked)
        self._news.set()
        if taken is not None:
            taken.watch.close()
        return taken

    @contextlib.contextmanager
    def giving_way(self) -> Iterator[Callable[[], None]]:
        """Park nothing while a run is started in the block, and a moment after it called what this gives."""
        run = object()
        with self._lock:
            self._busy[run] = None

        def launched() -> None:
            with self._lock:
                self._busy[run] = time.monotonic()

        try:
            yield launched
        finally:
            with self._lock:
                del self._busy[run]
            self._news.set()

    def pin(self, pins: Mapping[ParkKey, int]) -> None:
        """Keep so many containers of these kinds parked, used or not, and no longer those pinned before."""
        with self._lock:
            for kind in self._kinds.values():
                kind.pinned = 0
            for key, count in pins.items():
                self._kinds.setdefault(key, ParkedSet()).pinned = count

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
            self._news.wait(_TURN)
            self._news.clear()
            try:
                while not self._stop.is_set() and self.step(time.monotonic()):
                    pass
            except Exception:  # noqa: BLE001 - whatever it was, it is in the log
                # Without the keeper nothing would be parked, and nothing left be removed, any more.
                _log.exception("the keeper of parked containers stumbled")

    def step(self, now: float) -> bool:
        """Discard what is dead or idle, park one container where one is wanted; True where it parked one."""
        for parked in self._take_stale(now):
            self._discard(parked)
        self._leftovers.retry(now)
        if self._config.parked_max and self._config.parked_pins and now - self._pinned > _PIN_AGAIN:
            self._pinned = now
            self.pin(self._pins())
        key = self._next_key(now)
        if key is None:
            return False
        try:
            parked = self._park(key)
        except EngineUnavailable:
            # No fault of this kind: it is tried again when the engine may be back.
            return False
        except (EngineError, OSError) as error:
            _log.info("a container of image %s cannot be parked: %s", key.image, error)
            with self._lock:
                self._kinds.setdefault(key, ParkedSet()).fail(now)
            return True
        with self._lock:
            kind = self._kinds.setdefault(key, ParkedSet())
            kind.ready.append(parked)
        return True

    def _take_stale(self, now: float) -> list[ParkedContainer]:
        stale: list[ParkedContainer] = []
        with self._lock:
            most = self._most_each(now)
            for key, kind in list(self._kinds.items()):
                wanted = kind.wanted(now, self._config.parked_idle)
                if most is not None and not kind.pinned:
                    wanted = min(wanted, most) if kind.in_use(now) else 0
                waiting = [parked for parked in kind.ready if parked.waiting]
                if len(waiting) < len(kind.ready):
                    # One failure, however many they are: an engine that restarts takes all of them at once.
                    kind.fail(now)
                stale += [parked for parked in kind.ready if parked not in waiting[:wanted]]
                kind.ready = keep = deque(waiting[:wanted])
                if not keep and not kind.pinned and now - kind.last_use > self._config.parked_idle:
                    del self._kinds[key]
        return stale

    def _most_each(self, now: float) -> int | None:
        # Where a kind in use has no place: it must not wait until those it replaces have idled for long, nor for
        # the second one of another kind. None where there are places enough.
        unpinned = [kind for kind in self._kinds.values() if not kind.pinned]
        waiting = any(
            kind.in_use(now) and kind.wanted(now, self._config.parked_idle) and not kind.ready
            for kind in unpinned
        )
        full = sum(len(kind.ready) for kind in unpinned) >= self._config.parked_max
        if not (waiting and full and self._may_park(now)):
            return None
        return max(1, max(len(kind.ready) for kind in unpinned) - 1)

    def _next_key(self, now: float) -> ParkKey | None:
        with self._lock:
            if not self._may_park(now):
                return None
            unpinned = sum(len(kind.ready) for kind in self._kinds.values() if not kind.pinned)
            room = unpinned < self._config.parked_max
            # One of each first.
            for key, kind in sorted(
                self._kinds.items(), key=lambda item: (bool(item[1].ready), -item[1].last_use)
            ):
                wanted = len(kind.ready) < kind.wanted(now, self._config.parked_idle)
                if wanted and (kind.pinned or room):
                    return key
        return None

    def _may_park(self, now: float) -> bool:
        # A run that goes on for long is the command's work, not the engine's.
        return sum(since is None or now - since < _SETTLED for since in self._busy.values()) <= _ROOM

    def _park(self, key: ParkKey) -> ParkedContainer:
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
                own_hosts=placement.takes_hosts,
                hosts=str(workspace.hosts) if workspace else None,
                volume=placement is Placement.VOLUME,
                labels=labels("parked", self._config),
            )
            container = self._engine.create(container_config(sandbox, self._config))
            streams = self._networks.start_on(key.network, partial(self._start, container))
            stop, watch = StopRequest(), contextlib.ExitStack()
            watch.enter_context(self._disk.watching(container, workspace, stop, _LOOK))
            return ParkedContainer(container, workspace, streams, marker, stop, watch)
        except BaseException:
            self._give_back(container, workspace)
            raise

    def _start(self, container: str) -> Streams:
        streams = Streams.before_start(self._engine, container)
        try:
            self._engine.start(container)
        except BaseException:
            streams.close()
            raise
        return streams

    def _discard(self, parked: ParkedContainer) -> None:
        parked.watch.close()
        parked.streams.close()
        self._give_back(parked.container, parked.workspace)

    def _give_back(self, container: str | None, workspace: Workspace | None) -> None:
        self._leftovers.remove(Leftover(container, [workspace] if workspace is not None else []))
