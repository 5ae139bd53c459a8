"""What the journals of both databases have in common: the rows, and the statements that change them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from light_run.engine.spec import Reason, RunSpec
from light_run.errors import JournalError
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import CallbackState, RunRecord
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry, JournalStep
from light_run.runs.storage.journal import KEEP_KEYS
from light_run.runs.storage.records import decode_run, decode_spec, encode_callback, encode_run, encode_spec

# A statement, with a question mark for each of its values.
Write = tuple[str, tuple[Any, ...]]

_ACCEPT = """INSERT INTO runs (id, step, run, spec, stdin, callback, callback_url, callback_secret)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_USE_KEY = """INSERT INTO keys (owner, key, digest, run_id, created) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (owner, key) DO UPDATE SET digest = excluded.digest, run_id = excluded.run_id, created = excluded.created"""
_UNENDED = tuple(step.value for step in (JournalStep.QUEUED, JournalStep.ASSIGNED, JournalStep.LAUNCHED))
# The columns that `entry` reads, after the row's number and the run's id.
ALL = """SELECT seq, id, run, callback, step, container, deadline, callback_url, callback_secret, callback_since,
forgotten FROM runs ORDER BY seq"""
# Exceptions that a value of another origin may cause.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError)


class SQLJournal(ABC):
    """A `Journal` whose rows are in the tables ``runs`` and ``keys`` of a database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[JournalEntry] = []
        # Written with the next transaction. If one is lost, the next server looks for a container that does not exist.
        self._finished: list[str] = []
        # Writes that failed, in order: they come before any other.
        self._behind: list[Write] = []

    @abstractmethod
    def _accept(self, run: RunRecord, writes: list[Write]) -> None:
        """Commit the rows of a new run. Raises as `accept` does."""

    @abstractmethod
    def _write(self, run_id: str, *writes: Write) -> None:
        """Commit `writes` of one run together, or later if that fails now."""

    @abstractmethod
    def _read(self, sql: str, *values: Any) -> Any:
        """Return the first row, or None. Raises `JournalError`, or `Overloaded` as `Journal` says."""

    def accept(
        self, run: RunRecord, spec: RunSpec, recipient: Recipient | None, key: IdempotencyKey | None
    ) -> None:
        """See `Journal`."""
        self._accept(run, accepting(run, spec, recipient, key))

    def load(self) -> list[JournalEntry]:
        """See `Journal`."""
        entries, self._entries = self._entries, []
        return entries

    def assigned(self, run: RunRecord, container: str) -> None:
        """See `Journal`."""
        sql = "UPDATE runs SET step = ?, run = ?, container = ? WHERE id = ?"
        self._write(run.id, (sql, (JournalStep.ASSIGNED.value, encode_run(run), container, run.id)))

    def launched(self, run_id: str, deadline: datetime) -> None:
        """See `Journal`."""
        sql = "UPDATE runs SET step = ?, deadline = ? WHERE id = ?"
        self._write(run_id, (sql, (JournalStep.LAUNCHED.value, deadline.timestamp(), run_id)))

    def requeued(self, run: RunRecord) -> None:
        """See `Journal`."""
        sql = "UPDATE runs SET step = ?, run = ?, container = NULL, deadline = NULL WHERE id = ?"
        self._write(run.id, (sql, (JournalStep.QUEUED.value, encode_run(run), run.id)))

    def paused(self, run: RunRecord) -> None:
        """See `Journal`."""
        self._write(run.id, ("UPDATE runs SET run = ? WHERE id = ?", (encode_run(run), run.id)))

    def resumed(self, run: RunRecord, seconds: float) -> None:
        """See `Journal`."""
        # A write whose commit was not confirmed is repeated, and must not extend the deadline twice.
        sql = "UPDATE runs SET run = ?, deadline = deadline + ? WHERE id = ? AND run <> ?"
        text = encode_run(run)
        self._write(run.id, (sql, (text, seconds, run.id, text)))

    def cancelling(self, run: RunRecord) -> None:
        """See `Journal`."""
        sql = "UPDATE runs SET run = ? WHERE id = ? AND step IN (?, ?, ?)"
        text = encode_run(replace(run, reason=Reason.CANCELLED))
        self._write(run.id, (sql, (text, run.id, *_UNENDED)))

    def ended(self, run: RunRecord, since: float) -> None:
        """See `Journal`."""
        sql = (
            "UPDATE runs SET step = ?, run = ?, callback = ?, callback_since = ?, spec = NULL, stdin = NULL"
            " WHERE id = ?"
        )
        callback = run.callback and encode_callback(run.callback)
        self._write(run.id, (sql, (JournalStep.ENDED.value, encode_run(run), callback, since, run.id)))

    def evicted(self, run: RunRecord) -> None:
        """See `Journal`."""
        self._write(run.id, ("UPDATE runs SET run = ? WHERE id = ?", (encode_run(run), run.id)))

    def finished(self, run_id: str) -> None:
        """See `Journal`."""
        with self._lock:
            self._finished.append(run_id)

    def callback(self, run_id: str, state: CallbackState, since: float | None = None) -> None:
        """See `Journal`."""
        sql = "UPDATE runs SET callback = ?, callback_since = coalesce(?, callback_since) WHERE id = ?"
        self._write(run_id, (sql, (encode_callback(state), since, run_id)))

    def hide(self, run_id: str) -> None:
        """See `Journal`."""
        self._write(run_id, ("UPDATE runs SET forgotten = 1 WHERE id = ?", (run_id,)), _free_keys(run_id))

    def drop(self, run_id: str) -> None:
        """See `Journal`."""
        self._write(run_id, ("DELETE FROM runs WHERE id = ?", (run_id,)), _free_keys(run_id))

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
        sql = "SELECT owner, key, digest, run_id, created FROM keys WHERE owner = ? AND key = ?"
        row = self._read(sql, owner, key)
        return None if row is None or row[4] <= now - KEEP_KEYS else IdempotencyKey(*row)

    def step(self, now: float) -> None:
        """See `Journal`."""
        self._write("", ("DELETE FROM keys WHERE created <= ?", (now - KEEP_KEYS,)))


def accepting(
    run: RunRecord, spec: RunSpec, recipient: Recipient | None, key: IdempotencyKey | None
) -> list[Write]:
    """Return the writes that record a new run."""
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
    writes: list[Write] = [(_ACCEPT, values)]
    if key is not None:
        writes.append((_USE_KEY, (key.owner, key.key, key.digest, key.run_id, key.created)))
    return writes


def finish(run_id: str) -> Write:
    """Return the write that records a run as finished."""
    return "UPDATE runs SET step = ? WHERE id = ?", (JournalStep.FINISHED.value, run_id)


def entry(row: tuple[Any, ...]) -> JournalEntry:
    """Return the entry in a row of `ALL`, from its third column on. Raises one of `UNREADABLE`."""
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


def _free_keys(run_id: str) -> Write:
    return "DELETE FROM keys WHERE run_id = ?", (run_id,)
