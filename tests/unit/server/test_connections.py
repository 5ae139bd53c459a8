"""Connections without a request: they hold no thread, have ten seconds, and make room for others."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from light_run.server import connections
from light_run.server.connections import LARGEST_HEAD, Lingering, RequestHeads
from light_run.server.http_worker import JsonWorker
from tests.support.poll import eventually
from tests.support.server import Server, free_port, running_server, serve_command

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
THREADS = 4
SETTINGS = {
    "DOCKER_HOST": "tcp://127.0.0.1:1",
    "LIGHT_RUN_GRACE": "0",
    "LIGHT_RUN_THREADS": str(THREADS),
    "LIGHT_RUN_MAX_FOLLOWERS": "0",
}


class Connection:
    """A connection as gunicorn has it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


class Loop:
    """A main loop with the two kinds of connections; what became of each is in the lists."""

    def __init__(self, *, peek: bool = False) -> None:
        self.poller = selectors.DefaultSelector()
        self.complete: list[bytes] = []
        self.refused: list[int] = []
        self.dropped: list[Any] = []
        self.heads = RequestHeads(
            self.poller,
            complete=lambda _, head: self.complete.append(head),
            refuse=lambda _, status: self.refused.append(status),
            drop=self.dropped.append,
            peek=peek,
        )
        self.lingering = Lingering(self.poller, self.dropped.append)

    def turn(self) -> None:
        """Handle what has arrived."""
        for key, _ in self.poller.select(0):
            key.data(key.fileobj)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection as gunicorn has it, and the client's end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours), theirs


Pair = tuple[Connection, socket.socket]
FAR = 1e12


def test_a_head_in_pieces_is_complete_with_its_last_byte(loop: Loop, pair: Pair) -> None:
    connection, client = pair
    loop.heads.add(connection)
    for byte in REQUEST[:-1]:
        client.sendall(bytes([byte]))
        loop.turn()
    assert loop.complete == []
    client.sendall(REQUEST[-1:] + b"body")
    loop.turn()
    assert loop.complete == [REQUEST + b"body"]
    assert not loop.heads.evict()


def test_a_client_that_sends_nothing_is_dropped_and_a_slow_one_refused(loop: Loop, pair: Pair) -> None:
    connection, client = pair
    loop.heads.add(connection)
    loop.heads.sweep(0)
    assert loop.dropped == []
    loop.heads.sweep(FAR)
    assert loop.dropped == [connection]
    loop.heads.add(connection)
    client.sendall(b"G")
    loop.turn()
    loop.heads.sweep(FAR)
    assert loop.refused == [408]


def test_a_head_that_is_too_large_is_refused(loop: Loop, pair: Pair) -> None:
    connection, client = pair
    loop.heads.add(connection)
    client.sendall(b"x" * LARGEST_HEAD)
    while not loop.refused:
        loop.turn()
    assert loop.refused == [431]


def test_a_client_that_hangs_up(loop: Loop, pair: Pair) -> None:
    connection, client = pair
    loop.heads.add(connection)
    client.sendall(b"GET")
    loop.turn()
    client.shutdown(socket.SHUT_WR)
    loop.turn()
    # gunicorn finds out by itself.
    assert loop.complete == [b"GET"]


def test_what_gunicorn_must_read_is_left(pair: Pair) -> None:
    loop = Loop(peek=True)
    connection, client = pair
    loop.heads.add(connection)
    client.sendall(b"\x16\x03")
    loop.turn()
    assert (loop.complete, connection.sock.recv(2)) == ([b""], b"\x16\x03")
    loop.poller.close()


def test_the_oldest_goes_first(loop: Loop) -> None:
    with ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(3)]
        waiting = [Connection(ours) for ours, _ in pairs]
        for connection in waiting:
            loop.heads.add(connection)
        assert loop.heads.evict()
        assert loop.dropped == waiting[:1]
        loop.heads.close()
        assert loop.dropped == waiting


def test_lingering_ends_with_the_client_or_with_its_time(loop: Loop, pair: Pair) -> None:
    connection, client = pair
    loop.lingering.add(connection)
    client.sendall(b"the rest of a body")
    loop.turn()
    loop.lingering.sweep(0)
    assert (loop.dropped, client.recv(1)) == ([], b"")
    client.close()
    loop.turn()
    assert loop.dropped == [connection]


def test_lingering_is_bounded(loop: Loop, pair: Pair) -> None:
    loop.lingering.add(pair[0])
    loop.lingering.sweep(FAR)
    assert loop.dropped == [pair[0]]


@pytest.mark.parametrize("idle", [True, False])
def test_accept_survives_that_no_descriptor_is_left(idle: bool) -> None:
    # The process of the tests itself cannot do without descriptors.
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    enabled: list[bool] = []
    worker = SimpleNamespace(_evict=lambda: idle, set_accept_enabled=enabled.append)
    JsonWorker.accept(worker, Full())  # type: ignore[arg-type]
    assert enabled == ([] if idle else [False])


# --- a server ---------------------------------------------------------------------------------------------


def connect(server: Server, stack: ExitStack, count: int, data: bytes = b"") -> list[socket.socket]:
    """`count` connections on which `data` was sent."""
    opened = []
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        connection.sendall(data)
        opened.append(connection)
    return opened


def is_open(connection: socket.socket) -> bool:
    """Return True if the server has neither answered on the connection nor closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_connections_without_a_request_hold_no_thread(tmp_path: Path) -> None:
    with running_server(tmp_path, settings=SETTINGS, ready=503) as server, ExitStack() as stack:
        silent = connect(server, stack, 8 * THREADS)
        begun = connect(server, stack, 8 * THREADS, b"GET /health HTTP/1.1\r\nX: ")
        unsent = connect(
            server, stack, 8 * THREADS, b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        )
        for connection in unsent:
            # Without a token, and without waiting for the body.
            assert connection.recv(12) == b"HTTP/1.1 401"
        assert server.get("/health").status_code == 503
        assert all(map(is_open, silent + begun)), "they were served before the request that was there"
        eventually(lambda: not any(map(is_open, silent)), "silent connections end", within=20)
        assert server.stop() == 0


def test_idle_connections_make_room(tmp_path: Path) -> None:
    port = free_port()
    # So few that there cannot be a connection for each client.
    command = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *serve_command(port)]
    with running_server(tmp_path, settings=SETTINGS, ready=503, command=command, port=port) as server:
        before = server.processes()
        with ExitStack() as stack:
            idle = connect(server, stack, 300)
            assert server.get("/health").status_code == 503
            assert not is_open(idle[0])
            assert is_open(idle[-1])
        assert server.processes() == before
        assert "Traceback" not in server.stderr
        assert server.stop() == 0


def test_the_time_for_a_head_is_ten_seconds() -> None:
    assert connections.HEAD_TIMEOUT == 10
