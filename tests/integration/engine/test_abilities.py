"""What engines differ in: each does it, or light-run refuses it in words. ``tests/support/abilities.py`` says which."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import StartServer
from tests.support.abilities import ISOLATION, LIMITS, STEPS, under_test
from tests.support.server import RunState, Server

pytestmark = pytest.mark.engines("contract")

FORKS = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done"


def assert_refused(state: RunState, words: str) -> None:
    """Fail unless nothing was started, for that reason."""
    assert (state["status"], state["reason"]) == ("failed", "start_failed"), state
    assert words in state["error"], state


@pytest.mark.parametrize(
    ("entrypoint", "limits"), [("exec tail /dev/zero", {"memory": "32m"}), (FORKS, {"pids": 20})]
)
def test_limits(start_server: StartServer, entrypoint: str, limits: dict[str, Any]) -> None:
    words = under_test().refusal(LIMITS)
    server = start_server(settings={"LIGHT_RUN_ALLOW_UNLIMITED": "false"}, ready=503 if words else 200)
    state = server.run(entrypoint=entrypoint, limits=limits)
    if words:
        assert_refused(state, words)
        assert "memory" in server.get("/health").json()["message"]
        assert {"memory", "pids"} <= set(server.get("/info").json()["engine"]["missingLimits"])
    elif "memory" in limits:
        assert (state["reason"], state["exitCode"]) == ("out_of_memory", 137), state
    else:
        assert "can't fork" in state["logs"][-1], state


def test_the_isolated_network(server: Server) -> None:
    state = server.run(network=..., entrypoint="cut -s -d: -f1 /proc/net/dev")
    if words := under_test().refusal(ISOLATION):
        assert_refused(state, words)
    else:
        assert sorted(line.strip() for line in state["logs"]) == ["eth0", "lo"], state


def test_steps(server: Server) -> None:
    state = server.run(run=["echo baked >/baked"], entrypoint="cat /baked")
    if words := under_test().refusal(STEPS):
        assert_refused(state, words)
    else:
        assert (state["status"], state["logs"]) == ("succeeded", ["baked"]), state


def test_a_runtime_that_is_not_there(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_RUNTIMES": "none-such"})
    # Some engines take any name: what they made of it is read back.
    assert_refused(server.run(runtime="none-such"), "none-such")
