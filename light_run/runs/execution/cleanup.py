"""Removal of what earlier servers left at the engine."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from light_run.artifacts.periodic import Periodic
from light_run.engine.spec import MaintenanceReport
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
        self._noting = threading.Lock()
        self._prepared = False
        self._removed = MaintenanceReport()
        self.accepting: set[str] = set()
        containers = {entry.container for entry in self._entries if entry.container} | quarantined
        self._needed = _Needed(containers, self.accepting, store, self._alive)
        self._periodic = Periodic("light-run-clearing", self.step, STRAYS)

    def start(self) -> None:
        """Start the thread."""
        self._periodic.start()

    def close(self) -> None:
        """Stop the thread, and remove strays a last time."""
        self._periodic.close()
        with contextlib.suppress(EngineError):
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
                        self._note(self._runner.clear(self._needed))
                except EngineError as error:
                    _log.warning("engine not cleared yet", extra={"error": str(error)})
                    return
                self._entries.clear()
                self._runner.open()
                self._prepared = True

    def step(self, _: float) -> None:
        """Prepare if that is still to be done, else remove stray containers."""
        if self._prepared:
            with contextlib.suppress(EngineError):
                self._remove_strays()
        else:
            self.prepare()
            self._periodic.wake_in(AGAIN)

    @property
    def prepared(self) -> bool:
        """True once the engine has been cleaned up; nothing runs before."""
        return self._prepared

    @property
    def needed(self) -> Collection[str] | None:
        """The ids of runs that have, or are about to have, a container; None where that is not known of all."""
        return None if self._incomplete else self._needed

    def remove_strays(self) -> MaintenanceReport:
        """Remove stray containers; returns what was removed since the last call. Raises EngineError."""
        self._remove_strays()
        with self._noting:
            removed, self._removed = self._removed, MaintenanceReport()
        return removed

    def _note(self, removed: MaintenanceReport) -> None:
        with self._noting:
            self._removed = replace(
                self._removed,
                containers=self._removed.containers + removed.containers,
                workspaces=self._removed.workspaces + removed.workspaces,
            )

    def _remove_strays(self) -> None:
        if self._incomplete:
            return
        for stray in strays(self._runner.find(), self._alive):
            _log.warning("stray container removed", extra={"run": stray.run_id, "container": stray.container})
            self._runner.unassign(stray.container, stray.run_id)
            self._note(MaintenanceReport(containers=1))


class _Needed(Collection[str]):
    # The ids of runs and containers that are needed at the moment.

    def __init__(
        self, containers: set[str], accepting: set[str], store: RunTable, alive: Callable[[str], bool]
    ) -> None:
        self._containers = containers
        self._accepting = accepting
        self._store = store
        self._alive = alive

    def __contains__(self, wanted: object) -> bool:
        # In the order in which a run moves from one to the next.
        return wanted in self._containers or wanted in self._accepting or self._alive(str(wanted))

    def __iter__(self) -> Iterator[str]:
        return iter(self._containers | self._accepting | self._store.active())

    def __len__(self) -> int:
        return sum(1 for _ in self)
