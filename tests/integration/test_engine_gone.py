"""What happens while the engine is away; on an engine of the tests' own, which is stopped for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX
from tests.support.poll import eventually
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.processes import descriptors
from tests.support.server import Server


@pytest.fixture(scope="module")
def own_engine() -> Iterator[PrivateEngine]:
    """An engine with busybox."""
    with private_engine(BUSYBOX) as engine:
        yield engine


@pytest.fixture
def engine_server(own_engine: PrivateEngine, start_server: StartServer) -> Iterator[Server]:
    """A server on that engine, which runs again when the test is over."""
    yield start_server(settings={"DOCKER_HOST": own_engine.address})
    if own_engine.process is None:
        own_engine.start()


def healthy(server: Server) -> bool:
    """Whether /health says that the engine answers."""
    return bool(server.get("/health").json()["docker"])


def test_docker_host_is_honoured(engine_server: Server, own_engine: PrivateEngine) -> None:
    state = engine_server.run(entrypoint="echo x > out; cat main.txt", extract=["out"])
    assert (state["status"], state["logs"]) == ("succeeded", ["hello"])
    assert engine_server.artifact(state["id"], "out").content == b"x\n"
    assert engine_server.run(network=...)["status"] == "succeeded"


def test_without_an_engine_the_server_says_so_and_recovers(
    engine_server: Server, own_engine: PrivateEngine
) -> None:
    assert engine_server.run()["status"] == "succeeded"
    own_engine.stop()

    eventually(lambda: not healthy(engine_server), "/health says that the engine is away")
    response = engine_server.get("/health")
    assert response.status_code == 503
    health = response.json()
    assert (health["status"], health["docker"]) == ("degraded", False)

    state = engine_server.run()
    assert (state["status"], state["reason"]) == ("failed", "engine_unavailable")
    assert state["error"]
    assert "exitCode" not in state
    detached = engine_server.wait_done(engine_server.start())
    assert detached["reason"] == "engine_unavailable"

    own_engine.start()
    eventually(lambda: healthy(engine_server), "/health is well again")
    assert engine_server.get("/health").status_code == 200
    assert engine_server.run(entrypoint="echo back")["logs"] == ["back"]


def test_a_server_that_starts_without_an_engine(start_server: StartServer, own_engine: PrivateEngine) -> None:
    own_engine.stop()
    server = start_server(settings={"DOCKER_HOST": own_engine.address}, ready=503)
    assert server.run()["reason"] == "engine_unavailable"
    own_engine.start()
    eventually(lambda: healthy(server), "/health is well")
    state = server.run(entrypoint="echo x > out", extract=["out"])
    assert (state["status"], state["extracted"][0]["status"]) == ("succeeded", "ok")


def test_an_engine_that_goes_in_the_middle_of_a_run(engine_server: Server, own_engine: PrivateEngine) -> None:
    run_id = engine_server.start(entrypoint="echo up; sleep 600")
    engine_server.wait_output(run_id, "up")
    own_engine.stop()
    own_engine.start()
    # The engine ended its containers when it stopped: the run cannot be completed.
    state = engine_server.wait_done(run_id)
    assert (state["status"], state["reason"], state["logs"]) == ("failed", "interrupted", ["up"]), state
    eventually(lambda: healthy(engine_server), "/health is well again")
    assert engine_server.run()["status"] == "succeeded"


def test_runs_against_a_stopped_engine_leave_no_descriptor(
    engine_server: Server, own_engine: PrivateEngine
) -> None:
    def held() -> int:
        return sum(len(descriptors(pid)) for pid in engine_server.processes())

    own_engine.stop()
    for _ in range(10):
        assert engine_server.run()["reason"] == "engine_unavailable"
    before = held()
    for _ in range(30):
        assert engine_server.run()["reason"] == "engine_unavailable"
        engine_server.get("/health")
    eventually(lambda: held() <= before + 5, f"descriptors are back at {before}")
    own_engine.start()
