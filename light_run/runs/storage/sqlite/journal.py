"""The journal in a SQLite file, for a single machine.

SQLite in WAL mode with ``synchronous=NORMAL``: what is committed survives the end of the process, however
it comes; a power cut may cost the last moments, never the journal.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from light_run.errors import InsufficientStorage, JournalError
from light_run.runs.model import RunRecord
from light_run.runs.storage.entries import JournalEntry
from light_run.runs.storage.sql_journal import ALL, UNREADABLE, SQLJournal, Write, entry, finish
from light_run.runs.storage.sqlite.database import (
    connect,
    has_been_set_aside,
    quarantine,
    quarantined,
    set_aside,
    transaction,
)

_log = logging.getLogger(__name__)


class SQLiteJournal(SQLJournal):
    """The `Journal` in the file `path`, with one connection.

    Raises `JournalError` if the file cannot be used: it is of a newer version, or not writable. A row that cannot be
    read is quarantined, a damaged file is set aside and a new one begun; `incomplete` is True while a journal that was
    set aside lies beside the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._connection, self._entries = _open(path)
        self.quarantined = quarantined(self._connection)
        self.incomplete = has_been_set_aside(path)

    def step(self, now: float) -> None:
        """See `Journal`."""
        super().step(now)
        with self._lock, contextlib.suppress(sqlite3.OperationalError):
            # A script is executed to its end. A statement without columns is not, and would free one page.
            self._connection.executescript("PRAGMA incremental_vacuum(1000)")

    def close(self) -> None:
        """See `Journal`."""
        with self._lock:
            try:
                self._commit([])
            except sqlite3.Error as error:
                _log.error("the journal's last rows cannot be written", extra={"error": str(error)})
            self._connection.close()

    def _accept(self, run: RunRecord, writes: list[Write]) -> None:
        with self._lock:
            try:
                self._commit(writes)
            except sqlite3.Error as error:
                _log.error(
                    "run not accepted: the journal cannot be written",
                    extra={"run": run.id, "error": str(error)},
                )
                raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error

    def _read(self, sql: str, *values: Any) -> Any:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                raise JournalError(f"the journal cannot be read: {error}") from error

    def _write(self, run_id: str, *writes: Write) -> None:
        with self._lock:
            try:
                self._commit(writes)
            except sqlite3.OperationalError as error:
                # Runs go on and end properly; only a server that dies before there is room again loses this.
                if not self._behind:
                    _log.error("the journal cannot be written, and falls behind", extra={"error": str(error)})
                self._behind += writes
            except sqlite3.Error as error:
                _log.critical("the journal cannot be written", extra={"error": str(error)})

    def _commit(self, writes: Iterable[Write]) -> None:
        finished = map(finish, self._finished)
        with transaction(self._connection):
            for sql, values in (*self._behind, *finished, *writes):
                self._connection.execute(sql, values)
        self._finished.clear()
        if self._behind:
            _log.warning("the journal has caught up", extra={"writes": len(self._behind)})
            self._behind.clear()


def _open(path: Path) -> tuple[sqlite3.Connection, list[JournalEntry]]:
    try:
        try:
            return _open_and_read(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            set_aside(path, error)
        return _open_and_read(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise JournalError(f"the journal {path} cannot be used: {error}") from error


def _open_and_read(path: Path) -> tuple[sqlite3.Connection, list[JournalEntry]]:
    connection = connect(path)
    try:
        return connection, list(_entries(connection))
    except BaseException:
        connection.close()
        raise


def _entries(connection: sqlite3.Connection) -> Iterator[JournalEntry]:
    for seq, run_id, *row in connection.execute(ALL).fetchall():
        try:
            yield entry(tuple(row))
        except UNREADABLE as error:
            quarantine(connection, seq, run_id, error)
