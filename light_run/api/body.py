"""Reading a request's body, bounded in length and time, whatever its headers claim."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, RequestTimeout

from light_run.deadlines import DEADLINES, Deadline

_PIECE = 64 * 1024
# Seconds for all of it.
TIMEOUT = 60.0


def read(request: Request, limit: int, timeout: float = TIMEOUT) -> bytes:
    """The body of `request`. Raises 413 beyond `limit` bytes, 400 where it ends before its stated length.

    408 where it has not arrived within `timeout` seconds: that needs a server that lends its connection, as
    gunicorn does; others have clocks of their own.
    """
    length = request.content_length
    if length is not None and length > limit:
        raise RequestEntityTooLarge(f"the body has {length} bytes; {limit} are the most")
    with DEADLINES.within(request.environ.get("gunicorn.socket"), timeout) as deadline:
        try:
            found = _pieces(request, limit, deadline)
            if length is not None and len(found) < length:
                raise BadRequest("the body ended before its stated length")
        except BadRequest:
            _check(deadline)
            raise
    return found


def _pieces(request: Request, limit: int, deadline: Deadline | None) -> bytes:
    found = bytearray()
    for piece in iter(lambda: _piece(request), b""):
        _check(deadline)
        found += piece
        if len(found) > limit:
            raise RequestEntityTooLarge(f"the body is longer than {limit} bytes, which are the most")
    return bytes(found)


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
