"""The journal of one of several workers: the runs that it has claimed, fenced by their attempts.

A worker that was believed dead may come back while another one has its run. Each claim is a new attempt, and what an
earlier attempt still writes changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import psycopg
from psycopg import Connection

from light_run.errors import JournalError, Overloaded
from light_run.runs.storage.entries import JournalEntry
from light_run.runs.storage.postgres import journal
from light_run.runs.storage.postgres.database import AWAY
from light_run.runs.storage.postgres.journal import PostgresJournal, readable
from light_run.runs.storage.sql_journal import UNREADABLE, Write, entry

# The columns of `ALL`, from the third one on.
_CLAIM = b"""UPDATE runs SET worker = %s, attempt = attempt + 1
WHERE id = %s AND step = 'queued' AND worker IS NULL
RETURNING attempt, run, callback, step, container, deadline, callback_url, callback_secret, callback_since, forgotten"""
_OWN = b"""SELECT attempt, seq, id, run, callback, step, container, deadline, callback_url, callback_secret,
callback_since, forgotten FROM runs WHERE worker = %s ORDER BY seq"""
_ATTEMPTS = b"SELECT id, attempt FROM runs WHERE id = ANY(%s)"
# No run has it.
_NONE = -1


class WorkerJournal(PostgresJournal):
    """The `Journal` of the worker `name`, which loads the runs that an earlier process of that name had claimed.

    Its steps are written only as long as the run is at the attempt that this worker claimed.
    """

    def __init__(self, url: str, name: str, *, connections: int = 8) -> None:
        self._name = name
        self._attempts: dict[str, int] = {}
        super().__init__(url, connections=connections)

    def claim(self, run_id: str) -> JournalEntry | None:
        """Take a queued run; returns its entry, or None if it is not to be had: claimed, ended or deleted.

        Raises `Overloaded` if the database does not answer: then the run may be claimed, and `load` of the next process
        has it. Raises `JournalError` if the row cannot be read.
        """
        try:
            with self._pool.connection(journal.PATIENCE) as connection:
                row = connection.execute(_CLAIM, (self._name, run_id)).fetchone()
        except AWAY as error:
            raise Overloaded("the database does not answer", retry_after=5) from error
        except psycopg.Error as error:
            raise JournalError(f"the run cannot be claimed: {error}") from error
        if row is None:
            return None
        self._attempts[run_id] = row[0]
        try:
            return entry(row[1:])
        except UNREADABLE as error:
            raise JournalError(f"the journal's row of run {run_id} is damaged: {error!r}") from error

    def lost(self, run_ids: Collection[str]) -> frozenset[str]:
        """Return those of `run_ids` that are no longer this worker's, whose containers have to go.

        Raises `Overloaded` if the database does not answer.
        """
        try:
            with self._pool.connection(journal.PATIENCE) as connection:
                found: dict[str, int] = dict(connection.execute(_ATTEMPTS, (list(run_ids),)).fetchall())
        except AWAY as error:
            raise Overloaded("the database does not answer", retry_after=5) from error
        return frozenset(each for each in run_ids if found.get(each) != self._attempts.get(each, _NONE))

    def drop(self, run_id: str) -> None:
        """See `Journal`."""
        super().drop(run_id)
        self._attempts.pop(run_id, None)

    def _load(self, connection: Connection) -> Iterator[JournalEntry]:
        rows = connection.execute(_OWN, (self._name,)).fetchall()
        self._attempts = {run_id: attempt for attempt, _, run_id, *_ in rows}
        return readable(connection, (row[1:] for row in rows))

    def _write(self, run_id: str, *writes: Write) -> None:
        super()._write(run_id, *(self._fenced(run_id, write) for write in writes))

    def _finish(self, run_id: str) -> Write:
        return self._fenced(run_id, super()._finish(run_id))

    def _fenced(self, run_id: str, write: Write) -> Write:
        sql, values = write
        if " runs " not in f"{sql} ":
            return write
        return f"{sql} AND attempt = ?", (*values, self._attempts.get(run_id, _NONE))
