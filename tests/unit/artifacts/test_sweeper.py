"""Eviction: the choice, the steps, and the thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from light_run.artifacts.periodic import Periodic
from light_run.artifacts.store import ArtifactStore
from light_run.artifacts.sweeper import Budget, Folder, Origin, Sweeper, choose
from tests.support.poll import eventually

NOW = 1_000_000.0
KIB = 1024


def folders(*sizes: int) -> list[Folder]:
    """Folders `a`, `b`, ... in the order they were made."""
    return [Folder(chr(ord("a") + index), float(index), size) for index, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "cap", "protected", "expected"),
    [
        ((10, 10, 10), 30, "", ""),
        ((10, 10, 10), 29, "", "a"),
        ((10, 10, 10), 20, "", "a"),
        ((10, 10, 10), 19, "", "ab"),
        ((10, 10, 10), 0, "", "abc"),
        ((10, 10, 10), 20, "a", "b"),
        ((10, 10, 10), 0, "b", "ac"),
        ((10, 10, 10), 0, "abc", ""),
        ((0, 10), 5, "", "b"),
        ((), 0, "", ""),
    ],
)
def test_the_oldest_go_until_the_rest_fits(
    sizes: tuple[int, ...], cap: int, protected: str, expected: str
) -> None:
    chosen = choose(reversed(folders(*sizes)), Budget(cap), set(protected))
    assert "".join(folder.run_id for folder in chosen) == expected


@pytest.mark.parametrize(
    ("theirs", "budget", "protected", "expected"),
    [
        # Of a, b, c, ... in order of age: owner, bytes, files.
        ([("x", 10, 1), ("y", 60, 1), ("y", 60, 1)], Budget(100), "", "b"),
        ([("x", 40, 1), ("y", 50, 1), ("x", 40, 1)], Budget(100), "", "a"),
        ([("x", 50, 1), ("y", 500, 1)], Budget(100), "b", ""),
        ([("x", 30, 1), ("x", 30, 1), ("y", 500, 1)], Budget(100), "c", "a"),
        ([("x", 1, 10), ("y", 1, 60), ("y", 1, 60)], Budget(100, 100), "", "b"),
        ([("x", 60, 1), ("x", 50, 1), ("y", 1, 90), ("y", 1, 90)], Budget(100, 100), "", "ac"),
        ([(None, 60, 1), ("y", 50, 1)], Budget(100), "", "a"),
    ],
)
def test_who_has_the_most_loses_first_and_nobody_within_his_share(
    theirs: list[tuple[str | None, int, int]], budget: Budget, protected: str, expected: str
) -> None:
    made = [
        Folder("abcd"[at], float(at), size, files, owner) for at, (owner, size, files) in enumerate(theirs)
    ]
    assert "".join(folder.run_id for folder in choose(made, budget, set(protected))) == expected


class Scene:
    """A store with folders of given sizes and ages, and a sweeper over it."""

    def __init__(self, root: Path, cap: int) -> None:
        self.store = ArtifactStore(root)
        self.protected: set[str] = set()
        self.evicted: list[str] = []
        self.sweeper = Sweeper(
            self.store,
            Budget(cap * KIB),
            protected=lambda: self.protected,
            evicted=self.evicted.append,
            interval=60,
        )

    def folder(self, run_id: str, size: int, age: float = 0) -> None:
        folder = self.store.folder(run_id)
        folder.mkdir(exist_ok=True)
        (folder / "file").write_bytes(b"x" * size * KIB)
        os.utime(folder, (NOW - age, NOW - age))

    def left(self) -> set[str]:
        return set(self.store.run_ids())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "artifacts", cap=250)


def test_a_step_evicts_by_age_what_an_earlier_server_left(scene: Scene) -> None:
    for run_id, age in (("new", 1), ("oldest", 30), ("older", 20), ("old", 10)):
        scene.folder(run_id, 100, age)
    assert scene.sweeper.step(NOW) == ["oldest", "older"]
    assert scene.evicted == ["oldest", "older"]
    assert scene.left() == {"old", "new"}
    assert scene.sweeper.total == 200 * KIB


def test_a_run_is_forgotten_before_its_folder_goes(scene: Scene) -> None:
    there: list[bool] = []
    sweeper = Sweeper(
        scene.store,
        Budget(0),
        protected=tuple,
        evicted=lambda run: there.append(scene.store.folder(run).exists()),
    )
    scene.folder("a", 1)
    sweeper.step(NOW)
    assert there == [True]
    assert scene.left() == set()


def test_a_running_run_never_goes_and_counts_once_it_has_ended(scene: Scene) -> None:
    scene.protected = {"running"}
    scene.folder("running", 400, age=50)
    scene.folder("old", 100, age=10)
    assert scene.sweeper.step(NOW) == []
    scene.protected = set()
    assert scene.sweeper.step(NOW) == ["running"]


def test_the_run_that_just_ended_stays_and_older_ones_go_at_once(scene: Scene) -> None:
    scene.folder("old", 200, age=20)
    scene.sweeper.step(NOW)
    scene.folder("huge", 1000)
    assert scene.sweeper.ended("huge", [1000 * KIB], NOW) == ["old"]
    assert scene.sweeper.step(NOW) == []
    assert scene.left() == {"huge"}
    scene.folder("next", 10)
    assert scene.sweeper.ended("next", [12 * KIB], NOW + 1) == ["huge"]
    assert scene.left() == {"next"}


def test_a_run_that_left_nothing_is_not_forgotten_to_make_room(scene: Scene) -> None:
    assert scene.sweeper.ended("nothing", [], NOW - 9) == []
    scene.folder("a", 200)
    assert scene.sweeper.ended("a", [200 * KIB], NOW) == []
    scene.folder("b", 200)
    assert scene.sweeper.ended("b", [200 * KIB], NOW) == ["a"]


def test_an_end_below_the_cap_looks_at_no_folder(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.sweeper.step(NOW)
    monkeypatch.setattr(scene.store, "run_ids", lambda: pytest.fail("looked"))
    monkeypatch.setattr(scene.store, "usage", lambda run_id: pytest.fail("looked"))
    assert scene.sweeper.ended("small", [12 * KIB], NOW) == []
    assert scene.sweeper.total == 12 * KIB


def test_a_sparse_folder_counts_its_blocks_once_there_seems_to_be_no_room(scene: Scene) -> None:
    scene.folder("old", 100, age=20)
    scene.sweeper.step(NOW)
    scene.folder("sparse", 0)
    with (scene.store.folder("sparse") / "hole").open("wb") as file:
        file.truncate(1 << 40)
    assert scene.sweeper.ended("sparse", [1 << 40], NOW) == []
    assert scene.sweeper.total < 110 * KIB


def test_settled_folders_are_counted_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.folder("a", 12)
    scene.sweeper.step(NOW)
    monkeypatch.setattr(scene.store, "usage", lambda run_id: pytest.fail("counted again"))
    scene.sweeper.step(NOW)
    assert scene.sweeper.total == 12 * KIB


def test_a_folder_that_grew_is_counted_again_and_keeps_its_age(scene: Scene) -> None:
    scene.folder("a", 100, age=20)
    scene.folder("b", 100, age=10)
    assert scene.sweeper.step(NOW) == []
    (scene.store.folder("a") / "more").write_bytes(b"x" * 100 * KIB)
    os.utime(scene.store.folder("a"), (NOW, NOW))
    assert scene.sweeper.step(NOW) == ["a"]
    assert scene.sweeper.total == 100 * KIB


def test_a_run_knows_better_than_its_folder_how_old_it_is(scene: Scene) -> None:
    ages = {"a": NOW - 5, "b": NOW - 50}
    sweeper = Sweeper(
        scene.store,
        Budget(150 * KIB),
        protected=tuple,
        evicted=scene.evicted.append,
        origin=lambda run_id: Origin(ages.get(run_id)),
        interval=60,
    )
    scene.folder("a", 100, age=50)
    scene.folder("b", 100, age=5)
    assert sweeper.step(NOW) == ["b"]
    scene.folder("c", 100)
    assert sweeper.ended("c", [100 * KIB], NOW) == ["a"]


def test_what_others_removed_counts_no_longer(scene: Scene) -> None:
    scene.folder("a", 12)
    scene.folder("b", 20)
    scene.sweeper.step(NOW)
    scene.store.remove("a")
    scene.sweeper.removed("a")
    assert scene.sweeper.total == 20 * KIB
    scene.store.remove("b")
    scene.sweeper.step(NOW)
    assert scene.sweeper.total == 0


def test_a_run_that_ends_during_a_step_keeps_its_count(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = scene.store.run_ids

    def ends_meanwhile() -> dict[str, float]:
        there = listing()
        scene.sweeper.ended("late", [40 * KIB], NOW)
        return there

    monkeypatch.setattr(scene.store, "run_ids", ends_meanwhile)
    scene.sweeper.step(NOW)
    assert scene.sweeper.total == 40 * KIB


def test_the_thread_sweeps_at_once_and_ends(scene: Scene) -> None:
    scene.folder("a", 1000, age=5)
    scene.sweeper.start()
    try:
        eventually(lambda: scene.left() == set(), "the folder is swept")
    finally:
        scene.sweeper.close()


def test_a_step_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    second = threading.Event()
    calls: list[float] = []

    def step(now: float) -> None:
        calls.append(now)
        if len(calls) == 1:
            raise OSError("no room")
        second.set()

    periodic = Periodic("test-periodic", step, interval=0.001)
    periodic.start()
    try:
        assert second.wait(10)
    finally:
        periodic.close()
    assert "no room" in caplog.text


def test_a_periodic_that_was_never_started_can_be_closed() -> None:
    Periodic("test-periodic", lambda now: None, interval=1).close()
