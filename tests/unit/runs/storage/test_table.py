"""The store of runs: order, pages, ends and speed."""

from __future__ import annotations

import threading
import time
import tracemalloc
import uuid
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from light_run.engine.spec import ExtractResult, Reason, RunArtifact, RunResult, RunTimings
from light_run.errors import RunActive, RunNotFound
from light_run.runs.model import RunRecord, Status, end
from light_run.runs.storage.table import RunTable
from tests.support.poll import eventually

NOW = datetime(2026, 4, 20, 10, tzinfo=timezone.utc)


def a_run(run_id: str, status: Status = Status.RUNNING, owner: str | None = None) -> RunRecord:
    return RunRecord(id=run_id, status=status, created_at=NOW, started_at=NOW, owner=owner)


def ended(run: RunRecord) -> RunRecord:
    return end(run, RunResult(reason=Reason.EXIT, exit_code=0), elapsed=1)


@pytest.fixture
def store() -> RunTable:
    """Runs r0 to r9, the even ones ended, every third one of owner o."""
    store = RunTable()
    for number in range(10):
        status = Status.RUNNING if number % 2 else Status.SUCCEEDED
        run = a_run(f"r{number}", status, owner=None if number % 3 else "o")
        store.add(replace(run, labels={"last": str(number // 5), "odd": str(number % 2)}))
    return store


def ids(page: tuple[list[RunRecord], bool]) -> tuple[str, bool]:
    runs, more = page
    return " ".join(run.id.removeprefix("r") for run in runs), more


def test_a_run_that_is_not_there(store: RunTable) -> None:
    for call in (
        lambda: store.get("x"),
        lambda: store.wait("x", 0),
        lambda: store.remove("x"),
        lambda: store.update("x", error=""),
        lambda: store.list(before="x"),
    ):
        with pytest.raises(RunNotFound):
            call()


def test_a_change_keeps_the_place_and_the_copy_handed_out(store: RunTable) -> None:
    before = store.get("r5")
    store.update("r5", error="x")
    assert (before.error, store.get("r5").error) == (None, "x")
    assert ids(store.list())[0] == "9 8 7 6 5 4 3 2 1 0"


def test_a_change_that_fails_changes_nothing(store: RunTable) -> None:
    with pytest.raises(ValueError, match="cannot go"):
        store.change("r0", ended)
    assert store.get("r0").status is Status.SUCCEEDED


def test_only_what_has_ended_is_removed(store: RunTable) -> None:
    with pytest.raises(RunActive):
        store.remove("r1")
    assert store.remove("r0").id == "r0"
    assert len(store) == 9


def test_the_active_and_the_ended_are_told_apart(store: RunTable) -> None:
    assert store.active() == {"r1", "r3", "r5", "r7", "r9"}
    store.change("r3", ended)
    assert store.active() == {"r1", "r5", "r7", "r9"}
    assert [run.id for run in store.ended()] == ["r0", "r2", "r4", "r6", "r8", "r3"]


def test_what_an_earlier_server_left_is_in_the_order_of_its_ends() -> None:
    store = RunTable()
    for run_id, day in (("a", 3), ("b", 1), ("c", 2)):
        end = datetime(2026, 11, day, tzinfo=timezone.utc)
        store.add(replace(a_run(run_id), status=Status.SUCCEEDED, finished_at=end))
    store.order()
    assert [run.id for run in store.ended()] == ["b", "c", "a"]
    assert list(store.ended_beyond(1)) == ["b", "c"]


@pytest.mark.parametrize(("count", "expected"), [(5, []), (9, []), (4, ["r2"]), (2, ["r2", "r0", "r4"])])
def test_the_oldest_beyond_a_count_are_named(store: RunTable, count: int, expected: list[str]) -> None:
    assert list(store.ended_beyond(count)) == expected


def test_the_owner_with_the_most_loses_the_oldest() -> None:
    store = RunTable()
    for run_id, owner in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b"), ("a2", "a"), ("c1", None)):
        store.add(replace(a_run(run_id), status=Status.SUCCEEDED, owner=owner))
    assert list(store.ended_beyond(5)) == ["b1"]
    assert set(store.ended_beyond(3)) == {"b1", "b2", "a1"}
    store.remove("c1")
    assert set(store.ended_beyond(2)) == {"b1", "b2", "a1"}


def test_waiting_ends_with_the_run_or_with_the_time(store: RunTable) -> None:
    assert store.wait("r0").ended
    assert not store.wait("r1", 0.01).ended
    seen: list[RunRecord] = []
    waiters = [threading.Thread(target=lambda: seen.append(store.wait("r1"))) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    eventually(lambda: len(store._waiting.get("r1", ())) == 5, "all wait")
    store.update("r1", error="not yet")
    store.change("r1", ended)
    for waiter in waiters:
        waiter.join(10)
    assert [run.status for run in seen] == [Status.SUCCEEDED] * 5
    assert store._waiting == {}


def test_a_run_forgotten_as_it_ends_is_still_given_to_who_waited() -> None:
    store = RunTable()
    store.add(a_run("r"))
    seen: list[RunRecord] = []
    waiter = threading.Thread(target=lambda: seen.append(store.wait("r")))
    waiter.start()
    eventually(lambda: store._waiting.get("r"), "somebody waits")
    store.change("r", ended)
    store.remove("r")
    waiter.join(10)
    assert seen[0].ended


@pytest.fixture(scope="module")
def full() -> RunTable:
    """Ten thousand runs that have ended, as real ones do."""
    store = RunTable()
    result = RunResult(
        reason=Reason.EXIT,
        exit_code=0,
        artifacts=(RunArtifact("out", 0, "directory"), RunArtifact("out/result.json", 100, "file")),
        extracted=(ExtractResult("out", "ok", 100),),
        timings=RunTimings(image=1.5, start=2.5, run=3.5, extract=4.5),
    )
    for _ in range(10_000):
        fresh = replace(
            result, timings=replace(result.timings), artifacts=tuple(map(replace, result.artifacts))
        )
        run = a_run(str(uuid.uuid4()))
        store.add(run)
        store.change(run.id, lambda before, fresh=fresh: end(before, fresh, elapsed=1))  # type: ignore[misc]
    return store


def test_ten_thousand_runs_are_answered_at_once(full: RunTable) -> None:
    run_id = full.list(limit=5000)[0][-1].id

    def took(call: object) -> float:
        times = []
        for _ in range(20):
            begun = time.process_time()
            call()  # type: ignore[operator]
            times.append(time.process_time() - begun)
        return sorted(times)[10]

    assert took(lambda: full.get(run_id)) < 0.000_1
    assert took(lambda: full.list(limit=100)) < 0.001
    assert took(lambda: full.list(limit=100, before=run_id)) < 0.005
    assert took(lambda: full.list(limit=100, status=Status.FAILED)) < 0.01


def test_a_finished_run_takes_less_than_four_kilobytes() -> None:
    tracemalloc.start()
    store = RunTable()
    for _ in range(1000):
        artifacts = tuple(RunArtifact(f"out/{uuid.uuid4()}", 100_000, "file") for _ in range(5))
        timings = RunTimings(image=1.5, start=2.5, run=3.5, extract=4.5)
        result = RunResult(
            reason=Reason.EXIT, exit_code=1, error="x" * 80, artifacts=artifacts, timings=timings
        )
        run = a_run(str(uuid.uuid4()))
        store.add(run)
        store.change(run.id, lambda before, result=result: end(before, result, elapsed=1))  # type: ignore[misc]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 1000 < 4096
