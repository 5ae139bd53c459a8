"""Keeps the total size of all artifacts under a limit by evicting the oldest folders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore

INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run: `created` is in seconds since the epoch, `bytes` is the size of all its files."""

    run_id: str
    created: float
    bytes: int


def choose(folders: Iterable[Folder], cap: int, protected: Collection[str]) -> list[Folder]:
    """Return the `folders` to evict, oldest first, so that the rest has at most `cap` bytes.

    Protected folders count but are never evicted, so the rest can still exceed `cap`.
    """
    by_age = sorted(folders, key=lambda folder: (folder.created, folder.run_id))
    excess = sum(folder.bytes for folder in by_age) - cap
    chosen = []
    for folder in by_age:
        if excess <= 0:
            break
        if folder.run_id not in protected:
            chosen.append(folder)
            excess -= folder.bytes
    return chosen


class Sweeper:
    """Evicts folders of `store` so that their total size is at most `cap` bytes.

    `protected` returns the ids of runs that must stay because they have not ended; `evicted` is called with each
    id before its folder is removed. `created` returns when a run's folder was created, in seconds since the epoch,
    or None if unknown; then the folder's own time counts. The folder of an ended run is measured once.
    """

    def __init__(
        self,
        store: ArtifactStore,
        cap: int,
        *,
        protected: Callable[[], Collection[str]],
        evicted: Callable[[str], None],
        created: Callable[[str], float | None] | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._cap = cap
        self._protected = protected
        self._evicted = evicted
        self._created = created or _unknown
        self._lock = threading.Lock()
        self._folders: dict[str, Folder] = {}
        # The modification time of each measured folder.
        self._changed: dict[str, float] = {}
        self._total = 0
        # The run that ended last is kept, whatever its size, until the next one ends.
        self._last = ""
        self._periodic = Periodic("light-run-sweeper", self.step, interval)

    def start(self) -> None:
        """Start the thread."""
        self._periodic.start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._periodic.close()

    def step(self, now: float) -> list[str]:
        """Measure new folders, evict the oldest if needed, empty the trash; return the evicted ids."""
        with self._lock:
            known = self._folders.copy()
            changed = self._changed.copy()
        there = self._store.run_ids()
        # Queried after the folders were listed: a run that starts in between has no folder in the list.
        protected = frozenset(self._protected())
        # The folder of a run that has not ended can still grow, so it is not measured yet.
        new = [
            self._measure(run_id, known.get(run_id), min(now, there[run_id]))
            for run_id in there.keys() - protected
            if changed.get(run_id) != there[run_id]
        ]
        with self._lock:
            for gone in known.keys() - there.keys():
                self._uncount(gone)
            for folder in new:
                self._count(folder)
                self._changed[folder.run_id] = there[folder.run_id]
        evicted = self._evict(protected)
        self._store.empty_trash()
        return evicted

    def ended(self, run_id: str, size: int, now: float) -> list[str]:
        """Count the folder of a run that has just ended, with `size` bytes, and evict others if needed.

        This is fast, because no folder is measured. Evicted folders are moved to the trash before this returns;
        the thread removes them.
        """
        with self._lock:
            self._last = run_id
            # A run without artifacts has no folder, so evicting it would free no space.
            if size:
                self._count(Folder(run_id, now, size))
            if self._total <= self._cap:
                return []
        evicted = self._evict(self._protected())
        if evicted:
            self._periodic.wake()
        return evicted

    def removed(self, run_id: str) -> None:
        """Stop counting a folder that was removed elsewhere."""
        with self._lock:
            self._uncount(run_id)

    @property
    def total(self) -> int:
        """The bytes of all folders counted so far."""
        with self._lock:
            return self._total

    def _measure(self, run_id: str, known: Folder | None, changed: float) -> Folder:
        created = known.created if known is not None else self._created(run_id)
        return Folder(run_id, changed if created is None else created, self._store.size(run_id))

    def _evict(self, protected: Collection[str]) -> list[str]:
        with self._lock:
            if self._total <= self._cap:
                return []
            protected = frozenset({self._last, *protected})
            chosen = [folder.run_id for folder in choose(self._folders.values(), self._cap, protected)]
            # Still under the lock, so that two threads never choose the same folder.
            for run_id in chosen:
                self._uncount(run_id)
        for run_id in chosen:
            self._evicted(run_id)
            self._store.discard(run_id)
        return chosen

    def _count(self, folder: Folder) -> None:
        self._uncount(folder.run_id)
        self._folders[folder.run_id] = folder
        self._total += folder.bytes

    def _uncount(self, run_id: str) -> None:
        self._changed.pop(run_id, None)
        folder = self._folders.pop(run_id, None)
        if folder is not None:
            self._total -= folder.bytes


def _unknown(_: str) -> None:
    return None
