"""When a container is parked, for whom, and when it goes; the engine is played, since only that can be timed."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.events import PendingExit
from light_run.engine.daemon.features import Features
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.files.mounts import Mounts, Placement
from light_run.engine.files.workspace import Workspaces
from light_run.engine.pool.keys import ParkedContainer, ParkKey
from light_run.engine.pool.pool import Pool
from light_run.engine.sandbox.disk import DiskWatch
from light_run.engine.sandbox.networks import Networks
from light_run.engine.spec import Limits
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.errors import EngineError, EngineRefused, EngineUnavailable

A, B, C = (ParkKey(f"sha256:{name}", Limits(), "none", "/app", None) for name in "abc")
IDLE = 300.0


class Line:
    """A connection to a container; `hang_up` is the engine's end of it."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.buffered = False
        self.closed = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def hang_up(self) -> None:
        self._theirs.close()

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()


class Stage(Engine):
    """An engine that plays containers."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[Line]] = {}
        self.made = 0
        # The call that fails, and how.
        self.failing: dict[str, EngineError] = {}
        self.sizes: dict[str, int] = {}

    def info(self) -> dict[str, Any]:
        return {}

    def written_bytes(self, container: str) -> int:
        return self.sizes.get(container, 0)

    def _may_fail(self, call: str) -> None:
        if call in self.failing:
            raise self.failing[call]

    def features(self) -> Features:
        return Features()

    def create(self, config: Mapping[str, Any]) -> str:
        self._may_fail("create")
        self.made += 1
        name = f"{config['Image'].removeprefix('sha256:')}{self.made}"
        self.there[name] = dict(config)
        self.lines[name] = []
        return name

    def _line(self, container: str) -> EngineStream:
        line = Line()
        self.lines[container].append(line)
        return cast("EngineStream", line)

    def attach(self, container: str) -> EngineStream:
        self._may_fail("attach")
        return self._line(container)

    def pending_exit(self, container: str, *, started: bool = False) -> PendingExit:
        self._may_fail("wait")
        return cast("PendingExit", self._line(container))

    def start(self, container: str) -> None:
        self._may_fail("start")

    def remove(self, container: str) -> None:
        self._may_fail("remove")
        self.there.pop(container, None)

    def exit(self, container: str) -> None:
        """End a container by itself."""
        for line in self.lines[container]:
            line.hang_up()

    @property
    def open_lines(self) -> int:
        """Connections nobody has closed."""
        return sum(not line.closed for lines in self.lines.values() for line in lines)


class Placed(Mounts):
    """Puts every workspace where it is told to."""

    where = Placement.LAYER

    def placement(self, image: str, workdir: str, runtime: str | None) -> Placement:
        return self.where


class Scene:
    """A pool, its engine, and a clock that stands still until it is moved."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr("light_run.engine.pool.pool.time.monotonic", lambda: self.now)
        # As on a machine with two cores.
        monkeypatch.setattr("light_run.engine.pool.pool._ROOM", 0)
        settings = RunnerConfig(server_id="test", state_dir=folder, parked_idle=IDLE, **config)
        self.engine = Stage()
        self.folder = folder / "workspaces"
        workspaces = Workspaces(folder)
        self.leftovers = Leftovers(self.engine, settings)
        self.mounts = Placed(self.engine, settings, workspaces, self.leftovers)
        self.disk = DiskWatch(self.engine, settings, self.leftovers)
        self.pins: dict[ParkKey, int] = {}
        self.pool = Pool(
            self.engine,
            settings,
            mounts=self.mounts,
            networks=Networks(self.engine, "isolated"),
            leftovers=self.leftovers,
            disk=self.disk,
            workspaces=workspaces,
            pins=lambda: self.pins,
        )

    def take(self, key: ParkKey) -> str | None:
        """Take one and end it at once, as a run would; its container."""
        parked = self.pool.take(key)
        if parked is None:
            return None
        self.over(parked)
        return parked.container

    def over(self, parked: ParkedContainer) -> None:
        parked.streams.close()
        self.engine.remove(parked.container)
        if parked.workspace is not None:
            parked.workspace.remove()

    def settle(self) -> int:
        """Take turns until there is nothing more to do; how many turns parked one, or tried to."""
        for turn in range(50):
            if not self.pool.step(self.now):
                return turn
        raise AssertionError("the keeper is never done")

    def use(self, key: ParkKey, times: int = 2) -> None:
        for _ in range(times):
            self.take(key)

    @property
    def parked(self) -> dict[str, int]:
        """How many containers of each image are there."""
        images = [config["Image"].removeprefix("sha256:") for config in self.engine.there.values()]
        return {image: images.count(image) for image in sorted(set(images))}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene with the configuration that the test is marked with; nothing is left when it is over."""
    scene = Scene(tmp_path, monkeypatch, **getattr(request, "param", {}))
    yield scene
    scene.engine.failing.clear()
    scene.pool.close()
    scene.disk.close()
    scene.leftovers.retry()
    assert scene.engine.there == {}
    assert scene.engine.open_lines == 0
    assert not scene.folder.exists() or list(scene.folder.iterdir()) == []


# --- which kinds are parked -------------------------------------------------------------------------------


def test_what_was_used_once_is_not_parked(scene: Scene) -> None:
    scene.use(A, 1)
    assert scene.settle() == 0


def test_what_was_used_twice_within_a_minute_is(scene: Scene) -> None:
    scene.use(A, 1)
    scene.now += 59
    scene.use(A, 1)
    scene.settle()
    assert "a" in scene.parked


def test_what_was_used_twice_in_an_hour_is_not(scene: Scene) -> None:
    scene.use(A, 1)
    scene.now += 61
    scene.use(A, 1)
    assert scene.settle() == 0


def test_kinds_that_differ_in_anything_are_kinds_apart(scene: Scene) -> None:
    others = [
        A._replace(limits=Limits(pids=50)),
        A._replace(network="bridge"),
        A._replace(workdir="/srv"),
        A._replace(runtime="runsc"),
        A._replace(image="sha256:b"),
    ]
    scene.use(A)
    scene.settle()
    for other in others:
        assert scene.pool.take(other) is None
    assert scene.take(A)


def test_a_container_is_handed_out_once(scene: Scene) -> None:
    scene.use(A, 4)
    scene.settle()
    size = scene.pool.size
    taken = [scene.pool.take(A) for _ in range(size + 1)]
    assert taken[-1] is None
    found = [parked for parked in taken if parked]
    assert len({parked.container for parked in found}) == len({parked.marker for parked in found}) == size
    for parked in found:
        scene.over(parked)


def test_threads_that_take_at_once_get_each_their_own(scene: Scene) -> None:
    scene.use(A, 10)
    scene.settle()
    size = scene.pool.size
    assert size > 1
    with ThreadPoolExecutor(8) as threads:
        taken = [parked for parked in threads.map(lambda _: scene.pool.take(A), range(16)) if parked]
    assert len(taken) == len({parked.container for parked in taken}) == size
    for parked in taken:
        scene.over(parked)


def test_the_key_is_what_the_container_is_made_of(scene: Scene) -> None:
    limits = Limits(memory=1 << 26, cpus=0.5, pids=7)
    scene.use(ParkKey("sha256:x", limits, "bridge", "/srv", "runsc"))
    scene.settle()
    config = next(iter(scene.engine.there.values()))
    assert (config["Image"], config["WorkingDir"], config["Env"]) == ("sha256:x", "/srv", [])
    host = config["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (1 << 26, 500_000_000, 340)
    assert (host["NetworkMode"], host["Runtime"]) == ("bridge", "runsc")
    assert config["Labels"]["light-run.kind"] == "parked"
    assert "light-run.run" not in config["Labels"]


# --- how many ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [{"parked_max": 3}], indirect=True)
def test_more_under_load_and_never_more_than_the_total(scene: Scene) -> None:
    most = 0
    for _ in range(10):
        scene.use(A, 3)
        scene.use(B, 3)
        scene.settle()
        most = max(most, scene.pool.size)
        assert scene.pool.size == len(scene.engine.there) <= 3
    assert most == 3


def test_a_client_alone_costs_one(scene: Scene) -> None:
    # It finds one each time; what the first two uses missed is all that was ever missed.
    scene.use(A)
    for _ in range(20):
        scene.settle()
        assert scene.take(A)
    scene.settle()
    assert scene.pool.size <= 2


def test_runs_that_start_come_first(scene: Scene) -> None:
    scene.use(A)
    with scene.pool.yielding():
        with scene.pool.yielding():
            assert scene.settle() == 0
        # However long it takes to start.
        scene.now += 60
        scene.use(A)
        assert scene.settle() == 0
    assert scene.settle() > 0


def test_runs_that_go_on_are_in_nobody_s_way(scene: Scene) -> None:
    scene.use(A)
    with scene.pool.yielding() as launched:
        launched()
        scene.now += 0.5
        assert scene.settle() == 0
        scene.now += 0.5
        assert scene.settle() > 0


def test_a_run_that_fails_to_start_gives_way_no_longer(scene: Scene) -> None:
    scene.use(A)
    with pytest.raises(EngineUnavailable), scene.pool.yielding():
        raise EngineUnavailable("away")
    assert scene.settle() > 0


@pytest.mark.parametrize("scene", [{"parked_max": 1}], indirect=True)
def test_the_one_used_last_comes_first(scene: Scene) -> None:
    for key in (A, B, C):
        scene.use(key)
        scene.now += 1
    scene.settle()
    assert scene.parked == {"c": 1}


@pytest.mark.parametrize("scene", [{"parked_max": 0}], indirect=True)
def test_parking_turned_off(scene: Scene) -> None:
    scene.use(A, 5)
    assert scene.settle() == 0


@pytest.mark.parametrize("scene", [{"parked_max": 0, "parked_pins": {"a": 2}}], indirect=True)
def test_parking_turned_off_parks_no_pins(scene: Scene) -> None:
    # None of them would ever be taken.
    scene.pins = {A: 2}
    assert scene.settle() == 0


# --- pins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [{"parked_max": 1, "parked_pins": {"a": 3}}], indirect=True)
def test_pins_are_parked_at_once_and_beside_the_total(scene: Scene) -> None:
    scene.pins = {A: 3}
    scene.settle()
    assert scene.parked == {"a": 3}
    scene.use(B)
    scene.settle()
    assert scene.parked == {"a": 3, "b": 1}


@pytest.mark.parametrize("scene", [{"parked_pins": {"a": 1}}], indirect=True)
def test_pins_stay_though_nobody_uses_them(scene: Scene) -> None:
    scene.pins = {A: 1}
    for _ in range(5):
        scene.settle()
        assert scene.parked == {"a": 1}
        scene.now += 10 * IDLE


@pytest.mark.parametrize("scene", [{"parked_pins": {"a": 1}}], indirect=True)
def test_a_pinned_image_that_becomes_another(scene: Scene) -> None:
    scene.pins = {A: 2}
    scene.settle()
    scene.pins = {B: 2}
    scene.now += 31
    scene.settle()
    assert scene.parked == {"b": 2}


# --- when they go -----------------------------------------------------------------------------------------


def test_what_is_idle_goes(scene: Scene) -> None:
    scene.use(A)
    scene.settle()
    scene.now += IDLE
    scene.settle()
    assert scene.parked == {"a": scene.pool.size}
    assert scene.pool.size
    scene.now += 1
    scene.settle()
    assert scene.parked == {}


def test_one_that_has_died_is_never_handed_out(scene: Scene) -> None:
    scene.use(A, 4)
    scene.settle()
    (first, *others) = list(scene.engine.there)
    scene.engine.exit(first)
    taken = [scene.take(A) for _ in range(len(others) + 1)]
    assert taken == [*others, None]
    assert first not in scene.engine.there


def test_one_that_said_something_is_never_handed_out(scene: Scene) -> None:
    scene.use(A)
    scene.settle()
    for lines in scene.engine.lines.values():
        lines[0].buffered = True
    assert scene.take(A) is None


def test_one_that_has_died_is_replaced(scene: Scene) -> None:
    scene.use(A)
    scene.settle()
    before = set(scene.engine.there)
    scene.engine.exit(min(before))
    scene.settle()
    assert len(scene.engine.there) == len(before)
    assert min(before) not in scene.engine.there


def test_close_removes_them_all(scene: Scene) -> None:
    scene.use(A)
    scene.use(B)
    scene.settle()
    assert scene.engine.there
    scene.pool.close()
    assert scene.engine.there == {}
    scene.pool.close()


# --- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [EngineRefused(500, "no"), EngineUnavailable("away")])
@pytest.mark.parametrize("call", ["create", "attach", "wait", "start"])
@pytest.mark.parametrize("where", [Placement.BIND, Placement.LAYER])
def test_an_attempt_that_fails_leaves_nothing(
    scene: Scene, call: str, error: EngineError, where: Placement
) -> None:
    scene.mounts.where = where
    scene.use(A)
    scene.engine.failing[call] = error
    scene.settle()
    assert scene.engine.there == {}
    assert scene.engine.open_lines == 0
    assert not scene.folder.exists() or list(scene.folder.iterdir()) == []


def test_an_engine_that_goes_away_in_the_middle_is_cleaned_up_later(scene: Scene) -> None:
    scene.mounts.where = Placement.BIND
    scene.use(A)
    scene.engine.failing |= {"start": EngineUnavailable("away"), "remove": EngineUnavailable("away")}
    scene.settle()
    scene.engine.failing.clear()
    scene.leftovers.retry()
    left = [*scene.engine.there, *scene.folder.iterdir()]
    for container in list(scene.engine.there):
        scene.engine.remove(container)
    shutil.rmtree(scene.folder)
    assert left == []


def test_several_failures_in_a_row_and_it_is_left_alone_for_a_while(scene: Scene) -> None:
    scene.use(A)
    scene.engine.failing["start"] = EngineRefused(500, "no shell")
    assert scene.settle() == 3
    made = scene.engine.made
    for _ in range(4):
        scene.now += 60
        scene.use(A)
        assert scene.settle() == 0
    assert scene.engine.made == made
    # Others are not concerned.
    scene.engine.failing.clear()
    scene.use(B)
    assert scene.settle() > 0
    scene.now += 61
    scene.use(A)
    scene.settle()
    assert "a" in scene.parked


def test_containers_that_die_at_once_are_failures(scene: Scene) -> None:
    # The start goes well, the shell that should wait is not there.
    scene.use(A)
    for _ in range(20):
        scene.pool.step(scene.now)
        for container in scene.engine.there:
            scene.engine.exit(container)
    assert scene.engine.made <= 6
    scene.settle()
    assert scene.parked == {}


@pytest.mark.parametrize("scene", [{"parked_max": 8}], indirect=True)
def test_all_that_die_at_once_are_one_failure(scene: Scene) -> None:
    # As in an engine that is restarted.
    scene.pool.pin({A: 4})
    scene.settle()
    assert scene.parked == {"a": 4}
    for container in scene.engine.there:
        scene.engine.exit(container)
    scene.settle()
    assert scene.parked == {"a": 4}


def test_a_shell_that_fills_the_disk_while_it_waits(scene: Scene) -> None:
    scene.use(A)
    scene.settle()
    before = scene.parked
    hostile = next(iter(scene.engine.there))
    scene.engine.sizes[hostile] = 1 << 50
    scene.disk.step(float("inf"))
    scene.settle()
    assert hostile not in scene.engine.there
    assert scene.parked == before


def test_what_is_taken_is_watched_by_whoever_took_it(scene: Scene) -> None:
    scene.use(A)
    scene.settle()
    parked = scene.pool.take(A)
    assert parked is not None
    scene.engine.sizes[parked.container] = 1 << 50
    scene.disk.step(float("inf"))
    assert not parked.stop.requested
    scene.over(parked)


def test_an_engine_that_is_away_is_no_fault_of_an_image_s(scene: Scene) -> None:
    scene.use(A)
    scene.engine.failing["create"] = EngineUnavailable("away")
    for _ in range(9):
        assert not scene.pool.step(scene.now), "the next try is for the next turn"
    scene.engine.failing.clear()
    assert scene.settle() > 0
    assert "a" in scene.parked


def test_failures_now_and_then_are_not_in_a_row(scene: Scene) -> None:
    for _ in range(8):
        scene.use(A)
        scene.engine.failing["start"] = EngineRefused(500, "a moment")
        scene.pool.step(scene.now)
        scene.engine.failing.clear()
        scene.settle()
        assert scene.take(A), "one is parked again after each failure"
        scene.now += 10


def test_a_disk_that_is_full_is_a_failure_like_any_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.mounts.where = Placement.BIND
    scene.use(A)
    scene.folder.parent.mkdir(exist_ok=True)
    scene.folder.mkdir(exist_ok=True)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    assert scene.settle() == 3
    monkeypatch.undo()
    assert scene.engine.there == {}


@pytest.mark.parametrize("scene", [{"parked_max": 1}], indirect=True)
def test_a_kind_that_comes_later_takes_the_place_of_one_that_rests(scene: Scene) -> None:
    scene.use(A)
    assert scene.settle() == 1
    scene.use(B)
    scene.settle()
    # As long as the first is in use, it keeps its place.
    assert scene.parked == {"a": 1}
    scene.now += 61
    scene.use(B)
    scene.settle()
    assert scene.parked == {"b": 1}


@pytest.mark.parametrize("scene", [{"parked_max": 3}], indirect=True)
def test_one_of_each_kind_in_use_comes_before_a_second_one(scene: Scene) -> None:
    scene.use(A, 5)
    scene.settle()
    assert scene.parked == {"a": 3}
    scene.use(B)
    with scene.pool.yielding():
        # Nothing goes before another can come.
        scene.settle()
        assert scene.parked == {"a": 3}
    scene.settle()
    assert scene.parked == {"a": 2, "b": 1}
    # Where it is used again, it is the first to be replaced, and no other goes for it.
    made = scene.engine.made
    assert scene.take(B)
    scene.settle()
    assert scene.parked == {"a": 2, "b": 1}
    assert scene.engine.made == made + 1
