"""Reading of request bodies, bounded in length and time whatever the headers claim."""

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
# Bytes that give a body which may be long another second.
PACE = 32 * 1024
# Seconds for which a refused body is still read.
LINGER = 5.0


def read(request: Request, limit: int, timeout: float = TIMEOUT) -> bytes:
    """The body of `request`. Raises 413 beyond `limit` bytes, 400 where it ends before its stated length.

    408 where it has not arrived within `timeout` seconds: that needs a server that lends its connection, as
    gunicorn does; others have clocks of their own.
    """
    found = bytearray()
    for piece in stream(request, limit, timeout, pace=None):
        found += piece
    return bytes(found)


def stream(
    request: Request, limit: int, timeout: float = TIMEOUT, pace: float | None = PACE
) -> Generator[bytes, None, None]:
    """The body of `request` in pieces, and what `read` raises; each `pace` bytes of it give it another second."""
    length = request.content_length
    if length is not None and length > limit:
        raise RequestEntityTooLarge(f"the body has {length} bytes; {limit} are the most")
    found = 0
    with DEADLINES.within(request.environ.get("gunicorn.socket"), timeout) as deadline:
        try:
            for piece in iter(lambda: _piece(request), b""):
                _check(deadline)
                found += len(piece)
                if found > limit:
                    raise RequestEntityTooLarge(f"the body is longer than {limit} bytes, which are the most")
                if deadline is not None and pace is not None:
                    deadline.at += len(piece) / pace
                yield piece
            if length is not None and found < length:
                raise BadRequest("the body ended before its stated length")
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
        # The server's own exceptions for a broken connection or chunk are not known here by name.
        raise BadRequest("the body could not be read to its end") from error


@contextmanager
def drained(request: Request) -> Iterator[None]:
    """Where the block raises, read on for a while: many a client looks for an answer only once it has sent all.

    Closing the connection on what is still under way would lose the answer on the way there.
    """
    try:
        yield
    except BaseException:
        until = time.monotonic() + LINGER
        with DEADLINES.within(request.environ.get("gunicorn.socket"), LINGER), suppress(HTTPException):
            while time.monotonic() < until and _piece(request):
                pass
        raise
