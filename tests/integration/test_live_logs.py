"""Logs while they are written: over the real server, from real containers, across its end."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from light_run import Client
from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, touch_in
from tests.support.follow import EVENTS, Event, arriving, events, following, never_reading, objects, was_reset
from tests.support.poll import eventually
from tests.support.receiver import Receiver
from tests.support.server import Server, running_server

# Lines of either stream, in steps, so that a server may go between any two. Some wait until the first server is away,
# some for the second one, each for a file.
LINES, AWAY, BACK = 25, 15, 20
COUNT = f"""
n=0
while [ $n -lt {LINES} ]; do
    case $n in {AWAY} | {BACK}) until [ -e /tmp/$n ]; do sleep 0.05; done ;; esac
    echo "out $n"; echo "err $n" >&2; n=$((n + 1)); sleep 0.08
done
"""


def test_lines_come_while_the_run_is_at_work(server: Server) -> None:
    run_id = server.start(entrypoint="echo first; sleep 60")
    with following(server, run_id) as response:
        found = objects(response)
        assert next(found)["text"] == "first"
        assert server.state(run_id)["status"] == "running"
        server.cancel(run_id)
        assert list(found) == []


def test_events_of_a_whole_run(server: Server) -> None:
    run_id = server.start(entrypoint="echo out; sleep 0.2; echo err >&2; printf last; exit 3")
    with following(server, run_id, "", **EVENTS) as response:
        *lines, end = events(response)
    state = server.state(run_id)
    assert [each.data["text"] for each in lines] == state.pop("logs")
    assert [each.data["stream"] for each in lines] == ["stdout", "stderr", "stdout"]
    assert [(each.id, each.kind, each.data["seq"]) for each in lines] == [(seq, "", seq) for seq in range(3)]
    assert (end.id, end.kind, end.data) == (3, "end", state)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_who_comes_back_to_the_next_server_misses_nothing(tmp_path: Path, how: str) -> None:
    found: list[Event] = []
    with ExitStack() as servers:
        first = servers.enter_context(running_server(tmp_path / "state"))
        run_id = first.start(entrypoint=COUNT)
        with following(first, run_id, "", **EVENTS) as response:
            coming = events(response)
            found += [next(coming) for _ in range(20)]
            (container,) = [
                each for each in first.containers() if each["Labels"].get("light-run.run") == run_id
            ]
            ending = threading.Thread(target=getattr(first, how))
            ending.start()
            # The stream ends with the server, and says nothing of the run's end.
            found += coming
            ending.join()
        assert "end" not in {each.kind for each in found}
        touch_in(container["Id"], f"/tmp/{AWAY}")
        second = servers.enter_context(running_server(tmp_path / "state"))
        touch_in(container["Id"], f"/tmp/{BACK}")
        last = {"Last-Event-ID": str(found[-1].id)}
        with following(second, run_id, "tail=1", **EVENTS, **last) as response:
            found += events(response)
        state = second.state(run_id)
        assert [each.id for each in found] == list(range(2 * LINES + 1))
        assert (found[-1].kind, found[-1].data["status"]) == ("end", "succeeded")
        assert [each.data["text"] for each in found[:-1]] == state["logs"]
        for stream in ("out", "err"):
            of_stream = [line for line in state["logs"] if line.startswith(stream)]
            assert of_stream == [f"{stream} {number}" for number in range(LINES)]
        second.wait_clean()


def test_exact_bytes_in_whole_and_in_part(server: Server) -> None:
    run_id = server.start(
        entrypoint="printf '\\377\\0\\r1'; sleep 0.2; printf '\\376' >&2; sleep 0.2; printf '\\r2'"
    )
    server.wait_done(run_id)
    path = f"/runs/{run_id}/output"
    whole = server.get(path)
    assert (whole.content, whole.headers["Content-Type"]) == (b"\xff\0\r1\xfe\r2", "application/octet-stream")
    assert server.get(f"{path}?stream=stdout").content == b"\xff\0\r1\r2"
    assert server.get(f"{path}?stream=stderr").content == b"\xfe"
    part = server.get(path, headers={"Range": "bytes=3-5"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"1\xfe\r", "bytes 3-5/7")
    head = server.request("HEAD", path)
    assert (head.status_code, head.headers["Content-Length"]) == (200, "7")
    large = server.run(entrypoint="head -c 3000000 /dev/urandom | tee copy; sync", extract=["copy"])
    assert server.get(f"/runs/{large['id']}/output").content == server.artifact(large["id"], "copy").content


def test_output_by_stream(server: Server, receiver: Receiver) -> None:
    asked = {"entrypoint": r"printf 'ä\r\nb'; printf '\0\377' >&2", "output": "split", "network": "none"}
    state = server.run(**asked, callbackUrl=receiver.url)
    expected = {"stdout": "ä\r\nb", "stderr": {"content": "AP8=", "encoding": "base64"}}
    (request,) = receiver.wait()
    later, lines = (server.get(f"/runs/{state['id']}{query}").json() for query in ("", "?output=lines"))
    for each in (state, later, request.json()):
        assert {name: each[name] for name in expected} == expected
        assert "logs" not in each
    assert lines["logs"] == ["ä\r", "b", "\0\ufffd"]
    assert not set(expected) & set(lines)
    plain = server.run(entrypoint="echo x")
    assert server.get(f"/runs/{plain['id']}?output=split").json()["stdout"] == "x\n"
    with Client(server.url, server.token) as client:
        run = client.run(BUSYBOX, r"printf '\377'; printf ä >&2", output="split", network="none")
        assert (run.stdout, run.stderr, run.logs) == (b"\xff", "ä".encode(), ())
        assert client.get(run.id, output="lines").stdout is None
        assert client.get(plain["id"], output="split").stdout == b"x\n"


def test_bytes_come_without_a_newline(server: Server) -> None:
    run_id = server.start(entrypoint="printf 'name? '; sleep 0.3; printf '\\r10%%'; sleep 60")
    with server.get(f"/runs/{run_id}/output?follow=true", stream=True) as response:
        coming = response.raw.read_chunked()
        came = b""
        while came != b"name? \r10%":
            came += next(coming)
        assert server.state(run_id)["status"] == "running"
        server.cancel(run_id)
        assert list(coming) == []


def test_followers_leave_room_for_others(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_THREADS": "4", "LIGHT_RUN_MAX_FOLLOWERS": "6"})
    run_id = server.start(entrypoint="echo up; sleep 60")

    def ask() -> requests.Response:
        with server.get(f"/runs/{run_id}/logs?follow=true", stream=True) as response:
            return response

    with ExitStack() as followers:
        streams = [objects(followers.enter_context(following(server, run_id))) for _ in range(6)]
        assert [next(stream)["text"] for stream in streams] == ["up"] * 6
        refused = server.get(f"/runs/{run_id}/logs?follow=true")
        assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        assert int(refused.headers["Retry-After"]) > 0
        assert server.get("/health", timeout=20).status_code == 200
        assert server.run(entrypoint="echo served")["logs"] == ["served"]
        assert server.get(f"/runs/{run_id}/logs").json()["text"] == "up"
    # Those that hang up are noticed, though there is nothing to be sent to them.
    eventually(lambda: ask().status_code == 200, "there is a place again")
    server.cancel(run_id)


def test_a_follower_that_stops_reading_is_dropped(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_FOLLOWERS": "2", "LIGHT_RUN_SEND_TIMEOUT": "4"})
    # As JSON, far more than fits between the server and one that reads nothing.
    run_id = server.start(entrypoint="yes | head -c 600000; sleep 60")
    counted: list[int] = []

    def count() -> None:
        with following(server, run_id) as response:
            counted.append(sum(1 for _ in arriving(response)))

    other = threading.Thread(target=count)
    other.start()
    with never_reading(server, f"/runs/{run_id}/logs?follow=true") as stalled:
        eventually(lambda: "the client did not read" in server.stderr, "it is dropped")
        assert was_reset(stalled)
    # Its place is free.
    with following(server, run_id, "follow=true&tail=1") as third:
        assert next(objects(third))["text"] == "y"
    assert server.state(run_id)["status"] == "running"
    server.cancel(run_id)
    other.join()
    assert counted == [300_000]
