"""The limit of unended runs of one token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from light_run.errors import Overloaded
from light_run.runs.storage.lookup import RunLookup


class Quota:
    """Counts a token's runs in `store`, and those being accepted, against its limit."""

    def __init__(self, store: RunLookup) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._accepting: dict[str, str | None] = {}

    @contextmanager
    def reserve(self, owner: str | None, most: int | None, run_id: str) -> Iterator[None]:
        """Count `run_id` while it is being accepted. Raises `Overloaded` if `most` runs have not ended."""
        if most is None:
            yield
            return
        with self._lock:
            mine = {each for each, other in self._accepting.items() if other == owner}
            # By id: a run that was just accepted is in both for a moment.
            if len(mine | self._store.active_of(owner)) >= most:
                raise Overloaded(f"this token may have {most} runs at the same time")
            self._accepting[run_id] = owner
        try:
            yield
        finally:
            with self._lock:
                del self._accepting[run_id]
