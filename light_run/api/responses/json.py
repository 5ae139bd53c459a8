"""JSON responses, whole or streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from flask import Response

# A response of up to this many bytes is sent in one piece, with its length.
_WHOLE = 64 * 1024


def json_response(value: Any, status: int = 200) -> Response:
    """Return `value` as compact JSON."""
    # Escaped: an error may quote a client's own lone surrogate, which UTF-8 has no bytes for.
    return Response(json.dumps(value, separators=(",", ":")), status, content_type="application/json")


def streamed_json(pieces: Iterator[bytes]) -> Response:
    """Stream JSON from `pieces` in constant memory; a small response is sent whole."""
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > _WHOLE:
            return Response(chain(head, pieces), content_type="application/json")
    return Response(b"".join(head), content_type="application/json")


def no_content() -> Response:
    """Return a 204 response without a body and a Content-Type."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def error_response(word: str, status: int, message: str | None = None, **more: Any) -> Response:
    """Return ``{"error": word}``, with a sentence if the word is not enough."""
    body: dict[str, Any] = {"error": word}
    if message:
        body["message"] = message
    return json_response({**body, **more}, status)
