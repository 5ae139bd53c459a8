"""The journal in a PostgreSQL database.

What is committed is on the server's disk. While the server is away, runs go on: what they write is kept in memory, in
order, and written once the server is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import psycopg
from psycopg import Connection

from light_run.errors import InsufficientStorage, JournalError, Overloaded
from light_run.runs.model import RunRecord
from light_run.runs.storage.entries import JournalEntry
from light_run.runs.storage.postgres.database import AWAY, connect, quarantine, quarantined, retried
from light_run.runs.storage.sql_journal import ALL, UNREADABLE, SQLJournal, Write, entry, finish

_log = logging.getLogger(__name__)

# Seconds to wait for a connection, and between two attempts to reach a server that is away.
PATIENCE = 5.0
RETRY = 1.0
# Writes of one run keep their order, writes of others do not wait for them: so many locks for all runs.
_LOCKS = 64


class PostgresJournal(SQLJournal):
    """The `Journal` in the database at `url`, ``postgresql://...``, over at most so many `connections`.

    Raises `JournalError` if the database cannot be used. While its server is away, `accept` raises `Overloaded`, and
    all other writes are kept until it is back.
    """

    incomplete = False

    def __init__(self, url: str, *, connections: int = 8) -> None:
        super().__init__()
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._catching_up: threading.Thread | None = None
        self._closed = threading.Event()
        self._pool = connect(url, connections)
        try:
            with self._pool.connection(PATIENCE) as connection:
                self._entries = list(self._load(connection))
                self.quarantined = quarantined(connection)
        except BaseException as error:
            self._pool.close()
            if isinstance(error, psycopg.Error):
                raise JournalError(f"the database cannot be used: {error}") from error
            raise

    def close(self) -> None:
        """See `Journal`."""
        self._closed.set()
        thread = self._catching_up
        if thread is not None:
            thread.join()
        with self._lock:
            pending = [*self._behind, *map(self._finish, self._finished)]
            self._behind, self._finished = [], []
        try:
            if pending:
                self._execute(pending)
        except psycopg.Error as error:
            _log.error("the journal's last rows cannot be written", extra={"error": str(error)})
        self._pool.close()

    def _load(self, connection: Connection) -> Iterator[JournalEntry]:
        return readable(connection, connection.execute(ALL).fetchall())

    def _finish(self, run_id: str) -> Write:
        return finish(run_id)

    def _accept(self, run: RunRecord, writes: list[Write]) -> None:
        run_id = run.id
        if run.owner is not None:
            writes.append(("UPDATE runs SET owner = ? WHERE id = ?", (run.owner, run_id)))
        try:
            # Not even tried while the server is away: the client would wait for nothing.
            if self._behind:
                raise Overloaded("the database does not answer", retry_after=5)
            self._commit(writes)
        except AWAY as error:
            _log.error(
                "run not accepted: the database does not answer", extra={"run": run_id, "error": str(error)}
            )
            if isinstance(error, psycopg.errors.DiskFull):
                raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error
            # It may have been committed all the same, without the answer reaching us.
            self._fall_behind(
                [
                    ("DELETE FROM runs WHERE id = ?", (run_id,)),
                    ("DELETE FROM keys WHERE run_id = ?", (run_id,)),
                ]
            )
            raise Overloaded("the database does not answer", retry_after=5) from error
        except psycopg.Error as error:
            _log.error(
                "run not accepted: the journal cannot be written", extra={"run": run_id, "error": str(error)}
            )
            raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error

    def _write(self, run_id: str, *writes: Write) -> None:
        with self._locks[hash(run_id) % _LOCKS]:
            with self._lock:
                if self._behind:
                    self._behind += writes
                    return
                finished, self._finished = self._finished, []
            everything = [*map(self._finish, finished), *writes]
            try:
                self._commit(everything)
            except AWAY as error:
                _log.error(
                    "the database does not answer: the journal falls behind", extra={"error": str(error)}
                )
                self._fall_behind(everything)
            except psycopg.Error:
                self._fall_behind(everything)

    def _read(self, sql: str, *values: Any) -> Any:
        def read() -> Any:
            with self._pool.connection(PATIENCE) as connection:
                return connection.execute(statement(sql), values).fetchone()

        try:
            return retried(self._pool, read)
        except AWAY as error:
            raise Overloaded("the database does not answer", retry_after=5) from error
        except psycopg.Error as error:
            raise JournalError(f"the journal cannot be read: {error}") from error

    def _commit(self, writes: Sequence[Write]) -> None:
        try:
            self._execute(writes)
        except AWAY:
            # A server that was restarted leaves broken connections in the pool.
            self._pool.check()
            try:
                self._execute(writes)
            except psycopg.errors.UniqueViolation:
                _log.info("the journal had been written already")

    def _execute(self, writes: Sequence[Write]) -> None:
        with self._pool.connection(PATIENCE) as connection:
            if len(writes) == 1:
                [(sql, values)] = writes
                connection.execute(statement(sql), values)
                return
            with connection.transaction():
                for sql, values in writes:
                    connection.execute(statement(sql), values)

    def _fall_behind(self, writes: Sequence[Write]) -> None:
        with self._lock:
            self._behind += writes
            if self._catching_up is None and not self._closed.is_set():
                self._catching_up = threading.Thread(
                    target=self._catch_up, name="light-run-journal", daemon=True
                )
                self._catching_up.start()

    def _catch_up(self) -> None:
        written = 0
        while True:
            with self._lock:
                pending = list(self._behind)
                if not pending:
                    self._catching_up = None
                    _log.warning("the journal has caught up", extra={"writes": written})
                    return
            try:
                self._execute_what_can_be(pending)
            except AWAY:
                if self._closed.wait(RETRY):
                    return
                continue
            written += len(pending)
            with self._lock:
                del self._behind[: len(pending)]

    def _execute_what_can_be(self, writes: Sequence[Write]) -> None:
        # One that the server refuses must not keep the others from being written.
        try:
            self._execute(writes)
        except AWAY:
            raise
        except psycopg.Error:
            for write in writes:
                try:
                    self._execute([write])
                except AWAY:
                    raise
                except psycopg.Error as error:
                    _log.critical("the journal cannot be written", extra={"error": str(error)})


@cache
def statement(sql: str) -> bytes:
    """Return `sql`, which is in the form of SQLite, as psycopg takes it: no other str than literals."""
    return sql.replace("?", "%s").encode()


def readable(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> Iterator[JournalEntry]:
    """Yield the entries in `rows`; those that cannot be read are quarantined."""
    for seq, run_id, *row in rows:
        try:
            yield entry(tuple(row))
        except UNREADABLE as error:
            quarantine(connection, seq, run_id, error)
