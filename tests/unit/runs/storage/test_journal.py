"""The journal: what is written is read again, whatever happens in between."""

from __future__ import annotations

import json
import threading
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pytest

from light_run.engine import RegistryAuth
from light_run.engine.spec import ExtractResult, Limits, Reason, RunArtifact, RunSpec, RunTimings, RunUsage
from light_run.errors import JournalError
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry, JournalStep
from light_run.runs.storage.records import decode_run, decode_spec, encode_callback, encode_run, encode_spec
from tests.unit.runs.storage.journals import Storage

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
    artifacts_evicted=True,
    extracted=(ExtractResult("d", "ok", 3), ExtractResult("x", "error", 0, "too big")),
    queued_ms=1.5,
    timings=RunTimings(image=1, start=2, run=3, extract=4),
    usage=RunUsage(cpu_ms=1, memory_peak_bytes=3, oom_kills=2, disk_bytes=4),
    signal="SIGKILL",
    logs_truncated=True,
    asked='{"image":"alpine"}',
    parked=True,
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    callback=CALLBACK,
    labels={"team": "grün"},
    split_output=True,
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
    limits=Limits(memory=1, cpus=0.5, pids=3, shm=4, nofile=5, fsize=6, gpus="all"),
    user="1:2",
    runtime="runsc",
    pull="always",
)
QUEUED = RunRecord(id="r", status=Status.QUEUED, created_at=NOW)
RECIPIENT = Recipient("http://example.com/", "secret-of-sixteen")


def entries(storage: Storage) -> dict[str, JournalEntry]:
    """What the next server finds."""
    journal = storage.open()
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


def test_no_credentials_of_a_registry_are_written() -> None:
    written = encode_spec(replace(SPEC, registry_auth=RegistryAuth(username="robot", password="canary")))
    assert "canary" not in written
    assert "robot" not in written
    found = decode_spec(written, SPEC.stdin, encode_run(FULL)).registry_auth
    assert found is not None
    assert found.lost
    assert "canary" not in repr(replace(SPEC, registry_auth=RegistryAuth(token="canary")))


def test_limits_of_0_3() -> None:
    written = json.loads(encode_spec(SPEC))
    written["limits"] = [1, 0.5, 3]
    del written["user"]
    found = decode_spec(json.dumps(written), None, encode_run(FULL))
    assert (found.limits, found.user) == (Limits(memory=1, cpus=0.5, pids=3), None)


def test_a_spec_is_written_without_its_files() -> None:
    text = encode_spec(replace(SPEC, files={"canary": "canary"}))
    assert "canary" not in text


# -- rows


def test_a_run_is_followed_step_by_step(storage: Storage) -> None:
    journal = storage.open()

    def found() -> JournalEntry:
        [(step, container, deadline)] = storage.execute("SELECT step, container, deadline FROM runs")
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
    assert entries(storage)["r"].step is JournalStep.FINISHED


def test_the_next_server_finds_everything_in_order(storage: Storage) -> None:
    journal = storage.open()
    journal.accept(replace(QUEUED, id="b", callback=CallbackState()), SPEC, RECIPIENT, None)
    journal.accept(replace(QUEUED, id="a"), SPEC, None, None)
    journal.accept(replace(FULL, status=Status.RUNNING), SPEC, RECIPIENT, None)
    journal.ended(FULL, since=5.0)
    journal.callback("full", replace(CALLBACK, attempts=4))
    journal.close()
    found = entries(storage)
    assert list(found) == ["b", "a", "full"]
    assert found["b"].recipient == RECIPIENT
    assert found["a"].recipient is None
    assert found["full"].run == replace(FULL, callback=replace(CALLBACK, attempts=4))
    assert found["full"].since == 5.0


def test_it_is_loaded_once(storage: Storage) -> None:
    first = storage.open()
    first.accept(QUEUED, SPEC, None, None)
    first.close()
    journal = storage.open()
    assert len(journal.load()) == 1
    assert journal.load() == []
    journal.close()


