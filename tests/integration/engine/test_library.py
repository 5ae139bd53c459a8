"""A `Runner` in a script, at its edges: cancelled at every step, given odd names, short of this and that."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from light_run import Limits, Runner, RunSpec
from light_run.engine import Destinations, Phase, Progress, Reason, RunResult, StopRequest
from light_run.engine.daemon.client import Engine
from light_run.engine.sandbox.firewall import unprotect
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX, NOSHELL, PYTHON, WORKDIR, containers_of, engine_api, images_of
from tests.support.poll import eventually, until_nothing

MIB = 1024 * 1024


class Watcher:
    """An observer that keeps what it is told, and calls `when` at the moment it waits for."""

    def __init__(self, moment: str = "", when: Callable[[], object] = lambda: None) -> None:
        self.told: list[str] = []
        self.container = ""
        self.parked = False
        self._moment = moment
        self._when = when

    def _tell(self, moment: str) -> None:
        self.told.append(moment)
        if moment == self._moment:
            self._when()

    def phase(self, phase: Phase) -> None:
        self._tell(str(phase))

    def progress(self, progress: Progress) -> None:
        self._tell("progress")

    def assigned(self, container_id: str, *, parked: bool) -> None:
        self.container, self.parked = container_id, parked
        self._tell("assigned")

    def launched(self, started_at: datetime) -> None:
        self._tell("launched")

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote(self) -> None: ...

    def ended(self, result: RunResult) -> None:
        self._tell("ended")


def spec(entrypoint: str | None = "true", **fields: Any) -> RunSpec:
    """A run of busybox without a network."""
    return RunSpec(entrypoint=entrypoint, **{"image": BUSYBOX, "network": "none", **fields})


# --- cancelled --------------------------------------------------------------------------------------------

MOMENTS = ["starting", "assigned", "running", "launched", "extracting"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancel_at_every_step(runner: Runner, artifacts: Path, moment: str) -> None:
    stop = StopRequest()
    watcher = Watcher(moment, stop.request)
    entrypoint = "echo x >f; sleep 0.2" if moment == "extracting" else "sleep 60"
    asked = spec(entrypoint, extract=("f",), files={"a": "b"})
    result = runner.run(asked, stop=stop, observer=watcher, to=Destinations(artifacts=artifacts))
    assert (result.reason, result.exit_code, result.extracted) == (Reason.CANCELLED, None, ()), result
    assert watcher.told[-1] == "ended"
    assert ("launched" in watcher.told) == (moment in ("running", "launched", "extracting"))
    until_nothing(lambda: containers_of(runner.config.server_id), "no container is left")


@pytest.mark.parametrize("moment", ["starting", "assigned", "running", "launched"])
def test_a_cancel_at_every_step_in_a_parked_one(start_runner: StartRunner, moment: str) -> None:
    runner = start_runner(parked_max=4, parked_pins={BUSYBOX: 1}, default_network="none")
    runner.open()
    eventually(lambda: runner.parked == 1, "one is parked")
    stop = StopRequest()
    watcher = Watcher(moment, stop.request)
    result = runner.run(spec("sleep 60"), stop=stop, observer=watcher)
    assert result.reason is Reason.CANCELLED, result
    if watcher.container:
        assert watcher.parked
        eventually(
            lambda: watcher.container not in {one["Id"] for one in containers_of(runner.config.server_id)},
            "the container it was given is gone",
        )


def test_cancels_at_random_moments(start_runner: StartRunner, artifacts: Path) -> None:
    # Six runs at a time, two of three of them parked; each is cancelled within what a run takes.
    runner = start_runner(parked_max=4, parked_pins={BUSYBOX: 2}, default_network="none")
    runner.open()
    chance = random.Random(7)

    def once(number: int) -> RunResult:
        stop = StopRequest()
        after = chance.random() * 0.6
        timer = threading.Timer(after, stop.request)
        timer.start()
        try:
            to = Destinations(artifacts=artifacts / f"{number}")
            workdir = "/app" if number % 3 else "/srv"
            asked = spec("echo up; sleep 0.2; echo x >f", extract=("f",), files={"a": "b"}, workdir=workdir)
            return runner.run(asked, stop=stop, to=to)
        finally:
            timer.cancel()
            timer.join()

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(once, range(36)))
    for result in results:
        assert result.reason is Reason.CANCELLED or result.succeeded, result
    assert any(result.reason is Reason.CANCELLED for result in results)


def test_a_cancel_before_it_begins_starts_nothing(runner: Runner) -> None:
    stop, watcher = StopRequest(), Watcher()
    stop.request()
    result = runner.run(spec("true", files={"a": "b"}), stop=stop, observer=watcher)
    assert (result.reason, watcher.told) == (Reason.CANCELLED, ["ended"])


@contextmanager
def registry_that_stalls() -> Iterator[str]:
    """``127.0.0.1:PORT`` of what takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def pulling() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pull-")]


