"""Hourly maintenance: removes unused objects from the engine and the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone

from light_run.artifacts.periodic import Periodic
from light_run.engine.spec import MaintenanceReport
from light_run.errors import EngineError, EngineUnavailable
from light_run.runs.execution.cleanup import AGAIN, EngineCleanup
from light_run.runs.ports import RunnerPort

_log = logging.getLogger(__name__)

# Seconds between two times.
INTERVAL = 3600.0


@dataclass(frozen=True, slots=True)
class MaintenanceRecord:
    """Maintenance that was done: its report, when it began (UTC), and how many seconds it took."""

    report: MaintenanceReport
    at: datetime
    duration: float


class PeriodicMaintenance:
    """Removes stray containers, and has `runner` remove the rest, as soon as `cleanup` is done and every hour.

    `networks` gives the names of networks that runs which have not ended need.
    """

    def __init__(
        self, runner: RunnerPort, cleanup: EngineCleanup, networks: Callable[[], Collection[str]]
    ) -> None:
        self._runner = runner
        self._cleanup = cleanup
        self._networks = networks
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._periodic = Periodic("light-run-maintenance", self.step, INTERVAL)
        self.last: MaintenanceRecord | None = None

    def start(self) -> None:
        """Start the thread."""
        self._periodic.start()

    def close(self) -> None:
        """Stop the thread; a maintenance that is in progress ends early."""
        self._closing.set()
        self._periodic.close()

    def step(self, _: float) -> None:
        """Do it, if the engine is there."""
        try:
            self.run()
        except EngineUnavailable:
            self._periodic.wake_in(AGAIN)

    def run(self) -> MaintenanceRecord:
        """Run maintenance now, or after one in progress. Raises EngineUnavailable; other failures are in the report."""
        # Held while the engine works: a second caller finds little left to do.
        with self._lock:
            self._cleanup.prepare()
            if not self._cleanup.prepared or not self._runner.health().docker:
                raise EngineUnavailable("the container engine does not answer: start it first")
            at, begun = datetime.now(timezone.utc), time.monotonic()
            report = self._report()
            self.last = MaintenanceRecord(report, at, time.monotonic() - begun)
        found = asdict(report)
        if any(found.values()):
            _log.info("maintenance", extra={**found, "failed": ", ".join(report.failed) or None})
        return self.last

    def _report(self) -> MaintenanceReport:
        strays = MaintenanceReport()
        failed: tuple[str, ...] = ()
        try:
            strays = self._cleanup.remove_strays()
        except EngineError as error:
            _log.warning("maintenance failed", extra={"part": "containers", "error": str(error)})
            failed = ("containers",)
        report = self._runner.maintain(
            self._cleanup.needed, keep_networks=self._networks, stopping=self._closing.is_set
        )
        return replace(
            report,
            containers=strays.containers,
            workspaces=strays.workspaces + report.workspaces,
            failed=(*failed, *report.failed),
        )
