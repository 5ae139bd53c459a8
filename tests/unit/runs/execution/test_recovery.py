"""What a server finds of an earlier one, and what it makes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from light_run.artifacts.store import ArtifactStore
from light_run.engine.output.frames import STDOUT
from light_run.engine.output.spool import LogWriter
from light_run.engine.spec import Reason, RunResult, RunSpec
from light_run.errors import (
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientStorage,
    Overloaded,
    RunNotFound,
)
from light_run.runs import service
from light_run.runs.execution import cleanup, recovery
from light_run.runs.execution.executor import Executor
from light_run.runs.model import Delivery, RunRecord, RunRequest, Status
from light_run.runs.service import RunService
from light_run.runs.storage import retention
from light_run.runs.storage.retention import Retention
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from tests.support.poll import eventually
from tests.support.receiver import Answer, Receiver, receiving
from tests.unit.fake_runner import OK, Engine, FakeHealth, FakeRunner
from tests.unit.runs.storage.journals import Storage

# A file that is full or damaged.
ONLY_SQLITE = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)

SPEC = RunSpec(image="alpine", files={"a": "1"}, entrypoint="x", stdin=b"in", timeout=100.0, env={"A": "B"})
REQUEST = RunRequest(spec=SPEC, detached=True)


class Server:
    """One life of a server over a state directory and an engine that outlive it."""

    def __init__(
        self,
        path: Path,
        storage: Storage,
        engine: Engine,
        *,
        concurrency: int = 4,
        max_queue: int = 1000,
        **settings: Any,
    ) -> None:
        self.path = path
        self.runner = FakeRunner(engine)
        self.runner.hold()
        self.storage = storage
        self.journal = storage.open()
        self.service = RunService(
            self.runner,
            ArtifactStore(path / "artifacts"),
            self.journal,
            Executor(concurrency=concurrency, max_queue=max_queue),
            logs_dir=path / "logs",
            **settings,
        )
        self.alive = True

    def stop(self, grace: float = 0.0) -> None:
        if self.alive:
            self.alive = False
            self.service.close(grace)

    def kill(self) -> None:
        """End as a killed process does: nothing of what it would still write reaches the disk."""
        self.storage.kill(self.journal)
        staged, containers = dict(self.runner.engine.staged), dict(self.runner.engine.containers)
        for life in list(self.service._jobs.values()):
            life.detached = True
            # One that was to be cancelled is detached as well: its engine's answer comes too late.
            life.stop._requested = None
            life.stop.detach()
        self.stop()
        self.runner.engine.staged, self.runner.engine.containers = staged, containers

    def submit(self, request: RunRequest = REQUEST) -> RunRecord:
        return self.service.submit(request)

    def status(self, run_id: str) -> Status:
        return self.service.get(run_id).status

    def finish(self, run_id: str) -> RunRecord:
        self.runner.end(run_id)
        final = self.service.wait(run_id, 10)
        assert final.ended
        return final


class World:
    """A state directory, a database and an engine, and the servers that come and go."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self.path = path
        self.storage = storage
        self.engine = Engine()
        self.servers: list[Server] = []

    def server(self, *, start: bool = True, docker: bool = True, **settings: Any) -> Server:
        server = Server(self.path, self.storage, self.engine, **settings)
        server.runner.health_now.docker = docker
        self.servers.append(server)
        if start:
            server.service.start()
        return server


