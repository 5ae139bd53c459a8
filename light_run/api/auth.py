"""The bearer token."""

from __future__ import annotations

import hmac
from hashlib import sha256

from flask import Flask, Response, request

from light_run.api.responses import error_response

# The only path that answers without a token.
_OPEN = "/health"


def register(app: Flask, token: str | None) -> None:
    """Have `app` ask for `token`, if there is one, before anything else is looked at."""
    if token is None:
        return
    expected = _digest(token.encode())

    @app.before_request
    def authorize() -> Response | None:
        if request.path.rstrip("/") == _OPEN and request.method in {"GET", "HEAD"}:
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # WSGI gives headers as Latin-1: encoded back, these are the client's own bytes.
        same = hmac.compare_digest(expected, _digest(given.strip().encode("latin-1", "replace")))
        if scheme.lower() == "bearer" and same:
            return None
        response = error_response("unauthorized", 401)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _digest(text: bytes) -> bytes:
    # Digests have one length, so that a comparison says nothing about the token's.
    return sha256(text).digest()
