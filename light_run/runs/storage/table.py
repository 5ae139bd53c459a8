"""The run table: all runs in memory, in one dict under one lock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

from light_run.errors import RunActive, RunNotFound
from light_run.runs.model import RunRecord, Status

# Seconds between two looks at whether whoever waits for a run is still there.
_BEAT = 1.0
# Takes the current record of a run and returns the new one.
Change = Callable[[RunRecord], RunRecord]


class RunTable:
    """Runs by id, in the order in which they were accepted. Records are immutable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, RunRecord] = {}
        self._active: set[str] = set()
        # The ended runs of each owner, in the order in which they ended, numbered over all owners.
        self._ended: dict[str | None, dict[str, int]] = {}
        self._numbers = count()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._let_go: set[str] = set()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def add(self, run: RunRecord) -> None:
        """Add a run."""
        with self._lock:
            self._runs[run.id] = run
            if run.ended:
                self._add_ended(run)
            else:
                self._active.add(run.id)

    def order(self) -> None:
        """Sort the ended runs, which were added in the order of acceptance, by their ends."""
        with self._lock:
            by_end = sorted(
                (self._runs[run_id] for ended in self._ended.values() for run_id in ended), key=_end
            )
            self._ended.clear()
            for run in by_end:
                self._add_ended(run)

    def get(self, run_id: str) -> RunRecord:
        """Return the current record of a run. Raises `RunNotFound`."""
        # Reading a dict once needs no lock.
        run = self._runs.get(run_id)
        if run is None:
            raise _not_found()
        return run

    def change(self, run_id: str, change: Change) -> RunRecord:
        """Replace a run by what `change`, which must be quick, makes of it; those who wait for its end go on.

        Raises `RunNotFound`, and whatever `change` raises: the run then stays as it was.
        """
        with self._lock:
            before = self._runs.get(run_id)
            if before is None:
                raise _not_found()
            after = self._runs[run_id] = change(before)
            if after.ended and not before.ended:
                self._active.discard(run_id)
                self._add_ended(after)
                for waiter in self._waiting.pop(run_id, ()):
                    waiter.run = after
                    waiter.ended.set()
        return after

    def update(self, run_id: str, **changes: Any) -> RunRecord:
        """Change fields of a run other than its status. Raises `RunNotFound`."""
        return self.change(run_id, lambda run: replace(run, **changes))

    def remove(self, run_id: str) -> RunRecord:
        """Remove an ended run. Raises `RunNotFound`, `RunActive`."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise _not_found()
            if not run.ended:
                raise RunActive("the run has not ended yet; cancel it first")
            del self._runs[run_id]
            self._remove_ended(run)
        return run

    def withdraw(self, run_id: str) -> None:
        """Remove a run as if it had never been accepted; `wait` raises `RunNotFound`."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is not None:
                self._remove_ended(run)
            self._active.discard(run_id)
            for waiter in self._waiting.pop(run_id, ()):
                waiter.ended.set()

    def wait(
        self, run_id: str, timeout: float | None = None, is_gone: Callable[[], bool] | None = None
    ) -> RunRecord:
        """Wait up to `timeout` seconds for the end of a run and return its record. Raises `RunNotFound`.

        Whether whoever waits `is_gone` is asked once a second.
        """
        waiter = _Waiter()
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise _not_found()
            if run.ended or run_id in self._let_go:
                return run
            self._waiting.setdefault(run_id, []).append(waiter)
        try:
            waiter.wait(timeout, is_gone)
        finally:
            self._stop_waiting(run_id, waiter)
        # Handed over rather than looked up: the run may be removed as soon as it has ended.
        return waiter.run or self.get(run_id)

    def detach(self, run_id: str) -> None:
        """Stop all waits for a run, which will not end in this process; `wait` returns its current record."""
        with self._lock:
            self._let_go.add(run_id)
            for waiter in self._waiting.get(run_id, ()):
                waiter.ended.set()

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[RunRecord], bool]:
        """At most `limit` runs, newest first, and whether more follow.

        Only those with `status`, of `owner`, with all of `labels`, and accepted before the run `before`. Raises
        `RunNotFound` where `before` is no run.
        """
        with self._lock:
            if before is not None and before not in self._runs:
                raise _not_found()
            newest_first = iter(reversed(self._runs.values()))
            if before is not None:
                for run in newest_first:
                    if run.id == before:
                        break
            found: list[RunRecord] = []
            for run in newest_first:
                if (
                    (status is None or run.status is status)
                    and (owner is None or run.owner == owner)
                    and all(run.labels.get(key) == value for key, value in labels)
                ):
                    if len(found) == limit:
                        return found, True
                    found.append(run)
            return found, False

    def active(self) -> frozenset[str]:
        """Return the ids of runs that have not ended."""
        with self._lock:
            return frozenset(self._active)

    def active_of(self, owner: str | None) -> frozenset[str]:
        """Return the ids of runs of `owner` that have not ended."""
        with self._lock:
            return frozenset(run_id for run_id in self._active if self._runs[run_id].owner == owner)

    def ended(self) -> tuple[RunRecord, ...]:
        """Return the ended runs, in the order in which they ended."""
        with self._lock:
            numbered = {run_id: number for ended in self._ended.values() for run_id, number in ended.items()}
            return tuple(self._runs[run_id] for run_id in sorted(numbered, key=numbered.__getitem__))

    def ended_beyond(self, most: int) -> Sequence[str]:
        """Return the ids of ended runs, as many as exceed `most`: of the owner with the most, the oldest first."""
        with self._lock:
            numbers = {owner: len(ended) for owner, ended in self._ended.items()}
            oldest = {owner: iter(ended) for owner, ended in self._ended.items()}
            chosen = []
            for _ in range(sum(numbers.values()) - most):
                owner = max(numbers, key=numbers.__getitem__)
                numbers[owner] -= 1
                chosen.append(next(oldest[owner]))
            return chosen

    def _add_ended(self, run: RunRecord) -> None:
        self._ended.setdefault(run.owner, {})[run.id] = next(self._numbers)

    def _remove_ended(self, run: RunRecord) -> None:
        ended = self._ended.get(run.owner, {})
        ended.pop(run.id, None)
        if not ended:
            self._ended.pop(run.owner, None)

    def _stop_waiting(self, run_id: str, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiting.get(run_id, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiting[run_id]


class _Waiter:
    """A thread that waits for the end of one run, and the run's final record."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.run: RunRecord | None = None

    def wait(self, timeout: float | None, is_gone: Callable[[], bool] | None) -> None:
        """Wait for the end, for `timeout` seconds at most, or until `is_gone` returns True."""
        if is_gone is None:
            self.ended.wait(timeout)
            return
        until = math.inf if timeout is None else time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if self.ended.wait(min(left, _BEAT)) or is_gone():
                return


def _end(run: RunRecord) -> datetime:
    return run.finished_at or run.created_at


def _not_found() -> RunNotFound:
    return RunNotFound("there is no such run")
