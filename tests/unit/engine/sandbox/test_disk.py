"""The cap on what one run may write, and how much that is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.features import Features
from light_run.engine.files.workspace import Workspace
from light_run.engine.sandbox import disk
from light_run.engine.sandbox.disk import DiskWatch
from light_run.engine.spec import MIB, Reason
from light_run.engine.stop import Stop, StopRequest
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.errors import EngineUnavailable
from light_run.system.disk_usage import disk_usage
from tests.support.poll import eventually
from tests.unit.engine.trees import make_hostile

# A file system may need a block or two for what holds a file.
SOME = 256 * 1024


class Layers(Engine):
    """An engine that knows how large containers are, and whether it answers."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.sizes = sizes

    def written_bytes(self, container: str) -> int:
        if container not in self.sizes:
            raise EngineUnavailable("gone")
        return self.sizes[container]

    def info(self) -> dict[str, Any]:
        return {"DockerRootDir": "/no/such/folder"}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path / "run")
    workspace.create()
    yield workspace
    # Deeper than pytest's own clean-up can go.
    assert workspace.remove()


# --- how much it is ---------------------------------------------------------------------------------------


def test_what_files_take(workspace: Workspace) -> None:
    (workspace.files / "d" / "e").mkdir(parents=True)
    (workspace.files / "f").write_bytes(os.urandom(MIB))
    (workspace.files / "d" / "e" / "f").write_bytes(os.urandom(2 * MIB))
    assert 3 * MIB <= disk_usage(str(workspace.files)).bytes <= 3 * MIB + SOME


