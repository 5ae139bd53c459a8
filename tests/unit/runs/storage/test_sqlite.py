"""The journal in a SQLite file: what only a file can do to it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from light_run.errors import InsufficientStorage, JournalError
from light_run.runs.storage.entries import IdempotencyKey, JournalStep
from light_run.runs.storage.sqlite.database import VERSION
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from tests.unit.runs.storage.journals import SQLiteStorage
from tests.unit.runs.storage.test_journal import QUEUED, RECIPIENT, SPEC, entries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


# -- a disk that is full


@pytest.fixture
def full(path: Path) -> SQLiteJournal:
    """A journal that has no room for more than it has, and one accepted run."""
    journal = SQLiteJournal(path)
    journal.accept(QUEUED, SPEC, None, None)
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    return journal


def make_room(journal: SQLiteJournal) -> None:
    journal._connection.execute("PRAGMA max_page_count = 100000")


LARGE = replace(QUEUED, id="large", error="x" * 100_000)


def test_no_room_for_a_new_run_is_said_and_leaves_nothing(full: SQLiteJournal, path: Path) -> None:
    with pytest.raises(InsufficientStorage):
        full.accept(LARGE, SPEC, RECIPIENT, IdempotencyKey("", "k", "d", "large", 1.0))
    assert full.key("", "k", 1.0) is None
    make_room(full)
    full.accept(LARGE, SPEC, None, None)
    full.close()
    assert set(entries(SQLiteStorage(path))) == {"r", "large"}


def test_what_runs_ends_properly_and_is_written_once_there_is_room(
    full: SQLiteJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full.assigned(replace(QUEUED, error="x" * 100_000), "c")
    full.ended(replace(LARGE, id="r"), since=1.0)
    assert "falls behind" in caplog.text
    assert full.spec("r") == SPEC
    make_room(full)
    full.step(1.0)
    assert "caught up" in caplog.text
    full.close()
    found = entries(SQLiteStorage(path))["r"]
    assert (found.step, found.container) == (JournalStep.ENDED, "c")


# -- a file that cannot be used


def test_a_newer_journal_is_refused_and_not_touched(path: Path) -> None:
    SQLiteJournal(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="newer"):
        SQLiteJournal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["not a database at all", "a page in the middle"])
def test_a_damaged_journal_is_set_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    journal = SQLiteJournal(path)
    for number in range(200):
        journal.accept(replace(QUEUED, id=f"r{number}", error="x" * 500), SPEC, None, None)
    journal.close()
    content = bytearray(path.read_bytes())
    start = 0 if damage == "not a database at all" else len(content) // 2
    content[start : start + 20_000] = b"garbage!" * 2500
    path.write_bytes(content)
    assert entries(SQLiteStorage(path)) == {}
    assert "damaged" in caplog.text
    aside = [file for file in path.parent.iterdir() if "damaged" in file.name]
    assert aside
    journal = SQLiteJournal(path)
    assert journal.incomplete
    journal.accept(QUEUED, SPEC, None, None)
    journal.close()
    assert set(entries(SQLiteStorage(path))) == {"r"}


def test_a_journal_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be used"):
        SQLiteJournal(tmp_path / "missing" / "journal.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError, match="cannot be used"):
        SQLiteJournal(tmp_path / "folder")


def test_others_on_the_host_cannot_read_it(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.accept(QUEUED, SPEC, RECIPIENT, None)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    journal.close()


def test_room_that_large_input_took_is_given_back(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.accept(QUEUED, replace(SPEC, stdin=bytes(4 << 20)), None, None)
    journal.ended(QUEUED, since=1.0)
    for _ in range(3):
        journal.step(1.0)
    journal.close()
    assert path.stat().st_size < 1 << 20
