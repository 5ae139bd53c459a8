"""Keeps what all artifacts take of the disk within a budget by evicting folders.

Each owner has a fair share of the budget. Whoever uses the most is the first to lose folders, the oldest first, and
nobody loses any whose own use is within the share: a tenant cannot push out another's artifacts.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore
from light_run.system.disk_usage import LEAST

INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run of `owner`: `created` is in seconds since the epoch.

    `bytes` is what it takes of the disk, `files` the number of files and directories in it.
    """

    run_id: str
    created: float
    bytes: float
    files: float = 0
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The most `bytes` and `files` of all folders."""

    bytes: float
    files: float = float("inf")


@dataclass(frozen=True, slots=True)
class Origin:
    """When the folder of a run was `created`, in seconds since the epoch or None if unknown, and its run's `owner`."""

    created: float | None = None
    owner: str | None = None


def choose(folders: Iterable[Folder], budget: Budget, protected: Collection[str]) -> list[Folder]:
    """Return the `folders` to evict so that the rest is within `budget`.

    Protected folders count but are never evicted, so the rest can still exceed `budget`.
    """
    left = sorted(folders, key=lambda folder: (folder.created, folder.run_id))
    chosen: dict[str, Folder] = {}
    for size, cap in ((attrgetter("bytes"), budget.bytes), (attrgetter("files"), budget.files)):
        chosen.update((folder.run_id, folder) for folder in _choose(left, size, cap, protected))
        left = [folder for folder in left if folder.run_id not in chosen]
    return list(chosen.values())


def _choose(
    by_age: list[Folder], size: Callable[[Folder], float], cap: float, protected: Collection[str]
) -> list[Folder]:
    used: dict[str | None, float] = defaultdict(float)
    candidates: dict[str | None, list[Folder]] = defaultdict(list)
    for folder in by_age:
        used[folder.owner] += size(folder)
        if size(folder) and folder.run_id not in protected:
            candidates[folder.owner].append(folder)
    for theirs in candidates.values():
        theirs.reverse()
    excess = sum(used.values()) - cap
    share = cap / max(1, len(used))
    chosen = []
    while excess > 0 and candidates:
        most = max(candidates, key=used.__getitem__)
        if used[most] <= share:
            # Only protected folders exceed their owner's share.
            break
        folder = candidates[most].pop()
        if not candidates[most]:
            del candidates[most]
        used[most] -= size(folder)
        excess -= size(folder)
        chosen.append(folder)
    return chosen


class Sweeper:
    """Evicts folders of `store` so that all of them are within `budget`.

    `protected` returns the ids of runs that must stay because they have not ended; `evicted` is called with each
    id before its folder is removed. `origin` says whose a run's folder is and since when; where that is unknown, the
    folder's own time counts. The folder of an ended run is measured once.
    """

    def __init__(
        self,
        store: ArtifactStore,
        budget: Budget,
        *,
        protected: Callable[[], Collection[str]],
        evicted: Callable[[str], None],
        origin: Callable[[str], Origin] = lambda _: Origin(),
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._budget = budget
        self._protected = protected
        self._evicted = evicted
        self._origin = origin
        self._lock = threading.Lock()
        self._folders: dict[str, Folder] = {}
        # The modification time of each measured folder.
        self._changed: dict[str, float] = {}
        self._bytes = 0.0
        self._files = 0.0
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
        """Measure new folders, evict some if needed, empty the trash; return the evicted ids."""
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

    def ended(self, run_id: str, lengths: Iterable[int], now: float, owner: str | None = None) -> list[str]:
        """Count the folder of a run that has just ended, with files of `lengths` bytes; evict some if needed.

        This is fast, because folders are measured only when there seem to be too many. Evicted folders are moved to the
        trash before this returns; the thread removes them.
        """
        # At most: sparse files take less.
        blocks = [LEAST * max(1, -(-length // LEAST)) for length in lengths]
        with self._lock:
            self._last = run_id
            # A run without artifacts has no folder, so evicting it would free no space.
            if blocks:
                self._count(Folder(run_id, now, sum(blocks), len(blocks), owner))
            if self._fits():
                return []
            guessed = [self._folders[each] for each in self._folders.keys() - self._changed.keys()]
        for folder in guessed:
            measured = self._measure(folder.run_id, folder, folder.created)
            with self._lock:
                if self._folders.get(folder.run_id) is folder:
                    self._count(measured)
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
        """The bytes that all folders counted so far take of the disk."""
        with self._lock:
            return round(self._bytes)

    def _measure(self, run_id: str, known: Folder | None, changed: float) -> Folder:
        found = self._store.usage(run_id)
        if known is not None:
            return replace(known, bytes=found.bytes, files=found.files)
        origin = self._origin(run_id)
        created = changed if origin.created is None else origin.created
        return Folder(run_id, created, found.bytes, found.files, origin.owner)

    def _evict(self, protected: Collection[str]) -> list[str]:
        with self._lock:
            if self._fits():
                return []
            protected = frozenset({self._last, *protected})
            chosen = [folder.run_id for folder in choose(self._folders.values(), self._budget, protected)]
            # Still under the lock, so that two threads never choose the same folder.
            for run_id in chosen:
                self._uncount(run_id)
        for run_id in chosen:
            self._evicted(run_id)
            self._store.discard(run_id)
        return chosen

    def _fits(self) -> bool:
        return self._bytes <= self._budget.bytes and self._files <= self._budget.files

    def _count(self, folder: Folder) -> None:
        self._uncount(folder.run_id)
        self._folders[folder.run_id] = folder
        self._bytes += folder.bytes
        self._files += folder.files

    def _uncount(self, run_id: str) -> None:
        self._changed.pop(run_id, None)
        folder = self._folders.pop(run_id, None)
        if folder is not None:
            self._bytes -= folder.bytes
            self._files -= folder.files
