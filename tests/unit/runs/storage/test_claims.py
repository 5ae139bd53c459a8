"""Runs claimed by several workers: each by one of them, and what a worker that lost its run writes changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from light_run.engine.spec import Reason, RunResult
from light_run.errors import JournalError, Overloaded
from light_run.runs.model import Status, end
from light_run.runs.storage.entries import JournalStep
from light_run.runs.storage.postgres import journal as module
from light_run.runs.storage.postgres.admission import PostgresAdmission
from light_run.runs.storage.postgres.claims import WorkerJournal
from tests.support.postgres import Database, Postgres
from tests.unit.runs.storage.test_journal import NOW, QUEUED, SPEC

ENDED = end(replace(QUEUED, status=Status.RUNNING), RunResult(reason=Reason.EXIT, exit_code=0), elapsed=1)


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """A database with one queued run."""
    database = postgres.database()
    with closing(PostgresAdmission(database.url)) as admission:
        admission.accept(QUEUED, SPEC)
    return database


@pytest.fixture
def workers(database: Database) -> Iterator[tuple[WorkerJournal, WorkerJournal]]:
    """Two workers."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(closing(WorkerJournal(database.url, name))) for name in "ab")
        yield one, two


Workers = tuple[WorkerJournal, WorkerJournal]


def lose(database: Database) -> None:
    """Queue the run again, as if its worker were dead."""
    database.execute("UPDATE runs SET step = 'queued', worker = NULL, container = NULL")


def row(database: Database) -> list[tuple[object, ...]]:
    return database.execute("SELECT step, worker, attempt, container FROM runs")


def test_one_of_many_claims_has_the_run(database: Database, workers: Workers) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = [*pool.map(lambda number: workers[number % 2].claim("r"), range(8))]
    [entry] = filter(None, claimed)
    assert (entry.run, entry.step) == (QUEUED, JournalStep.QUEUED)
    [(_, worker, attempt, _)] = row(database)
    assert (worker in ("a", "b"), attempt) == (True, 1)


def test_a_run_that_is_gone_or_has_ended_is_not_claimed(database: Database, workers: Workers) -> None:
    assert workers[0].claim("another") is None
    database.execute("UPDATE runs SET step = 'ended'")
    assert workers[0].claim("r") is None


def test_a_worker_that_lost_its_run_writes_nothing_and_is_told(database: Database, workers: Workers) -> None:
    one, two = workers
    one.claim("r")
    one.assigned(QUEUED, "c1")
    assert one.lost(["r"]) == frozenset()
    lose(database)
    two.claim("r")
    two.assigned(QUEUED, "c2")
    one.launched("r", NOW)
    one.requeued(QUEUED)
    one.paused(replace(QUEUED, paused_at=NOW))
    one.ended(ENDED, since=1.0)
    one.finished("r")
    one.drop("r")
    assert row(database) == [("assigned", "b", 2, "c2")]
    assert one.lost(["r", "another"]) == {"r", "another"}
    assert two.lost(["r"]) == frozenset()
    two.ended(ENDED, since=2.0)
    two.finished("r")
    two.step(0.0)
    assert row(database) == [("finished", "b", 2, "c2")]


def test_what_was_kept_during_an_outage_is_fenced_as_well(
    database: Database, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = workers
    one.claim("r")
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "RETRY", 3600.0)
    database.cut_off()
    one.ended(ENDED, since=1.0)
    with pytest.raises(Overloaded, match="does not answer"):
        one.lost(["r"])
    with pytest.raises(Overloaded, match="does not answer"):
        two.claim("r")
    database.restore()
    monkeypatch.setattr(module, "PATIENCE", 10.0)
    lose(database)
    with closing(WorkerJournal(database.url, "c")) as third:
        third.claim("r")
        one.close()
        assert row(database) == [("queued", "c", 2, None)]


def test_the_next_process_of_a_worker_has_its_runs_and_no_others(
    database: Database, workers: Workers
) -> None:
    workers[0].claim("r")
    workers[0].assigned(QUEUED, "c")
    with (
        closing(WorkerJournal(database.url, "a")) as again,
        closing(WorkerJournal(database.url, "b")) as other,
    ):
        assert [entry.container for entry in again.load()] == ["c"]
        assert other.load() == []
        again.launched("r", NOW)
        other.launched("r", NOW)
    assert row(database) == [("launched", "a", 1, "c")]


def test_a_row_that_cannot_be_read_is_said(database: Database, workers: Workers) -> None:
    database.execute("UPDATE runs SET run = '{}'")
    with pytest.raises(JournalError, match="damaged"):
        workers[0].claim("r")
