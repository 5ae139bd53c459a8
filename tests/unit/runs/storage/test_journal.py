"""The journal: what is written is read again, whatever happens in between."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from light_run.engine.spec import ExtractResult, Limits, Reason, RunArtifact, RunSpec, RunTimings, RunUsage
from light_run.errors import InsufficientStorage, JournalError
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry, JournalStep
from light_run.runs.storage.records import decode_run, decode_spec, encode_callback, encode_run, encode_spec
from light_run.runs.storage.sqlite.database import VERSION
from light_run.runs.storage.sqlite.journal import SQLiteJournal as Journal

NOW = datetime(2026, 4, 20, 10, 0, 0, 123456, tzinfo=timezone.utc)
CALLBACK = CallbackState(Delivery.PENDING, 3, 503, NOW)
FULL = RunRecord(
    paused_at=NOW,
    id="full",
    status=Status.FAILED,
    created_at=NOW,
    detached=True,
    owner="o",
    started_at=NOW,
    finished_at=NOW + timedelta(seconds=1),
    exit_code=137,
    duration_ms=1000,
    reason=Reason.TIMEOUT,
    error="killed \udcff",
    artifacts=(RunArtifact("grün", 3, "file"),),
    extracted=(ExtractResult("d", "ok", 3), ExtractResult("x", "error", 0, "too big")),
    queued_ms=1.5,
    timings=RunTimings(image=1, start=2, run=3, extract=4),
    usage=RunUsage(oom_kills=2),
    logs_truncated=True,
    parked=True,
    callback=CALLBACK,
)
SPEC = RunSpec(
    image="alpine",
    entrypoint="cat; echo '\"ü'",
    steps=("a", "b"),
    stdin=b"\x00\xff bytes",
    timeout=1.5,
    step_timeout=2.5,
    network="none",
    workdir="/w",
    env={"A": "b\nü"},
    extract=("x", "/y"),
    limits=Limits(memory=1, cpus=0.5, pids=3),
    runtime="runsc",
    pull="always",
)
QUEUED = RunRecord(id="r", status=Status.QUEUED, created_at=NOW)
RECIPIENT = Recipient("http://example.com/", "secret-of-sixteen")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def entries(path: Path) -> dict[str, JournalEntry]:
    """What the next server finds."""
    journal = Journal(path)
    try:
        return {entry.run.id: entry for entry in journal.load()}
    finally:
        journal.close()


# -- records


@pytest.mark.parametrize("run", [FULL, QUEUED], ids=["everything", "next to nothing"])
def test_a_run_is_read_as_it_was_written(run: RunRecord) -> None:
    callback = None if run.callback is None else encode_callback(run.callback)
    assert decode_run(encode_run(run), callback) == run


def test_the_example_has_every_field_so_that_none_is_forgotten() -> None:
    default = RunRecord(id="full", status=Status.FAILED, created_at=NOW)
    same = {
        field.name for field in fields(RunRecord) if getattr(FULL, field.name) == getattr(default, field.name)
    }
    # What it is doing right now is of no use later.
    assert same == {"id", "status", "created_at", "phase", "progress"}


def test_a_run_of_0_3_has_no_usage() -> None:
    kept = json.loads(encode_run(FULL))
    del kept["usage"]
    assert decode_run(json.dumps(kept), encode_callback(CALLBACK)) == replace(FULL, usage=RunUsage())


@pytest.mark.parametrize("spec", [SPEC, RunSpec(image="alpine")], ids=["everything", "next to nothing"])
def test_a_spec_is_read_as_it_was_written(spec: RunSpec) -> None:
    assert decode_spec(encode_spec(spec), spec.stdin, encode_run(FULL)) == spec


@pytest.mark.parametrize(("owner", "expected"), [("alice", "alice"), (None, "")])
def test_a_spec_of_0_3_has_the_owner_of_its_run(owner: str | None, expected: str) -> None:
    kept = json.loads(encode_spec(SPEC))
    del kept["owner"]
    run = encode_run(replace(FULL, owner=owner))
    assert decode_spec(json.dumps(kept), SPEC.stdin, run) == replace(SPEC, owner=expected)


def test_a_spec_is_written_without_its_files() -> None:
    text = encode_spec(replace(SPEC, files={"canary": "canary"}))
    assert "canary" not in text


# -- rows


def test_a_run_is_followed_step_by_step(path: Path) -> None:
    journal = Journal(path)

    def found() -> JournalEntry:
        with sqlite3.connect(path) as other:
            step, container, deadline = other.execute("SELECT step, container, deadline FROM runs").fetchone()
        other.close()
        at = None if deadline is None else datetime.fromtimestamp(deadline, timezone.utc)
        return JournalEntry(QUEUED, JournalStep(step), container, at, None, None, forgotten=False)

    journal.accept(QUEUED, SPEC, None, None)
    assert found() == JournalEntry(QUEUED, JournalStep.QUEUED, None, None, None, None, forgotten=False)
    journal.assigned(QUEUED, "c1")
    assert found() == JournalEntry(QUEUED, JournalStep.ASSIGNED, "c1", None, None, None, forgotten=False)
    journal.requeued(QUEUED)
    assert found() == JournalEntry(QUEUED, JournalStep.QUEUED, None, None, None, None, forgotten=False)
    journal.assigned(QUEUED, "c2")
    journal.launched("r", NOW)
    assert found() == JournalEntry(QUEUED, JournalStep.LAUNCHED, "c2", NOW, None, None, forgotten=False)
    assert journal.spec("r") == SPEC
    journal.ended(QUEUED, since=5.0)
    assert found().step is JournalStep.ENDED
    with pytest.raises(JournalError):
        journal.spec("r")
    journal.finished("r")
    assert found().step is JournalStep.ENDED
    journal.close()
    assert entries(path)["r"].step is JournalStep.FINISHED


def test_the_next_server_finds_everything_in_order(path: Path) -> None:
    journal = Journal(path)
    journal.accept(replace(QUEUED, id="b", callback=CallbackState()), SPEC, RECIPIENT, None)
    journal.accept(replace(QUEUED, id="a"), SPEC, None, None)
    journal.accept(replace(FULL, status=Status.RUNNING), SPEC, RECIPIENT, None)
    journal.ended(FULL, since=5.0)
    journal.callback("full", replace(CALLBACK, attempts=4))
    journal.close()
    found = entries(path)
    assert list(found) == ["b", "a", "full"]
    assert found["b"].recipient == RECIPIENT
    assert found["a"].recipient is None
    assert found["full"].run == replace(FULL, callback=replace(CALLBACK, attempts=4))
    assert found["full"].since == 5.0


def test_it_is_loaded_once(path: Path) -> None:
    first = Journal(path)
    first.accept(QUEUED, SPEC, None, None)
    first.close()
    journal = Journal(path)
    assert len(journal.load()) == 1
    assert journal.load() == []
    journal.close()


def test_what_is_written_is_there_without_a_close(path: Path) -> None:
    # A process that is killed closes nothing: another connection sees what is committed.
    journal = Journal(path)
    journal.accept(QUEUED, SPEC, None, None)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT id FROM runs").fetchall() == [("r",)]
    other.close()
    journal.close()


def test_a_forgotten_run_is_kept_for_its_callback_alone(path: Path) -> None:
    journal = Journal(path)
    journal.accept(QUEUED, SPEC, RECIPIENT, IdempotencyKey("", "k", "d", "r", 1.0))
    assert journal.recipient("r") == RECIPIENT
    journal.hide("r")
    assert journal.key("", "k", 2.0) is None
    assert journal.recipient("r") == RECIPIENT
    journal.close()
    assert entries(path)["r"].forgotten
    journal = Journal(path)
    journal.drop("r")
    assert journal.recipient("r") is None
    journal.close()
    assert entries(path) == {}


def test_keys_are_kept_for_a_day_each_owners_own(path: Path) -> None:
    journal = Journal(path)
    key = IdempotencyKey("o", "k", "digest", "r", 1000.0)
    journal.accept(QUEUED, SPEC, None, key)
    journal.close()
    journal = Journal(path)
    assert journal.key("o", "k", 1000.0 + 86_399) == key
    assert journal.key("", "k", 1000.0) is None
    assert journal.key("o", "k", 1000.0 + 86_400) is None
    other = replace(key, digest="other", run_id="s", created=90_000.0)
    journal.accept(replace(QUEUED, id="s"), SPEC, None, other)
    assert journal.key("o", "k", 90_000.0) == other
    journal.step(90_000.0 + 86_400)
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT count(*) FROM keys").fetchone() == (0,)
    reader.close()
    journal.close()


def test_many_threads_write_at_once(path: Path) -> None:
    journal = Journal(path)

    def live(name: str) -> None:
        for number in range(20):
            run = replace(QUEUED, id=f"{name}{number}")
            journal.accept(run, SPEC, None, None)
            journal.assigned(run, "c")
            journal.ended(run, since=1.0)
            journal.finished(run.id)

    threads = [threading.Thread(target=live, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert {entry.step for entry in entries(path).values()} == {JournalStep.FINISHED}
    assert len(entries(path)) == 120


# -- a disk that is full


@pytest.fixture
def full(path: Path) -> Journal:
    """A journal that has no room for more than it has, and one accepted run."""
    journal = Journal(path)
    journal.accept(QUEUED, SPEC, None, None)
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    return journal


def make_room(journal: Journal) -> None:
    journal._connection.execute("PRAGMA max_page_count = 100000")


LARGE = replace(QUEUED, id="large", error="x" * 100_000)


def test_no_room_for_a_new_run_is_said_and_leaves_nothing(full: Journal, path: Path) -> None:
    with pytest.raises(InsufficientStorage):
        full.accept(LARGE, SPEC, RECIPIENT, IdempotencyKey("", "k", "d", "large", 1.0))
    assert full.key("", "k", 1.0) is None
    make_room(full)
    full.accept(LARGE, SPEC, None, None)
    full.close()
    assert set(entries(path)) == {"r", "large"}


def test_what_runs_ends_properly_and_is_written_once_there_is_room(
    full: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full.assigned(replace(QUEUED, error="x" * 100_000), "c")
    full.ended(replace(LARGE, id="r"), since=1.0)
    assert "falls behind" in caplog.text
    assert full.spec("r") == SPEC
    make_room(full)
    full.step(1.0)
    assert "caught up" in caplog.text
    full.close()
    found = entries(path)["r"]
    assert (found.step, found.container) == (JournalStep.ENDED, "c")


# -- a file that cannot be used


def test_a_newer_journal_is_refused_and_not_touched(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="newer"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["not a database at all", "a page in the middle"])
def test_a_damaged_journal_is_set_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    journal = Journal(path)
    for number in range(200):
        journal.accept(replace(QUEUED, id=f"r{number}", error="x" * 500), SPEC, None, None)
    journal.close()
    content = bytearray(path.read_bytes())
    start = 0 if damage == "not a database at all" else len(content) // 2
    content[start : start + 20_000] = b"garbage!" * 2500
    path.write_bytes(content)
    assert entries(path) == {}
    assert "damaged" in caplog.text
    aside = [file for file in path.parent.iterdir() if "damaged" in file.name]
    assert aside
    journal = Journal(path)
    assert journal.incomplete
    journal.accept(QUEUED, SPEC, None, None)
    journal.close()
    assert set(entries(path)) == {"r"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run", "{}"),
        ("run", "[1]"),
        ("run", "no JSON"),
        ("step", "sleeping"),
        ("deadline", "tomorrow"),
        ("deadline", 1e300),
        ("callback", '["lost", 1, 2, null]'),
    ],
)
def test_a_row_that_cannot_be_read_is_quarantined_alone(
    path: Path, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    journal = Journal(path)
    for name in ("a", "b", "c"):
        key = IdempotencyKey("", f"key-{name}", "digest", name, 1e12)
        journal.accept(replace(QUEUED, id=name), SPEC, None, key)
    journal.assigned(replace(QUEUED, id="b"), "container-b")
    journal.close()
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE runs SET {column} = ? WHERE id = 'b'", (value,))
    other.close()
    for _ in range(2):  # It stays there.
        journal = Journal(path)
        assert [entry.run.id for entry in journal.load()] == ["a", "c"]
        assert journal.quarantined == {"b", "container-b"}
        assert not journal.incomplete
        assert journal.key("", "key-a", 0.0) is not None
        assert journal.key("", "key-b", 0.0) is None
        journal.close()
    assert caplog.text.count("damaged_runs") == 1
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM damaged_runs")
    other.close()
    assert Journal(path).quarantined == frozenset()


def test_a_journal_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "missing" / "journal.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "folder")


def test_others_on_the_host_cannot_read_it(path: Path) -> None:
    journal = Journal(path)
    journal.accept(QUEUED, SPEC, RECIPIENT, None)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    journal.close()


def test_room_that_large_input_took_is_given_back(path: Path) -> None:
    journal = Journal(path)
    journal.accept(QUEUED, replace(SPEC, stdin=bytes(4 << 20)), None, None)
    journal.ended(QUEUED, since=1.0)
    for _ in range(3):
        journal.step(1.0)
    journal.close()
    assert path.stat().st_size < 1 << 20