def test_what_is_written_is_there_without_a_close(storage: Storage) -> None:
    # A process that is killed closes nothing: another connection sees what is committed.
    journal = storage.open()
    journal.accept(QUEUED, SPEC, None, None)
    assert storage.execute("SELECT id FROM runs") == [("r",)]
    journal.close()


def test_a_forgotten_run_is_kept_for_its_callback_alone(storage: Storage) -> None:
    journal = storage.open()
    journal.accept(QUEUED, SPEC, RECIPIENT, IdempotencyKey("", "k", "d", "r", 1.0))
    assert journal.recipient("r") == RECIPIENT
    journal.hide("r")
    assert journal.key("", "k", 2.0) is None
    assert journal.recipient("r") == RECIPIENT
    journal.close()
    assert entries(storage)["r"].forgotten
    journal = storage.open()
    journal.drop("r")
    assert journal.recipient("r") is None
    journal.close()
    assert entries(storage) == {}


def test_keys_are_kept_for_a_day_each_owners_own(storage: Storage) -> None:
    journal = storage.open()
    key = IdempotencyKey("o", "k", "digest", "r", 1000.0)
    journal.accept(QUEUED, SPEC, None, key)
    journal.close()
    journal = storage.open()
    assert journal.key("o", "k", 1000.0 + 86_399) == key
    assert journal.key("", "k", 1000.0) is None
    assert journal.key("o", "k", 1000.0 + 86_400) is None
    other = replace(key, digest="other", run_id="s", created=90_000.0)
    journal.accept(replace(QUEUED, id="s"), SPEC, None, other)
    assert journal.key("o", "k", 90_000.0) == other
    journal.step(90_000.0 + 86_400)
    assert storage.execute("SELECT count(*) FROM keys") == [(0,)]
    journal.close()


def test_many_threads_write_at_once(storage: Storage) -> None:
    journal = storage.open()

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
    assert {entry.step for entry in entries(storage).values()} == {JournalStep.FINISHED}
    assert len(entries(storage)) == 120


# -- rows and tables that cannot be used


def test_a_newer_journal_is_refused_and_not_touched(storage: Storage) -> None:
    storage.open().close()
    storage.set_version(1)
    with pytest.raises(JournalError, match="newer"):
        storage.open()
    storage.set_version(-1)
    assert entries(storage) == {}


def test_a_pause_extends_the_deadline(storage: Storage) -> None:
    journal = storage.open()
    journal.accept(QUEUED, SPEC, None, None)
    journal.launched("r", NOW)
    journal.paused(replace(QUEUED, paused_at=NOW))
    journal.resumed(QUEUED, 2.5)
    journal.close()
    entry = entries(storage)["r"]
    assert (entry.deadline, entry.run) == (NOW + timedelta(seconds=2.5), QUEUED)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run", "{}"),
        ("run", "[1]"),
        ("run", "no JSON"),
        ("step", "sleeping"),
        ("deadline", 1e300),
        ("callback", '["lost", 1, 2, null]'),
    ],
)
def test_a_row_that_cannot_be_read_is_quarantined_alone(
    storage: Storage, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    journal = storage.open()
    for name in ("a", "b", "c"):
        key = IdempotencyKey("", f"key-{name}", "digest", name, 1e12)
        journal.accept(replace(QUEUED, id=name), SPEC, None, key)
    journal.assigned(replace(QUEUED, id="b"), "container-b")
    journal.close()
    storage.execute(f"UPDATE runs SET {column} = %s WHERE id = 'b'", value)
    for _ in range(2):  # It stays there.
        journal = storage.open()
        assert [entry.run.id for entry in journal.load()] == ["a", "c"]
        assert journal.quarantined == {"b", "container-b"}
        assert not journal.incomplete
        assert journal.key("", "key-a", 0.0) is not None
        assert journal.key("", "key-b", 0.0) is None
        journal.close()
    assert caplog.text.count("damaged_runs") == 1
    storage.execute("DELETE FROM damaged_runs")
    journal = storage.open()
    assert journal.quarantined == frozenset()
    journal.close()
