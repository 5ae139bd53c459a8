"""A PostgreSQL server of the tests' own, by scripts/postgres."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

_SCRIPT = Path(__file__).parents[2] / "scripts" / "postgres"
_STOP_SECONDS = 30


class Postgres:
    """A running server; `url` is that of its first database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._names = (f"test_{number}" for number in itertools.count())

    def database(self) -> Database:
        """Create an empty database."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name}")
        return Database(self, name)

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement in the first database; returns its rows."""
        return _execute(self.url, sql, values)


class Database:
    """One database of a server, and ways to get in its way."""

    def __init__(self, server: Postgres, name: str) -> None:
        self._server = server
        self._name = name
        self.url = urlsplit(server.url)._replace(path=f"/{name}").geturl()

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement, by the names of light-run's own tables; returns its rows."""
        return _execute(self.url, sql, values)

    def cut_off(self) -> None:
        """Break all connections to the database, and refuse new ones."""
        self._server.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", self._name
        )

    def restore(self) -> None:
        """Accept connections again."""
        self._server.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server; nothing is left of it afterwards."""
    with subprocess.Popen([_SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with process.stdout as output:
                url = output.readline().strip()
            assert url, "PostgreSQL did not start: run scripts/ensure-test-tools first"
            yield Postgres(url)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def _execute(url: str, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, options="-c search_path=light_run") as connection:
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []
