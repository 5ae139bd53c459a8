"""Stop, pause and resume: the signal reaches the program, the clock stands still, a restart changes nothing."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from light_run.client import Client
from light_run.errors import InvalidSpec, RunNotActive, RunNotStarted
from tests.integration.conftest import StartServer
from tests.support.poll import eventually
from tests.support.receiver import Receiver
from tests.support.server import Server

UNKNOWN = "00000000-0000-4000-8000-000000000000"
# Says when it is ready, writes a file and exits with 7 on the signal.
TRAPPING = "trap 'echo heard; echo kept > kept; exit 7' {signal}; echo ready; while :; do sleep 0.05; done"


def control(server: Server, run_id: str, action: str, **options: Any) -> requests.Response:
    return server.request("POST", f"/runs/{run_id}/{action}", **options)


def running(server: Server, **fields: Any) -> str:
    """The id of a detached run that has written a first line."""
    run_id = server.start(**fields)
    eventually(lambda: server.state(run_id)["logs"], "it has written a line")
    return run_id


@pytest.fixture(params=["cold", "parked"])
def program(server: Server, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The fields of a run that has a cold container, or a parked one once others have run."""
    fields: dict[str, Any] = {"env": {"BASH_ENV": "never through a shell"}} if request.param == "cold" else {}
    return fields


@pytest.mark.parametrize(("asked", "name"), [(None, "TERM"), ({"signal": "INT", "grace": 9000}, "INT")])
def test_a_stop_lets_the_program_end_by_itself(
    server: Server, program: dict[str, Any], asked: dict[str, Any] | None, name: str
) -> None:
    run_id = running(server, entrypoint=TRAPPING.format(signal=name), extract=["kept"], **program)
    assert control(server, run_id, "stop", json=asked).status_code == 204
    state = server.state(run_id)
    assert (state["status"], state["reason"], state["exitCode"]) == ("cancelled", "stopped", 7), state
    assert state["logs"] == ["ready", "heard"]
    assert [each["path"] for each in state["artifacts"]] == ["kept"]
    assert control(server, run_id, "stop").status_code == 404


@pytest.mark.parametrize(
    "entrypoint",
    [
        f'sh -c "{TRAPPING.format(signal="TERM")}"; echo never',
        f'sh -c "{TRAPPING.format(signal="TERM")}" && echo never',
        f'sh -c "{TRAPPING.format(signal="TERM")}" & wait; echo never',
    ],
)
def test_the_signal_reaches_the_program_below_a_compound_command(server: Server, entrypoint: str) -> None:
    run_id = running(server, entrypoint=entrypoint, extract=["kept"])
    begun = time.monotonic()
    assert control(server, run_id, "stop", json={"grace": 60_000}).status_code == 204
    # Long before the grace is over.
    assert time.monotonic() - begun < 30
    state = server.state(run_id)
    assert (state["status"], state["reason"], state["logs"]) == ("cancelled", "stopped", ["ready", "heard"])
    assert [each["path"] for each in state["artifacts"]] == ["kept"]


@pytest.mark.parametrize("grace", [0, 300])
def test_what_ignores_the_signal_is_killed_after_the_grace(server: Server, grace: int) -> None:
    run_id = running(server, entrypoint="trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert control(server, run_id, "stop", json={"grace": grace}).status_code == 204
    state = server.state(run_id)
    assert (state["status"], state["reason"]) == ("cancelled", "stopped")
    assert "exitCode" not in state
    assert "killed" in state["error"]


def test_a_stop_of_what_has_not_begun(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    building = server.start(run=["sleep 60; echo nobody waits for this"])
    queued = server.start(entrypoint="echo never")
    eventually(lambda: server.state(building).get("phase") == "building", "it is built")
    for run_id in (queued, building):
        assert control(server, run_id, "pause").json()["error"] == "not_started"
        assert control(server, run_id, "stop").status_code == 204
        state = server.state(run_id)
        assert (state["status"], state["reason"]) == ("cancelled", "stopped")
        assert state["logs"] == []


def test_the_waiting_client_and_the_callback_get_the_stopped_state(
    server: Server, receiver: Receiver
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.run, entrypoint="echo up; sleep 60")
        (run_id,) = eventually(
            lambda: [
                run["id"]
                for run in server.get("/runs?status=running").json()
                if run.get("phase") == "running"
            ],
            "it is at work",
        )
        assert control(server, run_id, "stop").status_code == 204
        assert waiting.result()["reason"] == "stopped"
    run_id = running(server, entrypoint="echo up; sleep 60", callbackUrl=receiver.url)
    assert control(server, run_id, "stop").status_code == 204
    eventually(lambda: receiver.received, "the callback is here")
    assert json.loads(receiver.received[0].body)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"grace": -1}, ["grace"]),
        ({"grace": 300_001}, ["grace"]),
        ({"grace": "10"}, ["grace"]),
        ({"grace": 1.5}, ["grace"]),
        ({"signal": ""}, ["signal"]),
        ({"signal": "NOPE"}, ["signal"]),
        ({"signal": "T" * 21}, ["signal"]),
        ({"signal": 15}, ["signal"]),
        ({"foo": 1}, ["foo"]),
        ([], []),
        ("text", []),
    ],
)
def test_a_bad_body_is_a_fault_before_the_run_is_looked_for(
    server: Server, body: object, path: list[str]
) -> None:
    response = control(server, UNKNOWN, "stop", json=body)
    assert response.status_code == 400
    assert [each["path"] for each in response.json()["details"]] == [path]


@pytest.mark.parametrize("action", ["stop", "pause", "resume", "cancel"])
def test_an_empty_body_of_any_type_is_fine(server: Server, action: str) -> None:
    for headers in ({}, {"Content-Type": "application/json"}):
        response = control(server, UNKNOWN, action, headers=headers)
        assert (response.status_code, response.json()["error"]) == (404, "not_found_or_done")


def test_a_paused_run_does_nothing_and_its_time_does_not_count(server: Server) -> None:
    run_id = running(server, entrypoint="for i in 1 2 3 4 5; do echo $i; sleep 0.3; done", timeout=4000)
    for _ in range(2):
        assert control(server, run_id, "pause").status_code == 204
    state = server.state(run_id)
    assert (state["status"], state["phase"]) == ("running", "paused")
    assert server.request("DELETE", f"/runs/{run_id}").status_code == 404
    time.sleep(4.5)
    assert server.state(run_id)["logs"] == state["logs"]
    for _ in range(2):
        assert control(server, run_id, "resume").status_code == 204
    state = server.wait_done(run_id)
    assert (state["status"], state["logs"]) == ("succeeded", ["1", "2", "3", "4", "5"])
    for action in ("pause", "resume"):
        assert control(server, run_id, action).status_code == 404


@pytest.mark.parametrize(("action", "reason"), [("cancel", "cancelled"), ("stop", "stopped")])
def test_a_paused_run_can_be_ended(server: Server, action: str, reason: str) -> None:
    run_id = running(server, entrypoint=TRAPPING.format(signal="TERM"))
    assert control(server, run_id, "pause").status_code == 204
    assert control(server, run_id, action).status_code == 204
    state = server.state(run_id)
    assert (state["status"], state["reason"]) == ("cancelled", reason)
    if action == "stop":
        assert (state["exitCode"], state["logs"]) == (7, ["ready", "heard"])


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_pause_survives_a_restart(start_server: StartServer, how: str) -> None:
    server = start_server()
    run_id = running(server, entrypoint="echo up; sleep 1; echo end", timeout=5000)
    assert control(server, run_id, "pause").status_code == 204
    time.sleep(3)
    server.stop() if how == "stopped" else server.kill()
    again = start_server()
    eventually(lambda: again.state(run_id).get("phase") == "paused", "it is paused")
    time.sleep(3)
    state = again.state(run_id)
    assert (state["status"], state["phase"], state["logs"]) == ("running", "paused", ["up"])
    assert control(again, run_id, "resume").status_code == 204
    state = again.wait_done(run_id)
    assert (state["status"], state["logs"]) == ("succeeded", ["up", "end"])


def test_nothing_is_paused_for_ever(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_PAUSE": "1"})
    run_id = running(server, entrypoint="echo up; sleep 0.5; echo end")
    assert control(server, run_id, "pause").status_code == 204
    assert server.wait_done(run_id)["logs"] == ["up", "end"]
    assert "paused for too long" in server.stderr


def test_the_client(server: Server) -> None:
    with Client(server.url, server.token) as client:
        run_id = running(server, entrypoint=TRAPPING.format(signal="INT"))
        client.pause(run_id)
        assert client.get(run_id).status == "running"
        client.resume(run_id)
        with pytest.raises(InvalidSpec):
            client.stop(run_id, signal="NOPE")
        client.stop(run_id, signal="SIGINT", grace=20)
        assert client.get(run_id).exit_code == 7
        for act in (client.stop, client.pause, client.resume):
            with pytest.raises(RunNotActive):
                act(run_id)
        building = server.start(run=["sleep 60; echo another that nobody waits for"])
        eventually(lambda: server.state(building).get("phase") == "building", "it is built")
        with pytest.raises(RunNotStarted):
            client.pause(building)
        client.stop(building)


def test_a_client_that_hangs_up_gives_its_place_back(start_server: StartServer) -> None:
    # One place to wait for the end of a run.
    server = start_server(settings={"LIGHT_RUN_THREADS": "4"})
    run_id = running(server, entrypoint="echo ready; sleep 60")
    head = f"GET /runs/{run_id}?wait=3600 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    with ExitStack() as stack:

        def taken() -> bool:
            # Whoever finds no place gets the state at once, and has to ask again.
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(head.encode())
            return server.post_run().status_code == 503

        eventually(taken, "the place is taken")
    eventually(lambda: server.post_run().status_code == 200, "the place is free again", within=30)
    assert server.cancel(run_id).status_code == 204
