"""Uploads to a real server: from the files on a client's disk to the run that reads them, and every way out."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time

import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX
from tests.support.multipart import TYPE, body, part, request_part, tar
from tests.support.poll import eventually
from tests.support.raw import raw_request
from tests.support.server import Server
from tests.support.uploading import MIB, peak_rise, run_folders, upload

REQUEST = {"image": BUSYBOX, "network": "none", "entrypoint": "find . -type f | sort | xargs sha256sum"}


def head(server: Server, length: int) -> bytes:
    """The head of an upload of `length` bytes."""
    lines = (
        "POST /run HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {server.token}",
        f"Content-Type: {TYPE}",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def sums(files: dict[str, bytes]) -> list[str]:
    """What the run says of `files`."""
    return [f"{hashlib.sha256(content).hexdigest()}  ./{path}" for path, content in sorted(files.items())]


@pytest.mark.parametrize("workspace", ["bind", "archive"])
@pytest.mark.parametrize("detached", [False, True])
def test_files_archive_and_posted_together(
    server: Server, start_server: StartServer, workspace: str, detached: bool
) -> None:
    if workspace == "archive":
        server = start_server(settings={"LIGHT_RUN_WORKSPACE": "archive"})
    files = {
        "a.bin": bytes(range(256)) * 500,
        "sub/b": b"\r\n--b\r\n",
        "packed/c": b"c" * 1000,
        "posted": b"p",
    }
    request = {**REQUEST, "files": {"posted": "p"}, "detached": detached}
    parts = [
        ("files", ("a.bin", files["a.bin"])),
        ("archive", ("project.tar.gz", tar(("packed/c", files["packed/c"]), mode="w:gz"))),
        ("request", (None, json.dumps(request))),
    ]
    sent = requests.Request("POST", server.url, files=[*parts, ("files", ("b", files["sub/b"]))]).prepare()
    assert isinstance(sent.body, bytes)
    # requests keeps base names only.
    data = sent.body.replace(b'filename="b"', b'filename="sub/b"')
    answer = server.request("POST", "/run", data=data, headers={"Content-Type": sent.headers["Content-Type"]})
    assert answer.status_code == (202 if detached else 200), answer.text
    state = server.wait_done(answer.json()["id"])
    assert (state["status"], state["logs"]) == ("succeeded", sums(files))


def test_a_chunked_body(server: Server) -> None:
    pieces = [body(request_part(**REQUEST), part("f", b"x" * 100_000, "a"))]
    answer = server.request("POST", "/run", data=iter(pieces), headers={"Content-Type": TYPE})
    assert answer.json()["logs"] == sums({"a": b"x" * 100_000})


def test_an_upload_that_waits_outlives_the_server(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    ahead = server.start(entrypoint="sleep 3")
    sent = body(request_part(**REQUEST, detached=True), part("f", "kept", "a"))
    answer = server.request("POST", "/run", data=sent, headers={"Content-Type": TYPE})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    server.kill()
    again = start_server()
    assert again.wait_done(answer.json()["id"])["logs"] == sums({"a": b"kept"})
    again.wait_done(ahead)


def test_a_client_that_goes_away_leaves_nothing(server: Server) -> None:
    sent = body(request_part(**REQUEST), part("f", b"x" * 10 * MIB, "a"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head(server, len(sent)) + sent[: 5 * MIB])
        eventually(lambda: run_folders(server), "files are being written")
    eventually(lambda: not run_folders(server), "nothing is left of them")


def test_a_server_that_is_killed_in_the_middle_clears_up_when_it_is_back(start_server: StartServer) -> None:
    server = start_server()
    sent = body(request_part(**REQUEST), part("f", b"x" * 10 * MIB, "a"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head(server, len(sent)) + sent[: 5 * MIB])
        eventually(lambda: run_folders(server), "files are being written")
        server.kill()
    assert run_folders(server)
    again = start_server()
    eventually(lambda: not run_folders(again), "what an earlier server left is gone", within=30)


def test_a_slow_upload_lives_as_long_as_it_goes_on(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_BODY_TIMEOUT": "4"})
    sent = body(request_part(**REQUEST), part("f", b"x" * 256 * 1024, "a"))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head(server, len(sent)))
        for start in range(0, len(sent), 64 * 1024):
            connection.sendall(sent[start : start + 64 * 1024])
            time.sleep(1.0)
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert time.monotonic() - began > 4
    stalled = head(server, len(sent)) + sent[:1000]
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(stalled)
        assert connection.recv(12) == b"HTTP/1.1 408"
    eventually(lambda: not run_folders(server), "nothing is left of it")


def test_a_client_that_sends_all_first_reads_why_it_was_refused(server: Server) -> None:
    refused = part("archive", b"no archive"), part("f", b"x" * 8 * MIB, "../a")
    for sent in (body(request_part(**REQUEST), *refused), b"no multipart at all" + b"x" * 8 * MIB):
        answer = raw_request(
            server,
            "POST",
            b"/run",
            head=f"Content-Type: {TYPE}\r\nContent-Length: {len(sent)}\r\n".encode(),
            body=sent,
        )
        assert (answer.status, json.loads(answer.body)["error"]) == (400, "bad_request")


def test_memory_stays_flat(start_server: StartServer) -> None:
    server = start_server()
    upload(server, MIB)
    rise, state = peak_rise(server, lambda: upload(server, 100 * MIB))
    assert state["logs"] == [str(100 * MIB)]
    assert rise < 20 * MIB


def test_uploads_at_the_same_time(server: Server) -> None:
    states = {}

    def send(number: int) -> None:
        sent = body(request_part(**REQUEST), part("f", str(number) * 300_000, "a"))
        states[number] = server.request("POST", "/run", data=sent, headers={"Content-Type": TYPE}).json()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, state in states.items():
        assert state["logs"] == sums({"a": str(number).encode() * 300_000})


@pytest.fixture(scope="module")
def pictures(server: Server) -> dict[str, object]:
    """A run whose outputs are taken by patterns, of the workdir and of elsewhere."""
    return server.run(
        entrypoint="mkdir -p out/sub /srv/x; for n in a b; do echo $n > out/$n.png; echo $n > /srv/x/$n.html; done; "
        "echo c > out/c.txt; echo d > out/sub/d.png; ln -s /etc/passwd out/link.png",
        extract=["/app/out/*.png", "out/**/d.*", "/srv/*/[a].html", "out/*.jpg", "/none/*"],
    )


def test_patterns(server: Server, pictures: dict[str, object]) -> None:
    assert pictures["extracted"] == [
        {"path": "/app/out/*.png", "status": "ok", "bytes": 4},
        {"path": "out/**/d.*", "status": "ok", "bytes": 2},
        {"path": "/srv/*/[a].html", "status": "ok", "bytes": 2},
        {"path": "out/*.jpg", "status": "missing", "bytes": 0},
        {"path": "/none/*", "status": "missing", "bytes": 0},
    ]
    listed = server.get(f"/runs/{pictures['id']}/artifacts").json()
    assert [each["path"] for each in listed] == ["a.html", "a.png", "b.png", "d.png"]


def test_artifacts_are_shown_inline_where_asked(server: Server, pictures: dict[str, object]) -> None:
    run_id = str(pictures["id"])
    page = server.artifact(run_id, "a.html?inline=true")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Disposition"] == 'inline; filename="a.html"'
    assert page.headers["Content-Security-Policy"] == "sandbox"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert server.artifact(run_id, "a.png?inline=true").headers["Content-Type"] == "image/png"
    plain = server.artifact(run_id, "a.html?inline=false")
    assert plain.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Security-Policy" not in plain.headers
    wrong = server.artifact(run_id, "a.html?inline=yes")
    assert (wrong.status_code, wrong.json()["details"][0]["path"]) == (400, ["inline"])
