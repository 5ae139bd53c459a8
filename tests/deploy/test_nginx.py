"""``deploy/nginx.conf``: real nginx in front of real gunicorn."""

from __future__ import annotations

import hashlib
import json
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.deploy.conftest import ACCEL, SLOW_SECONDS, Front, SlowRun, open_folder, running_front
from tests.support.engine import BUSYBOX, PYTHON
from tests.support.follow import EVENTS, arriving, following
from tests.support.multipart import TYPE, body, part, request_part
from tests.support.nginx import running_nginx
from tests.support.poll import eventually
from tests.support.raw import raw_request
from tests.support.server import free_port, log_events, run_request
from tests.support.uploading import run_folders, upload

MB = 1_000_000
LARGE = 100 * MB


def assert_json_error(response: requests.Response, status: int, word: str) -> None:
    """`response` is `status` with a JSON object whose `error` is `word`."""
    assert response.status_code == status, response.text[:300]
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["error"] == word


def test_a_run_through_nginx(either_front: Front) -> None:
    server = either_front.proxied
    assert server.get("/health").json()["status"] == "ok"
    state = server.run(entrypoint="cat main.txt; echo x > out", extract=["out"])
    assert state["logs"] == ["hello"]
    assert server.artifact(state["id"], "out").content == b"x\n"
    run_id = server.start(entrypoint="sleep 60")
    assert server.cancel(run_id).status_code == 204
    assert server.wait_done(run_id)["status"] == "cancelled"
    assert server.request("GET", "/runs", token="").status_code == 401


def test_one_guesser_keeps_nobody_else_out(front: Front) -> None:
    def guess(claimed: str) -> bytes:
        head = f"GET /runs HTTP/1.0\r\nHost: x\r\nX-Forwarded-For: {claimed}\r\nAuthorization: Bearer wrong\r\n\r\n"
        address = ("127.0.0.1", front.proxied.port)
        with socket.create_connection(address, source_address=("127.0.0.2", 0)) as connection:
            connection.sendall(head.encode())
            return connection.recv(65536).split(b" ")[1]

    # What a client says of itself is no way out, and no way to have another kept out.
    assert {guess(f"127.0.0.{number}") for number in range(20)} == {b"401"}
    assert guess("127.0.0.77") == b"429"
    assert front.proxied.get("/runs").status_code == 200


def test_a_body_of_9_mb(front: Front) -> None:
    state = front.proxied.run(files={"large": "x" * (9 * MB)}, entrypoint="wc -c < large")
    assert state["logs"] == [str(9 * MB)]


def test_a_body_at_the_limit(front: Front) -> None:
    frame = len(json.dumps(run_request(files={"a": ""}, entrypoint="wc -c < a")))
    state = front.proxied.run(files={"a": "x" * (10_485_760 - frame)}, entrypoint="wc -c < a")
    assert state["logs"] == [str(10_485_760 - frame)]


def refused(front: Front) -> int:
    """How many POSTs light-run itself has refused; the others of this front may be logged at any time."""
    posts = [event for event in log_events(front.direct.stderr) if event.get("method") == "POST"]
    return sum(event["status"] >= 400 for event in posts)


def test_a_body_over_the_limit_is_json_and_never_reaches_light_run(front: Front) -> None:
    before = refused(front)
    body = json.dumps(run_request(files={"a": "x" * 10_485_760})).encode()
    try:
        response = front.proxied.request("POST", "/run", data=body)
    except requests.ConnectionError:
        pytest.fail("nginx closed the connection before its answer could be read")
    assert_json_error(response, 413, "payload_too_large")
    chunked = front.proxied.request("POST", "/run", data=iter([b"x" * MB] * 12))
    assert_json_error(chunked, 413, "payload_too_large")
    assert refused(front) == before


