"""The façade: runs from request to deletion, with an engine that does as told."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from light_run.artifacts.store import ArtifactStore
from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.spool import LogWriter
from light_run.engine.spec import Reason, RunArtifact, RunResult, RunSpec
from light_run.errors import InsufficientStorage, Overloaded, RunActive, RunNotActive, RunNotFound
from light_run.runs import service as module
from light_run.runs.execution.executor import Executor
from light_run.runs.model import CallbackState, Delivery, RunRecord, RunRequest, Status
from light_run.runs.presentation import run_state
from light_run.runs.service import RunService
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from tests.support.poll import eventually
from tests.support.receiver import SIGNATURE, Answer, Received, Receiver, receiving, signature
from tests.unit.fake_runner import OK, FakeRunner

REQUEST = RunRequest(spec=RunSpec(image="alpine", files={"a": "1"}))
FAILED = RunResult(reason=Reason.EXIT, exit_code=3, error="exit code 3")


class Scene:
    """A service over a fake runner."""

    def __init__(self, path: Path, concurrency: int = 2, max_queue: int = 10, **settings: Any) -> None:
        self.path = path
        self.runner = FakeRunner()
        self.artifacts = ArtifactStore(path / "artifacts")
        self.service = RunService(
            self.runner,
            self.artifacts,
            SQLiteJournal(path / "journal.sqlite"),
            Executor(concurrency=concurrency, max_queue=max_queue),
            logs_dir=path / "logs",
            **settings,
        )

    def submit(self, request: RunRequest = REQUEST) -> RunRecord:
        return self.service.submit(request)

    def began(self, run_id: str) -> None:
        eventually(lambda: run_id in self.runner.began, "the run has begun")

    def artifact(self, run_id: str, size: int) -> RunResult:
        folder = self.artifacts.folder(run_id)
        folder.mkdir()
        (folder / "out").write_bytes(b"x" * size)
        return replace(OK, artifacts=(RunArtifact("out", size, "file"),))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.service.start()
    yield scene
    scene.service.close(grace=0)
    assert scene.service._jobs == {}
    assert scene.runner.staged_files == {}


def test_a_run_goes_from_request_to_result(scene: Scene) -> None:
    scene.runner.hold()
    run = scene.submit()
    assert (run.status, run.detached) == (Status.RUNNING, False)
    assert scene.runner.staged_files == {run.id: {"a": "1"}}
    scene.began(run.id)
    scene.runner.end(run.id)
    final = scene.service.wait(run.id)
    assert (final.status, final.exit_code, final.reason) == (Status.SUCCEEDED, 0, Reason.EXIT)
    assert final == scene.service.get(run.id)
    assert (final.phase, final.progress) == (None, None)
    assert final.finished_at
    assert final.started_at
    assert final.finished_at >= final.started_at >= final.created_at


def test_progress_is_seen_while_it_runs(scene: Scene) -> None:
    scene.runner.hold()
    run = scene.submit()
    eventually(lambda: scene.service.get(run.id).phase == "running", "the run shows its phase")
    assert scene.service.get(run.id).progress is None


def test_a_failure_is_a_state_not_an_exception(scene: Scene) -> None:
    scene.runner.default.result = FAILED
    final = scene.service.wait(scene.submit().id)
    assert (final.status, final.exit_code, final.error) == (Status.FAILED, 3, "exit code 3")


def test_a_runner_that_breaks_fails_the_run_and_frees_the_slot(scene: Scene) -> None:
    scene.runner.default.error = RuntimeError("bug")
    for _ in range(5):
        final = scene.service.wait(scene.submit().id, 10)
        assert (final.status, final.reason) == (Status.FAILED, Reason.INTERRUPTED)


def test_runs_wait_in_order_and_say_so(scene: Scene) -> None:
    scene.runner.hold()
    runs = [scene.submit() for _ in range(4)]
    assert [run.status for run in runs] == ["running", "running", "queued", "queued"]
    scene.runner.end(runs[1].id)
    scene.began(runs[2].id)
    third = scene.service.get(runs[2].id)
    assert third.status is Status.RUNNING
    assert third.queued_ms > 0
    assert scene.service.get(runs[3].id).status is Status.QUEUED


def test_an_end_is_seen_before_the_clean_up_but_the_slot_is_free_after_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, concurrency=1)
    scene.runner.hold(clean_up=True)
    first, second = scene.submit(), scene.submit()
    scene.runner.end(first.id)
    assert scene.service.wait(first.id, 10).status is Status.SUCCEEDED
    assert scene.service.get(second.id).status is Status.QUEUED
    scene.runner.script(first.id).clean.set()
    scene.began(second.id)
    for run in (first, second):
        scene.runner.script(run.id).clean.set()
    scene.service.close(grace=0)


def test_too_many_are_turned_away_before_their_files_are_written(tmp_path: Path) -> None:
    scene = Scene(tmp_path, concurrency=1, max_queue=1)
    scene.runner.hold()
    runs = [scene.submit(), scene.submit()]
    with pytest.raises(Overloaded):
        scene.submit()
    assert len(scene.runner.staged_files) == 2
    scene.runner.end(runs[0].id)
    eventually(lambda: scene.service._queue.counts() == (1, 0), "a place is free")
    scene.submit()
    scene.service.close(grace=0)


def test_a_full_disk_is_said_and_costs_no_place(tmp_path: Path) -> None:
    scene = Scene(tmp_path, concurrency=1, max_queue=0)
    scene.runner.stage_error = OSError(errno.ENOSPC, "no space left")
    for _ in range(3):
        with pytest.raises(InsufficientStorage):
            scene.submit()
    scene.runner.stage_error = None
    assert scene.service.wait(scene.submit().id, 10).status is Status.SUCCEEDED
    assert len(scene.service.list()[0]) == 1
    scene.service.close(grace=0)


def test_a_running_run_is_cancelled_and_has_ended_when_that_returns(scene: Scene) -> None:
    scene.runner.hold()
    run = scene.submit()
    scene.began(run.id)
    scene.service.stop(run.id)
    final = scene.service.get(run.id)
    assert (final.status, final.reason) == (Status.CANCELLED, Reason.CANCELLED)
    with pytest.raises(RunNotActive):
        scene.service.stop(run.id)


def test_a_waiting_run_is_cancelled_without_ever_beginning(scene: Scene) -> None:
    scene.runner.hold()
    busy = [scene.submit(), scene.submit()]
    run = scene.submit()
    scene.service.stop(run.id)
    assert scene.service.get(run.id).status is Status.CANCELLED
    assert run.id not in scene.runner.staged_files
    for each in busy:
        scene.runner.end(each.id)
        scene.service.wait(each.id, 10)
    assert run.id not in scene.runner.began


def test_a_cancel_wins_over_an_exit_that_comes_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_WAIT", 0.01)
    scene.runner.hold()
    scene.runner.default.heeds_cancel = False
    run = scene.submit()
    scene.began(run.id)
    scene.service.stop(run.id)
    assert scene.service.get(run.id).status is Status.RUNNING
    scene.runner.end(run.id, OK)
    final = scene.service.wait(run.id, 10)
    assert (final.status, final.reason, final.exit_code) == (Status.CANCELLED, Reason.CANCELLED, 0)


def test_cancels_from_many_sides_at_any_moment_agree_with_the_end(scene: Scene) -> None:
    for _ in range(50):
        run = scene.submit()
        outcomes: list[bool] = []

        def cancel(run_id: str = run.id, outcomes: list[bool] = outcomes) -> None:
            try:
                scene.service.stop(run_id)
                outcomes.append(True)
            except RunNotActive:
                outcomes.append(False)

        threads = [threading.Thread(target=cancel) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        final = scene.service.wait(run.id, 10)
        assert (final.status is Status.CANCELLED) == any(outcomes)


def test_deleting_takes_everything_and_only_what_has_ended(scene: Scene) -> None:
    scene.runner.hold()
    run = scene.submit()
    scene.began(run.id)
    with pytest.raises(RunActive):
        scene.service.delete(run.id)
    write_log(scene, run.id, b"x\n")
    scene.runner.end(run.id, scene.artifact(run.id, 10))
    scene.service.wait(run.id, 10)
    scene.service.delete(run.id)
    assert not scene.artifacts.folder(run.id).exists()
    assert list((scene.path / "logs").iterdir()) == []
    for call in (scene.service.get, scene.service.delete, scene.service.stop, scene.service.wait):
        with pytest.raises(RunNotFound):
            call(run.id)
    assert list(scene.service.log_lines(run.id)) == []


def write_log(scene: Scene, run_id: str, *pieces: bytes) -> None:
    writer = LogWriter(scene.path / "logs" / run_id, cap=1000)
    for number, piece in enumerate(pieces):
        writer.write(STDERR if number % 2 else STDOUT, memoryview(piece))
    writer.close()


def test_a_running_runs_log_has_its_finished_lines_and_an_ended_ones_all(scene: Scene) -> None:
    scene.runner.hold()
    run = scene.submit()
    scene.began(run.id)
    write_log(scene, run.id, b"one\ntw", b"err\n", b"o")
    assert [line.text for line in scene.service.log_lines(run.id)] == ["one", "err"]
    scene.runner.end(run.id)
    scene.service.wait(run.id, 10)
    assert [line.text for line in scene.service.log_lines(run.id)] == ["one", "err", "two"]


def test_the_oldest_artifacts_go_as_a_run_ends_and_their_run_says_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_artifacts_bytes=10_000)
    scene.runner.hold()
    runs = []
    for _ in range(3):
        run = scene.submit()
        scene.began(run.id)
        scene.runner.end(run.id, scene.artifact(run.id, 100))
        scene.service.wait(run.id, 10)
        runs.append(run.id)
    kept = [(run.id, run.artifacts_evicted, len(run.artifacts)) for run in scene.service.list()[0]]
    assert kept == [(runs[2], False, 1), (runs[1], False, 1), (runs[0], True, 0)]
    assert set(scene.artifacts.run_ids()) == {runs[1], runs[2]}
    scene.service.close(grace=0)


def test_closing_lets_runs_end_then_kills_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.runner.hold()
    quick, slow, queued = scene.submit(), scene.submit(), scene.submit()
    scene.began(quick.id)
    scene.began(slow.id)
    closing = threading.Thread(target=scene.service.close, kwargs={"grace": 3})
    closing.start()
    with pytest.raises(RunNotFound):
        scene.service.wait(queued.id, 20)
    with pytest.raises(Overloaded):
        scene.submit()
    scene.runner.end(quick.id)
    closing.join(20)
    assert scene.service.get(quick.id).status is Status.SUCCEEDED
    assert scene.service.get(slow.id).reason is Reason.INTERRUPTED
    assert scene.runner.staged_files == {}
    assert scene.runner.closed == 1


def test_closing_keeps_nobody_waiting_for_a_detached_run(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.runner.hold()
    detached = replace(REQUEST, detached=True)
    runs = [scene.submit(detached) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(scene.service.wait, run.id, 60) for run in runs]
        eventually(lambda: len(scene.service._store._waiting) == 3, "all three are waited for")
        begun = time.monotonic()
        scene.service.close(grace=0)
        assert [each.result().status for each in waiting] == ["running", "running", "queued"]
    # Who comes back before the process has ended is not kept either.
    assert not scene.service.wait(runs[0].id, 60).ended
    assert time.monotonic() - begun < 30


def test_health_is_the_runners(scene: Scene) -> None:
    assert scene.service.health().docker is True
    scene.runner.health_now.docker = False
    assert scene.service.health().docker is False


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def asking(receiver: Receiver, secret: str | None = None) -> RunRequest:
    return replace(REQUEST, callback_url=f"{receiver.url}/hook", callback_secret=secret)


def test_the_final_state_is_called_back_with_its_logs(scene: Scene, receiver: Receiver) -> None:
    scene.runner.hold()
    run = scene.submit(asking(receiver, "secret-of-sixteen"))
    assert run.callback == CallbackState()
    scene.began(run.id)
    write_log(scene, run.id, b"one\ntwo")
    scene.runner.end(run.id, FAILED)
    (request,) = receiver.wait()
    final = scene.service.get(run.id)
    assert request.json() == {**run_state(final, callback=False), "logs": ["one", "two"]}
    assert request.header(SIGNATURE) == signature("secret-of-sixteen", request.body)
    eventually(
        lambda: scene.service.get(run.id).callback == CallbackState(Delivery.DELIVERED, 1, 204),
        "the run shows that it was taken",
    )


def test_a_cancelled_run_is_called_back_too(scene: Scene, receiver: Receiver) -> None:
    scene.runner.hold()
    scene.submit()
    scene.submit()
    queued = scene.submit(asking(receiver))
    scene.service.stop(queued.id)
    (request,) = receiver.wait()
    assert request.json()["status"] == "cancelled"


def test_a_callback_under_way_holds_no_slot(tmp_path: Path, receiver: Receiver) -> None:
    release = threading.Event()

    def hang(request: Received, number: int) -> Answer:
        release.wait(30)
        return Answer()

    receiver.answer = hang
    scene = Scene(tmp_path, concurrency=1)
    scene.service.start()
    scene.submit(asking(receiver))
    receiver.wait()
    assert scene.service.wait(scene.submit().id, 10).ended
    scene.service.close(grace=0)
    release.set()


def test_a_deleted_run_is_called_back_with_its_logs_all_the_same(scene: Scene, receiver: Receiver) -> None:
    scene.runner.hold()
    run = scene.submit(asking(receiver))
    scene.began(run.id)
    write_log(scene, run.id, b"line\n")
    gate = threading.Event()

    def late(request: Received, number: int) -> Answer:
        gate.wait(30)
        return Answer(503 if number == 0 else 204)

    receiver.answer = late
    scene.runner.end(run.id)
    receiver.wait()
    scene.service.delete(run.id)
    gate.set()
    assert receiver.wait(2)[1].json()["logs"] == ["line"]
    eventually(lambda: not (scene.path / "logs" / run.id).exists(), "the log goes with the callback")


def test_a_callback_is_sent_again_on_demand(scene: Scene, receiver: Receiver) -> None:
    plain = scene.service.wait(scene.submit().id)
    with pytest.raises(RunNotFound):
        scene.service.redeliver(plain.id)
    scene.runner.hold()
    run = scene.submit(asking(receiver))
    with pytest.raises(RunActive):
        scene.service.redeliver(run.id)
    scene.runner.end(run.id)
    eventually(lambda: delivered(scene, run.id) == 1, "it was taken")
    scene.service.redeliver(run.id)
    receiver.wait(2)
    eventually(lambda: delivered(scene, run.id) == 2, "it was taken again")


def delivered(scene: Scene, run_id: str) -> int:
    """How many tries a delivered callback took; 0 for one that is pending."""
    callback = scene.service.get(run_id).callback
    return callback.attempts if callback and callback.state is Delivery.DELIVERED else 0
