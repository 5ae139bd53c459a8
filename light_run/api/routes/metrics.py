"""``GET /metrics``."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

# Called with an Accept header; returns the page and its Content-Type.
Page = Callable[[str], tuple[bytes, str]]

PATH = "/metrics"


def empty(_: str) -> tuple[bytes, str]:
    """Return the page of a server without metrics."""
    return b"", "text/plain; version=0.0.4; charset=utf-8"


def blueprint(page: Page) -> Blueprint:
    """Return the route for Prometheus."""
    routes = Blueprint("metrics", __name__)

    @routes.get(PATH)
    def metrics() -> Response:
        body, kind = page(request.headers.get("Accept", ""))
        return Response(body, content_type=kind)

    return routes
