"""Runs accepted into one database by several servers: the run, its key and its job, or nothing of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from light_run.errors import IdempotencyConflict, InsufficientStorage, Overloaded
from light_run.runs.storage.entries import IdempotencyKey, JournalStep
from light_run.runs.storage.postgres import admission as module
from light_run.runs.storage.postgres.admission import PostgresAdmission
from light_run.runs.storage.postgres.journal import PostgresJournal
from tests.support.postgres import Database, Postgres
from tests.unit.runs.storage.test_journal import CALLBACK, QUEUED, RECIPIENT, SPEC

JOBS = "SELECT args->>'run_id', status::text FROM procrastinate_jobs ORDER BY id"


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """An empty database."""
    return postgres.database()


@pytest.fixture
def replicas(database: Database) -> Iterator[tuple[PostgresAdmission, PostgresAdmission]]:
    """Two servers on one database."""
    with closing(PostgresAdmission(database.url)) as one, closing(PostgresAdmission(database.url)) as two:
        yield one, two


Replicas = tuple[PostgresAdmission, PostgresAdmission]


def key(run_id: str, digest: str = "d", *, created: float | None = None) -> IdempotencyKey:
    return IdempotencyKey("o", "k", digest, run_id, time.time() if created is None else created)


def test_an_accepted_run_has_a_row_that_the_journal_reads_and_a_job(
    database: Database, replicas: Replicas
) -> None:
    run = replace(QUEUED, owner="o", callback=CALLBACK)
    assert replicas[0].accept(run, SPEC, RECIPIENT, key("r")) == "r"
    assert database.execute(JOBS) == [("r", "todo")]
    assert database.execute("SELECT owner FROM runs") == [("o",)]
    with closing(PostgresJournal(database.url)) as journal:
        [entry] = journal.load()
        assert (entry.run, entry.step, entry.recipient) == (run, JournalStep.QUEUED, RECIPIENT)
        assert journal.spec("r") == SPEC


def test_without_the_job_there_is_no_run(database: Database, replicas: Replicas) -> None:
    database.execute("ALTER TABLE procrastinate_jobs RENAME TO elsewhere")
    with pytest.raises(InsufficientStorage, match="procrastinate_jobs"):
        replicas[0].accept(QUEUED, SPEC, None, key("r"))
    assert database.execute("SELECT 1 FROM runs UNION ALL SELECT 1 FROM keys") == []


def test_the_same_key_at_two_servers_at_once_is_one_run(database: Database, replicas: Replicas) -> None:
    def accept(number: int) -> str:
        run_id = f"r{number}"
        return replicas[number % 2].accept(replace(QUEUED, id=run_id), SPEC, None, key(run_id))

    with ThreadPoolExecutor(16) as pool:
        [found] = set(pool.map(accept, range(16)))
    assert database.execute("SELECT id FROM runs") == [(found,)]
    assert database.execute(JOBS) == [(found, "todo")]


def test_a_key_with_another_body_is_a_conflict_and_one_of_a_deleted_or_old_run_is_free(
    database: Database, replicas: Replicas
) -> None:
    one, two = replicas
    one.accept(QUEUED, SPEC, None, key("r"))
    with pytest.raises(IdempotencyConflict):
        two.accept(replace(QUEUED, id="s"), SPEC, None, key("s", "other"))
    database.execute("UPDATE runs SET forgotten = 1")
    assert two.accept(replace(QUEUED, id="s"), SPEC, None, key("s", "other", created=1.0)) == "s"
    assert one.accept(replace(QUEUED, id="t"), SPEC, None, key("t")) == "t"


def test_the_cap_of_a_token_holds_over_all_servers(database: Database, replicas: Replicas) -> None:
    def accept(number: int) -> bool:
        run = replace(QUEUED, id=f"r{number}", owner="o" if number < 16 else "p")
        try:
            replicas[number % 2].accept(run, SPEC, most=3)
        except Overloaded:
            return False
        return True

    with ThreadPoolExecutor(17) as pool:
        accepted = list(pool.map(accept, range(17)))
    assert (accepted[:16].count(True), accepted[16]) == (3, True)
    with pytest.raises(Overloaded, match="this token may have 3 runs"):
        replicas[0].accept(replace(QUEUED, id="late", owner="o"), SPEC, most=3)
    database.execute("UPDATE runs SET step = 'ended' WHERE owner = 'o'")
    assert replicas[0].accept(replace(QUEUED, id="late", owner="o"), SPEC, most=3) == "late"


def test_after_a_restart_of_the_database_runs_are_accepted_and_while_it_is_away_they_are_refused(
    database: Database, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    replicas[0].accept(QUEUED, SPEC)
    database.cut_off()
    with pytest.raises(Overloaded, match="does not answer"):
        replicas[0].accept(replace(QUEUED, id="s"), SPEC)
    database.restore()
    monkeypatch.setattr(module, "PATIENCE", 10.0)
    assert replicas[0].accept(replace(QUEUED, id="t"), SPEC) == "t"
    assert database.execute(JOBS) == [("r", "todo"), ("t", "todo")]


def test_a_run_whose_commit_was_not_confirmed_is_not_accepted_twice(
    database: Database, replicas: Replicas
) -> None:
    assert [replicas[0].accept(QUEUED, SPEC, most=1) for _ in range(2)] == ["r", "r"]
    assert database.execute(JOBS) == [("r", "todo")]
