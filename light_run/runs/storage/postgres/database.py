"""The journal's tables in PostgreSQL: the connections, the schema, quarantined rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from light_run.errors import JournalError
from light_run.runs.storage.postgres import jobs

_log = logging.getLogger(__name__)

T = TypeVar("T")

# The server does not answer, or a connection to it is broken.
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)

VERSION = 1
# Everything is in a schema of its own, so that the database may be another program's as well.
SCHEMA = "light_run"
# The channel of notifications: the id of a run that has ended or is gone.
CHANNEL = "light_run_runs"
# Held while the tables are created: servers may start at the same time. The number means nothing.
_LOCK = 7_304_921_455
# Seconds that the pool tries to replace a connection.
_RECONNECT = 2.0
# Unless the URL says otherwise. A server that cannot be reached any more is noticed within half a minute.
_DEFAULTS = {
    "application_name": "light-run",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_TABLES = """
CREATE TABLE runs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    step TEXT NOT NULL,
    run TEXT NOT NULL,
    spec TEXT,
    stdin BYTEA,
    container TEXT,
    deadline DOUBLE PRECISION,
    callback TEXT,
    callback_url TEXT,
    callback_secret TEXT,
    callback_since DOUBLE PRECISION,
    forgotten SMALLINT NOT NULL DEFAULT 0,
    owner TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    worker TEXT
);
CREATE TABLE damaged_runs AS SELECT * FROM runs WHERE false;
CREATE TABLE keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    run_id TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX keys_by_run ON keys (run_id);
CREATE TABLE version (number INTEGER NOT NULL);
CREATE INDEX unended_runs ON runs (owner) WHERE step IN ('queued', 'assigned', 'launched');
CREATE INDEX runs_by_worker ON runs (worker) WHERE worker IS NOT NULL;
CREATE FUNCTION notify_of_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('light_run_runs', OLD.id);
    RETURN NULL;
END $$;
CREATE TRIGGER run_ended AFTER UPDATE OF step ON runs FOR EACH ROW
WHEN (NEW.step = 'ended' AND OLD.step <> 'ended') EXECUTE FUNCTION notify_of_change();
CREATE TRIGGER run_deleted AFTER DELETE ON runs FOR EACH ROW EXECUTE FUNCTION notify_of_change();
CREATE TRIGGER run_hidden AFTER UPDATE OF forgotten ON runs FOR EACH ROW EXECUTE FUNCTION notify_of_change();
"""


def connect(url: str, connections: int) -> ConnectionPool[Connection]:
    """Connect to the database at `url` and create the tables if there are none; at most so many `connections`.

    Raises `JournalError` if the URL is invalid, the server does not answer, or a newer version wrote the tables.
    """
    conninfo = connection_string(url)
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            upgrade(connection)
    except psycopg.Error as error:
        raise JournalError(f"the database cannot be used: {error}") from error
    return ConnectionPool(
        conninfo,
        kwargs={"autocommit": True},
        configure=_find_tables,
        min_size=1,
        max_size=connections,
        num_workers=1,
        # Then it is for the next who needs a connection to ask again, without a pause that has grown meanwhile.
        reconnect_timeout=_RECONNECT,
        name="light-run-postgres",
        open=True,
    )


def connection_string(url: str) -> str:
    """Return what libpq connects with for `url`, with light-run's defaults. Raises `JournalError`."""
    return make_conninfo(**{**_DEFAULTS, **_parse(url)})


def upgrade(connection: Connection) -> None:
    """Create the tables if there are none. Raises `JournalError` if a newer version wrote them."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if connection.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,):
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        _find_tables(connection)
        if connection.execute("SELECT to_regclass('version')").fetchone() == (None,):
            connection.execute(_TABLES)
            jobs.create_tables(connection)
            connection.execute("INSERT INTO version VALUES (%s)", (VERSION,))
        row = connection.execute("SELECT number FROM version").fetchone()
    version = 0 if row is None else row[0]
    if version > VERSION:
        raise JournalError(
            f"the database was written by a newer light-run (version {version}, this one knows {VERSION}); use that "
            "one, or another database"
        )


def quarantine(connection: Connection, seq: int, run_id: str, error: Exception) -> None:
    """Move the row of a run that cannot be read to the table `damaged_runs`; its Idempotency-Keys are free again."""
    with connection.transaction():
        connection.execute("INSERT INTO damaged_runs SELECT * FROM runs WHERE seq = %s", (seq,))
        connection.execute("DELETE FROM runs WHERE seq = %s", (seq,))
        connection.execute("DELETE FROM keys WHERE run_id = %s", (run_id,))
    _log.critical(
        "the journal's row of run %s is damaged (%r): it was moved to the table %s.damaged_runs; the run's log and "
        "container are kept until you delete the row there",
        run_id,
        error,
        SCHEMA,
    )


def quarantined(connection: Connection) -> frozenset[str]:
    """Return the ids of the runs in `damaged_runs`, and of their containers."""
    rows = connection.execute("SELECT id, container FROM damaged_runs").fetchall()
    return frozenset(str(value) for row in rows for value in row if value is not None)


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        # What libpq says may quote the password.
        raise JournalError(
            "the URL of the database is invalid: give postgresql://USER@HOST:PORT/DATABASE"
        ) from None


def _find_tables(connection: Connection) -> None:
    connection.execute(f"SET search_path TO {SCHEMA}")


def retried(pool: ConnectionPool[Connection], call: Callable[[], T]) -> T:
    """Return the result of `call`, which uses a connection of `pool`; it is called again if that one was broken.

    A server that was restarted leaves broken connections in the pool.
    """
    try:
        return call()
    except AWAY:
        pool.check()
        return call()
