"""Keeps the artifact folders under their cap: the oldest go first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore

INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class Folder:
    """A run's folder: `created` in seconds since the epoch, `bytes` of all files in it."""

    run_id: str
    created: float
    bytes: int


def choose(folders: Iterable[Folder], cap: int, protected: Collection[str]) -> list[Folder]:
    """Which of `folders` must go, oldest first, for the rest to be at most `cap` bytes.

    A protected one counts but never goes, so the rest may stay above.
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
    """Evicts folders of `store` until they are at most `cap` bytes in all.

    `protected` gives the ids that must stay (runs that have not ended); `evicted` is told each id before
    its folder goes. `created` knows when a run's folder was made, in seconds since the epoch; None for one
    of an earlier server, whose own time counts. A folder that has settled is looked into once.
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
        # When each folder was last changed, as far as it was looked at.
        self._changed: dict[str, float] = {}
        self._total = 0
        # The run that just ended stays, however much it left, until the next one has ended.
        self._last = ""
        self._periodic = Periodic("light-run-sweeper", self.step, interval)

    def start(self) -> None:
        """Start the thread."""
        self._periodic.start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._periodic.close()

    def step(self, now: float) -> list[str]:
        """Look at every folder, evict what must go, empty the trash; the ids evicted."""
        with self._lock:
            known = self._folders.copy()
            changed = self._changed.copy()
        there = self._store.run_ids()
        # Asked for after the folders: a run that begins in between has none among them.
        protected = frozenset(self._protected())
        # A folder whose run has not ended still grows: its size now would be wrong soon.
        new = [
            self._look(run_id, known.get(run_id), min(now, there[run_id]))
            for run_id in there.keys() - protected
            if changed.get(run_id) != there[run_id]
        ]
        with self._lock:
            for gone in known.keys() - there.keys():
                self._drop(gone)
            for folder in new:
                self._keep(folder)
                self._changed[folder.run_id] = there[folder.run_id]
        evicted = self._evict(protected)
        self._store.empty_trash()
        return evicted

    def ended(self, run_id: str, size: int, now: float) -> list[str]:
        """Count the folder of a run that has just ended, `size` bytes; evict others where it takes that.

        Quick where nothing must go: no folder is looked at. What goes is out of sight when this returns,
        its room is freed by the thread.
        """
        with self._lock:
            self._last = run_id
            # A run that left nothing has no folder: to forget it would make no room.
            if size:
                self._keep(Folder(run_id, now, size))
            if self._total <= self._cap:
                return []
        evicted = self._evict(self._protected())
        if evicted:
            self._periodic.wake()
        return evicted

    def removed(self, run_id: str) -> None:
        """Stop counting a folder that somebody else removed."""
        with self._lock:
            self._drop(run_id)

    @property
    def total(self) -> int:
        """Bytes of all folders counted so far."""
        with self._lock:
            return self._total

    def _look(self, run_id: str, known: Folder | None, changed: float) -> Folder:
        created = known.created if known is not None else self._created(run_id)
        return Folder(run_id, changed if created is None else created, self._store.size(run_id))

    def _evict(self, protected: Collection[str]) -> list[str]:
        with self._lock:
            if self._total <= self._cap:
                return []
            protected = frozenset({self._last, *protected})
            chosen = [folder.run_id for folder in choose(self._folders.values(), self._cap, protected)]
            # Out of the count under the lock: two threads never choose the same folder.
            for run_id in chosen:
                self._drop(run_id)
        for run_id in chosen:
            self._evicted(run_id)
            self._store.discard(run_id)
        return chosen

    def _keep(self, folder: Folder) -> None:
        self._drop(folder.run_id)
        self._folders[folder.run_id] = folder
        self._total += folder.bytes

    def _drop(self, run_id: str) -> None:
        self._changed.pop(run_id, None)
        folder = self._folders.pop(run_id, None)
        if folder is not None:
            self._total -= folder.bytes


def _unknown(_: str) -> None:
    return None
