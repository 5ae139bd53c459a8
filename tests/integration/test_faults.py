"""Nothing that was accepted is lost, whatever is killed, paused or full; with the real thing each time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, images_of
from tests.support.killing import kill_at_random
from tests.support.poll import eventually
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.receiver import Receiver
from tests.support.server import Server, running_server

KILLS = 30
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


@pytest.mark.timeout(400)
def test_a_server_killed_at_random_moments_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    owed = kill_at_random(tmp_path / "killed", receiver, lambda kills: kills < KILLS, seed=4)
    assert owed.kills == KILLS
    assert len(owed.accepted) >= KILLS // 2


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
                eventually(partial(images_of, server.server_id), "it tries out its workspaces")
            server.kill()
        server = start(200)
        state = server.wait_done(running)
        assert (state["status"], state["logs"]) == ("succeeded", ["up", '"in"']), state
        eventually(lambda: images_of(server.server_id) == [], "no probe is left")
        server.wait_clean()


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
    assert state["status"] == "failed", state

    def works() -> bool:
        try:
            return bool(server.run(entrypoint="echo again")["logs"] == ["again"])
        except requests.RequestException:
            return False

    eventually(works, "runs work again", within=60)
    server.wait_clean()
