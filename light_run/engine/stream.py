"""Connections to the engine that stay open: a container's stdio, its log, the wait for its exit."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import time
from typing import Any

import requests

from light_run.errors import EngineUnavailable

# One read takes what the engine has; more than this at once would only cost memory.
READ_SIZE = 1 << 18


class EngineStream:
    """One open answer of the engine, read and written without blocking; poll `fileno()` and `stdin_fileno()`.

    What is written goes by `stdin`, another one that is closed with this one, where that is given.

    docker-py has this only as a raw socket that loses what its reader had buffered, so the
    connection is taken from under the response.
    """

    def __init__(self, response: requests.Response, stdin: EngineStream | None = None) -> None:
        self._response = response
        self._stdin = stdin
        http_response: Any = response.raw._fp
        reader = http_response.fp
        raw = reader.raw
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._socket.setblocking(False)
        self._dechunker = _Dechunker() if http_response.chunked else None
        try:
            self._early: bytes = reader.read1(READ_SIZE) or b""
        except ssl.SSLWantReadError:
            self._early = b""
        self._ended = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def stdin_fileno(self) -> int:
        """The descriptor to poll for when `send` may go on."""
        return self.fileno() if self._stdin is None else self._stdin.fileno()

    @property
    def buffered(self) -> bool:
        """True where `read` has something that no poll will announce."""
        if self._ended:
            return False
        return (
            bool(self._early)
            or self._at_end
            or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0)
        )

    @property
    def _at_end(self) -> bool:
        # The connection may stay open behind the last chunk, and then nothing more comes on it.
        return self._dechunker is not None and self._dechunker.ended

    def read(self) -> bytes | None:
        """What has arrived; None where nothing has yet, ``b""`` at the end."""
        if self._ended or self._at_end:
            self._ended = True
            return b""
        if self._early:
            data, self._early = self._early, b""
        else:
            try:
                data = self._socket.recv(READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            except OSError:
                data = b""
        if data and self._dechunker is not None:
            data = self._dechunker.feed(data)
            if not data and not self._dechunker.ended:
                return None
        self._ended = not data
        return data

    def send(self, data: memoryview) -> int:
        """Send what fits now; how many bytes that were. Raises OSError where the peer is gone."""
        if self._stdin is not None:
            return self._stdin.send(data)
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0

    def end_of_input(self) -> None:
        """Tell the container that its stdin is at its end."""
        if self._stdin is not None:
            self._stdin.end_of_input()
            return
        # The container may have exited already, and the engine hung up. Under TLS this ends both directions.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def json(self, timeout: float = 10.0) -> Any:
        """The whole body as JSON, within `timeout` seconds. Raises `EngineUnavailable` where it breaks off."""
        body = bytearray()
        deadline = time.monotonic() + timeout
        while True:
            data = self.read()
            if data is None:
                if not self._readable(max(0.0, deadline - time.monotonic())):
                    raise EngineUnavailable("the container engine stopped in the middle of an answer")
                continue
            body += data
            try:
                # The engine's JSON answers end with a newline; the connection may stay open behind them.
                answer = json.loads(body)
            except ValueError:
                if not data:
                    raise EngineUnavailable("the container engine hung up") from None
            else:
                self._ended = True
                return answer

    def _readable(self, timeout: float) -> bool:
        # Not by select, which takes no descriptor beyond 1023.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        """Close the connection; it is never reused."""
        self._ended = True
        if self._stdin is not None:
            self._stdin.close()
        # Not the response's own close, which would give the connection back to the pool it came from.
        self._response.raw.close()
        self._socket.close()


_LINE_END = b"\r\n"
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class _Dechunker:
    # HTTP/1.1's chunked coding, RFC 9112 section 7.1, fed with whatever pieces a non-blocking socket gives.

    def __init__(self) -> None:
        self._pending = bytearray()
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        self._pending += data
        out = bytearray()
        while self._pending and not self.ended:
            if self._left > len(_LINE_END):
                piece = self._pending[: self._left - len(_LINE_END)]
                del self._pending[: len(piece)]
                self._left -= len(piece)
                out += piece
            elif self._left:
                # The line end behind a chunk.
                gone = min(self._left, len(self._pending))
                del self._pending[:gone]
                self._left -= gone
            else:
                line_end = self._pending.find(_LINE_END)
                if line_end < 0:
                    break
                size = _chunk_size(self._pending[:line_end])
                del self._pending[: line_end + len(_LINE_END)]
                self._left = size + len(_LINE_END) if size else 0
                self.ended = size == 0
        return bytes(out)


def _chunk_size(line: bytearray) -> int:
    match = _CHUNK_HEAD.fullmatch(line)
    if match is None:
        raise EngineUnavailable(
            f"the container engine's answer is garbled: {bytes(line[:40])!r} is no chunk's head"
        )
    return int(match[1], 16)
