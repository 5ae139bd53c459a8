"""The databases that runs are recorded in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Postgres, running_postgres
from tests.unit.runs.storage.journals import PostgresStorage, SQLiteStorage, Storage


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return SQLiteStorage(tmp_path / "journal.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return PostgresStorage(server.database())
