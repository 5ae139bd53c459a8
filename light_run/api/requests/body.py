"""Reads request bodies, with limits on length and time that do not rely on the headers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, RequestTimeout

from light_run.system.deadlines import DEADLINES, Deadline

_PIECE = 64 * 1024
# Seconds for the whole body.
TIMEOUT = 60.0
# A large body gets one more second for each of these bytes.
PACE = 32 * 1024
# Seconds for which a refused body is still read.
LINGER = 5.0


def read(request: Request, limit: int, timeout: float = TIMEOUT) -> bytes:
    """Return the body of `request`. Raises 413 beyond `limit` bytes, 400 if it is shorter than announced.

    Raises 408 if it has not arrived within `timeout` seconds. This requires a server that passes its connection on, as
    gunicorn does.
    """
    found = bytearray()
    for piece in stream(request, limit, timeout, pace=None):
        found += piece
    return bytes(found)


def stream(
    request: Request, limit: int, timeout: float = TIMEOUT, pace: float | None = PACE
) -> Generator[bytes, None, None]:
    """Yield the body of `request` in pieces; each `pace` bytes give it another second. Raises the same as `read`."""
    length = request.content_length
    if length is not None and length > limit:
        raise RequestEntityTooLarge(f"the body has {length} bytes; the maximum is {limit}")
    found = 0
    with DEADLINES.within(request.environ.get("gunicorn.socket"), timeout) as deadline:
        try:
            for piece in iter(lambda: _piece(request), b""):
                _check(deadline)
                found += len(piece)
                if found > limit:
                    raise RequestEntityTooLarge(f"the body is longer than the maximum of {limit} bytes")
                if deadline is not None and pace is not None:
                    deadline.at += len(piece) / pace
                yield piece
            if length is not None and found < length:
                raise BadRequest("the body is shorter than announced")
        except BadRequest:
            _check(deadline)
            raise


def _check(deadline: Deadline | None) -> None:
    if deadline is not None and deadline.passed:
        raise RequestTimeout("the body took too long to arrive")


def _piece(request: Request) -> bytes:
    try:
        return request.stream.read(_PIECE)
    except HTTPException:
        raise
    except Exception as error:
        # Each server has its own exceptions for a broken connection or chunk.
        raise BadRequest("the body could not be read completely") from error


@contextmanager
def drained(request: Request) -> Iterator[None]:
    """If the block raises, keep reading for a while: many clients read no response before they have sent all.

    Closing the connection while data is still arriving would reset it, and the response would be lost.
    """
    try:
        yield
    except BaseException:
        until = time.monotonic() + LINGER
        with DEADLINES.within(request.environ.get("gunicorn.socket"), LINGER), suppress(HTTPException):
            while time.monotonic() < until and _piece(request):
                pass
        raise
