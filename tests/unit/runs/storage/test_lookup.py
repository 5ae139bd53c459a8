"""Runs are looked up in the same way in memory and in a database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from light_run.engine.spec import Phase, Reason, RunResult
from light_run.errors import JournalError, Overloaded, RunNotFound
from light_run.runs.execution.quota import Quota
from light_run.runs.model import RunRecord, Status, end
from light_run.runs.storage.lookup import RunLookup
from light_run.runs.storage.postgres import lookup as module
from light_run.runs.storage.postgres.journal import PostgresJournal
from light_run.runs.storage.postgres.lookup import PostgresRunLookup
from light_run.runs.storage.table import RunTable
from tests.support.poll import eventually
from tests.support.postgres import Database, Postgres
from tests.unit.runs.storage.test_journal import CALLBACK, NOW, QUEUED, RECIPIENT, SPEC
from tests.unit.runs.storage.test_table import a_run, ids

RUNNING = a_run("r")
ENDED = end(RUNNING, RunResult(reason=Reason.EXIT, exit_code=3), elapsed=1)


def ten_runs() -> Iterator[RunRecord]:
    """Runs r0 to r9, the even ones ended, every third one of owner o."""
    for number in range(10):
        status = Status.RUNNING if number % 2 else Status.SUCCEEDED
        run = a_run(f"r{number}", status, owner=None if number % 3 else "o")
        yield replace(run, labels={"last": str(number // 5), "odd": str(number % 2)})


def record(journal: PostgresJournal, run: RunRecord) -> None:
    """Record the steps of `run` up to where it is."""
    journal.accept(replace(run, status=Status.QUEUED), SPEC, None, None)
    journal.assigned(replace(run, status=Status.RUNNING), "c")
    if run.ended:
        journal.ended(run, since=1.0)


@pytest.fixture(scope="module")
def tables(postgres: Postgres) -> Iterator[dict[str, RunLookup]]:
    """The ten runs, in memory and in a database."""
    table, database = RunTable(), postgres.database()
    with ExitStack() as stack:
        journal = stack.enter_context(closing(PostgresJournal(database.url)))
        for run in ten_runs():
            table.add(run)
            record(journal, run)
        stored = stack.enter_context(closing(PostgresRunLookup(database.url)))
        # Both of its connections are there before the first test counts what is open.
        stored.active()
        listening = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s"
        eventually(lambda: database.execute(listening, "LISTEN%"), "it listens")
        yield {"memory": table, "postgres": stored}


@pytest.fixture(params=["memory", "postgres"])
def lookup(request: pytest.FixtureRequest, tables: dict[str, RunLookup]) -> RunLookup:
    """The ten runs, in either."""
    return tables[request.param]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ("9 8 7 6 5 4 3 2 1 0", False)),
        ({"limit": 10}, ("9 8 7 6 5 4 3 2 1 0", False)),
        ({"limit": 3}, ("9 8 7", True)),
        ({"limit": 3, "before": "r7"}, ("6 5 4", True)),
        ({"limit": 3, "before": "r3"}, ("2 1 0", False)),
        ({"before": "r0"}, ("", False)),
        ({"status": Status.RUNNING, "limit": 4}, ("9 7 5 3", True)),
        ({"status": Status.RUNNING, "limit": 5}, ("9 7 5 3 1", False)),
        ({"status": Status.FAILED}, ("", False)),
        ({"owner": "o"}, ("9 6 3 0", False)),
        ({"labels": [("last", "1"), ("odd", "0")]}, ("8 6", False)),
        ({"labels": [("odd", "1")], "limit": 2, "before": "r7"}, ("5 3", True)),
        ({"labels": [("other", "1")]}, ("", False)),
        ({"owner": "o", "status": Status.SUCCEEDED, "before": "r6"}, ("0", False)),
    ],
)
def test_runs_are_listed_newest_first(lookup: RunLookup, query: dict[str, object], expected: object) -> None:
    assert ids(lookup.list(**query)) == expected  # type: ignore[arg-type]


def test_pages_of_the_database_are_put_together(
    tables: dict[str, RunLookup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    for limit in (1, 2, 3, 5, 10):
        for labels in ((), [("odd", "1")]):
            assert tables["postgres"].list(limit=limit, labels=labels) == tables["memory"].list(
                limit=limit, labels=labels
            )


def test_a_run_that_is_not_there(lookup: RunLookup) -> None:
    for call in (lambda: lookup.get("x"), lambda: lookup.wait("x", 0), lambda: lookup.list(before="x")):
        with pytest.raises(RunNotFound):
            call()


def test_runs_that_have_not_ended_are_counted_over_all_and_by_owner(lookup: RunLookup) -> None:
    assert lookup.active() == {"r1", "r3", "r5", "r7", "r9"}
    assert lookup.active_of("o") == {"r3", "r9"}
    assert lookup.active_of(None) == {"r1", "r5", "r7"}
    assert lookup.active_of("nobody") == frozenset()


def test_the_limit_of_a_token_counts_what_the_lookup_has(lookup: RunLookup) -> None:
    quota = Quota(lookup)
    with quota.reserve("o", 3, "new"), pytest.raises(Overloaded, match="may have 3 runs"):
        quota.reserve("o", 3, "newer").__enter__()
    with quota.reserve("o", 3, "newest"):
        pass


def test_a_wait_ends_with_the_run_with_its_time_or_with_who_waits(lookup: RunLookup) -> None:
    assert lookup.wait("r0") == lookup.get("r0")
    assert lookup.wait("r1", 0.01).status is Status.RUNNING
    assert lookup.wait("r1", is_gone=lambda: True).status is Status.RUNNING


# -- in the database, which another server writes


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """An empty database."""
    return postgres.database()


@pytest.fixture
def journal(database: Database) -> Iterator[PostgresJournal]:
    """The journal of the server that executes the run `RUNNING`."""
    with closing(PostgresJournal(database.url)) as journal:
        journal.accept(QUEUED, SPEC, RECIPIENT, None)
        journal.assigned(RUNNING, "c")
        yield journal


@pytest.fixture
def reader(journal: PostgresJournal, database: Database) -> Iterator[PostgresRunLookup]:
    """Another server, which only looks up."""
    with closing(PostgresRunLookup(database.url)) as reader:
        yield reader


def waiting(reader: PostgresRunLookup) -> tuple[threading.Thread, list[RunRecord | Exception]]:
    """Start to wait for the run; returns once the wait has begun."""
    seen: list[RunRecord | Exception] = []

    def wait() -> None:
        try:
            seen.append(reader.wait("r", 60))
        except (RunNotFound, Overloaded) as error:
            seen.append(error)

    begun, told = threading.Event(), module._told

    def wait_for_change(changed: threading.Event, until: float, is_gone: Callable[[], bool] | None) -> bool:
        begun.set()
        return told(changed, until, is_gone)

    thread = threading.Thread(target=wait)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_told", wait_for_change)
        thread.start()
        assert begun.wait(60)
    return thread, seen


@pytest.mark.parametrize("poll", [0.05, 3600.0])
def test_the_end_that_another_server_writes_is_seen(
    reader: PostgresRunLookup, journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch, poll: float
) -> None:
    monkeypatch.setattr(module, "POLL", poll)
    if poll < 1:
        # Without its notifications.
        monkeypatch.setattr(reader, "_wake", lambda run_id=None: None)
    thread, seen = waiting(reader)
    journal.ended(ENDED, since=1.0)
    thread.join()
    assert seen == [ENDED]
    assert not reader._waiting


@pytest.mark.parametrize("delete", [lambda journal: journal.drop("r"), lambda journal: journal.hide("r")])
def test_a_run_that_is_deleted_meanwhile_is_not_there(
    reader: PostgresRunLookup,
    journal: PostgresJournal,
    monkeypatch: pytest.MonkeyPatch,
    delete: Callable[[PostgresJournal], None],
) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    thread, seen = waiting(reader)
    delete(journal)
    thread.join()
    assert [type(error) for error in seen] == [RunNotFound]
    assert reader.list() == ([], False)
    assert reader.active() == frozenset()


def test_a_wait_outlives_an_outage_that_new_requests_do_not(
    reader: PostgresRunLookup,
    journal: PostgresJournal,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("PATIENCE", 0.3), ("RETRY", 0.05), ("POLL", 0.1)):
        monkeypatch.setattr(module, name, seconds)
    thread, seen = waiting(reader)
    database.cut_off()
    calls: list[Callable[[], object]] = [lambda: reader.get("r"), reader.list, reader.active]
    for call in calls:
        with pytest.raises(Overloaded, match="does not answer"):
            call()
    database.restore()
    journal.ended(ENDED, since=1.0)
    thread.join()
    assert seen == [ENDED]


def test_the_first_request_after_a_restart_of_the_server_is_answered(
    reader: PostgresRunLookup, database: Database
) -> None:
    reader.get("r")
    database.cut_off()
    database.restore()
    assert reader.get("r").id == "r"


def test_closing_ends_the_waits(reader: PostgresRunLookup) -> None:
    thread, seen = waiting(reader)
    reader.close()
    thread.join()
    assert seen == [RUNNING]


def test_a_cancel_that_is_asked_for_is_not_shown_as_the_end(
    reader: PostgresRunLookup, journal: PostgresJournal
) -> None:
    journal.cancelling(RUNNING)
    assert reader.get("r").reason is None


def test_a_paused_run_is_shown_as_paused(reader: PostgresRunLookup, journal: PostgresJournal) -> None:
    journal.paused(replace(RUNNING, paused_at=NOW))
    assert reader.get("r").phase is Phase.PAUSED


def test_a_callback_is_shown_as_far_as_it_has_come(
    reader: PostgresRunLookup, journal: PostgresJournal
) -> None:
    journal.callback("r", CALLBACK)
    assert reader.get("r").callback == CALLBACK


def test_a_damaged_row_does_not_hide_the_others(
    reader: PostgresRunLookup,
    journal: PostgresJournal,
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record(journal, replace(ENDED, id="s"))
    database.execute("UPDATE runs SET run = '{' WHERE id = 'r'")
    assert [run.id for run in reader.list()[0]] == ["s"]
    assert "damaged" in caplog.text
    with pytest.raises(JournalError, match="row of run r is damaged"):
        reader.get("r")
