"""Examples to copy for new integration tests: one for each fixture."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.receiver import Receiver
from tests.support.server import Server


@pytest.fixture(scope="module")
def strict(server_of_module: StartServer) -> Server:
    """A server with settings, for all tests of this module."""
    return server_of_module(settings={"LIGHT_RUN_PROFILE": "strict"})


def test_a_run(server: Server) -> None:
    # `server` is shared by the whole suite; `run` posts a request with defaults for its required fields.
    state = server.run(files={"name.txt": "Ada"}, entrypoint="cat name.txt")
    assert (state["status"], state["logs"]) == ("succeeded", ["Ada"])


def test_a_detached_run_and_its_callback(server: Server, receiver: Receiver) -> None:
    run_id = server.start(entrypoint="exit 3", callbackUrl=receiver.url)
    (callback,) = receiver.wait(1)
    assert (callback.json()["id"], callback.json()["exitCode"]) == (run_id, 3)


def test_a_refused_request(server: Server) -> None:
    response = server.post_run(timeout="soon")
    assert response.status_code == 400
    (fault,) = response.json()["details"]
    assert (fault["path"], fault["code"]) == (["timeout"], "invalid_type")


def test_a_setting(strict: Server) -> None:
    state = strict.run(entrypoint="touch /etc/made 2>/dev/null || echo read-only")
    assert state["logs"] == ["read-only"]


def test_a_server_of_its_own(start_server: StartServer) -> None:
    # For a test that stops the server, or needs an empty one.
    server = start_server(settings={"LIGHT_RUN_MAX_RUNS": "1"})
    # Never sleep: wait for what must happen, with a deadline.
    first, second = server.run()["id"], server.run()["id"]
    eventually(lambda: server.get(f"/runs/{first}").status_code == 404, "the older run is deleted")
    assert server.get(f"/runs/{second}").status_code == 200
