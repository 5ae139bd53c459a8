"""HTTP/1.1 on an engine's unix socket: as much of it as an engine speaks, and no more.

A run makes half a dozen small calls. Through a client made for the web each of them takes several times
the processor time of the call itself, which is why these go the short way. Message format: RFC 9112.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

from light_run.engine.daemon.coding import BodyDecoder, ChunkedDecoder, LengthDecoder
from light_run.errors import EngineUnavailable

_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: (.*))?")
# An engine's heads are a few hundred bytes.
_LONGEST_HEAD = 1 << 16
_READ_SIZE = 1 << 16
# Python itself refuses to read numbers of thousands of them.
_MOST_DIGITS = 18
# Answers without a body.
_EMPTY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class ResponseHead(NamedTuple):
    """Of an answer: status, reason phrase, headers (names in lower case), whether the connection outlasts it."""

    status: int
    reason: str
    headers: dict[str, str]
    lasting: bool

    def coding(self) -> BodyDecoder | None:
        """How the end of the body that follows is found; None where that is the end of the connection.

        Raises EngineUnavailable where that cannot be told.
        """
        if self.status < HTTPStatus.OK:
            return None
        if self.status in _EMPTY:
            return LengthDecoder(0)
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return ChunkedDecoder()
        length = self.headers.get("content-length")
        if length is None:
            return None
        if not length.isdecimal() or len(length) > _MOST_DIGITS:
            raise EngineUnavailable(
                f"the container engine's response is invalid: {length[:40]!r} is not a length"
            )
        return LengthDecoder(int(length))


class HttpResponse(NamedTuple):
    """A whole answer."""

    head: ResponseHead
    body: bytes


class OpenResponse(NamedTuple):
    """An answer whose body is still to come, on a connection of its own; `early` is what came with the head."""

    head: ResponseHead
    connection: socket.socket
    early: bytes


class HttpConnection:
    """Calls to the engine at the unix socket `path`, for one thread at a time.

    One connection is kept between calls. `timeout` is in seconds: for connecting, and for each wait for the
    engine to take or to give something. Raises OSError where the engine does not answer, `EngineUnavailable`
    where what it answers is no HTTP or breaks off.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._idle: socket.socket | None = None

    def call(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout: float | None = None
    ) -> HttpResponse:
        """The answer to one request; `timeout` is this call's own, None for that of all."""
        own = timeout not in (None, self._timeout)
        with _named():
            connection = self._connect(timeout) if own else self._take()
            try:
                connection.sendall(_request(method, target, headers, body))
                head, early = _read_head(connection)
                if method == "HEAD":
                    # Its headers are those of a body that does not come.
                    whole, reusable = b"", head.lasting and not early
                else:
                    whole, reusable = read_body(connection, head, early)
            except BaseException:
                connection.close()
                raise
            if reusable and not own:
                self._idle = connection
            else:
                connection.close()
            return HttpResponse(head, whole)

    def open(self, method: str, target: str, headers: Mapping[str, str]) -> OpenResponse:
        """The answer to one request as far as its head; the connection is the caller's to close."""
        with _named():
            connection = self._connect()
            try:
                connection.sendall(_request(method, target, headers, b""))
                head, early = _read_head(connection)
                return OpenResponse(head, connection, early)
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the connection that is kept, if none is at work on it; the next call makes another."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    def _take(self) -> socket.socket:
        idle, self._idle = self._idle, None
        if idle is None:
            return self._connect()
        try:
            idle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return idle
        except OSError:
            pass
        # The engine hangs up on its idle connections when it is stopped.
        idle.close()
        return self._connect()

    def _connect(self, timeout: float | None = None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _limit(connection, timeout or self._timeout)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


def _limit(connection: socket.socket, seconds: float) -> None:
    # By the kernel: Python's own time-outs cost a poll before each call.
    whole, rest = divmod(seconds, 1)
    timeval = struct.pack("ll", int(whole), int(rest * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


@contextmanager
def _named() -> Iterator[None]:
    # What the kernel says when the time is over would be no help to anybody.
    try:
        yield
    except BlockingIOError as error:
        raise TimeoutError("it took too long") from error


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    fields = {"Host": "engine", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    # In one piece with the body: each write wakes the engine.
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


def _read_head(connection: socket.socket) -> tuple[ResponseHead, bytes]:
    data = b""
    while True:
        end = data.find(_HEAD_END)
        if end >= 0:
            head = _parse(data[:end])
            data = data[end + len(_HEAD_END) :]
            if head.status >= HTTPStatus.OK or head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                return head, data
            # An interim answer; the one it announces follows.
            continue
        if len(data) > _LONGEST_HEAD:
            raise EngineUnavailable("the container engine's response is invalid: its head does not end")
        data += _more(connection)


def _parse(text: bytes) -> ResponseHead:
    first, *lines = text.split(_LINE_END)
    match = _STATUS.fullmatch(first)
    if match is None:
        raise EngineUnavailable(
            f"the container engine's response is invalid: {first[:40]!r} is not a status line"
        )
    headers = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    lasting = match[1] == b"1" and headers.get("connection", "").lower() != "close"
    return ResponseHead(int(match[2]), (match[3] or b"").decode("latin-1"), headers, lasting)


def read_body(connection: socket.socket, head: ResponseHead, early: bytes) -> tuple[bytes, bool]:
    """The body that follows `head`, and whether nothing but the next answer can follow it."""
    coding = head.coding()
    if coding is None:
        return _read_all(connection, early), False
    body = bytearray(coding.feed(early))
    while not coding.ended:
        body += coding.feed(_more(connection))
    remainder = coding.remainder
    while len(remainder) < len(coding.close):
        remainder += _more(connection)
    return bytes(body), head.lasting and remainder == coding.close


def _read_all(connection: socket.socket, early: bytes) -> bytes:
    body = bytearray(early)
    while data := connection.recv(_READ_SIZE):
        body += data
    return bytes(body)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(_READ_SIZE)
    if not data:
        raise EngineUnavailable("the container engine closed the connection in the middle of a response")
    return data
