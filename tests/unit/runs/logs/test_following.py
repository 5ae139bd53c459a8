"""Following a run's log as it grows: every line once, in order, for however many."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.lines import OutputLine, read_log
from light_run.engine.output.spool import LogWriter
from light_run.runs.logs.following import LogBatch, LogFollowing
from light_run.runs.model import RunRecord, Status
from light_run.runs.storage.table import RunTable

RUN = "a run"
# Nothing in these tests takes as long; where something does, they fail by it.
LONG = 30.0


class Scene:
    """A run that has not ended, and those who follow it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RUN
        self.store = RunTable()
        self.store.add(RunRecord(id=RUN, status=Status.RUNNING, created_at=datetime.now(timezone.utc)))
        self.following = LogFollowing(self.store, lambda run_id: folder / run_id)
        self.output: LogWriter | None = None

    def write(self, data: bytes, stream: int = STDOUT) -> None:
        """Have the run write; the spool is made when it first does."""
        if self.output is None:
            self.output = LogWriter(self.path, 1 << 30, lambda: self.following.changed(RUN))
        self.output.write(stream, memoryview(data))

    def end(self) -> None:
        """End the run."""
        if self.output is not None:
            self.output.close()
        self.store.update(RUN, status=Status.SUCCEEDED)
        self.following.changed(RUN)

    def follow(self, *, follow: bool = True, beat: float = LONG) -> Iterator[LogBatch | RunRecord | None]:
        """A new follower."""
        return self.following.batches(RUN, follow=follow, beat=beat)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One run."""
    scene = Scene(tmp_path)
    yield scene
    if scene.output is not None:
        scene.output.close()


def lines(found: LogBatch | RunRecord | None) -> list[OutputLine]:
    """The lines of what came."""
    assert isinstance(found, LogBatch)
    return found.lines


def texts(found: LogBatch | RunRecord | None) -> list[str]:
    return [line.text for line in lines(found)]


def test_lines_come_as_they_are_written_and_the_run_comes_last(scene: Scene) -> None:
    follower = scene.follow()
    scene.write(b"one\ntwo\nthr")
    assert texts(next(follower)) == ["one", "two"]
    scene.write(b"oops\n", STDERR)
    scene.write(b"ee\npart")
    assert [(line.seq, line.stream, line.text) for line in lines(next(follower))] == [
        (2, "stderr", "oops"),
        (3, "stdout", "three"),
    ]
    scene.end()
    assert texts(next(follower)) == ["part"]
    run = next(follower)
    assert isinstance(run, RunRecord)
    assert run.status is Status.SUCCEEDED
    assert list(follower) == []


def test_a_beat_where_nothing_comes_also_before_the_run_has_begun(scene: Scene) -> None:
    follower = scene.follow(beat=0.01)
    assert [next(follower), next(follower)] == [None, None]
    scene.write(b"no newline")
    assert next(follower) is None
    scene.write(b"\n")
    assert texts(next(follower)) == ["no newline"]
    follower.close()  # type: ignore[attr-defined]


def test_what_is_there_without_following(scene: Scene) -> None:
    scene.write(b"one\ntwo")
    assert [texts(each) for each in scene.follow(follow=False)] == [["one"]]
    scene.end()
    found = list(scene.follow(follow=False))
    assert [texts(each) for each in found[:2]] == [["one"], ["two"]]
    assert isinstance(found[2], RunRecord)


def test_who_stands_at_the_same_place_gets_the_same_batch(scene: Scene) -> None:
    first, second = scene.follow(), scene.follow()
    scene.write(b"one\n")
    batch = next(first)
    assert next(second) is batch
    assert isinstance(batch, LogBatch)
    made = [batch.rendered("a", lambda _: b"1"), batch.rendered("a", lambda _: b"2")]
    assert [*made, batch.rendered("b", lambda _: b"3")] == [b"1", b"1", b"3"]
    for follower in (first, second):
        follower.close()  # type: ignore[attr-defined]


def test_a_run_that_is_forgotten_ends_without_its_end(scene: Scene) -> None:
    scene.write(b"one\n")
    follower = scene.follow()
    next(follower)
    scene.end()
    scene.store.remove(RUN)
    assert list(follower) == []
    assert [texts(each) for each in scene.follow()] == [["one"]]


def test_a_log_that_is_removed_while_its_end_is_read_is_not_whole(scene: Scene) -> None:
    scene.write(b"one\ntwo")
    follower = scene.follow()
    next(follower)
    scene.end()
    assert texts(next(follower)) == ["two"]
    scene.store.remove(RUN)
    assert list(follower) == []


def test_everybody_is_let_go_of_when_the_server_stops(scene: Scene) -> None:
    scene.write(b"one\n")
    ended = []

    def follow() -> None:
        ended.append([texts(each) for each in scene.follow()])

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    scene.following.close()
    for thread in threads:
        thread.join(LONG)
    assert all(each in ([], [["one"]]) for each in ended)
    assert len(ended) == 3
    # What is there may still be had.
    assert [texts(each) for each in scene.follow(follow=False)] == [["one"]]


def test_many_who_come_and_wait_at_different_times_get_every_line_once(scene: Scene) -> None:
    found: list[list[OutputLine]] = []
    chance = random.Random(5)

    def follow(late: threading.Event) -> None:
        late.wait(LONG)
        mine: list[OutputLine] = []
        for each in scene.follow():
            if isinstance(each, LogBatch):
                mine += each.lines
        found.append(mine)

    events = [threading.Event() for _ in range(20)]
    threads = [threading.Thread(target=follow, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    for number in range(5000):
        text = f"line {number} " + "x" * chance.randrange(100)
        scene.write(text.encode() + chance.choice([b"\n", b"\n", b""]), chance.choice([STDOUT, STDERR]))
        if number % 250 == 0:
            events[number // 250].set()
    scene.end()
    for thread in threads:
        thread.join(LONG)
    expected = list(read_log(scene.path))
    assert [line.seq for line in expected] == list(range(len(expected)))
    assert len(found) == len(threads)
    assert all(mine == expected for mine in found)


def test_a_replay_after_a_kill_gives_no_line_another_number(scene: Scene) -> None:
    scene.write(b"one\ntwo\nthr")
    scene.write(b"oops\n", STDERR)
    before = [line for each in scene.follow(follow=False) for line in lines(each)]
    assert scene.output is not None
    scene.output.close()
    # Half a record, as a killed server may leave it, is not seen; the engine then replays all there was.
    with scene.path.open("ab") as file:
        file.write(b"\x01\x00\x00")
    scene.output = LogWriter.resume(scene.path, 1 << 30, lambda: scene.following.changed(RUN))
    follower = scene.follow()
    assert lines(next(follower)) == before
    for data, stream in ((b"oops\n", STDERR), (b"one\ntwo\nthree\nfour\n", STDOUT)):
        scene.write(data, stream)
    assert [(line.seq, line.text) for line in lines(next(follower))] == [(3, "three"), (4, "four")]
    follower.close()  # type: ignore[attr-defined]
