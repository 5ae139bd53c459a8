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

# Seconds after its launch, from which on a run counts as a long one.
_SETTLED = 1.0
# With cores to spare, containers are parked beside this many runs.
_ROOM = max(0, (os.cpu_count() or 1) // 2 - 1)
# Seconds after which the keeper looks again if nothing wakes it.
_TURN = 1.0
# Seconds after which a pinned image is inspected again: it may have been pulled, or its tag moved.
_PIN_AGAIN = 30.0
# Seconds between two looks at the disk usage of a parked container: a waiting shell writes nothing.
_LOOK = 10.0


class Pool:
    """Keeps parked containers, at most `config.parked_max` unpinned ones; its thread calls `step`."""

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
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pinned = float("-inf")

    # -- called by runs

    def take(self, key: ParkKey) -> ParkedContainer | None:
        """Take a parked container for `key`, or None if there is none. Counts as a use of the key."""
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
        self._changed.set()
        if taken is not None:
            taken.watch.close()
        return taken

    @contextlib.contextmanager
    def yielding(self) -> Iterator[Callable[[], None]]:
        """Park nothing while the block starts a run; call the yielded function once its command was launched."""
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
            self._changed.set()

    def pin(self, pins: Mapping[ParkKey, int]) -> None:
        """Keep this many containers of each key parked, used or not; replaces the pins set before."""
        with self._lock:
            for kind in self._kinds.values():
                kind.pinned = 0
            for key, count in pins.items():
                self._kinds.setdefault(key, ParkedSet()).pinned = count

    def release(self, network: str) -> None:
        """Remove the parked containers on `network`."""
        with self._lock:
            keys = [key for key in self._kinds if key.network == network]
            released = [parked for key in keys for parked in self._kinds.pop(key).ready]
        for parked in released:
            self._discard(parked)

    @property
    def size(self) -> int:
        """How many containers are parked."""
        with self._lock:
            return sum(len(kind.ready) for kind in self._kinds.values())

    # -- called by the keeper

    def start(self) -> None:
        """Start the keeper's thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="pool-keeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the keeper and remove every parked container."""
        self._stop.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            left = [parked for kind in self._kinds.values() for parked in kind.ready]
            self._kinds.clear()
        for parked in left:
            self._discard(parked)

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._changed.wait(_TURN)
            self._changed.clear()
            try:
                while not self._stop.is_set() and self.step(time.monotonic()):
                    pass
            except Exception:  # noqa: BLE001 - whatever it was, it is in the log
                # Without the keeper, nothing would be parked any more, and no leftover removed.
                _log.exception("the pool's keeper failed; it continues")

    def step(self, now: float) -> bool:
        """Remove dead and idle containers and park one if one is wanted. Returns True if it tried to park one."""
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
            # Not this key's fault: parking is tried again when the engine may be back.
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
                    # Counts as one failure: an engine that restarts ends all of them at once.
                    kind.fail(now)
                stale += [parked for parked in kind.ready if parked not in waiting[:wanted]]
                kind.ready = keep = deque(waiting[:wanted])
                if not keep and not kind.pinned and now - kind.last_use > self._config.parked_idle:
                    del self._kinds[key]
        return stale

    def _most_each(self, now: float) -> int | None:
        # The most containers a key may keep while another key in use finds the pool full: that one must not wait until
        # others have idled for long, nor for the second container of another key. None if there is room for all.
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
            # A first container for each key comes before a second one for any.
            for key, kind in sorted(
                self._kinds.items(), key=lambda item: (bool(item[1].ready), -item[1].last_use)
            ):
                wanted = len(kind.ready) < kind.wanted(now, self._config.parked_idle)
                if wanted and (kind.pinned or room):
                    return key
        return None

    def _may_park(self, now: float) -> bool:
        # A long run keeps the command busy, not the engine.
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
                own_hosts=self._mounts.takes_hosts(placement),
                hosts=str(workspace.hosts) if workspace else None,
                volume=placement is Placement.VOLUME,
                user=key.user,
                labels=labels("parked", self._config),
            )
            container = self._engine.create(container_config(sandbox, self._config))
            streams = self._networks.start_on(key.network, partial(self._start, container))
            stop, watch = StopRequest(), contextlib.ExitStack()
            watch.enter_context(self._disk.watching(container, workspace, stop, _LOOK))
            return ParkedContainer(container, workspace, streams, marker, stop, watch)
        except BaseException:
            self._remove(container, workspace)
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
        self._remove(parked.container, parked.workspace)

    def _remove(self, container: str | None, workspace: Workspace | None) -> None:
        self._leftovers.remove(Leftover(container, [workspace] if workspace is not None else []))
