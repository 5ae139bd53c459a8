"""An HTTP server on loopback that callbacks are sent to."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.poll import eventually

SIGNATURE = "X-Light-Run-Signature"


@dataclass(frozen=True)
class Received:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """A header by its name in any case."""
        return self.headers.get(name.lower())


@dataclass(frozen=True)
class Answer:
    """The response to send."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Receiver:
    """The received requests. `answer` is called with each request and its number, from 0, and returns the response."""

    url: str
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received, int], Answer] = lambda received, number: Answer()

    def wait(self, count: int = 1, *, path: str | None = None, within: float = 60.0) -> list[Received]:
        """Return the requests to `path` (None: any) once there are `count` of them."""

        def look() -> list[Received]:
            found = [request for request in list(self.received) if path in (None, request.path)]
            return found if len(found) >= count else []

        return eventually(look, f"{count} requests have arrived at {path or 'any path'}", within=within)


def signature(secret: str, body: bytes) -> str:
    """What X-Light-Run-Signature should be."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port, gone when this leaves."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.command, self.path, headers, body)
            with lock:
                number = len(receiver.received)
                receiver.received.append(request)
            answer = receiver.answer(request, number)
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()
            except ConnectionError:
                pass  # a sender that gave up waiting

        do_POST = do_GET = do_PUT = do_HEAD = handle_any  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, name="receiver")
    thread.start()
    try:
        yield receiver
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
