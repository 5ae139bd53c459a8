"""Slow clients: responses are sent with a timeout for slow readers."""

from __future__ import annotations

import math
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Bytes that a client must read within the limit.
PIECE = 1 << 16
TIMEOUT = 60.0
# Seconds of silence after which TCP probes whether the client is still there.
_IDLE = 15


class SendLimit:
    """WSGI middleware around `app` that closes the connection of a client that reads nothing for `seconds`.

    This requires a server that passes its connection on, as gunicorn does. Sending then fails with TimeoutError.
    """

    def __init__(self, app: WSGIApplication, seconds: float = TIMEOUT) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        connection: socket.socket | None = environ.get("gunicorn.socket")

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., object]:
            # Not earlier: reading the body has its own deadline. The server sets its own timeout again before the next
            # request on this connection.
            if connection is not None:
                _limit(connection, self._seconds)
            return start_response(line, headers, exc_info)

        body = self._app(environ, start)
        return body if hasattr(body, "filelike") else _Pieces(body)


class _Pieces:
    # The timeout applies to each call of send, so large pieces are split.
    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._pieces = self._cut()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _cut(self) -> Iterator[bytes]:
        for whole in self._body:
            if len(whole) <= PIECE:
                yield whole
                continue
            for start in range(0, len(whole), PIECE):
                yield whole[start : start + PIECE]

    def close(self) -> None:
        self._pieces.close()  # type: ignore[attr-defined]
        getattr(self._body, "close", _nothing)()


def _limit(connection: socket.socket, seconds: float) -> None:
    connection.settimeout(seconds)
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # That timeout does not cover data in the system's send buffer. These options drop clients that do not acknowledge
    # it, and detect clients that are no longer reachable.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(seconds * 1000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE)


def is_gone(connection: socket.socket | None) -> bool:
    """Return True if the client has closed `connection`; False if that is not known."""
    if connection is None:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _nothing() -> None:
    """Do nothing, in place of a missing `close`."""
