"""Runs looked up in the database, by servers that do not execute them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from light_run.engine.spec import Phase
from light_run.errors import JournalError, Overloaded, RunNotFound
from light_run.runs.model import RunRecord, Status
from light_run.runs.storage.entries import JournalStep
from light_run.runs.storage.postgres.database import AWAY, CHANNEL, connect, connection_string, retried
from light_run.runs.storage.records import decode_run
from light_run.runs.storage.sql_journal import UNREADABLE

_log = logging.getLogger(__name__)

# Seconds to wait for a connection, and between two attempts to listen again.
PATIENCE = 5.0
RETRY = 1.0
# Seconds after which a wait looks for itself: a notification may be lost with its connection.
POLL = 5.0
# Seconds between two looks at whether whoever waits is still there, and whether the listener is to end.
_BEAT = 1.0
_LISTEN_BEAT = 0.5
# Rows read at once.
_BATCH = 1000

_UNENDED = [JournalStep.QUEUED.value, JournalStep.ASSIGNED.value, JournalStep.LAUNCHED.value]
_GET = b"SELECT seq, run, callback FROM runs WHERE id = %s AND forgotten = 0"
_PAGE = b"""SELECT seq, id, run, callback FROM runs
WHERE forgotten = 0 AND seq < %(before)s
AND (%(ended)s::boolean IS NULL OR %(ended)s <> (step = ANY(%(unended)s)))
AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY seq DESC LIMIT %(batch)s"""
_ACTIVE = b"SELECT id FROM runs WHERE forgotten = 0 AND step = ANY(%s)"
_ACTIVE_OF = _ACTIVE + b" AND owner IS NOT DISTINCT FROM %s"
_NEWEST = 2**63 - 1


class PostgresRunLookup:
    """The `RunLookup` in the database at `url`, over at most so many `connections` and one that listens.

    Triggers of the table send a notification when a run ends or is deleted, whichever server wrote it. A run that is
    deleted the moment it ends may be gone for those who wait for it. Raises `JournalError` if the database cannot be
    used.
    """

    def __init__(self, url: str, *, connections: int = 8) -> None:
        self._waiting: dict[str, list[threading.Event]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._conninfo = connection_string(url)
        self._pool: ConnectionPool[Connection] = connect(url, connections)
        self._listener = threading.Thread(target=self._listen, name="light-run-listen", daemon=True)
        self._listener.start()

    def close(self) -> None:
        """End all waits, which return the record as it is, and close the connections."""
        self._closed.set()
        self._wake()
        self._listener.join()
        self._pool.close()

    def get(self, run_id: str) -> RunRecord:
        """See `RunLookup`. Raises `JournalError` if the row cannot be read."""
        row = self._row(run_id)
        try:
            return _record(row[1], row[2])
        except UNREADABLE as error:
            raise JournalError(f"the journal's row of run {run_id} is damaged: {error!r}") from error

    def wait(
        self, run_id: str, timeout: float | None = None, is_gone: Callable[[], bool] | None = None
    ) -> RunRecord:
        """See `RunLookup`. While the database is away, a wait that has begun goes on."""
        changed = threading.Event()
        with self._lock:
            self._waiting.setdefault(run_id, []).append(changed)
        try:
            until = math.inf if timeout is None else time.monotonic() + timeout
            # Looked up once we are told of changes: none is missed in between.
            run = self.get(run_id)
            while not (run.ended or self._closed.is_set() or time.monotonic() >= until):
                if _told(changed, min(until, time.monotonic() + POLL), is_gone):
                    return run
                changed.clear()
                with suppress(Overloaded):
                    run = self.get(run_id)
            return run
        finally:
            with self._lock:
                self._waiting[run_id].remove(changed)
                if not self._waiting[run_id]:
                    del self._waiting[run_id]

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[RunRecord], bool]:
        """See `RunLookup`. A row that cannot be read is left out."""
        found: list[RunRecord] = []
        for run in self._newest_first(status, before, owner, min(limit + 1, _BATCH)):
            if (status is None or run.status is status) and all(
                run.labels.get(key) == value for key, value in labels
            ):
                if len(found) == limit:
                    return found, True
                found.append(run)
        return found, False

    def active(self) -> frozenset[str]:
        """See `RunLookup`."""
        return self._ids(_ACTIVE, _UNENDED)

    def active_of(self, owner: str | None) -> frozenset[str]:
        """See `RunLookup`."""
        return self._ids(_ACTIVE_OF, _UNENDED, owner)

    def _ids(self, sql: bytes, *values: object) -> frozenset[str]:
        return frozenset(run_id for (run_id,) in self._rows(sql, values))

    def _row(self, run_id: str) -> tuple[Any, ...]:
        rows = self._rows(_GET, (run_id,))
        if not rows:
            raise RunNotFound("there is no such run")
        return rows[0]

    def _newest_first(
        self, status: Status | None, before: str | None, owner: str | None, batch: int
    ) -> Iterator[RunRecord]:
        # A row has no column for the status: the step says whether it has ended, its text the rest.
        values: dict[str, Any] = {
            "before": _NEWEST if before is None else self._row(before)[0],
            "ended": None if status is None else status.ended,
            "unended": _UNENDED,
            "owner": owner,
            "batch": batch,
        }
        while True:
            rows = self._rows(_PAGE, values)
            for _, run_id, text, callback in rows:
                try:
                    yield _record(text, callback)
                except UNREADABLE as error:
                    _log.error(
                        "the journal's row of a run is damaged", extra={"run": run_id, "error": repr(error)}
                    )
            if len(rows) < values["batch"]:
                return
            values = {**values, "before": rows[-1][0], "batch": _BATCH}

    def _rows(self, sql: bytes, values: Sequence[object] | dict[str, Any]) -> Sequence[tuple[Any, ...]]:
        try:
            return retried(self._pool, lambda: self._execute(sql, values))
        except AWAY as error:
            raise Overloaded("the database does not answer", retry_after=5) from error

    def _execute(self, sql: bytes, values: Sequence[object] | dict[str, Any]) -> Sequence[tuple[Any, ...]]:
        with self._pool.connection(PATIENCE) as connection:
            return connection.execute(sql, values).fetchall()

    def _listen(self) -> None:
        listened = True
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    listened = True
                    # What has changed while nobody listened is looked up.
                    self._wake()
                    while not self._closed.is_set():
                        for notification in connection.notifies(timeout=_LISTEN_BEAT):
                            self._wake(notification.payload)
            except psycopg.Error as error:
                if listened:
                    _log.warning(
                        "the database sends no notifications: waits look every %g s",
                        POLL,
                        extra={"error": str(error)},
                    )
                listened = False
                self._closed.wait(RETRY)

    def _wake(self, run_id: str | None = None) -> None:
        with self._lock:
            waiting = self._waiting.values() if run_id is None else [self._waiting.get(run_id, [])]
            for events in waiting:
                for changed in events:
                    changed.set()


def _record(text: str, callback: str | None) -> RunRecord:
    run = decode_run(text, callback)
    if run.ended:
        return run
    # The row says `cancelled` as soon as a cancel is asked for; the end is for its worker to decide.
    return replace(run, reason=None, phase=None if run.paused_at is None else Phase.PAUSED)


def _told(changed: threading.Event, until: float, is_gone: Callable[[], bool] | None) -> bool:
    # Wait for a change until then; True as soon as whoever waits is gone.
    while (left := until - time.monotonic()) > 0:
        if changed.wait(left if is_gone is None else min(left, _BEAT)):
            return False
        if is_gone is not None and is_gone():
            return True
    return False
