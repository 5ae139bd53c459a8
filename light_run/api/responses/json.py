"""Answers in JSON, whole or streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from flask import Response

# An answer of up to so many bytes is sent in one piece and with its length.
_WHOLE = 64 * 1024


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as compact JSON."""
    # Escaped: an error may quote a client's own lone surrogate, which UTF-8 has no bytes for.
    return Response(json.dumps(value, separators=(",", ":")), status, content_type="application/json")


def streamed_json(pieces: Iterator[bytes]) -> Response:
    """JSON that comes in `pieces`; memory stays flat, and what is small is sent whole."""
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > _WHOLE:
            return Response(chain(head, pieces), content_type="application/json")
    return Response(b"".join(head), content_type="application/json")


def no_content() -> Response:
    """204, without a body and without the type of one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def error_response(word: str, status: int, message: str | None = None, **more: Any) -> Response:
    """``{"error": word}``, with a sentence where the word is not enough."""
    body: dict[str, Any] = {"error": word}
    if message:
        body["message"] = message
    return json_response({**body, **more}, status)
