"""How many runs one token may have that have not ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from light_run.errors import Overloaded
from light_run.runs.model import RunRequest
from light_run.runs.store import RunStore


class Quota:
    """Counts the runs in `store`, and those being accepted, against the cap of who asks."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._accepting: dict[str, str | None] = {}

    @contextmanager
    def place(self, request: RunRequest, run_id: str) -> Iterator[None]:
        """Have `run_id` count while it is accepted. Raises `Overloaded` where that is one too many."""
        if request.max_runs is None:
            yield
            return
        with self._lock:
            mine = {each for each, owner in self._accepting.items() if owner == request.owner}
            # By id: a run that has just been accepted is in both for a moment.
            if len(mine | self._store.active_of(request.owner)) >= request.max_runs:
                raise Overloaded(f"this token may have {request.max_runs} runs at the same time")
            self._accepting[run_id] = request.owner
        try:
            yield
        finally:
            with self._lock:
                del self._accepting[run_id]