def test_a_pull_that_stalls_is_cancelled_and_given_up(start_runner: StartRunner) -> None:
    runner = start_runner()
    with registry_that_stalls() as address, ThreadPoolExecutor(4) as pool:
        stops = [StopRequest() for _ in range(4)]
        asked = spec(image=f"{address}/nobody/answers:1")
        running = [pool.submit(runner.run, asked, stop=stop) for stop in stops]
        eventually(pulling, "the pull is under way")
        for stop in stops:
            stop.request()
        for one in running:
            assert one.result(10).reason is Reason.CANCELLED
        # Nobody waits for it any more: its thread and its connection end, too.
        eventually(lambda: not pulling(), "the pull was given up", within=10)


def test_one_of_many_that_wait_for_a_pull_is_cancelled(start_runner: StartRunner) -> None:
    runner = start_runner()
    with registry_that_stalls() as address, ThreadPoolExecutor(2) as pool:
        image = f"{address}/nobody/answers:1"
        stops = [StopRequest(), StopRequest()]
        running = [pool.submit(runner.run, spec(image=image), stop=stop) for stop in stops]
        flights = runner._context.images._pulls._flights
        eventually(
            lambda: [flight.waiters for flight in list(flights.values())] == [2], "both wait for one pull"
        )
        stops[0].request()
        assert running[0].result(10).reason is Reason.CANCELLED
        assert pulling()
        stops[1].request()
        assert running[1].result(10).reason is Reason.CANCELLED


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["../containers/json", "a/../../info", "UPPER", "", "a b", "x\n", "-x"])
def test_an_image_s_name_that_is_none(start_runner: StartRunner, image: str) -> None:
    result = start_runner().run(spec(image=image))
    assert result.reason is Reason.IMAGE_NOT_FOUND
    assert "invalid reference" in str(result.error)


@pytest.mark.parametrize("network", ["host", "../version", "container:x", "no-such-network-77"])
def test_a_network_that_nobody_gets(start_runner: StartRunner, network: str) -> None:
    result = start_runner().run(spec(network=network))
    assert result.reason is Reason.START_FAILED
    assert network in str(result.error)


@pytest.mark.parametrize("length", [64, 12, 5])
def test_the_host_s_network_by_its_id(start_runner: StartRunner, length: int) -> None:
    with engine_api() as api:
        (network,) = [found for found in api.networks() if found["Driver"] == "host"]
    result = start_runner().run(spec("ls /sys/class/net", network=network["Id"][:length]))
    assert (result.reason, result.logs) == (Reason.START_FAILED, ())


def test_a_network_that_vanished_is_missed_once_at_most(start_runner: StartRunner) -> None:
    runner = start_runner()
    name = f"light-run-test-{uuid.uuid4().hex[:12]}"
    with engine_api() as api:
        made = api.create_network(name, driver="bridge")
        try:
            assert runner.run(spec(network=name)).succeeded
        finally:
            api.remove_network(made["Id"])
        for _ in range(2):
            result = runner.run(spec(network=name))
            assert (result.reason, name in str(result.error)) == (Reason.START_FAILED, True), result
        made = api.create_network(name, driver="bridge")
        try:
            assert runner.run(spec(network=name)).succeeded
        finally:
            api.remove_network(made["Id"])


def test_an_image_that_somebody_made_of_a_run_is_somebody_s(start_runner: StartRunner) -> None:
    made: dict[str, str] = {}

    def commit() -> None:
        with engine_api() as api:
            made.update(api.commit(watcher.container))

    first, watcher = start_runner(), Watcher("running", commit)
    try:
        assert first.run(spec("sleep 0.1"), observer=watcher).succeeded
        first.close()
        with Runner(replace(first.config, session="later")) as second:
            second.clear()
        assert images_of(first.config.server_id) == [made["Id"]]
    finally:
        with engine_api() as api:
            api.remove_image(made["Id"])


def test_the_isolated_network_is_made_again_when_it_was_pruned(
    isolated: str, start_runner: StartRunner
) -> None:
    runner = start_runner(network=isolated, parked_max=1, parked_pins={BUSYBOX: 1})
    steps = (f"echo {uuid.uuid4()} >/step",)
    bridges = []
    runner.open()
    for asked in (spec(), spec(image=PYTHON), spec(image=PYTHON, steps=steps)):
        eventually(lambda: runner.parked == 1, "one is parked")
        bridges += bridges_of(isolated)
        prune(isolated, runner.config.server_id)
        result = runner.run(replace(asked, network=None))
        assert result.succeeded, result
    bridges += bridges_of(isolated)
    # Each time it was another one, and what was set for the former is gone.
    assert [bridge in ruled() for bridge in bridges] == [False, False, False, True]


