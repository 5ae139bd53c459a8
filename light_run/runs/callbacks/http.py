"""One HTTP POST to an address that was checked, over within a time that counts everything."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import IO, Any, BinaryIO

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from light_run.runs.callbacks.targets import Target

_BLOCK = 1 << 16
# What can go wrong on the way to an answer.
FAILURES = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class PostResponse:
    """What a receiver answered: an HTTP status, and the seconds its Retry-After asks for, if it has one.

    A `status` of None is no answer at all.
    """

    status: int | None = None
    retry_after: float | None = None


NO_ANSWER = PostResponse()


class PostDeadline:
    """The time one POST has, all of it; `cut` ends it early, from another thread."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cut = False
        self._socket: socket.socket | None = None

    @property
    def left(self) -> float:
        """Seconds left. Raises TimeoutError where there are none."""
        left = self._end - time.monotonic()
        if left <= 0 or self._cut:
            raise TimeoutError("the receiver took too long")
        return left

    def hold(self, connected: socket.socket | None) -> None:
        """What to shut down on a `cut`."""
        with self._lock:
            self._socket = connected

    def cut(self) -> None:
        """End it now, with whatever waits on the connection."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                # The peer may have been first.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


def post(
    target: Target, addresses: list[str], headers: Mapping[str, str], body: IO[bytes], deadline: PostDeadline
) -> PostResponse:
    """POST `body` to the first of `addresses` that can be connected to.

    Redirects are answers like any other, and the answer's own body is not read. Raises one of `FAILURES`,
    also for TLS and for time that is over.
    """
    connected = _connect(target, addresses, deadline)
    connection = http.client.HTTPConnection(target.host, target.port)
    # For the Host header alone: the connection is made already.
    connection.default_port = 443 if target.scheme == "https" else 80
    connection.sock = _Timed(connected, deadline)
    try:
        connection.request("POST", target.path, body, dict(headers))
        with connection.getresponse() as response:
            return PostResponse(response.status, retry_after(response.getheader("Retry-After"), time.time()))
    finally:
        deadline.hold(None)
        connection.close()
        connected.close()


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, RFC 9110 section 10.2.3; None for none or nonsense."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _connect(target: Target, addresses: list[str], deadline: PostDeadline) -> socket.socket:
    failure: OSError = OSError("the name has no address")
    for number, address in enumerate(addresses):
        # A dead address must leave time for those behind it.
        share = deadline.left / (len(addresses) - number)
        plain = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        # Held before it connects, so that a cut ends that too.
        deadline.hold(plain)
        try:
            plain.settimeout(share)
            plain.connect((address, target.port))
            if target.scheme == "http":
                return plain
            plain.settimeout(deadline.left)
            secured = _tls().wrap_socket(plain, server_hostname=target.host)
        except OSError as error:
            deadline.hold(None)
            plain.close()
            failure = error
        else:
            deadline.hold(secured)
            return secured
    raise failure


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        # A slim image has no certificates of its own.
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


class _Timed:
    # What http.client needs of a socket, each call of it within what is left of the time.

    def __init__(self, connected: socket.socket, deadline: PostDeadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(self._deadline.left)
            self._socket.sendall(view[:_BLOCK])
            view = view[_BLOCK:]

    def makefile(self, *_: Any) -> BinaryIO:
        return io.BufferedReader(_TimedReader(self._socket, self._deadline))

    def close(self) -> None:
        """The socket is closed by who opened it; http.client would do so before the answer is read."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: PostDeadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.left)
        return self._socket.recv_into(buffer)
