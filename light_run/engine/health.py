"""The health of the engine, asked by one thread at a time."""

from __future__ import annotations

import threading
import time

from light_run.engine.run.context import RunnerContext
from light_run.engine.spec import EngineHealth
from light_run.errors import EngineError

# A health check may come from every load balancer at once; the engine is asked at most once in so many seconds.
_FRESH = 1.0
# While the engine is being asked, the last answer is returned for so many seconds.
_PATIENCE = 4.0


class HealthCheck:
    """Checks whether the engine answers, and what it cannot do."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._last: tuple[float, EngineHealth] | None = None

    def check(self) -> EngineHealth:
        """Return the engine's health, which may be a second old. Never raises."""
        known = self._last
        if known is not None and time.monotonic() - known[0] < _FRESH:
            return known[1]
        # Clients without a token can ask: a hung engine must not hold a thread of each.
        if not self._lock.acquire(timeout=_PATIENCE if known is None else 0):
            is_recent = known is not None and time.monotonic() - known[0] < _PATIENCE
            return known[1] if known is not None and is_recent else self._unhealthy()
        try:
            found = self._last
            if found is None or found is known:
                found = self._last = (time.monotonic(), self._ask())
            return found[1]
        finally:
            self._lock.release()

    def _unhealthy(self) -> EngineHealth:
        return EngineHealth(False, self._context.mounts.mode, address=self._context.engine.address)

    def _ask(self) -> EngineHealth:
        context, engine = self._context, self._context.engine
        try:
            version = engine.ping()
            missing = context.missing_limits()
            firewall = context.networks.firewall(context.config.default_network)
            mode = context.mounts.mode
            guards = context.disk.guards()
            return EngineHealth(
                True, mode, engine.runtimes(), version, missing, firewall, engine.address, guards
            )
        except EngineError:
            return self._unhealthy()