def test_an_upload_is_passed_on_as_it_comes(front: Front) -> None:
    state = upload(front.proxied, 30 * MB)
    assert (state["status"], state["logs"]) == ("succeeded", [str(30 * MB)])
    parts = (request_part(image=BUSYBOX), part("f", b"x" * 30 * MB, "a"))
    lines = f"Content-Type: {TYPE}\r\nAuthorization: Bearer {front.direct.token}\r\nContent-Length: {31 * MB}"
    workspaces = set(run_folders(front.direct))
    with socket.create_connection(("127.0.0.1", front.proxied.port), timeout=30) as connection:
        connection.sendall(f"POST /run HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode() + body(*parts)[:MB])
        eventually(lambda: set(run_folders(front.direct)) - workspaces, "light-run has what came so far")
    eventually(lambda: set(run_folders(front.direct)) <= workspaces, "nothing is left of it")


def test_a_refused_upload_is_answered_through_nginx(front: Front) -> None:
    sent = body(part("f", b"x" * 12 * MB, "../a"))
    answer = front.proxied.request("POST", "/run", data=sent, headers={"Content-Type": TYPE})
    assert_json_error(answer, 400, "bad_request")
    assert front.proxied.request("POST", "/-/upload", data=b"{}").status_code == 404


def test_an_artifact_that_is_shown(either_front: Front) -> None:
    server = either_front.proxied
    run_id = server.run(entrypoint="echo x > page.html", extract=["page.html"])["id"]
    shown = server.artifact(run_id, "page.html?inline=true")
    assert (shown.status_code, shown.content) == (200, b"x\n")
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
    assert shown.headers["Content-Security-Policy"] == "sandbox"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" not in server.artifact(run_id, "page.html").headers


@pytest.mark.last
@pytest.mark.timeout(240)
def test_a_synchronous_run_longer_than_a_minute(slow_run: SlowRun) -> None:
    slow_run.thread.join(200)
    assert slow_run.errors == []
    (response,) = slow_run.answers
    assert response.status_code == 200, response.text
    state = response.json()
    assert (state["status"], state["logs"]) == ("succeeded", ["begun", "ended"])
    assert state["durationMs"] >= SLOW_SECONDS * 1000


def test_an_artifact_of_100_mb(either_front: Front) -> None:
    server = either_front.proxied
    state = server.run(
        entrypoint=f"head -c {LARGE} /dev/urandom > large; sha256sum large | cut -d' ' -f1", extract=["large"]
    )
    assert state["status"] == "succeeded", state
    digest, size = hashlib.sha256(), 0
    with server.artifact(state["id"], "large", stream=True) as response:
        assert response.status_code == 200
        assert response.headers["Content-Length"] == str(LARGE)
        for chunk in response.iter_content(MB):
            digest.update(chunk)
            size += len(chunk)
    assert (size, digest.hexdigest()) == (LARGE, state["logs"][0])

    part = server.artifact(state["id"], "large", headers={"Range": "bytes=99999990-"})
    assert (part.status_code, len(part.content)) == (206, 10)
    assert part.headers["Content-Range"] == f"bytes 99999990-99999999/{LARGE}"


def test_who_sends_an_artifact(fronts: dict[str, Front]) -> None:
    for name, front in fronts.items():
        state = front.direct.run(entrypoint="echo content > out", extract=["out"])
        direct = front.direct.artifact(state["id"], "out")
        if name == "accelerated":
            assert direct.headers["X-Accel-Redirect"] == f"{ACCEL}/{state['id']}/out"
            assert direct.content == b""
        else:
            assert "X-Accel-Redirect" not in direct.headers
        proxied = front.proxied.artifact(state["id"], "out")
        assert proxied.content == b"content\n"
        assert "X-Accel-Redirect" not in proxied.headers
        assert proxied.headers["Content-Type"] == "application/octet-stream"
        assert proxied.headers["Content-Disposition"] == 'attachment; filename="out"'


def test_ranges_etag_and_head_through_nginx(either_front: Front) -> None:
    server = either_front.proxied
    run_id = server.run(entrypoint="printf 0123456789 > out", extract=["out"])["id"]
    whole = server.artifact(run_id, "out")
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = server.artifact(run_id, "out", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert server.artifact(run_id, "out", headers={"Range": "bytes=10-"}).status_code == 416
    known = server.artifact(run_id, "out", headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    head = server.request("HEAD", f"/runs/{run_id}/artifacts/out")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "10")


@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_logs_come_through_nginx_as_they_are_written(either_front: Front, headers: dict[str, str]) -> None:
    server = either_front.proxied
    run_id = server.start(entrypoint="echo first; sleep 60")
    with following(server, run_id, "follow=true", **headers) as response:
        lines = arriving(response)
        assert any(b"first" in line for line in lines)
        assert server.state(run_id)["status"] == "running"
        server.cancel(run_id)
        rest = b"".join(lines)
    assert (b"event: end" in rest) == bool(headers)


def test_a_follower_that_hangs_up_on_nginx_leaves_its_place() -> None:
    with (
        open_folder() as folder,
        running_front(folder / "few", LIGHT_RUN_THREADS="4", LIGHT_RUN_MAX_FOLLOWERS="1") as front,
    ):
        server = front.proxied
        run_id = server.start(entrypoint="sleep 60")

        def status() -> int:
            with server.get(f"/runs/{run_id}/logs?follow=true", stream=True) as response:
                return response.status_code

        with following(server, run_id):
            assert status() == 503
            assert server.get("/health").status_code == 200
        eventually(lambda: status() == 200, "there is a place again")
        server.cancel(run_id)
        server.wait_done(run_id)


NAMES = [
    "with blank.txt",
    "\u00fcbung-\u4e2d.txt",
    "100%25.txt",
    "a?b=c&d#e",
    "quote\"'.txt",
    "a+b;c,d",
    "new\nline",
    "d/e/f",
]


@pytest.mark.parametrize("name", NAMES)
def test_artifacts_of_every_name(either_front: Front, name: str) -> None:
    server = either_front.proxied
    state = server.run(
        env={"NAME": name},
        entrypoint='mkdir -p "out/$(dirname "$NAME")" && echo x > "out/$NAME"',
        extract=["out"],
    )
    response = server.artifact(state["id"], quote(name))
    assert (response.status_code, response.content) == (200, b"x\n"), (response.status_code, state)


def test_a_name_in_invalid_utf8(either_front: Front) -> None:
    server = either_front.proxied
    program = "import os\nos.mkdir('out')\nopen(b'out/a-\\xff', 'w').write('x')\n"
    state = server.run(image=PYTHON, files={"m.py": program}, entrypoint="python3 m.py", extract=["out"])
    response = server.artifact(state["id"], "a-%FF")
    assert (response.status_code, response.content) == (200, b"x")


def test_an_archive_through_nginx(either_front: Front) -> None:
    server = either_front.proxied
    run_id = server.run(entrypoint="mkdir out; seq 100000 > out/numbers", extract=["out"])["id"]
    response = server.get(f"/runs/{run_id}/artifacts?archive=zip")
    assert response.status_code == 200
    assert response.content[:2] == b"PK"


@pytest.mark.parametrize("target", ["", "/", "/x", "/../x", "/%2e%2e/x"])
def test_the_internal_location_is_not_for_clients(fronts: dict[str, Front], target: str) -> None:
    server = fronts["accelerated"].proxied
    run_id = server.run(entrypoint="echo secret-content > out", extract=["out"])["id"]
    for path in (f"{ACCEL}{target}", f"{ACCEL}/{run_id}/out"):
        answer = raw_request(server, "GET", path.encode())
        assert answer.status in (400, 404), answer
        assert b"secret-content" not in answer.body
        assert "error" in json.loads(answer.body)


@pytest.mark.parametrize(
    "path",
    [b"../x", b"..%2fx", b"%2e%2e/x", b"%2e%2e%2fx", b"..%5cx", b"a/../../x", b"%00", b"../../../../../../x"],
)
def test_a_path_that_leaves_is_refused_through_nginx_too(either_front: Front, path: bytes) -> None:
    server = either_front.proxied
    run_id = server.run(entrypoint="echo x > out", extract=["out"])["id"]
    answer = raw_request(server, "GET", f"/runs/{run_id}/artifacts/".encode() + path)
    assert answer.status == 400, answer
    assert json.loads(answer.body)["error"] in ("invalid_path", "bad_request")


def test_an_artifact_that_is_not_there_is_json(either_front: Front) -> None:
    server = either_front.proxied
    run_id = server.run(entrypoint="echo x > out", extract=["out"])["id"]
    assert_json_error(server.artifact(run_id, "gone"), 404, "artifact_not_found")


def test_nginx_s_own_refusals_are_json(front: Front) -> None:
    server = front.proxied
    assert_json_error(server.get("/" + "x" * 20_000), 414, "uri_too_long")
    assert_json_error(server.get("/health", headers={"X-Large": "x" * 40_000}), 431, "headers_too_large")
    answer = raw_request(server, "GET", b"/%zz")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "bad_request"})


def test_a_server_that_is_away_is_json(tmp_path: Path) -> None:
    with running_nginx(tmp_path / "nginx", upstream=free_port(), artifacts=tmp_path) as url:
        response = requests.get(f"{url}/health", timeout=20)
    assert_json_error(response, 503, "unavailable")
    assert response.headers["Retry-After"]


def test_clients_that_send_slowly_hold_no_thread() -> None:
    with (
        open_folder() as folder,
        running_front(folder / "slow", LIGHT_RUN_THREADS="4") as front,
        ExitStack() as held,
    ):
        for _ in range(12):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", front.proxied.port)))
            head = f"POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.proxied.token}\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert front.proxied.get("/health", timeout=10).status_code == 200
        assert front.proxied.run(entrypoint="echo served")["logs"] == ["served"]
