"""Removal of what earlier servers left at the engine."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator

from light_run.artifacts.periodic import Periodic
from light_run.errors import EngineError
from light_run.runs.ports import ContainerPort, RunnerPort
from light_run.runs.storage.entries import JournalEntry
from light_run.runs.storage.table import RunTable

_log = logging.getLogger(__name__)

# Seconds between two searches for stray containers, and until the first one after the start.
STRAYS = 60.0
AGAIN = 2.0


def duplicates(found: Iterable[ContainerPort], entries: Iterable[JournalEntry]) -> list[ContainerPort]:
    """Return containers of runs in `entries` whose rows name another one: their server died before recording them."""
    known = {entry.run.id: entry.container for entry in entries}
    return [
        one
        for one in found
        if one.kind == "run" and one.run_id in known and one.container != known[one.run_id]
    ]


def strays(found: Iterable[ContainerPort], alive: Callable[[str], bool]) -> list[ContainerPort]:
    """Return containers of runs that are over: the engine created them late, for a server that is gone."""
    return [one for one in found if one.kind == "run" and not alive(one.run_id)]


class EngineCleanup:
    """Removes once, before anything runs, all that `entries` do not need; then searches for strays regularly.

    `alive` says whether a run still has its container. Ids in `accepting` are needed too, and those in `quarantined`.
    With an `incomplete` journal nothing is removed: any container may be that of a run that nobody knows.
    """

    def __init__(
        self,
        runner: RunnerPort,
        store: RunTable,
        entries: Iterable[JournalEntry],
        alive: Callable[[str], bool],
        *,
        quarantined: frozenset[str] = frozenset(),
        incomplete: bool = False,
    ) -> None:
        self._runner = runner
        self._alive = lambda run_id: run_id in quarantined or alive(run_id)
        self._incomplete = incomplete
        self._entries = list(entries)
        self._lock = threading.Lock()
        self._prepared = False
        self.accepting: set[str] = set()
        containers = {entry.container for entry in self._entries if entry.container} | quarantined
        self._needed = _Needed(store, containers, self.accepting)
        self._periodic = Periodic("light-run-clearing", self.step, STRAYS)

    def start(self) -> None:
        """Start the thread."""
        self._periodic.start()

    def close(self) -> None:
        """Stop the thread, and remove strays a last time."""
        self._periodic.close()
        self._remove_strays()

    def prepare(self) -> None:
        """Clean up the engine and start the runner, once, as soon as the engine answers. Nothing runs before."""
        if self._prepared:
            return
        # Held while the engine works: a run that began meanwhile could lose its container.
        with self._lock:
            if not self._prepared:
                try:
                    for one in duplicates(self._runner.find(), self._entries):
                        self._runner.unassign(one.container, one.run_id)
                    if not self._incomplete:
                        self._runner.clear(self._needed)
                except EngineError as error:
                    _log.warning("engine not cleared yet", extra={"error": str(error)})
                    return
                self._entries.clear()
                self._runner.open()
                self._prepared = True

    def step(self, _: float) -> None:
        """Prepare if that is still to be done, else remove stray containers."""
        if self._prepared:
            self._remove_strays()
        else:
            self.prepare()
            self._periodic.wake_in(AGAIN)

    def _remove_strays(self) -> None:
        if self._incomplete:
            return
        with contextlib.suppress(EngineError):
            for stray in strays(self._runner.find(), self._alive):
                _log.warning(
                    "stray container removed", extra={"run": stray.run_id, "container": stray.container}
                )
                self._runner.unassign(stray.container, stray.run_id)


class _Needed(Collection[str]):
    # The ids of runs and containers that are needed at the moment.

    def __init__(self, store: RunTable, containers: set[str], accepting: set[str]) -> None:
        self._store = store
        self._containers = containers
        self._accepting = accepting

    def __contains__(self, wanted: object) -> bool:
        # In the order in which a run moves from one to the next.
        return wanted in self._containers or wanted in self._accepting or wanted in self._store.active()

    def __iter__(self) -> Iterator[str]:
        return iter(self._containers | self._accepting | self._store.active())

    def __len__(self) -> int:
        return sum(1 for _ in self)
