"""Runs accepted into the database by any number of servers: caps, Idempotency-Key, row and job in one transaction."""

from __future__ import annotations

import logging
import time

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from light_run.engine.spec import RunSpec
from light_run.errors import InsufficientStorage, Overloaded
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.execution.idempotency import conflict
from light_run.runs.model import RunRecord
from light_run.runs.storage.entries import IdempotencyKey
from light_run.runs.storage.journal import KEEP_KEYS
from light_run.runs.storage.postgres.database import AWAY, connect, retried
from light_run.runs.storage.postgres.jobs import defer
from light_run.runs.storage.postgres.journal import PATIENCE, statement
from light_run.runs.storage.sql_journal import accepting

_log = logging.getLogger(__name__)

# Held to the end of the transaction by those who accept a run with the same name. Their statements then see all that
# the others have committed.
_LOCK = b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_KEY = b"""SELECT keys.digest, keys.run_id FROM keys JOIN runs ON runs.id = keys.run_id
WHERE keys.owner = %s AND keys.key = %s AND keys.created > %s AND runs.forgotten = 0"""
# In the form of the partial index.
_ACTIVE_OF = b"""SELECT count(*) FROM runs
WHERE owner = %s AND step IN ('queued', 'assigned', 'launched')"""
_OWN = b"UPDATE runs SET owner = %s WHERE id = %s"


class PostgresAdmission:
    """Accepts runs into the database at `url`, over at most so many `connections`; no run is read at the start.

    Raises `JournalError` if the database cannot be used.
    """

    def __init__(self, url: str, *, connections: int = 8) -> None:
        self._pool: ConnectionPool[Connection] = connect(url, connections)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def accept(
        self,
        run: RunRecord,
        spec: RunSpec,
        recipient: Recipient | None = None,
        key: IdempotencyKey | None = None,
        *,
        most: int | None = None,
    ) -> str:
        """Record a run whose files are stored, and queue it; returns its id, or that of the run `key` stands for.

        The owner of the run may have `most` that have not ended. Raises `Overloaded` beyond that, and if the database
        cannot be reached, `IdempotencyConflict`, and `InsufficientStorage`. If the connection is lost during the
        commit, the run may have been accepted all the same: a client that repeats the request with its Idempotency-Key
        then gets that run.
        """
        try:
            return retried(self._pool, lambda: self._accept(run, spec, recipient, key, most))
        except psycopg.errors.DiskFull as error:
            raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error
        except AWAY as error:
            _log.error(
                "run not accepted: the database does not answer", extra={"run": run.id, "error": str(error)}
            )
            raise Overloaded("the database does not answer", retry_after=5) from error
        except psycopg.Error as error:
            raise InsufficientStorage(f"the run cannot be written to the journal: {error}") from error

    def _accept(
        self,
        run: RunRecord,
        spec: RunSpec,
        recipient: Recipient | None,
        key: IdempotencyKey | None,
        most: int | None,
    ) -> str:
        with self._pool.connection(PATIENCE) as connection, connection.transaction():
            if connection.execute(b"SELECT 1 FROM runs WHERE id = %s", (run.id,)).fetchone():
                # The first attempt was committed, without its answer reaching us.
                return run.id
            if key is not None:
                connection.execute(_LOCK, (f"key {key.owner}\n{key.key}",))
                values = (key.owner, key.key, time.time() - KEEP_KEYS)
                known = connection.execute(_KEY, values).fetchone()
                if known is not None:
                    if known[0] != key.digest:
                        raise conflict()
                    return str(known[1])
            if most is not None:
                connection.execute(_LOCK, (f"owner {run.owner}",))
                row = connection.execute(_ACTIVE_OF, (run.owner,)).fetchone()
                if row is None or row[0] >= most:
                    raise Overloaded(f"this token may have {most} runs at the same time")
            for sql, written in accepting(run, spec, recipient, key):
                connection.execute(statement(sql), written)
            if run.owner is not None:
                connection.execute(_OWN, (run.owner, run.id))
            defer(connection, run.id)
        return run.id
