"""Single flight: one does the work, all who asked have the result."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from light_run.engine.images.single_flight import Report, SingleFlight
from light_run.engine.spec import Progress
from light_run.engine.stop import StopRequest
from light_run.errors import Cancelled
from tests.support.poll import eventually

WITHIN = 20.0


class Work:
    """Work that goes on until it is let, and counts how often it was begun."""

    def __init__(self, result: str = "done", error: Exception | None = None) -> None:
        self.begun = 0
        self.gave_up = 0
        self.go = threading.Event()
        self.report: Report = lambda _: None
        self._result = result
        self._error = error

    def __call__(self, abandoned: StopRequest, report: Report) -> str:
        self.begun += 1
        self.report = report
        with abandoned.subscribed(self.go.set):
            assert self.go.wait(WITHIN)
        if abandoned.requested:
            self.gave_up += 1
            raise Cancelled("given up")
        if self._error is not None:
            raise self._error
        return self._result


class Scene:
    """A flight and waiters, each in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.flights: SingleFlight[str] = SingleFlight("test")
        self._pool = pool

    def board(self, work: Work, stop: StopRequest | None = None, key: str = "key") -> Future[str]:
        token = stop or StopRequest()
        return self._pool.submit(self.flights.run, key, work, token, lambda _: None)

    def waiters(self, count: int, key: str = "key") -> None:
        """Return once `count` are aboard."""
        flights = cast("dict[str, Any]", self.flights._flights)

        def aboard() -> bool:
            return key in flights and flights[key].waiters == count

        eventually(aboard, f"{count} waiters", within=WITHIN)


@pytest.fixture
def scene() -> Any:
    with ThreadPoolExecutor(16) as pool:
        yield Scene(pool)


def test_one_does_it_for_all(scene: Scene) -> None:
    work = Work()
    riding = [scene.board(work) for _ in range(10)]
    scene.waiters(10)
    work.go.set()
    assert [one.result(WITHIN) for one in riding] == ["done"] * 10
    assert work.begun == 1


def test_what_has_landed_is_not_used_again(scene: Scene) -> None:
    work = Work()
    work.go.set()
    assert scene.board(work).result(WITHIN) == "done"
    assert scene.board(work).result(WITHIN) == "done"
    assert work.begun == 2


def test_other_keys_fly_apart(scene: Scene) -> None:
    one, two = Work("one"), Work("two")
    riding = [scene.board(one, key="1"), scene.board(two, key="2")]
    two.go.set()
    assert riding[1].result(WITHIN) == "two"
    one.go.set()
    assert riding[0].result(WITHIN) == "one"


def test_an_error_reaches_everyone(scene: Scene) -> None:
    work = Work(error=ValueError("broken"))
    riding = [scene.board(work) for _ in range(5)]
    scene.waiters(5)
    work.go.set()
    for one in riding:
        with pytest.raises(ValueError, match="broken"):
            one.result(WITHIN)
    # The next one tries again.
    again = Work()
    again.go.set()
    assert scene.board(again).result(WITHIN) == "done"


def test_a_waiter_that_is_cancelled_leaves_alone(scene: Scene) -> None:
    work, stop = Work(), StopRequest()
    leaving, staying = scene.board(work, stop), scene.board(work)
    scene.waiters(2)
    stop.request()
    with pytest.raises(Cancelled):
        leaving.result(WITHIN)
    scene.waiters(1)
    assert not work.go.is_set()
    work.go.set()
    assert staying.result(WITHIN) == "done"
    assert work.gave_up == 0


def test_the_last_to_leave_ends_it(scene: Scene) -> None:
    work = Work()
    stops = [StopRequest() for _ in range(4)]
    riding = [scene.board(work, stop) for stop in stops]
    scene.waiters(4)
    for stop in stops:
        assert work.gave_up == 0
        stop.request()
    for one in riding:
        with pytest.raises(Cancelled):
            one.result(WITHIN)
    eventually(lambda: work.gave_up == 1, "the work was given up", within=WITHIN)
    eventually(lambda: not scene.flights._flights, "nothing flies", within=WITHIN)


