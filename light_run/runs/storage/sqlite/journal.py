"""The journal in a SQLite file, for a single machine.

SQLite in WAL mode with ``synchronous=NORMAL``: what is committed survives the end of the process, however
it comes; a power cut may cost the last moments, never the journal.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from light_run.engine.spec import Reason, RunSpec
from light_run.errors import InsufficientStorage, JournalError
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import CallbackState, RunRecord
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry, JournalStep
from light_run.runs.storage.journal import KEEP_KEYS
from light_run.runs.storage.records import decode_run, decode_spec, encode_callback, encode_run, encode_spec
from light_run.runs.storage.sqlite.database import (
    connect,
    has_been_set_aside,
    quarantine,
    quarantined,
    set_aside,
    transaction,
)

_log = logging.getLogger(__name__)

_Write = tuple[str, tuple[Any, ...]]


class SQLiteJournal:
    """The `Journal` in the file `path`, with one connection.

    Raises `JournalError` if the file cannot be used: it is of a newer version, or not writable. A row that cannot be
    read is quarantined, a damaged file is set aside and a new one begun; `incomplete` is True while a journal that was
    set aside lies beside the file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._finished: list[str] = []
        # Writes that failed on a full disk, in order; later writes retry them first.
        self._behind: list[_Write] = []
        self._connection, self._entries = _open(path)
        self.quarantined = quarantined(self._connection)
        self.incomplete = has_been_set_aside(path)

    def load(self) -> list[JournalEntry]:
        """See `Journal`."""
        entries, self._entries = self._entries, []
        return entries

    def accept(
        self, run: RunRecord, spec: RunSpec, recipient: Recipient | None, key: IdempotencyKey | None
    ) -> None:
        """See `Journal`."""
        values = (
            run.id,
            JournalStep.QUEUED.value,
            encode_run(run),
            encode_spec(spec),
            spec.stdin,
            run.callback and encode_callback(run.callback),
            recipient and recipient.url,
            recipient and recipient.secret,
        )
        writes: list[_Write] = [(_ACCEPT, values)]
        if key is not None:
            row = (key.owner, key.key, key.digest, key.run_id, key.created)
            writes.append(("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", row))
        with self._lock:
            try:
                self._commit(writes)
            except sqlite3.Error as error:
                _log.error(
                    "run not accepted: the journal cannot be written",
                    extra={"run": run.id, "error": str(error)},
                )
                raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error

    def assigned(self, run: RunRecord, container: str) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET step = ?, run = ?, container = ? WHERE id = ?",
            (JournalStep.ASSIGNED.value, encode_run(run), container, run.id),
        )

    def launched(self, run_id: str, deadline: datetime) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET step = ?, deadline = ? WHERE id = ?",
            (JournalStep.LAUNCHED.value, deadline.timestamp(), run_id),
        )

    def requeued(self, run: RunRecord) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET step = ?, run = ?, container = NULL, deadline = NULL WHERE id = ?",
            (JournalStep.QUEUED.value, encode_run(run), run.id),
        )

    def paused(self, run: RunRecord) -> None:
        """See `Journal`."""
        self._write("UPDATE runs SET run = ? WHERE id = ?", (encode_run(run), run.id))

    def resumed(self, run: RunRecord, seconds: float) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET run = ?, deadline = deadline + ? WHERE id = ?",
            (encode_run(run), seconds, run.id),
        )

    def cancelling(self, run: RunRecord) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET run = ? WHERE id = ? AND step IN (?, ?, ?)",
            (
                encode_run(replace(run, reason=Reason.CANCELLED)),
                run.id,
                *(step.value for step in (JournalStep.QUEUED, JournalStep.ASSIGNED, JournalStep.LAUNCHED)),
            ),
        )

    def ended(self, run: RunRecord, since: float) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET step = ?, run = ?, callback = ?, callback_since = ?, spec = NULL, stdin = NULL"
            " WHERE id = ?",
            (
                JournalStep.ENDED.value,
                encode_run(run),
                run.callback and encode_callback(run.callback),
                since,
                run.id,
            ),
        )

    def finished(self, run_id: str) -> None:
        """See `Journal`."""
        # If it is lost, the next server looks for a container that does not exist.
        with self._lock:
            self._finished.append(run_id)

    def callback(self, run_id: str, state: CallbackState, since: float | None = None) -> None:
        """See `Journal`."""
        self._write(
            "UPDATE runs SET callback = ?, callback_since = coalesce(?, callback_since) WHERE id = ?",
            (encode_callback(state), since, run_id),
        )

    def hide(self, run_id: str) -> None:
        """See `Journal`."""
        self._write("UPDATE runs SET forgotten = 1 WHERE id = ?", (run_id,), _forget_keys(run_id))

    def drop(self, run_id: str) -> None:
        """See `Journal`."""
        self._write("DELETE FROM runs WHERE id = ?", (run_id,), _forget_keys(run_id))

    def spec(self, run_id: str) -> RunSpec:
        """See `Journal`."""
        row = self._read("SELECT spec, stdin, run FROM runs WHERE id = ?", run_id)
        if row is None or row[0] is None:
            raise JournalError(f"the journal has no spec of run {run_id}")
        return decode_spec(*row)

    def recipient(self, run_id: str) -> Recipient | None:
        """See `Journal`."""
        row = self._read("SELECT callback_url, callback_secret FROM runs WHERE id = ?", run_id)
        return None if row is None or row[0] is None else Recipient(*row)

    def key(self, owner: str, key: str, now: float) -> IdempotencyKey | None:
        """See `Journal`."""
        row = self._read("SELECT * FROM keys WHERE owner = ? AND key = ?", owner, key)
        return None if row is None or row[4] <= now - KEEP_KEYS else IdempotencyKey(*row)

    def step(self, now: float) -> None:
        """See `Journal`."""
        self._write("DELETE FROM keys WHERE created <= ?", (now - KEEP_KEYS,))
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

    def _read(self, sql: str, *values: Any) -> Any:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                raise JournalError(f"the journal cannot be read: {error}") from error

    def _write(self, sql: str, values: tuple[Any, ...], *more: _Write) -> None:
        writes = [(sql, values), *more]
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

    def _commit(self, writes: Iterable[_Write]) -> None:
        finished = [
            ("UPDATE runs SET step = ? WHERE id = ?", (JournalStep.FINISHED.value, run_id))
            for run_id in self._finished
        ]
        with transaction(self._connection):
            for sql, values in (*self._behind, *finished, *writes):
                self._connection.execute(sql, values)
        self._finished.clear()
        if self._behind:
            _log.warning("the journal has caught up", extra={"writes": len(self._behind)})
            self._behind.clear()


def _forget_keys(run_id: str) -> _Write:
    return "DELETE FROM keys WHERE run_id = ?", (run_id,)


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


_ACCEPT = """INSERT INTO runs (id, step, run, spec, stdin, callback, callback_url, callback_secret)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_ALL = """SELECT seq, id, run, callback, step, container, deadline, callback_url, callback_secret, callback_since,
forgotten FROM runs ORDER BY seq"""


# Exceptions that a value of another origin may cause.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError)


def _entries(connection: sqlite3.Connection) -> Iterator[JournalEntry]:
    for seq, run_id, *row in connection.execute(_ALL).fetchall():
        try:
            yield _entry(tuple(row))
        except _UNREADABLE as error:
            quarantine(connection, seq, run_id, error)


def _entry(row: tuple[Any, ...]) -> JournalEntry:
    run, callback, step, container, deadline, url, secret, since, forgotten = row
    return JournalEntry(
        run=decode_run(run, callback),
        step=JournalStep(step),
        container=container,
        deadline=None if deadline is None else datetime.fromtimestamp(deadline, timezone.utc),
        recipient=None if url is None else Recipient(url, secret),
        since=since,
        forgotten=bool(forgotten),
    )
