"""The request log: one line for each request, with its method, path, status and duration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("light_run.request")

# The key under which a handler records the id of the run.
RUN = "light_run.run"
# A function that is called once the response was sent or sending failed.
WHEN_SENT = "light_run.when_sent"


class RequestLog:
    """WSGI middleware around `app` that logs each request when its response has been sent."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        began = time.perf_counter()
        status = ["500"]

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., object]:
            status[0] = line.split(" ", 1)[0]
            return start_response(line, headers, exc_info)

        def sent() -> None:
            environ.pop(WHEN_SENT, _nothing)()
            _write(environ, int(status[0]), time.perf_counter() - began)

        try:
            body = self._app(environ, start)
        except BaseException:
            environ.pop(WHEN_SENT, _nothing)()
            raise
        return when_closed(body, sent)


class _Closing:
    # A response that reports when the server has finished sending it.
    def __init__(self, body: Iterable[bytes], then: Callable[[], None]) -> None:
        self._body, self._then = body, then
        self._next = iter(body).__next__

    def __iter__(self) -> _Closing:
        return self

    def __next__(self) -> bytes:
        return self._next()

    def close(self) -> None:
        try:
            getattr(self._body, "close", _nothing)()
        finally:
            self._then()


def when_closed(body: Iterable[bytes], then: Callable[[], None]) -> Iterable[bytes]:
    """Return `body`, after whose end, or whose close, `then` is called."""
    if not hasattr(body, "filelike"):
        return _Closing(body, then)
    # A server recognizes its own file wrapper by its class and uses sendfile: the object must not be replaced.
    close = getattr(body, "close", _nothing)

    def closed() -> None:
        try:
            close()
        finally:
            then()

    setattr(body, "close", closed)  # noqa: B010 - the protocol does not know the attribute
    return body


def _nothing() -> None:
    """Do nothing, in place of a missing `close`."""


def _write(environ: WSGIEnvironment, status: int, seconds: float) -> None:
    extra = {
        "method": environ.get("REQUEST_METHOD", ""),
        "path": environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")[:500],
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    if RUN in environ:
        extra["run"] = environ[RUN]
    _log.info("request", extra=extra)
