"""The queue of runs that several hosts share: Procrastinate's tables, beside those of the journal.

A job names a run; everything else is in the run's row.
"""

from __future__ import annotations

from procrastinate import SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from psycopg import Connection

QUEUE = "runs"
TASK = "light_run.run"

# Nothing is opened by it: each job is written by the connection that writes the run.
_jobs = JobManager(SyncPsycopgConnector())


def create_tables(connection: Connection) -> None:
    """Create Procrastinate's tables in the schema that `connection` uses."""
    connection.execute(SchemaManager.get_schema())


def defer(connection: Connection, run_id: str) -> None:
    """Queue the run, in the transaction of `connection`: there is a job if, and only if, there is a run.

    Raises psycopg.Error.
    """
    job = Job(
        id=None,
        queue=QUEUE,
        lock=None,
        queueing_lock=run_id,
        task_name=TASK,
        task_kwargs={"run_id": run_id},
    )
    try:
        _jobs.defer_job(job, connection=connection)
    except ConnectorException as error:
        # The exception of psycopg says whether the server is away.
        raise error.__cause__ or error from None