def test_who_comes_after_that_begins_anew(scene: Scene) -> None:
    # The work that was given up takes its time to end; a newcomer gets a result of its own.
    held, stop = threading.Event(), StopRequest()

    def slow(abandoned: StopRequest, report: Report) -> str:
        assert held.wait(WITHIN)
        return "stale"

    leaving = scene._pool.submit(scene.flights.run, "key", slow, stop, lambda _: None)
    scene.waiters(1)
    stop.request()
    with pytest.raises(Cancelled):
        leaving.result(WITHIN)
    fresh = Work("fresh")
    riding = scene.board(fresh)
    eventually(lambda: fresh.begun == 1, "the newcomer's own work has begun", within=WITHIN)
    # The stale one lands while the fresh one flies, and takes nothing with it.
    held.set()
    another = scene.board(fresh)
    scene.waiters(2)
    fresh.go.set()
    assert [riding.result(WITHIN), another.result(WITHIN)] == ["fresh", "fresh"]
    assert fresh.begun == 1


def test_who_was_cancelled_before_does_not_board(scene: Scene) -> None:
    work, stop = Work(), StopRequest()
    stop.request()
    with pytest.raises(Cancelled):
        scene.board(work, stop).result(WITHIN)
    assert work.begun == 0
    assert not scene.flights._flights


def test_progress_reaches_everyone(scene: Scene) -> None:
    work = Work()
    told: list[list[Progress]] = [[], []]
    riding = [
        scene._pool.submit(scene.flights.run, "key", work, StopRequest(), told[number].append)
        for number in range(2)
    ]
    scene.waiters(2)
    steps = [Progress(steps=2, done=1), Progress(steps=2, done=2)]
    for step in steps:
        work.report(step)
        eventually(lambda s=step: [one[-1:] for one in told] == [[s], [s]], "all were told", within=WITHIN)  # type: ignore[misc]
    work.go.set()
    assert [one.result(WITHIN) for one in riding] == ["done"] * 2
    assert told == [steps] * 2


def test_a_waiter_whose_progress_fails_leaves_alone(scene: Scene) -> None:
    work = Work()

    def failing(progress: Progress) -> None:
        raise OSError("a full disk")

    leaving = scene._pool.submit(scene.flights.run, "key", work, StopRequest(), failing)
    staying = scene.board(work)
    scene.waiters(2)
    work.report(Progress(steps=2, done=1))
    with pytest.raises(OSError, match="full"):
        leaving.result(WITHIN)
    work.go.set()
    assert staying.result(WITHIN) == "done"


def test_no_thread_to_be_had_is_an_error_and_not_a_wait_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("test-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    work = Work()
    work.go.set()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            scene.board(work).result(WITHIN)
    monkeypatch.undo()
    assert scene.board(work).result(WITHIN) == "done"


def test_passengers_coming_and_going_at_random(scene: Scene) -> None:
    # Whoever stays has a result; nothing flies in the end.
    results: list[str] = []

    def work(_: StopRequest, report: Report) -> str:
        report(Progress(steps=2, done=1))
        return "r"

    def waiter(number: int) -> None:
        for turn in range(30):
            stop = StopRequest()
            if (number + turn) % 3 == 0:
                threading.Thread(target=stop.request).start()
            try:
                results.append(scene.flights.run("key", work, stop, lambda _: None))
            except Cancelled:
                assert stop.requested

    riding = [scene._pool.submit(waiter, number) for number in range(12)]
    for one in riding:
        one.result(60)
    assert set(results) == {"r"}
    assert len(results) >= 12 * 20
    eventually(lambda: not scene.flights._flights, "nothing flies", within=WITHIN)
