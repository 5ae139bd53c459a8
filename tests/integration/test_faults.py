"""Nothing that was accepted is lost, whatever is killed, paused or full; with the real thing each time."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, engine_api, images_of, inspect_container, touch_in
from tests.support.killing import Owed, check, kill_at_random, submitting
from tests.support.poll import eventually
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.receiver import Receiver
from tests.support.server import Server, running_server

KILLS = 30
RUNS = 15
KILLED_STARTS = 5
PAUSE = 20.0


@pytest.fixture(scope="module")
def own_engine() -> Iterator[PrivateEngine]:
    """An engine that may be stopped."""
    with private_engine(BUSYBOX) as engine:
        yield engine


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `folder`."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.timeout(800)
def test_a_server_killed_at_random_moments_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    def more(owed: Owed) -> bool:
        # A slow server accepts less before it is killed.
        return owed.kills < KILLS or (len(owed.accepted) < RUNS and owed.kills < 3 * KILLS)

    owed = kill_at_random(tmp_path / "killed", receiver, more, seed=4)
    assert owed.kills >= KILLS
    assert len(owed.accepted) >= RUNS


@pytest.mark.engines("recovery")
@pytest.mark.timeout(200)
def test_a_server_killed_while_it_starts_leaves_nothing_and_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(4)
    # They are one server to the engine, and what it left may be removed when the last one has ended.
    with ExitStack() as servers:

        def start(ready: int | None) -> Server:
            return servers.enter_context(running_server(tmp_path / "killed", ready=ready))

        server = start(200)
        running = server.start(entrypoint="echo up; cat; sleep 5", input="in")
        server.wait_output(running, "up")
        server.kill()
        for number in range(KILLED_STARTS):
            server = start(None)
            # By turns at the moment when the engine has something of it, and at any.
            if number % 2:
                time.sleep(chance.uniform(0.3, 1.5))
            else:
                # For a few calls of the engine; where no look hits them, this is another moment.
                eventually(
                    partial(tries_out_or_serves, server), "it tries out its workspaces, or has done so"
                )
            server.kill()
        server = start(200)
        state = server.wait_done(running)
        assert (state["status"], state["logs"]) == ("succeeded", ["up", '"in"']), state
        eventually(lambda: images_of(server.server_id) == [], "no probe is left")
        server.wait_clean()


def tries_out_or_serves(server: Server) -> bool:
    """Whether the engine has an image of a server that starts, or it has started."""
    if images_of(server.server_id):
        return True
    try:
        return server.get("/health").status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.engines("recovery")
def test_a_command_whose_server_died_before_it_could_say_so_goes_on(start_server: StartServer) -> None:
    # Hardly more than what is kept, in lines of which the engine's own copy takes the most room.
    settings = {"LIGHT_RUN_PARKED_MAX": "0", "LIGHT_RUN_LOG_LIMIT": "100000"}
    server = start_server(settings=settings)
    running = server.start(
        entrypoint="echo up; echo once >> count; sleep 2; yes '' | head -n 99000; cat count; cat"
    )
    server.wait_output(running, "up")
    server.kill()
    # As it is for some milliseconds, which no kill hits on cue.
    with closing(sqlite3.connect(server.state_dir / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE runs SET step = 'assigned', deadline = NULL")
    again = start_server(settings=settings)
    state = again.wait_done(running)
    assert (state["status"], state["reason"]) == ("succeeded", "exit")
    assert (len(state["logs"]), state["logs"][0], state["logs"][-1]) == (99_002, "up", "once")


def test_a_state_directory_that_is_moved_while_the_server_is_away(
    start_server: StartServer, tmp_path: Path
) -> None:
    settings = {"LIGHT_RUN_PARKED": f"{BUSYBOX}=1"}
    server = start_server("before", settings=settings)
    eventually(lambda: "light_run_parked_containers 1.0" in server.get("/metrics").text, "one is parked")
    work = {"network": ..., "entrypoint": "echo up; sleep 2; cat main.txt > out", "extract": ["out"]}
    running = [server.start(**work), server.start(**work, limits={"pids": 50})]
    for run in running:
        server.wait_output(run, "up")
    assert server.stop() == 0
    (tmp_path / "before").rename(tmp_path / "after")
    again = start_server("after", settings=settings)
    assert [again.wait_done(run)["parked"] for run in running] == [True, False]
    assert [again.artifact(run, "out").text for run in running] == ["hello\n"] * 2


@pytest.mark.timeout(200)
def test_a_server_stopped_under_load_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    owed, settings = Owed(), {"LIGHT_RUN_MAX_CONCURRENCY": "3", "LIGHT_RUN_GRACE": "1"}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path / "stopped", settings=settings))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        waiting = pool.submit(server.run, entrypoint="echo up; sleep 600")
        eventually(lambda: server.get("/runs?status=running").json(), "the sync run is under way")
        client = pool.submit(list, submitting(server, receiver, owed, 50))
        eventually(lambda: len(owed.accepted) > 8, "runs are at work, and others wait")
        assert server.stop() == 0
        client.result()
        assert waiting.result()["reason"] == "interrupted"
        check(stack.enter_context(running_server(tmp_path / "stopped", settings=settings)), receiver, owed)


def test_a_full_disk_refuses_new_runs_and_ends_the_others(start_server: StartServer, tmp_path: Path) -> None:
    state = tmp_path / "full" / "state"
    # Left last: the server has to be gone before its disk is.
    with small_disk(state, "24m"):
        server = start_server("full", settings={"LIGHT_RUN_WORKSPACE": "archive"})
        running = server.start(entrypoint="echo up; sleep 2; echo down")
        server.wait_output(running, "up")
        filler = state / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(64 * 1024))
                    file.flush()
            except OSError:
                pass
        refused = server.post_run(detached=True, files={"big": "x" * 1_000_000})
        assert (refused.status_code, refused.json()["error"]) == (507, "insufficient_storage"), refused.text
        assert server.wait_done(running)["status"] == "succeeded"
        filler.unlink()
        after = server.run(entrypoint="cat main.txt")
        assert (after["status"], after["logs"]) == ("succeeded", ["hello"]), after
        server.wait_clean()
        assert server.stop() == 0


@pytest.mark.timeout(200)
def test_an_engine_that_is_paused(start_server: StartServer, own_engine: PrivateEngine) -> None:
    server = start_server(settings={"DOCKER_HOST": own_engine.address, "LIGHT_RUN_WORKSPACE": "archive"})
    running = server.start(entrypoint="echo up; sleep 3; echo down")
    server.wait_output(running, "up")
    assert own_engine.process is not None
    pid = own_engine.process.pid
    with stopped_for(pid, PAUSE):
        later = server.start(entrypoint="echo later")
    for run_id, lines in ((running, ["up", "down"]), (later, ["later"])):
        state = server.wait_done(run_id, within=90)
        assert (state["status"], state["logs"]) == ("succeeded", lines), state
    server.wait_clean()


@contextmanager
def stopped_for(pid: int, seconds: float) -> Iterator[None]:
    """The process `pid` stopped by SIGSTOP, and going on so many seconds after this was entered."""
    timer = subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {pid}"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        timer.wait()
    finally:
        timer.wait()
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(200)
def test_an_engine_that_is_restarted_in_the_middle_of_a_run(
    start_server: StartServer, own_engine: PrivateEngine
) -> None:
    server = start_server(settings={"DOCKER_HOST": own_engine.address, "LIGHT_RUN_WORKSPACE": "archive"})
    running = server.start(entrypoint="echo up; sleep 60")
    server.wait_output(running, "up")
    own_engine.stop()
    own_engine.start()
    state = server.wait_done(running, within=90)
    # The engine takes its containers down with it.
    assert (state["status"], state["reason"], state["logs"]) == ("failed", "interrupted", ["up"]), state
    eventually(partial(works, server), "runs work again", within=60)
    server.wait_clean()


def works(server: Server) -> bool:
    """Whether a run is done as it should be."""
    try:
        return bool(server.run(entrypoint="echo again").get("logs") == ["again"])
    except requests.RequestException:
        return False


@pytest.fixture
def restoring_engine(own_engine: PrivateEngine) -> Iterator[PrivateEngine]:
    """The engine, set up to leave its containers alone when it stops."""
    for live_restore in (True, False):
        own_engine.stop()
        own_engine.live_restore = live_restore
        own_engine.start()
        if live_restore:
            yield own_engine


@pytest.mark.timeout(200)
def test_a_run_whose_container_outlives_the_engine_and_one_whose_does_not(
    start_server: StartServer, restoring_engine: PrivateEngine
) -> None:
    engine = restoring_engine
    server = start_server(settings={"DOCKER_HOST": engine.address, "LIGHT_RUN_WORKSPACE": "archive"})
    program = "echo up; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo down; echo x > out"
    runs = {name: server.start(entrypoint=program, extract=["out"]) for name in ("found", "lost")}
    for run_id in runs.values():
        server.wait_output(run_id, "up")
    containers = {each["Labels"]["light-run.run"]: each["Id"] for each in server.containers()}
    with engine_api(engine.address) as api:
        lost = api.inspect_container(containers[runs["lost"]])
    engine.stop()
    engine.lose(lost)
    engine.start()
    state = server.wait_done(runs["lost"], within=90)
    assert (state["status"], state["reason"], state["logs"]) == ("failed", "interrupted", ["up"]), state

    touch_in(containers[runs["found"]], "/tmp/go", engine.address)
    state = server.wait_done(runs["found"], within=90)
    assert (state["status"], state["logs"]) == ("succeeded", ["up", "down"]), state
    assert server.artifact(runs["found"], "out").content == b"x\n"
    server.wait_clean()


@pytest.mark.timeout(200)
def test_output_that_is_written_while_the_engine_is_away(
    start_server: StartServer, restoring_engine: PrivateEngine
) -> None:
    engine = restoring_engine
    server = start_server(settings={"DOCKER_HOST": engine.address, "LIGHT_RUN_WORKSPACE": "bind"})
    away = "echo up; while [ ! -e away ]; do sleep 0.1; done; echo away; : >written; "
    goes_on = server.start(entrypoint=away + "while [ ! -e go ]; do sleep 0.1; done; echo down")
    ends = server.start(entrypoint=away + "exit 3")
    for run_id in (goes_on, ends):
        server.wait_output(run_id, "up")
    pids = {
        each["Labels"]["light-run.run"]: inspect_container(each["Id"], engine.address)["State"]["Pid"]
        for each in server.containers()
    }
    workspaces = {run_id: server.state_dir / "workspaces" / run_id / "files" for run_id in (goes_on, ends)}
    engine.kill()
    for folder in workspaces.values():
        (folder / "away").touch()
    eventually((workspaces[goes_on] / "written").exists, "the one has written")
    eventually(lambda: not Path(f"/proc/{pids[ends]}").exists(), "the other has ended")
    engine.start()

    server.wait_output(goes_on, "away")
    (workspaces[goes_on] / "go").touch()
    state = server.wait_done(goes_on, within=90)
    assert (state["status"], state["logs"]) == ("succeeded", ["up", "away", "down"]), state
    assert "error" not in state
    state = server.wait_done(ends, within=90)
    assert (state["reason"], state["exitCode"], state["logs"][0]) == ("exit", 3, "up"), state
    assert state["logsTruncated"]
    assert state["error"].startswith("output may be missing"), state
    server.wait_clean()


def test_a_copy_of_the_state_directory_takes_nothing_from_the_original(
    start_server: StartServer, receiver: Receiver, tmp_path: Path
) -> None:
    original = start_server("original")
    slow = original.start(entrypoint="sleep 5; echo end", callbackUrl=receiver.url)
    eventually(lambda: original.state(slow).get("phase") == "running", "it is at work")
    copy = tmp_path / "copy" / "state"
    copy.parent.mkdir()
    subprocess.run(["cp", "-a", original.state_dir, copy], check=True)
    beside = start_server("copy")
    state = beside.state(slow)
    assert (state["status"], state["reason"]) == ("failed", "interrupted")
    assert "copied" in state["error"]
    assert beside.run(entrypoint="echo here")["logs"] == ["here"]
    final = original.wait_done(slow)
    assert (final["status"], final["logs"]) == ("succeeded", ["end"])
    eventually(lambda: receiver.received, "the callback is here")
    assert beside.stop() == 0
    assert [json.loads(each.body)["status"] for each in receiver.received] == ["succeeded"]
