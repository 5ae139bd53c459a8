"""Idempotency-Keys: one key, one body, one run, however often and from wherever it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from light_run.errors import IdempotencyConflict, Overloaded, RunNotFound
from light_run.runs.model import RunRecord
from light_run.runs.storage.registry import RunRegistry

# Whoever asks while another request with the same key is being accepted waits so many seconds for it.
PATIENCE = 30.0


@dataclass
class _Claim:
    digest: str
    settled: threading.Event = field(default_factory=threading.Event)


class KeyClaims:
    """Lets one request a key through at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[tuple[str, str], _Claim] = {}

    @contextmanager
    def claim(self, owner: str, key: str, digest: str) -> Iterator[None]:
        """Have `key` of `owner` to oneself while the block runs.

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
    """Runs that a key stands for already; asking for one again costs neither a place nor a slot."""

    def __init__(self, registry: RunRegistry) -> None:
        self._registry = registry

    def known(self, owner: str | None, key: str) -> bool:
        """True where `key` of `owner` stands for a run."""
        return self._registry.key(owner or "", key) is not None

    def run(self, owner: str | None, key: str, digest: str) -> RunRecord | None:
        """The run that `key` stands for; None for a key that is free. Raises `IdempotencyConflict`."""
        known = self._registry.key(owner or "", key)
        if known is None:
            return None
        if known.digest != digest:
            raise conflict()
        with suppress(RunNotFound):
            return self._registry.store.get(known.run_id)
        return None


def conflict() -> IdempotencyConflict:
    """What to raise for a key that came with another body."""
    return IdempotencyConflict("the Idempotency-Key was used with another body")
