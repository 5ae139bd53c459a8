"""Idempotency-Keys: requests with the same key and body create one run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from light_run.errors import IdempotencyConflict, Overloaded, RunNotFound
from light_run.runs.model import RunRecord
from light_run.runs.storage.registry import RunRegistry

# Seconds that a request waits for another one with the same key to be accepted.
PATIENCE = 30.0


@dataclass
class _Claim:
    digest: str
    settled: threading.Event = field(default_factory=threading.Event)


class KeyClaims:
    """Admits one request for each key at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[tuple[str, str], _Claim] = {}

    @contextmanager
    def claim(self, owner: str, key: str, digest: str) -> Iterator[None]:
        """Hold `key` of `owner` while the block runs.

        Raises `IdempotencyConflict` where another body is being accepted with it, `Overloaded` where that
        takes too long.
        """
        mine = _Claim(digest)
        while (other := self._take((owner, key), mine)) is not mine:
            if other.digest != digest:
                raise conflict()
            if not other.settled.wait(PATIENCE):
                raise Overloaded("another request with this Idempotency-Key is being accepted")
        try:
            yield
        finally:
            with self._lock:
                del self._claims[owner, key]
            mine.settled.set()

    def _take(self, name: tuple[str, str], mine: _Claim) -> _Claim:
        with self._lock:
            return self._claims.setdefault(name, mine)


class Replays:
    """Finds the runs of keys that were used before; a repeated request takes no place in the queue."""

    def __init__(self, registry: RunRegistry) -> None:
        self._registry = registry

    def known(self, owner: str | None, key: str) -> bool:
        """Return True if `key` of `owner` was used for a run."""
        return self._registry.key(owner or "", key) is not None

    def run(self, owner: str | None, key: str, digest: str) -> RunRecord | None:
        """Return the run of `key`, or None if the key is free. Raises `IdempotencyConflict`."""
        known = self._registry.key(owner or "", key)
        if known is None:
            return None
        if known.digest != digest:
            raise conflict()
        with suppress(RunNotFound):
            return self._registry.store.get(known.run_id)
        return None


def conflict() -> IdempotencyConflict:
    """Return the exception for a key that was used with another body."""
    return IdempotencyConflict("the Idempotency-Key was used with another body")
