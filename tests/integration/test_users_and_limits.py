"""The user of a command and its further limits, in new containers and in parked ones."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.server import RunState, Server

SEEN = "id -u; id -g; echo $HOME; df -k /dev/shm | tail -n 1 | awk '{print $2}'; ulimit -n; ulimit -f; echo > made"
LIMITS = {"shm": "32m", "nofile": 200, "fsize": 4096}


@pytest.fixture(scope="module")
def bounded(server_of_module: StartServer) -> Server:
    """A server that allows some users, GPUs and no more than a few open files."""
    settings = {
        "LIGHT_RUN_USERS": "1000:*,nobody,elsewhere",
        "LIGHT_RUN_GPUS": "all",
        "LIGHT_RUN_NOFILE": "300",
        "LIGHT_RUN_MAX_SHM": "40m",
    }
    return server_of_module(settings=settings)


def test_a_command_has_its_user_and_its_limits_parked_or_not(bounded: Server) -> None:
    def run() -> RunState:
        return bounded.run(entrypoint=SEEN, user="1000:50", limits=LIMITS)

    first = run()
    # Files and blocks of 512 bytes are what the shell counts.
    seen = ["1000", "50", "/", "32768", "200", "8"]
    assert (first["status"], first["parked"], first["logs"]) == ("succeeded", False, seen), first
    parked = eventually(
        lambda: found if (found := run())["parked"] else None, "it runs in a parked container"
    )
    assert parked is not None
    assert (parked["status"], parked["logs"]) == ("succeeded", seen)
    other = bounded.run(entrypoint="id -un; ulimit -n; head -c 5000 /dev/zero > big", user="nobody")
    assert (other["status"], other["logs"]) == ("succeeded", ["nobody", "300"])
    large = bounded.run(entrypoint="head -c 5000 /dev/zero > big", limits=LIMITS)
    # Killed by SIGXFSZ.
    assert (large["status"], large["exitCode"]) == ("failed", 128 + 25)


def test_steps_do_not_run_as_that_user(bounded: Server) -> None:
    state = bounded.run(run=["id -u > /by"], entrypoint="cat /by; id -u", user="1000:50")
    assert state["logs"] == ["0", "1000"]


@pytest.mark.parametrize("user", ["root", "0", "00:0", "1000", "app"])
def test_other_users_are_refused_in_words(bounded: Server, user: str) -> None:
    response = bounded.post_run(user=user)
    assert response.status_code == 400
    (fault,) = response.json()["details"]
    assert (fault["path"], fault["code"]) == (["user"], "not_allowed")
    assert "1000:*" in fault["message"]


@pytest.mark.parametrize("limits", [{"nofile": 301}, {"shm": "41m"}])
def test_no_more_than_the_server_s(bounded: Server, limits: dict[str, object]) -> None:
    response = bounded.post_run(limits=limits)
    assert (response.status_code, response.json()["details"][0]["code"]) == (400, "out_of_range")


def test_a_user_that_the_image_lacks(bounded: Server) -> None:
    state = bounded.run(user="elsewhere")
    assert (state["status"], state["reason"]) == ("failed", "start_failed")
    assert "elsewhere" in state["error"]


def test_an_engine_without_gpus_says_so(bounded: Server) -> None:
    state = bounded.run(limits={"gpus": "all"})
    assert (state["status"], state["reason"]) == ("failed", "start_failed")
    assert "gpu" in state["error"]
