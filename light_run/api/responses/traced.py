"""Traced requests: a span for each, and the context that the run of a request keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from light_run.api.responses.request_log import when_closed
from light_run.runs.tracing import Tracer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The keys under which the parent of a run's spans and the template of the path are recorded.
PARENT = "light_run.trace"
_ROUTE = "light_run.route"


class TracedRequests:
    """WSGI middleware around `app` that gives `tracer` a span for each request, from its head to its last byte."""

    def __init__(self, app: WSGIApplication, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        headers = {
            name: environ[key]
            for name, key in (("traceparent", "HTTP_TRACEPARENT"), ("tracestate", "HTTP_TRACESTATE"))
            if key in environ
        }
        path = str(environ.get("PATH_INFO", "")).encode("latin-1", "replace").decode("utf-8", "replace")
        span = self._tracer.request(str(environ.get("REQUEST_METHOD", "")), path[:500], headers)
        if span is None:
            return self._app(environ, start_response)
        environ[PARENT] = span.parent
        status = [500]

        def start(line: str, sent: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., object]:
            status[0] = int(line.split(" ", 1)[0])
            return start_response(line, sent, exc_info)

        def end() -> None:
            span.end(route=environ.get(_ROUTE), status=status[0])

        try:
            return when_closed(self._app(environ, start), end)
        except BaseException:
            end()
            raise


def register(app: Flask, tracer: Tracer) -> None:
    """Have every request of `app` traced."""
    # After the request, because a request that is refused early has a route as well.
    app.after_request(_note_route)
    app.wsgi_app = TracedRequests(app.wsgi_app, tracer)  # type: ignore[method-assign]


def _note_route(response: Response) -> Response:
    if request.url_rule is not None:
        # Without the names of our own converters.
        request.environ[_ROUTE] = "".join(
            f"<{part.rpartition(':')[2]}>" if inside else part
            for inside, part in _parts(str(request.url_rule))
        )
    return response


def _parts(rule: str) -> Iterable[tuple[bool, str]]:
    for piece in rule.split("<"):
        argument, closed, rest = piece.partition(">")
        if closed:
            yield True, argument
            yield False, rest
        else:
            yield False, piece
