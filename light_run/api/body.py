"""Reading a request's body, bounded, whatever its headers claim."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

_PIECE = 64 * 1024


def read(request: Request, limit: int) -> bytes:
    """The body of `request`. Raises 413 beyond `limit` bytes, 400 where it ends before its stated length."""
    length = request.content_length
    if length is not None and length > limit:
        raise RequestEntityTooLarge(f"the body has {length} bytes; {limit} are the most")
    found = bytearray()
    for piece in iter(lambda: _piece(request), b""):
        found += piece
        if len(found) > limit:
            raise RequestEntityTooLarge(f"the body is longer than {limit} bytes, which are the most")
    if length is not None and len(found) < length:
        raise BadRequest("the body ended before its stated length")
    return bytes(found)


def _piece(request: Request) -> bytes:
    try:
        return request.stream.read(_PIECE)
    except HTTPException:
        raise
    except Exception as error:
        # The server's own exceptions for a broken connection or chunk are not known here by name.
        raise BadRequest("the body could not be read to its end") from error
