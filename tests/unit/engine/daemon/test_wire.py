"""HTTP/1.1 on the engine's socket: answers in any form and any pieces, connections kept and dropped."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from light_run.engine.daemon.stream import EngineStream
from light_run.engine.daemon.wire import HttpConnection, ResponseHead, read_body
from light_run.errors import EngineUnavailable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbo\r\n\r\n1\r\ny\r\n0\r\n\r\n"
SIZED = OK + b"Content-Length: 4\r\n\r\nbody"


class Engine:
    """Answers each request on its socket with the next of `answers`, in the pieces they come in."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: list[list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with closing(connection):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            self.requests.append(request)
            pieces = self.answers.pop(0) if self.answers else []
            for piece in pieces:
                connection.sendall(piece)
            if not pieces:
                return

    def close(self) -> None:
        """Stop answering."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that says what it is told to."""
    with closing(Engine(tmp_path / "engine.sock")) as engine:
        yield engine


@pytest.fixture
def wire(engine: Engine) -> Iterator[HttpConnection]:
    """Calls to it; closed before it is."""
    with closing(HttpConnection(engine.path, 10)) as wire:
        yield wire


def test_a_request_goes_out_in_one_piece_with_its_body(engine: Engine, wire: HttpConnection) -> None:
    engine.answers = [[SIZED]]
    wire.call("POST", "/things?a=b", {"Content-Type": "application/json"}, b'{"x": 1}')
    head, body = engine.requests[0].split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /things?a=b HTTP/1.1",
        b"Host: engine",
        b"Content-Length: 8",
        b"Content-Type: application/json",
    ]
    assert body == b'{"x": 1}'


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (SIZED, 200, b"body"),
        (CHUNKED, 200, b"bo\r\ny"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, 200, b"body"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 200\r\ncontent-length:4\r\n\r\nbody", 200, b"body"),
    ],
)
def test_an_answer_comes_whole_and_the_connection_is_kept(
    engine: Engine, wire: HttpConnection, answer: bytes, status: int, body: bytes
) -> None:
    engine.answers = [[answer], [SIZED]]
    # docker-py gives the time-out of all with each call.
    first = wire.call("GET", "/", {}, b"", timeout=10)
    assert (first.head.status, first.body) == (status, body)
    assert wire.call("GET", "/", {}, b"").body == b"body"
    assert engine.connections == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cuts=st.lists(st.integers(1, len(CHUNKED) - 1), unique=True).map(sorted))
def test_an_answer_may_come_in_any_pieces(engine: Engine, wire: HttpConnection, cuts: list[int]) -> None:
    engine.answers = [
        [CHUNKED[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(CHUNKED)], strict=True)]
    ]
    assert wire.call("GET", "/", {}, b"").body == b"bo\r\ny"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        SIZED + b"what is this",
        CHUNKED.replace(b"\r\n0\r\n\r\n", b"\r\n0\r\nTrailer: x\r\n\r\n"),
    ],
)
def test_a_connection_that_may_not_be_used_again_is_not(
    engine: Engine, wire: HttpConnection, answer: bytes
) -> None:
    engine.answers = [[answer], [SIZED]]
    assert wire.call("GET", "/", {}, b"").body.startswith(b"bo")
    assert wire.call("GET", "/", {}, b"").body == b"body"
    assert engine.connections == 2


@pytest.mark.parametrize("header", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_to_head_has_no_body(engine: Engine, wire: HttpConnection, header: bytes) -> None:
    engine.answers = [[OK + b"X-Stat: 1\r\n" + header + b"\r\n"]] * 2
    for _ in range(2):
        answer = wire.call("HEAD", "/x", {}, b"")
        assert (answer.head.status, answer.head.headers["x-stat"], answer.body) == (200, "1", b"")
    assert engine.connections == 1


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(b" of it")
        theirs.shutdown(socket.SHUT_WR)
        assert read_body(ours, ResponseHead(200, "OK", {}, lasting=True), b"all") == (b"all of it", False)


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
def test_an_open_answer_ends_with_its_body(engine: Engine, wire: HttpConnection, answer: bytes) -> None:
    engine.answers = [[answer[:-3], answer[-3:]]]
    head, connection, early = wire.open("GET", "/", {})
    with closing(EngineStream(connection, early, head.coding())) as stream:
        assert b"".join(stream.chunks(10)) in (b"body", b"bo\r\ny")


def test_an_open_answer_that_breaks_off_is_told_from_its_end(engine: Engine, wire: HttpConnection) -> None:
    engine.answers = [[CHUNKED[:-9]]]
    head, connection, early = wire.open("GET", "/", {})
    with closing(EngineStream(connection, early, head.coding())) as stream:
        connection.shutdown(socket.SHUT_WR)
        with pytest.raises(EngineUnavailable, match="in the middle of a response"):
            list(stream.chunks(10))


def test_an_idle_connection_the_engine_hung_up_on_is_replaced(engine: Engine, wire: HttpConnection) -> None:
    engine.answers = [[SIZED], [SIZED]]
    wire.call("GET", "/", {}, b"")
    kept = wire._idle
    assert kept is not None
    kept.shutdown(socket.SHUT_RDWR)
    assert wire.call("GET", "/", {}, b"").body == b"body"
    assert engine.connections == 2


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([b"SSH-2.0-nothing\r\n\r\n"], "is not a status line"),
        ([OK + b"Content-Length: many\r\n\r\n"], "is not a length"),
        ([OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"], "is not a length"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"], "is no chunk's head"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000], "head does not end"),
        ([], "closed the connection in the middle"),
    ],
)
def test_what_is_no_answer_is_named(
    engine: Engine, wire: HttpConnection, pieces: list[bytes], fault: str
) -> None:
    engine.answers = [pieces]
    with pytest.raises(EngineUnavailable, match=fault):
        wire.call("GET", "/", {}, b"")


def test_a_silent_engine_is_waited_for_so_long(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        begun = time.monotonic()
        with closing(HttpConnection(str(tmp_path / "silent.sock"), 30)) as wire, pytest.raises(TimeoutError):
            wire.call("GET", "/_ping", {}, b"", timeout=0.05)
        assert time.monotonic() - begun < 30


def test_no_engine_at_all_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        HttpConnection(str(tmp_path / "nobody.sock"), 1).call("GET", "/", {}, b"")