def test_the_isolated_network_that_was_made_twice(isolated: str, start_runner: StartRunner) -> None:
    runner, asked = start_runner(network=isolated, parked_max=0), replace(spec(), network=None)

    def another() -> None:
        with engine_api() as api:
            api.create_network(
                isolated,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"light-run.network": "isolated"},
            )

    another()
    (first,) = bridges_of(isolated)
    another()
    assert runner.run(asked).succeeded
    assert bridges_of(isolated) == [first]
    # It is believed to be there and the only one, and the engine refuses the start.
    another()
    assert runner.run(asked).succeeded
    assert bridges_of(isolated) == [first]
    # The names of others that are alike, and beginnings of ids, are no names.
    for other in (isolated[:-1], first.removeprefix("br-")):
        result = runner.run(replace(asked, network=other))
        assert (result.reason, other in str(result.error)) == (Reason.START_FAILED, True), result


def test_runners_that_make_the_isolated_network_at_the_same_moment(
    isolated: str, start_runner: StartRunner
) -> None:
    runners = [start_runner(network=isolated, parked_max=0) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda runner: runner.run(replace(spec(), network=None)), runners * 2))
    assert all(result.succeeded for result in results), results
    assert len(bridges_of(isolated)) == 1


def test_rules_that_were_flushed_come_back(
    isolated: str, start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("light_run.engine.sandbox.networks._FRESH", 0.0)
    runner = start_runner(network=isolated, parked_max=0)
    assert runner.run(replace(spec(), network=None)).succeeded
    (bridge,) = bridges_of(isolated)

    def stands() -> bool:
        rule = ["DOCKER-USER", "-i", bridge, "-j", "LIGHT-RUN"]
        return (
            subprocess.run(["iptables", "-w", "-C", *rule], capture_output=True, check=False).returncode == 0
        )

    assert stands()
    unprotect(bridge)
    assert not stands()
    assert runner.run(replace(spec(), network=None)).succeeded
    assert stands()


@pytest.fixture
def isolated() -> Iterator[str]:
    """The name of a network that is not there; what comes of it is gone afterwards, with its rules.

    To be asked for ahead of the runners, so that they have ended by then.
    """
    name = f"light-run-test-{uuid.uuid4().hex[:12]}"
    yield name
    bridges = bridges_of(name)
    with engine_api() as api:
        for each in api.networks(names=[name]):
            api.remove_network(each["Id"])
    for bridge in bridges:
        unprotect(bridge)


def bridges_of(network: str) -> list[str]:
    """The interfaces of the engine's networks of that name."""
    with engine_api() as api:
        return [f"br-{each['Id'][:12]}" for each in api.networks(names=[network])]


def ruled() -> set[str]:
    """The bridges that the packet filter has rules for."""
    listed = subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"-i (br-\w+)", listed))


def prune(network: str, server_id: str) -> None:
    """Do what ``docker network prune`` does while no container of the server happens to be there."""

    def pruned() -> bool:
        with engine_api() as api:
            for container in containers_of(server_id):
                # Another may be removing it.
                with suppress(APIError):
                    api.remove_container(container["Id"], force=True)
            try:
                api.remove_network(network)
            except APIError:
                # One more was parked on it meanwhile.
                return False
        return True

    eventually(pruned, "the network is removed")


# --- images -----------------------------------------------------------------------------------------------


def test_an_image_without_a_shell_is_never_parked_and_runs(start_runner: StartRunner) -> None:
    runner = start_runner(parked_max=4, parked_pins={NOSHELL: 1}, default_network="none")
    runner.open()
    for _ in range(4):
        own = runner.run(RunSpec(image=NOSHELL, files={"a": "b"}))
        assert (own.exit_code, own.logs, own.parked) == (0, ("hello from no shell",), False), own
        other = runner.run(RunSpec(image=NOSHELL, entrypoint="echo x"))
        assert not other.parked
        assert other.logs != ("x",)
        assert not other.succeeded


def test_what_an_image_has_at_its_workdir_is_there(runner: Runner, artifacts: Path) -> None:
    to = Destinations(artifacts=artifacts)
    asked = spec("ls; cat from-image.txt mine", image=WORKDIR, files={"mine": "m\n"}, extract=(".",))
    result = runner.run(asked, to=to)
    assert result.logs == ("from-image.txt", "mine", "image", "m"), result
    assert sorted(path.name for path in artifacts.iterdir()) == ["from-image.txt", "mine"]


# --- ends -------------------------------------------------------------------------------------------------


