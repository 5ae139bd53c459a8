"""Slots and the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from light_run.errors import Overloaded
from light_run.runs.execution import executor as module
from light_run.runs.execution.executor import Executor
from tests.support.poll import eventually


class GatedJob:
    """A job that works until its gate opens."""

    def __init__(
        self, run_id: str, trace: list[str], error: Exception | None = None, owner: str | None = None
    ) -> None:
        self.run_id = run_id
        self.owner = owner
        self.gate = threading.Event()
        self.trace = trace
        self.error = error

    def begin(self) -> None:
        self.trace.append(f"{self.run_id} begins")

    def work(self) -> None:
        if self.error:
            raise self.error
        assert self.gate.wait(30)
        self.trace.append(f"{self.run_id} is done")


class Scene:
    """An executor and the jobs given to it."""

    def __init__(self, concurrency: int, max_queue: int) -> None:
        self.executor: Executor[GatedJob] = Executor(concurrency=concurrency, max_queue=max_queue)
        self.jobs: dict[str, GatedJob] = {}
        self.trace: list[str] = []

    def submit(self, run_id: str, error: Exception | None = None, owner: str | None = None) -> bool:
        job = self.jobs[run_id] = GatedJob(run_id, self.trace, error, owner)
        self.executor.reserve(owner)
        return self.executor.submit(job)

    def open(self, *run_ids: str) -> None:
        for run_id in run_ids:
            self.jobs[run_id].gate.set()

    def begun(self) -> str:
        return "".join(line.split()[0] for line in self.trace if line.endswith("begins"))

    def wait_begun(self, expected: str) -> None:
        eventually(lambda: self.begun() == expected, f"{expected} have begun, in this order", within=10)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(concurrency=2, max_queue=2)
    yield scene
    scene.open(*scene.jobs)
    scene.executor.close()


def test_a_system_without_a_thread_costs_no_slot(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for name in "abc":
            with pytest.raises(Overloaded, match="can't start new thread"):
                scene.submit(name)
    assert scene.executor.counts() == (0, 0)
    assert [scene.submit(name) for name in "de"] == [True, True]
    scene.wait_begun("de")


def test_so_many_at_work_the_rest_in_order(scene: Scene) -> None:
    assert [scene.submit(name) for name in "abcd"] == [True, True, False, False]
    eventually(lambda: len(scene.trace) == 2, "two begin")
    assert scene.executor.counts() == (2, 2)
    scene.open("b")
    eventually(lambda: "c begins" in scene.trace, "the first in the queue begins")
    assert "d begins" not in scene.trace
    scene.open("a")
    eventually(lambda: "d begins" in scene.trace, "the second begins")


def test_beyond_the_queue_nobody_is_let_in(scene: Scene) -> None:
    for name in "abcd":
        scene.submit(name)
    with pytest.raises(Overloaded) as caught:
        scene.executor.reserve()
    assert caught.value.retry_after >= 1
    scene.open("a")
    eventually(lambda: scene.executor.counts() == (2, 1), "one has left the queue")
    scene.executor.reserve()
    with pytest.raises(Overloaded):
        scene.executor.reserve()
    scene.executor.release()
    scene.executor.reserve()


def test_places_being_made_ready_count(scene: Scene) -> None:
    for _ in range(4):
        scene.executor.reserve()
    with pytest.raises(Overloaded):
        scene.executor.reserve()


def test_without_a_queue_only_slots_are_given() -> None:
    scene = Scene(concurrency=1, max_queue=0)
    assert scene.submit("a")
    with pytest.raises(Overloaded):
        scene.submit("b")
    scene.open("a")
    eventually(lambda: scene.executor.counts() == (0, 0), "the slot is free")
    assert scene.submit("c")
    scene.open("c")
    scene.executor.close()


def test_what_was_at_work_before_goes_on_at_once_and_new_ones_wait_until_there_is_a_slot() -> None:
    scene = Scene(concurrency=1, max_queue=9)
    for run_id in "abc":
        scene.jobs[run_id] = GatedJob(run_id, scene.trace)
        scene.executor.preload(scene.jobs[run_id], at_work=run_id != "c")
    scene.jobs["e"] = GatedJob("e", scene.trace)
    scene.executor.preload(scene.jobs["e"], at_work=True)
    assert scene.executor.withdraw("e") is scene.jobs["e"]
    scene.executor.start()
    eventually(lambda: set(scene.begun()) == {"a", "b"}, "both go on", within=10)
    assert not scene.submit("d")
    scene.open("a")
    eventually(lambda: scene.executor.counts() == (1, 2), "one slot less is taken", within=10)
    scene.open("b", "c", "d")
    eventually(lambda: scene.begun()[2:] == "cd", "the others follow, in this order", within=10)
    scene.executor.close()


def test_what_waits_can_be_withdrawn_and_what_works_cannot(scene: Scene) -> None:
    for name in "abcd":
        scene.submit(name)
    assert scene.executor.withdraw("c") is scene.jobs["c"]
    assert scene.executor.withdraw("c") is None
    assert scene.executor.withdraw("a") is None
    scene.open("a", "b", "d")
    eventually(lambda: scene.executor.counts() == (0, 0), "all is done")
    assert "c begins" not in scene.trace


def test_a_job_that_fails_gives_its_slot_back(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abcd":
        scene.submit(name, RuntimeError(f"{name} broke"))
    eventually(lambda: scene.executor.counts() == (0, 0), "all slots are free")
    assert all(f"{name} broke" in caplog.text for name in "abcd")


def test_threads_are_used_again_and_leave_when_idle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.05)
    for name in "abc":
        scene.submit(name)
        scene.open(name)
        eventually(lambda: scene.executor.counts() == (0, 0), "it is done")
        assert len(scene.executor._threads) <= 1
    eventually(lambda: not scene.executor._threads, "no thread is kept")
    assert scene.submit("d")
    scene.open("d")


def test_stopping_gives_back_who_waits_and_closing_waits_for_who_works(scene: Scene) -> None:
    for name in "abcd":
        scene.submit(name)
    assert scene.executor.stop() == [scene.jobs["c"], scene.jobs["d"]]
    with pytest.raises(Overloaded):
        scene.executor.reserve()
    closing = threading.Thread(target=scene.executor.close)
    closing.start()
    assert closing.is_alive()
    scene.open("a", "b")
    closing.join(10)
    assert sorted(scene.trace) == ["a begins", "a is done", "b begins", "b is done"]


def test_a_place_kept_while_the_executor_stops_is_of_no_use(scene: Scene) -> None:
    scene.executor.reserve()
    scene.executor.stop()
    with pytest.raises(Overloaded):
        scene.executor.submit(GatedJob("late", scene.trace))
    assert scene.trace == []


# --- between tokens -----------------------------------------------------------------------------------------


@contextmanager
def serving(concurrency: int, max_queue: int) -> Iterator[Scene]:
    scene = Scene(concurrency, max_queue)
    try:
        yield scene
    finally:
        scene.open(*scene.jobs)
        scene.executor.close()


def test_a_free_slot_is_for_the_token_that_has_fewest() -> None:
    with serving(1, 20) as scene:
        for run_id in "abcd":
            scene.submit(run_id, owner="alice")
        for run_id in "xy":
            scene.submit(run_id, owner="bob")
        scene.wait_begun("a")
        for number, expected in enumerate(["ax", "axb", "axby", "axbyc", "axbycd"]):
            scene.open("axbyc"[number])
            scene.wait_begun(expected)


def test_a_token_does_not_fill_the_queue_for_others() -> None:
    with serving(1, 7) as scene:
        for number in range(6):
            scene.submit(f"a{number}", owner="alice")
        with pytest.raises(Overloaded, match="runs of this token"):
            scene.executor.reserve("alice")
        scene.submit("b", owner="bob")
        scene.submit("c")
        with pytest.raises(Overloaded, match="too many runs are waiting"):
            scene.executor.reserve()


class Patient(GatedJob):
    """A job that waits without its slot until `arrived` is set."""

    def __init__(self, run_id: str, scene: Scene, owner: str | None = None) -> None:
        super().__init__(run_id, scene.trace, owner=owner)
        self.scene = scene
        self.arrived = threading.Event()
        self.over = False

    def work(self) -> None:
        with self.scene.executor.without_slot(self, lambda: self.over):
            assert self.arrived.wait(30)
        self.trace.append(f"{self.run_id} has its slot")
        super().work()


def submit_patient(scene: Scene, run_id: str, owner: str | None = None) -> Patient:
    scene.jobs[run_id] = job = Patient(run_id, scene, owner)
    scene.executor.reserve(owner)
    scene.executor.submit(job)
    return job


def test_a_job_that_only_waits_holds_no_slot_and_gets_one_back() -> None:
    with serving(1, 20) as scene:
        patient = submit_patient(scene, "p")
        scene.submit("a")
        scene.wait_begun("pa")
        scene.submit("b")
        patient.arrived.set()
        # It comes before those that have not begun.
        eventually(lambda: scene.executor._returning, "it wants its slot back")
        assert "p has its slot" not in scene.trace
        scene.open("a")
        eventually(lambda: "p has its slot" in scene.trace, "it has its slot again")
        assert scene.begun() == "pa"
        scene.open("p")
        scene.wait_begun("pab")


def test_a_job_whose_run_is_to_end_waits_for_no_slot() -> None:
    with serving(1, 20) as scene:
        patient = submit_patient(scene, "p")
        scene.submit("a")
        scene.wait_begun("pa")
        patient.over = True
        patient.arrived.set()
        eventually(lambda: "p has its slot" in scene.trace, "it goes on beside the other")
        assert "a is done" not in scene.trace


def test_jobs_that_wait_leave_threads_to_other_tokens() -> None:
    with serving(1, 100) as scene:
        patients = [submit_patient(scene, f"p{number}", "alice") for number in range(30)]
        eventually(lambda: scene.executor.counts()[0] >= 10, "many wait")
        scene.submit("b", owner="bob")
        eventually(lambda: "b begins" in scene.trace, "another token gets the slot")
        assert scene.executor.counts()[0] < 17
        for patient in patients:
            patient.arrived.set()