@pytest.fixture
def world(tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(recovery, "ASK_AGAIN", 0.02)
    monkeypatch.setattr(cleanup, "AGAIN", 0.02)
    world = World(tmp_path, storage)
    yield world
    for server in world.servers:
        server.stop()


def reaches(server: Server, run: RunRecord, step: str) -> None:
    """Wait until `run`'s row says `step`."""

    def look() -> bool:
        rows = server.storage.execute("SELECT step FROM runs WHERE id = %s", run.id)
        return rows == [(step,)]

    eventually(look, f"the run is {step}", within=10)


@pytest.mark.parametrize("stop", ["killed", "stopped"])
def test_a_run_at_work_is_taken_up_where_it_was(world: World, stop: str) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    begun = first.service.get(run.id)
    first.kill() if stop == "killed" else first.stop()
    assert world.engine.containers == {f"container-{run.id}": run.id}

    second = world.server(start=False)
    assert second.service.get(run.id) == replace(begun, phase=None)
    second.service.start()
    eventually(lambda: run.id in second.runner.adopted, "it is attached to again")
    assert second.runner.specs[run.id] == replace(SPEC, files={})
    deadline = second.runner.adopted[run.id]
    assert abs(deadline - datetime.now(timezone.utc) - timedelta(seconds=100)) < timedelta(seconds=60)
    final = second.finish(run.id)
    assert (final.status, final.started_at) == (Status.SUCCEEDED, begun.started_at)
    assert second.runner.began == []
    eventually(lambda: world.engine == Engine(), "nothing is left")


@pytest.mark.parametrize("step", ["queued", "assigned"])
@pytest.mark.parametrize("stop", ["killed", "stopped"])
def test_a_run_of_which_nothing_was_started_begins_anew(world: World, step: str, stop: str) -> None:
    first = world.server()
    first.runner.hold(stops_at=step)
    run = first.submit()
    eventually(lambda: run.id in first.runner.began, "it has begun", within=10)
    reaches(first, run, step)
    if step == "assigned":
        # A parked container has the files by now.
        world.engine.moved[run.id] = world.engine.staged.pop(run.id)
    first.kill() if stop == "killed" else first.stop()

    second = world.server(start=False)
    assert second.status(run.id) is Status.QUEUED
    second.service.start()
    eventually(lambda: run.id in second.runner.began, "it begins anew", within=10)
    reaches(second, run, "launched")
    assert second.runner.specs[run.id] == replace(SPEC, files={})
    assert second.finish(run.id).status is Status.SUCCEEDED
    assert second.runner.adopted == {}


def test_runs_that_wait_keep_their_order_and_come_before_new_ones(world: World) -> None:
    first = world.server(concurrency=1)
    runs = [first.submit() for _ in range(4)]
    reaches(first, runs[0], "launched")
    first.stop()
    second = world.server(start=False, concurrency=1)
    new = second.submit()
    assert new.status is Status.QUEUED
    second.service.start()
    for run in runs:
        eventually(lambda run=run: second.status(run.id) is Status.RUNNING, "it is its turn")  # type: ignore[misc]
        second.finish(run.id)
    second.finish(new.id)
    assert second.runner.began == [run.id for run in (*runs[1:], new)]


def test_a_container_that_is_gone_is_an_interruption(world: World) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    first.kill()
    world.engine.containers.clear()
    final = world.server().service.wait(run.id, 10)
    assert (final.status, final.reason) == (Status.FAILED, Reason.INTERRUPTED)


def test_files_that_are_gone_are_an_interruption(world: World) -> None:
    first = world.server()
    first.runner.hold(stops_at="queued")
    run = first.submit()
    first.kill()
    world.engine.staged.clear()
    final = world.server().service.wait(run.id, 10)
    assert (final.status, final.reason) == (Status.FAILED, Reason.INTERRUPTED)
    assert "files" in (final.error or "")


def test_an_end_that_was_written_stays_though_nobody_cleaned_up(world: World) -> None:
    first = world.server()
    first.runner.hold(clean_up=True)
    run = first.submit()
    first.runner.end(run.id)
    final = first.service.wait(run.id, 10)
    first.runner.script(run.id).clean.set()
    world.engine.containers["left"] = run.id
    first.kill()
    world.engine.containers["left"] = run.id
    second = world.server()
    eventually(lambda: "left" in second.runner.cleared, "what was left is cleared")
    assert second.service.get(run.id) == final
    assert second.runner.adopted == {}


def test_finished_runs_are_there_after_a_restart_with_their_logs(world: World) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    writer = LogWriter(world.path / "logs" / run.id, cap=100)
    writer.write(STDOUT, memoryview(b"line\n"))
    writer.close()
    final = first.finish(run.id)
    first.stop()
    (world.path / "logs" / "of nobody").write_text("x")
    second = world.server()
    assert second.service.get(run.id) == final
    assert [line.text for line in second.service.log_lines(run.id)] == ["line"]
    assert not (world.path / "logs" / "of nobody").exists()
    second.service.delete(run.id)
    second.stop()
    with pytest.raises(RunNotFound):
        world.server().service.get(run.id)


def test_a_run_found_at_work_can_be_cancelled(world: World) -> None:
    first = world.server(concurrency=1)
    at_work, waiting = first.submit(), first.submit()
    reaches(first, at_work, "launched")
    first.stop()
    second = world.server(start=False, concurrency=1)
    second.service.stop(waiting.id)
    assert second.status(waiting.id) is Status.CANCELLED
    canceller = threading.Thread(target=second.service.stop, args=(at_work.id,))
    canceller.start()
    second.service.start()
    canceller.join(10)
    assert second.status(at_work.id) is Status.CANCELLED
    assert at_work.id in second.runner.adopted


@pytest.mark.parametrize("step", ["queued", "assigned", "launched"])
def test_an_engine_that_is_away_is_waited_for(world: World, step: str) -> None:
    first = world.server()
    first.runner.hold(stops_at=step)
    run = first.submit()
    reaches(first, run, step)
    first.kill()
    second = world.server(docker=False)
    assert not second.service.wait(run.id, 0.1).ended
    assert second.runner.began == []
    assert second.runner.started == 0
    second.runner.health_now.docker = True
    assert second.finish(run.id).status is Status.SUCCEEDED
    eventually(lambda: second.runner.started == 1, "the runner is started once it answers")


@pytest.mark.parametrize("step", ["queued", "launched"])
def test_stopping_does_not_wait_for_an_engine_that_is_away(world: World, step: str) -> None:
    first = world.server()
    first.runner.hold(stops_at=step)
    detached, sync = first.submit(), first.submit(replace(REQUEST, detached=False))
    for run in (detached, sync):
        reaches(first, run, step)
    first.kill()
    second = world.server(docker=False)
    second.stop()
    third = world.server()
    assert third.finish(detached.id).status is Status.SUCCEEDED
    assert third.service.get(sync.id).reason is Reason.INTERRUPTED


def test_a_stopping_server_ends_sync_runs_and_leaves_detached_ones(world: World) -> None:
    first = world.server(concurrency=2)
    sync = replace(REQUEST, detached=False)
    runs = [first.submit(), first.submit(sync), first.submit(), first.submit(sync)]
    reaches(first, runs[0], "launched")
    reaches(first, runs[1], "launched")
    first.stop()
    assert [first.status(run.id) for run in runs[:3]] == ["running", "failed", "queued"]
    # The last one never began: its client is told to send it again.
    with pytest.raises(RunNotFound):
        first.service.get(runs[3].id)
    assert list(world.engine.containers) == [f"container-{runs[0].id}"]
    second = world.server()
    for run in (runs[0], runs[2]):
        assert second.finish(run.id).status is Status.SUCCEEDED


def test_a_run_that_is_about_to_begin_is_let_go_of_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.server()
    run_at_once = first.runner.run
    closing = threading.Thread(target=first.stop)

    def run_late(*arguments: Any, **settings: Any) -> RunResult:
        # The runner does not know of the run yet when it is told to let go of it.
        closing.start()
        eventually(lambda: settings["stop"].detached, "it is detached")
        return run_at_once(*arguments, **settings)

    monkeypatch.setattr(first.runner, "run", run_late)
    run = first.submit()
    eventually(lambda: not first.alive, "the server stops")
    closing.join(10)
    assert not closing.is_alive()
    assert world.server().finish(run.id).status is Status.SUCCEEDED


def test_a_run_that_lost_its_place_while_it_was_accepted_was_never_there(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = world.server()
    stage = server.runner.stage

    def stage_while_stopping(run_id: str, files: Any) -> None:
        stage(run_id, files)
        server.service._queue.stop()

    monkeypatch.setattr(server.runner, "stage", stage_while_stopping)
    with pytest.raises(Overloaded):
        server.submit(replace(REQUEST, callback_url=receiver.url, idempotency_key="k"))
    assert server.service.list() == ([], False)
    assert world.engine.staged == {}
    assert server.service._jobs == {}
    server.stop()
    assert world.server().service.list() == ([], False)
    assert receiver.received == []


def test_an_engine_that_refuses_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.server()
    first.runner.hold(stops_at="assigned")
    run = first.submit()
    reaches(first, run, "assigned")
    first.kill()
    second = world.server(start=False)
    unassign, refusals = second.runner.unassign, list[str]()

    def refuse_twice(container: str, run_id: str) -> bool:
        if len(refusals) < 2:
            refusals.append(run_id)
            raise EngineUnavailable("not now")
        return unassign(container, run_id)

    monkeypatch.setattr(second.runner, "unassign", refuse_twice)
    second.service.start()
    assert second.finish(run.id).status is Status.SUCCEEDED
    assert refusals == [run.id] * 2


def test_a_run_that_was_let_go_of_cannot_be_cancelled_here(world: World) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    life = first.service._jobs[run.id]
    life.stop._detached = True
    with pytest.raises(Overloaded):
        first.service.stop(run.id)
    life.stop._detached = False


def test_what_nobody_needs_is_cleared_before_anything_runs(world: World) -> None:
    world.engine.containers["stray"] = "no such run"
    world.engine.staged["stray"] = {}
    server = world.server()
    run = server.submit()
    reaches(server, run, "launched")
    assert set(server.runner.cleared) == {"stray"}
    assert server.runner.started == 1
    server.finish(run.id)


def test_what_is_being_accepted_is_not_cleared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    server = world.server(start=False)
    stage = server.runner.stage

    def stage_while_cleared(run_id: str, files: Any) -> None:
        stage(run_id, files)
        server.service.prepare()

    monkeypatch.setattr(server.runner, "stage", stage_while_cleared)
    run = server.submit()
    assert server.runner.cleared == []
    assert run.id in world.engine.staged
    server.service.start()
    server.finish(run.id)
    assert server.service._cleanup.accepting == set()


def test_a_container_that_its_row_does_not_know_goes_before_the_run_begins_anew(world: World) -> None:
    first = world.server()
    first.runner.hold(stops_at="queued")
    run = first.submit()
    first.kill()
    world.engine.containers["unknown"] = run.id
    second = world.server()
    reaches(second, run, "launched")
    assert list(world.engine.containers) == [f"container-{run.id}"]
    second.finish(run.id)


def test_a_container_made_late_goes_once_its_run_is_over(world: World) -> None:
    server = world.server()
    run = server.submit()
    reaches(server, run, "launched")
    world.engine.containers["late"] = run.id
    server.service._cleanup.step(0.0)
    assert set(world.engine.containers) == {"late", f"container-{run.id}"}
    server.finish(run.id)
    eventually(lambda: server.service._jobs == {}, "its life is over")
    server.service._cleanup.step(0.0)
    assert world.engine.containers == {}


# -- callbacks, keys, bounds across servers


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def callback(server: Server, run_id: str) -> Any:
    found = server.service.get(run_id).callback
    return found and (found.state, found.attempts, found.last_status)


def test_a_callback_that_was_not_taken_is_the_next_servers(world: World, receiver: Receiver) -> None:
    receiver.answer = lambda request, number: Answer(503, {"Retry-After": "3600"})
    first = world.server()
    run = first.submit(replace(REQUEST, callback_url=receiver.url, callback_secret="secret-of-sixteen"))
    first.finish(run.id)
    eventually(lambda: callback(first, run.id) == (Delivery.PENDING, 1, 503), "it was tried")
    due = first.service.get(run.id).callback.next_attempt_at  # type: ignore[union-attr]
    first.stop()
    receiver.answer = lambda request, number: Answer()
    second = world.server()
    assert second.service.get(run.id).callback.next_attempt_at == due  # type: ignore[union-attr]
    assert len(receiver.received) == 1
    second.service.redeliver(run.id)
    eventually(lambda: callback(second, run.id) == (Delivery.DELIVERED, 2, 204), "it is taken")
    assert receiver.received[0].body == receiver.received[1].body
    second.stop()
    third = world.server()
    assert callback(third, run.id) == (Delivery.DELIVERED, 2, 204)
    assert len(receiver.received) == 2


def test_a_run_taken_up_is_called_back(world: World, receiver: Receiver) -> None:
    first = world.server()
    run = first.submit(replace(REQUEST, callback_url=receiver.url))
    reaches(first, run, "launched")
    first.kill()
    second = world.server()
    second.finish(run.id)
    (request,) = receiver.wait()
    assert request.json()["id"] == run.id


def test_a_forgotten_runs_callback_outlives_the_server(world: World, receiver: Receiver) -> None:
    receiver.answer = lambda request, number: Answer(503)
    first = world.server()
    run = first.submit(replace(REQUEST, callback_url=receiver.url))
    first.finish(run.id)
    eventually(lambda: callback(first, run.id) == (Delivery.PENDING, 1, 503), "it was tried")
    first.service.delete(run.id)
    first.stop()
    receiver.answer = lambda request, number: Answer()
    second = world.server()
    with pytest.raises(RunNotFound):
        second.service.get(run.id)
    receiver.wait(2)
    eventually(
        lambda: second.storage.execute("SELECT id FROM runs") == [],
        "nothing is kept of it then",
    )


def test_a_key_means_the_same_run_also_after_a_restart(world: World) -> None:
    asked = replace(REQUEST, idempotency_key="k", body_digest="one")
    first = world.server()
    run = first.submit(asked)
    assert first.submit(asked).id == run.id
    first.finish(run.id)
    first.stop()
    second = world.server()
    assert second.submit(asked) == second.service.get(run.id)
    with pytest.raises(IdempotencyConflict):
        second.submit(replace(asked, body_digest="two"))
    assert second.submit(replace(asked, owner="somebody else")).id != run.id
    assert second.submit(replace(REQUEST, body_digest="one")).id != run.id
    second.service.delete(run.id)
    assert second.submit(asked).id != run.id


def test_the_same_key_from_many_sides_is_one_run(world: World) -> None:
    server = world.server()
    found: list[str] = []
    asked = replace(REQUEST, idempotency_key="k", body_digest="one")
    threads = [threading.Thread(target=lambda: found.append(server.submit(asked).id)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 10
    assert len(set(found)) == 1
    assert len(server.service.list()[0]) == 1


def test_the_queue_found_may_be_longer_than_it_may_grow(world: World) -> None:
    first = world.server(concurrency=1, max_queue=3)
    runs = [first.submit() for _ in range(4)]
    first.stop()
    second = world.server(concurrency=1, max_queue=0)
    with pytest.raises(Overloaded):
        second.submit()
    for run in runs:
        second.finish(run.id)
    eventually(lambda: second.service._queue.counts() == (0, 0), "all slots are free")
    second.submit()


def test_the_oldest_finished_runs_go(world: World) -> None:
    server = world.server(retention=Retention(count=2))
    runs = [server.submit() for _ in range(4)]
    for run in runs:
        server.finish(run.id)
    eventually(lambda: len(server.service.list()[0]) == 2, "two are kept")
    assert [run.id for run in server.service.list()[0]] == [runs[3].id, runs[2].id]
    assert not (world.path / "logs" / runs[0].id).exists()
    server.service.registry.step(datetime.now(timezone.utc).timestamp() + retention.DEFAULT.age + 60)
    assert server.service.list()[0] == []


def test_a_run_that_took_long_is_not_the_oldest_when_it_ends(world: World) -> None:
    server = world.server(retention=Retention(count=2))
    long = server.submit()
    others = [server.submit() for _ in range(3)]
    for run in (*others, long):
        server.finish(run.id)
    assert [run.id for run in server.service.list()[0]] == [others[2].id, long.id]
    server.stop()
    again = world.server(retention=Retention(count=1))
    again.finish(again.submit().id)
    eventually(lambda: len(again.service.list()[0]) == 1, "one is kept")


def test_a_cancel_that_was_answered_outlives_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CANCEL_WAIT", 0.0)
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    # An engine that hangs.
    first.runner.script(run.id).heeds_cancel = False
    first.service.stop(run.id)
    assert (first.service.get(run.id).status, first.service.get(run.id).reason) == (Status.RUNNING, None)
    first.kill()
    second = world.server(start=False)
    assert second.service.get(run.id).reason is None
    second.service.start()
    assert second.service.wait(run.id, 10).status is Status.CANCELLED


def test_a_cancel_behind_the_end_changes_nothing(world: World) -> None:
    server = world.server()
    run = server.finish(server.submit().id)
    server.service.registry.cancelling(run.id)
    server.stop()
    assert world.server().service.get(run.id).status is Status.SUCCEEDED


def test_a_cancelled_run_whose_engine_is_away_neither_spins_nor_holds_up_a_stop(world: World) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    first.kill()
    second = world.server(docker=False)
    looks = 0

    def health() -> FakeHealth:
        nonlocal looks
        looks += 1
        return second.runner.health_now

    second.runner.health = health  # type: ignore[method-assign]
    canceller = threading.Thread(target=second.service.stop, args=(run.id,))
    canceller.start()
    time.sleep(0.5)
    # One every 0.02 s, and some of others.
    assert looks < 100
    second.stop()
    canceller.join(10)
    assert second.status(run.id) is Status.CANCELLED


def test_large_input_does_not_wait_in_memory(world: World) -> None:
    server = world.server(concurrency=1)
    first = server.submit()
    large = server.submit(replace(REQUEST, spec=replace(SPEC, stdin=bytes(1 << 20))))
    assert server.service._jobs[large.id]._spec is None
    server.finish(first.id)
    server.finish(large.id)
    assert server.runner.specs[large.id].stdin == bytes(1 << 20)


@ONLY_SQLITE
def test_a_journal_without_room_turns_runs_away_and_recovers(world: World) -> None:
    server = world.server()
    assert isinstance(server.journal, SQLiteJournal)
    connection = server.journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = replace(REQUEST, spec=replace(SPEC, stdin=bytes(1 << 20)))
    with pytest.raises(InsufficientStorage):
        server.submit(large)
    assert world.engine.staged == {}
    assert server.service._queue.counts() == (0, 0)
    connection.execute("PRAGMA max_page_count = 100000")
    assert server.finish(server.submit(large).id).reason is OK.reason


# --- a damaged journal ------------------------------------------------------------------------------------


def test_a_damaged_row_costs_no_other_run_and_nothing_of_its_own(world: World) -> None:
    first = world.server()
    good, bad = first.submit(), first.submit()
    for run in (good, bad):
        reaches(first, run, "launched")
    for run in (good, bad):
        (world.path / "logs" / run.id).write_text("kept")
    first.kill()
    world.storage.execute("UPDATE runs SET deadline = 1e300 WHERE id = %s", bad.id)
    second = world.server()
    eventually(lambda: good.id in second.runner.adopted, "the other run goes on")
    second.service._cleanup.step(0.0)
    second.finish(good.id)
    assert second.runner.cleared == []
    assert (world.path / "logs" / bad.id).read_text() == "kept"
    assert f"container-{bad.id}" in world.engine.containers
    with pytest.raises(RunNotFound):
        second.service.get(bad.id)


@ONLY_SQLITE
def test_a_journal_that_was_set_aside_costs_no_log_and_no_container(world: World) -> None:
    first = world.server()
    run = first.submit()
    reaches(first, run, "launched")
    (world.path / "logs" / run.id).write_text("kept")
    first.kill()
    journal = world.path / "journal.sqlite"
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    journal.write_bytes(b"garbage!" * 2500)
    for _ in range(2):
        server = world.server()
        fresh = server.submit()
        server.finish(fresh.id)
        server.service._cleanup.step(0.0)
        server.stop()
        assert (world.path / "logs" / run.id).read_text() == "kept"
        assert f"container-{run.id}" in world.engine.containers
    # Once the operator has removed it, what nobody knows goes.
    (aside,) = world.path.glob("journal.sqlite.damaged-*")
    aside.unlink()
    server = world.server()
    eventually(lambda: world.engine.containers == {}, "the container is removed")
    assert not (world.path / "logs" / run.id).exists()
