"""The journals that the same tests run against, each with a second connection to its database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from light_run.runs.storage.journal import Journal
from light_run.runs.storage.postgres.journal import PostgresJournal
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from tests.support.postgres import Database


class Storage(Protocol):
    """What is left of a journal when its server has ended."""

    def open(self) -> Journal:
        """Open the journal, as the next server does."""

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement by another connection; returns its rows."""

    def set_version(self, change: int) -> None:
        """Add to the version of the tables."""

    def kill(self, journal: Any) -> None:
        """End `journal` as a killed process does: nothing of what it would still write is written."""


class SQLiteStorage:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> SQLiteJournal:
        """See `Storage`."""
        return SQLiteJournal(self.path)

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Storage`."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(sql.replace("%s", "?"), values).fetchall()

    def set_version(self, change: int) -> None:
        """See `Storage`."""
        [(version,)] = self.execute("PRAGMA user_version")
        self.execute(f"PRAGMA user_version = {version + change}")

    def kill(self, journal: Any) -> None:
        """See `Storage`."""
        # SQLite's memory is gone with the connection: never close it under a thread that is writing.
        with journal._lock:
            journal._finished.clear()
            journal._connection.close()
            journal._write = journal._commit = lambda *_: None


class PostgresStorage:
    """A database of a server."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def open(self) -> PostgresJournal:
        """See `Storage`."""
        return PostgresJournal(self.database.url)

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Storage`."""
        return self.database.execute(sql, *values)

    def set_version(self, change: int) -> None:
        """See `Storage`."""
        self.execute("UPDATE version SET number = number + %s", change)

    def kill(self, journal: Any) -> None:
        """See `Storage`."""
        with journal._lock:
            journal._finished.clear()
            journal._write = journal._execute = lambda *_: None
        journal.close()