def test_a_process_that_closes_its_output_and_goes_on(runner: Runner, artifacts: Path) -> None:
    to = Destinations(artifacts=artifacts)
    asked = spec("exec >&- 2>&-; sleep 0.5; cat >f; exit 5", stdin=b"x" * MIB, extract=("f",))
    result = runner.run(asked, to=to)
    assert (result.reason, result.exit_code, result.logs) == (Reason.EXIT, 5, ())
    assert (artifacts / "f").stat().st_size == MIB


def test_output_of_children_that_outlive_the_command(runner: Runner) -> None:
    result = runner.run(spec("(sleep 0.3; echo late) & echo soon"))
    assert (result.exit_code, result.logs[:1]) == (0, ("soon",))


def test_a_flood_on_both_streams_is_capped_and_the_run_goes_on(start_runner: StartRunner) -> None:
    runner = start_runner(log_cap=100_000)
    result = runner.run(spec("yes out | head -c 3000000 & yes err | head -c 3000000 >&2; wait; exit 3"))
    assert (result.exit_code, result.logs_truncated) == (3, True)
    assert sum(len(line) + 1 for line in result.logs) <= 100_002


def test_a_fork_bomb(runner: Runner) -> None:
    result = runner.run(
        spec("f() { f | f & }; f; sleep 0.5; echo alive", limits=Limits(pids=30), timeout=20.0)
    )
    assert result.reason in (Reason.EXIT, Reason.TIMEOUT, Reason.OUT_OF_MEMORY)


def test_out_of_memory_of_a_child_is_named_where_the_run_failed(runner: Runner) -> None:
    # The engine hears of it by another way than of the exit, and behind it where it is busy.
    program = "python3 -c 'x = bytearray(1 << 30)'; sleep 5; exit 9"
    result = runner.run(spec(program, image=PYTHON, limits=Limits(memory=64 * MIB)))
    assert (result.reason, result.exit_code) == (Reason.OUT_OF_MEMORY, 9)


# Files may be written to the mounted workdir, the layer that /tmp is in, and volumes, an image's own or ours.
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "workspace": ("f", {}),
    "layer": ("/tmp/f", {}),
    "volume": ("f", {"workspace": "archive", "read_only": True}),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_that_fills_the_disk(start_runner: StartRunner, place: str) -> None:
    path, settings = PLACES[place]
    runner = start_runner(workspace_cap=5 * MIB, **settings)
    result = runner.run(spec(f"head -c 50000000 /dev/urandom >{path}; sleep 600", timeout=120.0))
    assert result.reason is Reason.DISK_LIMIT, result


# --- many at once -----------------------------------------------------------------------------------------


def test_many_threads_and_not_one_mixes_with_another(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner(parked_max=4, parked_pins={BUSYBOX: 2}, default_network="none")
    runner.open()

    def once(number: int) -> None:
        artifacts = tmp_path / f"{number}"
        asked = spec(
            "cat f; echo $N; cat; cat f >out",
            files={"f": f"{number}\n"},
            env={"N": str(number)},
            stdin=f"{number}\n".encode(),
            extract=("out",),
        )
        result = runner.run(asked, to=Destinations(artifacts=artifacts))
        assert result.logs == (str(number),) * 3, result
        assert (artifacts / "out").read_text() == f"{number}\n"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(24)))


def test_nothing_is_made_by_a_runner_that_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the machine's own, others are at work.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Runner() as runner:
        assert runner.parked == 0
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_and_running_after_it(start_runner: StartRunner) -> None:
    runner = start_runner()
    runner.close()
    assert runner.run(spec("echo still")).logs == ("still",)
    runner.close()


def test_time_is_counted_from_the_start(runner: Runner) -> None:
    begun = time.monotonic()
    result = runner.run(spec("sleep 0.3"))
    elapsed, timings = time.monotonic() - begun, result.timings
    # An engine that is busy says only later that it has started.
    assert 0.3 - timings.start / 1000 <= result.duration <= elapsed
    assert timings.run >= 300 - timings.start
    assert timings.start > 0
    total = timings.image + timings.start + timings.run + timings.extract
    assert total <= (time.monotonic() - begun) * 1000 + 1


# --- limits -----------------------------------------------------------------------------------------------


# No engine here lacks one: its description is changed on the way.
def test_nothing_runs_without_its_limits(start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    described = Engine.info
    monkeypatch.setattr(Engine, "info", lambda engine: {**described(engine), "PidsLimit": False})
    runner = start_runner()
    result = runner.run(spec(steps=("touch /x",)))
    assert (result.reason, result.started_at) == (Reason.START_FAILED, None)
    assert "cannot limit pids" in str(result.error)
    assert "LIGHT_RUN_ALLOW_UNLIMITED" in str(result.error)
    assert runner.health().missing_limits == ("pids",)
    allowing = start_runner(allow_unlimited=True)
    assert allowing.run(spec()).exit_code == 0
    assert allowing.health().missing_limits == ()