def test_a_sparse_file_takes_next_to_nothing(workspace: Workspace) -> None:
    with (workspace.files / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert disk_usage(str(workspace.files)).bytes < SOME


def test_empty_files_and_links_take_the_disk_s_names(workspace: Workspace) -> None:
    for number in range(1000):
        (workspace.files / f"empty-{number}").touch()
        (workspace.files / f"link-{number}").symlink_to("nowhere")
    assert disk_usage(str(workspace.files)).bytes >= 2000 * 4096


def test_a_file_of_many_names_counts_once(workspace: Workspace) -> None:
    (workspace.files / "f").write_bytes(os.urandom(MIB))
    for number in range(500):
        (workspace.files / f"{number}").hardlink_to(workspace.files / "f")
    assert MIB <= disk_usage(str(workspace.files)).bytes + 1 < MIB + SOME


def test_nothing_is_followed_and_nothing_opened(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(os.urandom(2 * MIB))
    make_hostile(workspace.files, tmp_path)
    assert disk_usage(str(workspace.files)).bytes < SOME


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert disk_usage(str(tmp_path / "none")).bytes == 0


def deep(folder: Path, levels: int) -> None:
    """Nest so many directories, with a megabyte in the last."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(folder)
        for _ in range(levels):
            os.mkdir("n" * 100)
            os.chdir("n" * 100)
        with open("f", "wb") as file:
            file.write(os.urandom(MIB))
    finally:
        os.fchdir(before)
        os.close(before)


@pytest.mark.parametrize("levels", [20, 60, 1500])
def test_nobody_hides_in_the_depth(workspace: Workspace, levels: int) -> None:
    deep(workspace.files, levels)
    # And nobody is called a hog for it.
    assert MIB <= disk_usage(str(workspace.files)).bytes < MIB + levels * 4096 + SOME


def test_a_tree_moved_while_it_is_walked_does_not_lead_outside(workspace: Workspace) -> None:
    deep(workspace.files, 220)
    names = "/".join(["n" * 100] * 30)
    stop = threading.Event()

    def move() -> None:
        # Up and down again: from below, ".." is another folder each time.
        while not stop.is_set():
            os.rename(workspace.files / names, workspace.files / "moved")
            os.rename(workspace.files / "moved", workspace.files / names)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        assert max(disk_usage(str(workspace.files)).bytes for _ in range(100)) < 2 * MIB + 500 * 4096
    finally:
        stop.set()
        thread.join()


def test_a_directory_swapped_for_a_link_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    # The run goes on while it is looked at; a walk led out of its folder could last for hours.
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(os.urandom(4 * MIB))
    stop = threading.Event()
    files = workspace.files
    (files / "d" / "sub").mkdir(parents=True)
    (files / "link").symlink_to(outside)
    (outside / "sub").mkdir()
    (outside / "sub" / "large").write_bytes(os.urandom(4 * MIB))

    def swap() -> None:
        while not stop.is_set():
            os.rename(files / "d", files / "tmp")
            os.rename(files / "link", files / "d")
            os.rename(files / "d", files / "link")
            os.rename(files / "tmp", files / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        assert max(disk_usage(str(files)).bytes for _ in range(1000)) < SOME
    finally:
        stop.set()
        thread.join()


# --- who is killed ----------------------------------------------------------------------------------------


def watch_over(engine: Engine, cap: int) -> DiskWatch:
    """A watch with that cap."""
    config = RunnerConfig(workspace_cap=cap)
    return DiskWatch(engine, config, Leftovers(engine, config))


@pytest.fixture
def watch() -> Iterator[DiskWatch]:
    """A watch over containers of 10 and 3000 bytes; its thread is not what is tested."""
    watch = watch_over(Layers(small=10, large=3000), 1000)
    yield watch
    watch.close()


def test_only_who_exceeds_the_cap_is_killed(watch: DiskWatch) -> None:
    with ExitStack() as running:
        stops = {name: StopRequest() for name in ("small", "large", "unknown")}
        for name, stop in stops.items():
            running.enter_context(watch.watching(name, None, stop))
        watch.step(float("inf"))
    assert {name: stop.requested and stop.requested.reason for name, stop in stops.items()} == {
        "small": None,
        "large": Reason.DISK_LIMIT,
        "unknown": None,
    }
    assert not stops["small"].requested


class Odd(Layers):
    """An engine whose answer about one container has a shape that nobody expects."""

    def written_bytes(self, container: str) -> int:
        if container == "odd":
            raise TypeError("'NoneType' object is not iterable")
        return super().written_bytes(container)


def test_an_odd_answer_about_one_run_does_not_end_the_watch_over_the_others() -> None:
    watch = watch_over(Odd(large=3000), 1000)
    stops = {name: StopRequest() for name in ("odd", "large")}
    with ExitStack() as running:
        for name, stop in stops.items():
            running.enter_context(watch.watching(name, None, stop))
        watch.step(float("inf"))
    watch.close()
    assert {name: bool(stop.requested) for name, stop in stops.items()} == {"odd": False, "large": True}


def test_a_look_that_fails_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch, looks = watch_over(Layers(large=3000), 1000), list[float]()

    def step(now: float) -> None:
        looks.append(now)
        raise TypeError("broken")

    monkeypatch.setattr(watch, "step", step)
    with watch.watching("large", None, StopRequest()):
        eventually(lambda: len(looks) > 1, "the watch goes on")
    watch.close()
    assert "the watch continues" in caplog.text


def test_a_workspace_counts(watch: DiskWatch, workspace: Workspace) -> None:
    stop = StopRequest()
    (workspace.files / "f").write_bytes(os.urandom(MIB))
    with watch.watching("small", workspace, stop):
        watch.step(float("inf"))
    assert stop.requested == Stop(Reason.DISK_LIMIT)


def test_who_has_ended_is_not_looked_at(watch: DiskWatch) -> None:
    stop = StopRequest()
    with watch.watching("large", None, stop):
        pass
    watch.step(float("inf"))
    assert not stop.requested


def test_who_may_have_outgrown_its_room_is_looked_at_before_its_time(
    watch: DiskWatch, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_SHARE", 1e-9)  # so that the next look would be in a day
    stop = StopRequest()
    with watch.watching("small", None, stop):
        watch.step(time.monotonic() + 2)
        watch._engine.sizes["small"] = 3000  # type: ignore[attr-defined]
        watch.step(time.monotonic() + 2)
        assert not stop.requested
        monkeypatch.setattr(watch, "_free", lambda watched: watched.free - 991)
        watch.step(time.monotonic() + 2)
    assert stop.requested == Stop(Reason.DISK_LIMIT)


def test_who_is_watched_at_leisure_is_not_looked_at_sooner(watch: DiskWatch) -> None:
    stop = StopRequest()
    with watch.watching("large", None, stop, 10.0):
        watch.step(time.monotonic() + 9)
        assert not stop.requested
        watch.step(time.monotonic() + 11)
    assert stop.requested == Stop(Reason.DISK_LIMIT)


def test_whether_it_was_the_disk_is_known_afterwards(watch: DiskWatch) -> None:
    assert watch.exceeded("large", None)
    assert not watch.exceeded("small", None)
    assert not watch_over(Layers(large=3000), 0).exceeded("large", None)


# --- a disk that is nearly full ---------------------------------------------------------------------------


def watch_a_full_disk(cap: int, **sizes: int) -> DiskWatch:
    """A watch over a disk that always has less free than is to be free."""
    engine = Layers(**sizes)
    config = RunnerConfig(workspace_cap=cap, disk_reserve=1 << 60)
    return DiskWatch(engine, config, Leftovers(engine, config))


@pytest.mark.parametrize("cap", [0, 1 << 40])
def test_the_largest_run_ends_while_little_is_free(workspace: Workspace, cap: int) -> None:
    watch = watch_a_full_disk(cap, small=20 * MIB, large=30 * MIB)
    stops = {name: StopRequest() for name in ("small", "large")}
    with ExitStack() as running:
        watched = {
            name: running.enter_context(watch.watching(name, workspace, stop)) for name, stop in stops.items()
        }
        now = time.monotonic() + 2
        watch.step(now)
        assert {name: bool(stop.requested) for name, stop in stops.items()} == {"small": False, "large": True}
        assert {name: each.for_space for name, each in watched.items()} == {"small": False, "large": True}
        # Its files are still being removed.
        watch.step(now + 2)
        assert not stops["small"].requested
        watch.step(now + 60)
        assert stops["small"].requested == Stop(Reason.DISK_LIMIT)
    watch.close()


def test_a_run_that_wrote_little_is_not_ended_for_a_full_disk(workspace: Workspace) -> None:
    watch, stop = watch_a_full_disk(1 << 40, small=MIB), StopRequest()
    with watch.watching("small", workspace, stop):
        watch.step(float("inf"))
    watch.close()
    assert not stop.requested


@pytest.mark.parametrize(
    ("cap", "reserve", "traces", "quota", "guards"),
    [
        (1, 1, True, False, ("size", "unlinked", "free_space")),
        (1, 1, False, True, ("size", "free_space", "quota")),
        (0, 1, True, True, ("free_space",)),
        (1, 0, False, False, ("size",)),
        (0, 0, True, True, ()),
    ],
)
def test_which_guards_are_at_work(
    monkeypatch: pytest.MonkeyPatch,
    *,
    cap: int,
    reserve: int,
    traces: bool,
    quota: bool,
    guards: tuple[str, ...],
) -> None:
    monkeypatch.setattr(disk, "may_look", lambda: traces)
    engine = Layers()
    monkeypatch.setattr(engine, "features", lambda: Features(quota=quota))
    config = RunnerConfig(workspace_cap=cap, disk_reserve=reserve)
    assert DiskWatch(engine, config, Leftovers(engine, config)).guards() == guards


def test_no_cap_is_no_watch() -> None:
    stop = StopRequest()
    engine, config = Layers(large=3000), RunnerConfig(workspace_cap=0, disk_reserve=0)
    watch = DiskWatch(engine, config, Leftovers(engine, config))
    with watch.watching("large", None, stop):
        watch.step(float("inf"))
    assert not stop.requested
    watch.close()
