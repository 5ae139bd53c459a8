"""Open answers of an engine: read and written without blocking, whatever pieces they come in."""

from __future__ import annotations

import itertools
import os
import resource
import select
import socket
import ssl
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.daemon.coding import ChunkedDecoder
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.daemon.wire import HttpConnection
from light_run.errors import EngineUnavailable
from tests.support.certificates import make_certificates
from tests.support.poll import eventually

CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"first second\r\n0\r\nthird"
CODED = b"5\r\nfirst\r\n1;ext=1\r\n \r\n6\r\nsecond\r\n0A\r\n\r\n0\r\nthird\r\n0\r\n\r\n"


@dataclass
class Talk:
    """An answer under way, and the other end of its connection."""

    stream: EngineStream
    engine: socket.socket

    def read(self) -> bytes:
        """What has arrived, once something has."""
        poll = select.poll()
        poll.register(self.stream, select.POLLIN)
        while (data := self.stream.read()) is None:
            assert poll.poll(10_000), "nothing came within 10 s"
        return data

    def read_to_end(self) -> bytes:
        """All that comes until the end."""
        found = b""
        while data := self.read():
            found += data
        return found


def answer(listener: socket.socket, sent: bytes) -> socket.socket:
    """Take one request from `listener`, answer it with `sent`, keep the connection."""
    connection = listener.accept()[0]
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(1 << 16)
    connection.sendall(sent)
    return connection


@contextmanager
def talking(head: bytes = b"", early: bytes = b"", status: bytes = b"200 OK") -> Iterator[Talk]:
    """An answer with the header lines `head`; `early` arrives together with them."""
    sent = b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + early
    with ExitStack() as opened:
        path = opened.enter_context(tempfile.TemporaryDirectory()) + "/engine.sock"
        listener = opened.enter_context(closing(socket.socket(socket.AF_UNIX)))
        listener.bind(path)
        listener.listen()
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(answer, listener, sent)
            answered, connection, read = HttpConnection(path, 10).open("GET", "/", {})
            engine = opened.enter_context(closing(answering.result(10)))
        stream = opened.enter_context(closing(EngineStream(connection, read, answered.coding())))
        yield Talk(stream, engine)


# --- chunked coding ---------------------------------------------------------------------------------------


def test_chunks_cut_anywhere() -> None:
    for begin, end in itertools.combinations(range(len(CODED) + 1), 2):
        dechunker = ChunkedDecoder()
        found = b"".join(map(dechunker.feed, (CODED[:begin], CODED[begin:end], CODED[end:])))
        assert (found, dechunker.ended) == (BODY, True), (begin, end)


def test_chunks_byte_by_byte() -> None:
    dechunker = ChunkedDecoder()
    ends = []
    found = b""
    for byte in CODED:
        found += dechunker.feed(bytes([byte]))
        ends.append(dechunker.ended)
    assert found == BODY
    # The last chunk ends it, whatever trailers follow.
    assert ends.index(True) == CODED.rindex(b"0\r\n\r\n") + 2


def test_nothing_counts_behind_the_last_chunk() -> None:
    dechunker = ChunkedDecoder()
    assert dechunker.feed(b"1\r\na\r\n0\r\nTrailer: x\r\n\r\n5\r\nother\r\n") == b"a"
    assert dechunker.ended
    assert dechunker.feed(b"1\r\nb\r\n") == b""


@given(chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6), data=st.data())
def test_chunks_in_any_pieces(chunks: list[bytes], data: st.DataObject) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(coded)), max_size=12)))
    dechunker = ChunkedDecoder()
    pieces = [coded[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(coded)])]
    assert b"".join(map(dechunker.feed, pieces)) == b"".join(chunks)
    assert dechunker.ended


@pytest.mark.parametrize("coded", [b"zz\r\nx", b"\r\n\r\n", b"-5\r\nabcdefgh", b"5 5\r\nx", b"1_0\r\nx"])
def test_a_garbled_answer_is_an_engine_that_failed(coded: bytes) -> None:
    with talking(CHUNKED) as talk:
        talk.engine.sendall(coded)
        with pytest.raises(EngineUnavailable):
            talk.read_to_end()


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(0, len(CODED) + 1, 7))
def test_what_came_with_the_headers_is_not_lost(cut: int) -> None:
    with talking(CHUNKED, early=CODED[:cut]) as talk:
        talk.engine.sendall(CODED[cut:])
        assert talk.read_to_end() == BODY


def test_an_end_on_a_connection_that_stays_open() -> None:
    # The last data and the end of the body in one piece; nothing more will come to be polled for.
    with talking(CHUNKED, early=b"3\r\nend\r\n0\r\n\r\n") as talk:
        assert talk.read() == b"end"
        assert talk.stream.read() == b""
        assert talk.stream.read() == b""


