"""Clients that send slowly: they get an answer, and the thread that they had is free again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from light_run.server.connections import HEAD_TIMEOUT
from light_run.system.deadlines import Deadlines
from tests.support.poll import eventually
from tests.support.server import Server, running_server

BODY_TIMEOUT = 1.0
THREADS = 4
SETTINGS = {
    "DOCKER_HOST": "tcp://127.0.0.1:1",
    "LIGHT_RUN_GRACE": "0",
    "LIGHT_RUN_THREADS": str(THREADS),
    "LIGHT_RUN_BODY_TIMEOUT": str(BODY_TIMEOUT),
}
# Beyond the limit: what noticing and answering may take on a busy machine.
MARGIN = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with few threads that waits a second for bodies."""
    with running_server(tmp_path_factory.mktemp("slow"), settings=SETTINGS, ready=503) as server:
        yield server
        assert server.stop() == 0, server.stderr


class Dribble:
    """A client that sends `head` at once, then `piece` again and again, until the server has had enough."""

    def __init__(self, server: Server, head: bytes, piece: bytes) -> None:
        self._server, self._head, self._piece = server, head, piece
        self.answer = b""
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=60) as connection:
            connection.sendall(self._head)
            connection.settimeout(0.2)
            while time.monotonic() - began < 40:
                try:
                    found = connection.recv(4096)
                except TimeoutError:
                    connection.sendall(self._piece)
                    continue
                except ConnectionResetError:
                    break
                self.answer += found
                if not found or b"\r\n\r\n" in self.answer:
                    break
        self.seconds = time.monotonic() - began


def post(server: Server, framing: str) -> bytes:
    """The head of a POST whose body is still to come."""
    head = f"POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n{framing}\r\n\r\n"
    return head.encode()


@pytest.mark.parametrize(
    ("framing", "first", "piece"),
    [
        ("Content-Length: 100000", b"{", b" "),
        ("Content-Length: 100000", b"", b""),
        ("Transfer-Encoding: chunked", b"", b"1\r\n \r\n"),
        ("Transfer-Encoding: chunked", b"1", b"0"),
    ],
)
def test_a_slow_body(server: Server, framing: str, first: bytes, piece: bytes) -> None:
    client = Dribble(server, post(server, framing) + first, piece)
    client.thread.join()
    assert client.answer.startswith(b"HTTP/1.1 408 "), client.answer
    assert b"\r\nConnection: close\r\n" in client.answer
    assert BODY_TIMEOUT <= client.seconds < BODY_TIMEOUT + MARGIN


def test_slow_bodies_in_all_threads_hold_nobody_up_for_long(server: Server) -> None:
    clients = [Dribble(server, post(server, "Content-Length: 1000"), b" ") for _ in range(THREADS)]
    began = time.monotonic()
    assert server.get("/health").status_code == 503
    assert time.monotonic() - began < BODY_TIMEOUT + MARGIN
    for client in clients:
        client.thread.join()
        assert b" 408 " in client.answer


def test_slow_headers(server: Server) -> None:
    clients = [
        Dribble(server, b"GET /runs HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
        Dribble(server, b"GET /runs HTT", b""),
    ]
    for client in clients:
        client.thread.join()
        assert client.answer.startswith(b"HTTP/1.1 408 "), client.answer
        assert b"\r\nConnection: close\r\n" in client.answer
        assert HEAD_TIMEOUT - 1 <= client.seconds < HEAD_TIMEOUT + MARGIN
    assert server.get("/health").status_code == 503


def test_a_body_that_comes_in_time_in_pieces(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(post(server, "Content-Length: 2\r\nConnection: close"))
        for byte in (b"{", b"}"):
            connection.sendall(byte)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_kept_connection_outlives_the_limits(server: Server) -> None:
    # Deadlines of requests that are over must not shut the connection of the next.
    request = f"GET /runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        until = time.monotonic() + 2 * BODY_TIMEOUT
        count = 0
        while time.monotonic() < until or count < 2:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"[]"):
                piece = connection.recv(4096)
                assert piece, "the connection was closed"
                answer += piece
            count += 1


def test_a_stopped_deadline_shuts_nothing(tmp_path: Path) -> None:
    deadlines = Deadlines()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stopped = deadlines.start(ours, 0.5)
        deadlines.stop(stopped)
        other, far = socket.socketpair()
        with other, far, deadlines.within(other, 0.5) as passing:
            assert passing is not None
            eventually(lambda: passing.passed, "the other deadline has passed")
            assert other.recv(1) == b""
        theirs.sendall(b"x")
        assert (stopped.passed, ours.recv(1)) == (False, b"x")


def test_clients_that_stay_when_they_were_told_to_go_hold_nobody_up(server: Server) -> None:
    head = (
        f"GET /runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n\r\n"
    )
    with ExitStack() as stack:
        # Were each waited for in the main loop, nobody would be served for a minute and more.
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            connection.sendall(head.encode())
            while connection.recv(4096):
                pass
        assert server.get("/health", timeout=20).status_code == 503
