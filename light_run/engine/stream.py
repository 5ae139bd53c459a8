"""Connections to the engine that stay open: a container's stdio, its log, the wait for its exit."""

from __future__ import annotations

import contextlib
import json
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
    """One open answer of the engine, read and written without blocking; poll `fileno()`.

    docker-py has this only as a raw socket that loses what its reader had buffered, so the
    connection is taken from under the response.
    """

    def __init__(self, response: requests.Response) -> None:
        self._response = response
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

    @property
    def buffered(self) -> bool:
        """True where `read` has bytes that no poll will announce."""
        return bool(self._early) or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0)

    def read(self) -> bytes | None:
        """What has arrived; None where nothing has yet, ``b""`` at the end."""
        if self._ended:
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
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0

    def end_of_input(self) -> None:
        """Tell the container that its stdin is at its end."""
        # The container may have exited already, and the engine hung up.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def json(self, timeout: float = 10.0) -> Any:
        """The whole body as JSON, within `timeout` seconds. Raises `EngineUnavailable` where it breaks off."""
        body = bytearray()
        deadline = time.monotonic() + timeout
        while True:
            data = self.read()
            if data is None:
                if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise EngineUnavailable("the container engine stopped in the middle of an answer")
                continue
            body += data
            try:
                # The engine's JSON answers end with a newline; the connection may stay open behind them.
                return json.loads(body)
            except ValueError:
                if not data:
                    raise EngineUnavailable("the container engine hung up") from None

    def close(self) -> None:
        """Close the connection; it is never reused."""
        self._ended = True
        self._response.close()
        self._socket.close()


_LINE_END = b"\r\n"


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
                size = int(self._pending[:line_end].split(b";")[0], 16)
                del self._pending[: line_end + len(_LINE_END)]
                self._left = size + len(_LINE_END) if size else 0
                self.ended = size == 0
        return bytes(out)
