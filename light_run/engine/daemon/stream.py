"""Connections to the engine that stay open: a container's stdio, its log, the wait for its exit."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Protocol

from light_run.engine.daemon.coding import BodyDecoder
from light_run.errors import EngineUnavailable

# One read takes what the engine has; more than this at once would only cost memory.
READ_SIZE = 1 << 18


class Closeable(Protocol):
    """What is closed together with a stream."""

    def close(self) -> object:
        """Close it."""


class EngineStream:
    """One open answer of the engine, read and written without blocking; poll `fileno()` and `stdin_fileno()`.

    `connection` is its own from here on, and `held`, which keeps it open, where there is such a thing;
    `early` is what was read of the body already, `coding` tells where it ends.
    """

    def __init__(
        self,
        connection: socket.socket,
        early: bytes,
        coding: BodyDecoder | None,
        held: Closeable | None = None,
    ) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._early = early
        self._held = held
        self._stdin: EngineStream | None = None
        self._coding = coding
        self._ended = False

    def use_for_input(self, stdin: EngineStream) -> None:
        """Have what is written go by `stdin`, which is closed with this one."""
        self._stdin = stdin

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
        # The connection may stay open behind the body, and then nothing more comes on it.
        return self._coding is not None and self._coding.ended

    def read(self) -> bytes | None:
        """What has arrived; None where nothing has yet, ``b""`` at the end."""
        if self._ended or self._at_end:
            self._ended = True
            return b""
        if self._early:
            data, self._early = self._early, b""
        else:
            try:
                data = self._receive()
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            except OSError:
                data = b""
        if data and self._coding is not None:
            data = self._coding.feed(data)
            if not data and not self._coding.ended:
                return None
        self._ended = not data
        return data

    def _receive(self) -> bytes:
        data = self._socket.recv(READ_SIZE)
        if not data or not isinstance(self._socket, ssl.SSLSocket):
            return data
        # One call returns one record of TLS, such as a single line: what came together is returned together.
        pieces, size = [data], len(data)
        with contextlib.suppress(OSError):
            while size < READ_SIZE and (data := self._socket.recv(READ_SIZE - size)):
                pieces.append(data)
                size += len(data)
        return b"".join(pieces)

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
                    raise EngineUnavailable("the container engine stopped in the middle of a response")
                continue
            body += data
            try:
                # The engine's JSON answers end with a newline; the connection may stay open behind them.
                answer = json.loads(body)
            except ValueError:
                if not data:
                    raise EngineUnavailable("the container engine closed the connection") from None
            else:
                self._ended = True
                return answer

    def chunks(self, timeout: float) -> Iterator[bytes]:
        """The body piece by piece, each within `timeout` seconds. Raises `EngineUnavailable` where it breaks off."""
        while (data := self.read()) != b"":
            if data is not None:
                yield data
            elif not self._readable(timeout):
                raise EngineUnavailable("the container engine stopped in the middle of a response")
        if self._coding is not None and not self._at_end:
            raise EngineUnavailable("the container engine closed the connection in the middle of a response")

    def _readable(self, timeout: float) -> bool:
        if self.buffered:
            return True
        # Not by select, which takes no descriptor beyond 1023.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        """Close the connection; it is never reused."""
        self._ended = True
        if self._stdin is not None:
            self._stdin.close()
        if self._held is not None:
            self._held.close()
        self._socket.close()
