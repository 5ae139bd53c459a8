"""The journal's database file: open, check, quarantine rows, set aside a damaged file."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from light_run.errors import JournalError

_log = logging.getLogger(__name__)

VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    step TEXT NOT NULL,
    run TEXT NOT NULL,
    spec TEXT,
    stdin BLOB,
    container TEXT,
    deadline REAL,
    callback TEXT,
    callback_url TEXT,
    callback_secret TEXT,
    callback_since REAL,
    forgotten INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    run_id TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX keys_by_run ON keys (run_id);
"""
# Separates the name of a journal that was set aside from the time at which it was.
_ASIDE = ".damaged-"
# The write-ahead log is cut back to this after a large one, in bytes.
_LARGEST_LOG = 64 << 20


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction; roll back if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # On a full disk, SQLite may have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(path: Path) -> sqlite3.Connection:
    """Open or create the journal at `path`. Raises `JournalError` if a newer version wrote it.

    Raises sqlite3.OperationalError where it cannot be used now, another sqlite3.DatabaseError where it is
    damaged.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise JournalError(
                f"the journal {path} was written by a newer light-run (version {version}, this one knows "
                f"{VERSION}); use that one, or another state directory"
            )
        path.chmod(0o600)
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        # Environments and inputs are erased when their runs end, not when their pages are reused.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")
        if version == 0:
            with transaction(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
        elif (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(verdict)
        return connection
    except BaseException:
        connection.close()
        raise


def quarantine(connection: sqlite3.Connection, seq: int, run_id: str, error: Exception) -> None:
    """Move the row of a run that cannot be read to the table `damaged_runs`; its Idempotency-Keys are free again."""
    with transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS damaged_runs AS SELECT * FROM runs WHERE 0")
        connection.execute("INSERT INTO damaged_runs SELECT * FROM runs WHERE seq = ?", (seq,))
        connection.execute("DELETE FROM runs WHERE seq = ?", (seq,))
        connection.execute("DELETE FROM keys WHERE run_id = ?", (run_id,))
    _log.critical(
        "the journal's row of run %s is damaged (%r): it was moved to the table damaged_runs; the run's log and "
        "container are kept until you delete the row there",
        run_id,
        error,
    )


def quarantined(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the ids of the runs in `damaged_runs`, and of their containers."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'damaged_runs'").fetchone() is None:
        return frozenset()
    rows = connection.execute("SELECT id, container FROM damaged_runs").fetchall()
    return frozenset(str(value) for row in rows for value in row if value is not None)


def has_been_set_aside(path: Path) -> bool:
    """True if a damaged journal lies beside `path`."""
    return any(path.parent.glob(f"{path.name}{_ASIDE}*"))


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged journal and log it."""
    aside = f"{path.name}{_ASIDE}{time.strftime('%Y%m%dT%H%M%S')}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    _log.critical(
        "the journal %s is damaged (%s): it was renamed to %s, and its runs are unknown. Their logs and containers are "
        "kept until you delete that file and restart the server",
        path,
        error,
        aside,
    )