def test_an_end_that_comes_alone() -> None:
    with talking(CHUNKED, early=b"3\r\nend\r\n") as talk:
        assert talk.read() == b"end"
        assert talk.stream.read() is None
        talk.engine.sendall(b"0\r\n\r\n")
        assert talk.read() == b""


def test_nothing_yet_is_not_the_end() -> None:
    with talking(b"Connection: Upgrade\r\nUpgrade: tcp\r\n", status=b"101 UPGRADED") as talk:
        assert talk.stream.read() is None
        assert not talk.stream.buffered
        talk.engine.sendall(b"raw")
        assert talk.read() == b"raw"
        assert talk.stream.read() is None
        talk.engine.shutdown(socket.SHUT_WR)
        assert talk.read() == b""


def test_an_upgraded_connection_whose_first_bytes_were_early() -> None:
    with talking(b"Connection: Upgrade\r\nUpgrade: tcp\r\n", b"early", b"101 UPGRADED") as talk:
        assert talk.read() == b"early"
        assert talk.stream.read() is None


def test_half_of_a_chunk_s_head_is_nothing_yet() -> None:
    with talking(CHUNKED) as talk:
        talk.engine.sendall(b"1")
        assert select.select([talk.stream], [], [], 10)[0]
        assert talk.stream.read() is None
        talk.engine.sendall(b"\r\nx\r\n")
        assert talk.read() == b"x"


def test_a_broken_connection_is_the_end() -> None:
    with talking(CHUNKED, early=b"5\r\nab") as talk:
        assert talk.read() == b"ab"
        talk.engine.close()
        assert talk.read() == b""


def test_a_stream_that_was_closed_is_at_its_end() -> None:
    with talking(CHUNKED, early=b"5\r\nab") as talk:
        talk.stream.close()
        talk.stream.close()
        assert talk.stream.read() == b""


# --- writing ----------------------------------------------------------------------------------------------


def test_sending_takes_what_fits_and_says_how_much() -> None:
    with talking(b"Upgrade: tcp\r\nConnection: Upgrade\r\n", status=b"101 UPGRADED") as talk:
        block = memoryview(bytes(1 << 22))
        sent = 0
        while count := talk.stream.send(block):
            sent += count
        assert sent
        received = 0
        talk.stream.end_of_input()
        while data := talk.engine.recv(1 << 20):
            received += len(data)
        assert received == sent
        # Only our side was closed.
        talk.engine.sendall(b"an answer")
        assert talk.read() == b"an answer"


def test_sending_to_nobody_is_an_os_error_and_the_end_of_input_is_not() -> None:
    with talking(b"Upgrade: tcp\r\nConnection: Upgrade\r\n", status=b"101 UPGRADED") as talk:
        talk.engine.close()

        def refused() -> bool:
            try:
                talk.stream.send(memoryview(b"x"))
            except OSError:
                return True
            return False

        eventually(refused, "sending is refused")
        talk.stream.end_of_input()


# --- JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [CHUNKED, b""])
def test_json_in_pieces(head: bytes) -> None:
    body = b'{"StatusCode": 137, "Error": null}\n'
    with talking(head) as talk, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(talk.stream.json, 10.0)
        for byte in body:
            talk.engine.sendall(b"1\r\n%c\r\n" % byte if head else b"%c" % byte)
        # It is whole, though the connection stays open.
        assert reading.result(20) == {"StatusCode": 137, "Error": None}


def test_json_that_breaks_off() -> None:
    with talking(early=b'{"StatusCode": 1') as talk:
        talk.engine.close()
        with pytest.raises(EngineUnavailable, match="closed the connection"):
            talk.stream.json()


def test_json_that_does_not_come() -> None:
    with talking(CHUNKED) as talk, pytest.raises(EngineUnavailable, match="stopped"):
        talk.stream.json(timeout=0.05)


@contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    """Have `count` descriptors open, as a server with some hundred runs has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 200:
        pytest.skip(f"no more than {hard} descriptors may be had here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_records_of_tls_are_read_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    make_certificates(folder)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    asking = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as pool, ours, theirs:
        wrapped = pool.submit(serving.wrap_socket, theirs, server_side=True)
        stream = EngineStream(asking.wrap_socket(ours, server_hostname="127.0.0.1"), b"", None)
        with wrapped.result() as peer, closing(stream):
            for _ in range(100):
                peer.sendall(b"x")
            assert eventually(stream.read, "something has come") == b"x" * 100
            assert stream.read() is None
            peer.sendall(b"y")
            peer.shutdown(socket.SHUT_RDWR)
            assert eventually(stream.read, "the rest has come") == b"y"
            assert stream.read() == b""


def test_a_descriptor_beyond_what_select_can_take() -> None:
    with many_descriptors(1100), talking(CHUNKED) as talk:
        assert talk.stream.fileno() > 1024
        with pytest.raises(EngineUnavailable, match="stopped"):
            talk.stream.json(timeout=0.05)
        talk.engine.sendall(b"2\r\n{}\r\n")
        assert talk.stream.json() == {}
