"""The journal in a PostgreSQL database: a server that goes away and comes back, and others beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from light_run.errors import InsufficientStorage, JournalError, Overloaded
from light_run.runs.storage.entries import IdempotencyKey, JournalStep
from light_run.runs.storage.postgres import journal as module
from light_run.runs.storage.postgres.journal import PostgresJournal
from light_run.runs.storage.sql_journal import Write
from tests.support.poll import eventually
from tests.support.postgres import Database, Postgres
from tests.unit.runs.storage.journals import PostgresStorage
from tests.unit.runs.storage.test_journal import CALLBACK, NOW, QUEUED, RECIPIENT, SPEC, entries


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Database:
    """An empty database; a journal that falls behind tries again at once."""
    monkeypatch.setattr(module, "RETRY", 0.02)
    return postgres.database()


@contextmanager
def away(database: Database) -> Iterator[None]:
    """Cut the database off, and do not wait long for it meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PATIENCE", 0.3)
        database.cut_off()
        yield
        database.restore()


@pytest.fixture
def journal(database: Database) -> Iterator[PostgresJournal]:
    """A journal with one accepted run."""
    journal = PostgresJournal(database.url)
    journal.accept(QUEUED, SPEC, None, None)
    yield journal
    journal.close()


def step(database: Database) -> str:
    [(found,)] = database.execute("SELECT step FROM runs WHERE id = 'r'")
    return str(found)


def test_runs_go_on_while_the_database_is_away_and_are_written_in_order_once_it_is_back(
    database: Database, journal: PostgresJournal, caplog: pytest.LogCaptureFixture
) -> None:
    with away(database):
        journal.assigned(QUEUED, "c")
        journal.ended(QUEUED, since=1.0)
        journal.finished("r")
        with pytest.raises(Overloaded, match="does not answer"):
            journal.spec("r")
    eventually(lambda: "caught up" in caplog.text, "the database is back")
    assert step(database) == JournalStep.ENDED
    journal.step(0.0)
    assert step(database) == JournalStep.FINISHED
    assert caplog.text.count("falls behind") == 1


def test_no_run_is_accepted_while_the_database_is_away(database: Database, journal: PostgresJournal) -> None:
    new = replace(QUEUED, id="new")
    with away(database):
        for _ in range(2):
            with pytest.raises(Overloaded, match="database"):
                journal.accept(new, SPEC, RECIPIENT, IdempotencyKey("", "k", "d", "new", 1.0))

    def accepted() -> bool:
        try:
            journal.accept(replace(QUEUED, id="later"), SPEC, None, None)
        except Overloaded:
            return False
        return True

    eventually(accepted, "the database is back")
    assert [row[0] for row in database.execute("SELECT id FROM runs ORDER BY seq")] == ["r", "later"]
    assert journal.key("", "k", 1.0) is None


def test_connections_that_broke_while_nobody_used_them_are_replaced(
    database: Database, journal: PostgresJournal
) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: journal.callback("r", CALLBACK, float(number)), range(50)))
    acts: tuple[Callable[[], object], ...] = (
        lambda: journal.assigned(QUEUED, "c"),
        lambda: journal.accept(replace(QUEUED, id="s"), SPEC, None, None),
        lambda: journal.recipient("r"),
    )
    for act in acts:
        database.cut_off()
        database.restore()
        act()
    assert [row[0] for row in database.execute("SELECT id FROM runs ORDER BY seq")] == ["r", "s"]


def test_a_commit_that_was_not_confirmed_is_not_made_twice(
    database: Database, journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, lost = journal._execute, threading.Event()

    def answers_get_lost(writes: list[Write]) -> None:
        execute(writes)
        if not lost.is_set():
            lost.set()
            raise psycopg.OperationalError("the connection broke before the answer")

    monkeypatch.setattr(journal, "_execute", answers_get_lost)
    journal.launched("r", NOW)
    acts: tuple[Callable[[], object], ...] = (
        lambda: journal.accept(replace(QUEUED, id="s"), SPEC, None, IdempotencyKey("", "k", "d", "s", 1.0)),
        lambda: journal.paused(replace(QUEUED, paused_at=NOW)),
        lambda: journal.resumed(QUEUED, 2.0),
    )
    for act in acts:
        lost.clear()
        act()
    journal.close()
    found = entries(PostgresStorage(database))
    assert list(found) == ["r", "s"]
    assert found["r"].deadline == NOW + timedelta(seconds=2)


def test_what_the_database_refuses_keeps_nothing_else_from_being_written(
    database: Database, journal: PostgresJournal, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("ALTER TABLE runs ADD CHECK (container <> 'refused')")
    database.execute("ALTER TABLE runs ADD CHECK (id <> 'refused')")
    journal.finished("r")
    journal.assigned(QUEUED, "refused")
    eventually(lambda: "cannot be written" in caplog.text, "it is logged")
    eventually(lambda: step(database) == JournalStep.FINISHED, "the other write is made")
    with pytest.raises(InsufficientStorage):
        journal.accept(replace(QUEUED, id="refused"), SPEC, None, None)


def test_what_is_pending_is_written_at_the_end_if_the_database_is_there(database: Database) -> None:
    journal = PostgresJournal(database.url)
    journal.accept(QUEUED, SPEC, None, None)
    with away(database):
        journal.assigned(QUEUED, "c")
        journal.close()
    assert step(database) == JournalStep.QUEUED
    journal = PostgresJournal(database.url)
    journal.finished("r")
    journal.close()
    assert step(database) == JournalStep.FINISHED


def test_servers_that_start_at_the_same_time_create_the_tables_once(database: Database) -> None:
    with ThreadPoolExecutor(6) as threads:
        journals = list(threads.map(lambda _: PostgresJournal(database.url), range(6)))
    for journal in journals:
        journal.close()
    assert database.execute("SELECT number FROM version") == [(1,)]


def test_another_programs_tables_are_left_alone(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("CREATE TABLE public.runs (mine TEXT)")
        journal = PostgresJournal(database.url)
        journal.accept(QUEUED, SPEC, None, None)
        journal.close()
        assert other.execute("SELECT * FROM public.runs").fetchall() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://light-run:canary@127.0.0.1:1/light_run", "cannot be used"),
        ("postgresql://light-run:canary@[/light_run", "URL of the database is invalid"),
        ("postgresql://light-run:canary@/light_run?pasword=canary", "URL of the database is invalid"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_without_its_password(url: str, message: str) -> None:
    with pytest.raises(JournalError, match=message) as caught:
        PostgresJournal(url)
    assert "canary" not in str(caught.value)
