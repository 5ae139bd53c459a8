"""Connections that need no thread: those whose request has not arrived yet, and those whose response is being read.

gunicorn's main loop waits for all of them at once. A thread gets a connection once the head of its request is there.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Maximum bytes of the head of a request.
LARGEST_HEAD = 32 * 1024
# Seconds within which the head of a request must arrive.
HEAD_TIMEOUT = 10.0
# Seconds that a client which may still be sending gets to read its response before the connection is closed.
LINGER = 2.0

_END = b"\r\n\r\n"
_PIECE = 1 << 16
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


@dataclass
class _Waiting:
    # A connection of gunicorn's, and what has arrived of its request.
    connection: Any
    deadline: float
    head: bytearray = field(default_factory=bytearray)


class RequestHeads:
    """Reads the heads of requests, without a thread and within `HEAD_TIMEOUT` seconds.

    `complete` gets a connection with its request's head and whatever came behind that, or with what a client sent that
    has closed the connection. `refuse` gets one whose head is too slow (408) or too large (431), `drop` one that sent
    nothing. With `peek`, a connection is complete once there is anything to read, which is left unread.
    """

    def __init__(
        self,
        poller: selectors.BaseSelector,
        *,
        complete: Callable[[Any, bytes], object],
        refuse: Callable[[Any, int], object],
        drop: Callable[[Any], object],
        peek: bool = False,
    ) -> None:
        self._poller = poller
        self._complete = complete
        self._refuse = refuse
        self._drop = drop
        self._peek = peek
        # By descriptor, in the order of their deadlines.
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()

    def add(self, connection: Any) -> None:
        """Wait for the head of a request on `connection`."""
        sock = connection.sock
        sock.setblocking(False)
        waiting = _Waiting(connection, time.monotonic() + HEAD_TIMEOUT)
        self._poller.register(sock, selectors.EVENT_READ, lambda _: self._read(waiting))
        self._waiting[sock.fileno()] = waiting

    def sweep(self, now: float) -> None:
        """End the connections whose deadline has passed."""
        while self._waiting and (first := next(iter(self._waiting.values()))).deadline <= now:
            self._forget(first)
            if first.head:
                self._refuse(first.connection, 408)
            else:
                self._drop(first.connection)

    def evict(self) -> bool:
        """End the connection that has waited longest. Returns False if there is none."""
        first = next(iter(self._waiting.values()), None)
        if first is not None:
            self._forget(first)
            self._drop(first.connection)
        return first is not None

    def close(self) -> None:
        """End all connections."""
        while self.evict():
            pass

    def _forget(self, waiting: _Waiting) -> None:
        sock = waiting.connection.sock
        del self._waiting[sock.fileno()]
        self._poller.unregister(sock)

    def _read(self, waiting: _Waiting) -> None:
        if self._peek:
            self._forget(waiting)
            self._complete(waiting.connection, b"")
            return
        try:
            data = waiting.connection.sock.recv(LARGEST_HEAD - len(waiting.head))
        except OSError as error:
            if error.errno not in _AGAIN:
                self._forget(waiting)
                self._drop(waiting.connection)
            return
        if not data and not waiting.head:
            self._forget(waiting)
            self._drop(waiting.connection)
            return
        before = max(0, len(waiting.head) - len(_END))
        waiting.head += data
        if not data or waiting.head.find(_END, before) >= 0:
            self._forget(waiting)
            self._complete(waiting.connection, bytes(waiting.head))
        elif len(waiting.head) >= LARGEST_HEAD:
            self._forget(waiting)
            self._refuse(waiting.connection, 431)


class Lingering:
    """Connections whose response was sent to a client that may still be sending; closed after `LINGER` seconds at most.

    Closing them at once would lose the response on its way. `drop` gets each connection once it is to be closed.
    """

    def __init__(self, poller: selectors.BaseSelector, drop: Callable[[Any], object]) -> None:
        self._poller = poller
        self._drop = drop
        self._deadlines: OrderedDict[Any, float] = OrderedDict()

    def add(self, connection: Any) -> None:
        """Read what still comes on `connection`, until the client has closed it."""
        sock = connection.sock
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
            self._poller.register(sock, selectors.EVENT_READ, lambda _: self._read(connection))
        except (OSError, ValueError):
            # The client was first.
            self._drop(connection)
        else:
            self._deadlines[connection] = time.monotonic() + LINGER

    def sweep(self, now: float) -> None:
        """Close the connections whose time is over."""
        while self._deadlines and next(iter(self._deadlines.values())) <= now:
            self.evict()

    def evict(self) -> bool:
        """Close the connection that has lingered longest. Returns False if there is none."""
        first = next(iter(self._deadlines), None)
        if first is not None:
            self._close(first)
        return first is not None

    def close(self) -> None:
        """Close all connections."""
        while self.evict():
            pass

    def _read(self, connection: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                if connection.sock.recv(_PIECE):
                    return
            except ConnectionError:
                # Reset by the client.
                pass
            self._close(connection)

    def _close(self, connection: Any) -> None:
        del self._deadlines[connection]
        self._poller.unregister(connection.sock)
        self._drop(connection)
