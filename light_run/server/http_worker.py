"""gunicorn's worker: threads for requests, the main loop for everything that has to wait."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import signal
import socket
import struct
import threading
import time
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors  # type: ignore[import-untyped,unused-ignore]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped,unused-ignore]

from light_run.server.connections import HEAD_TIMEOUT, Lingering, RequestHeads
from light_run.system.deadlines import DEADLINES

# Error responses for requests that do not reach the application.
_REFUSALS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (errors.LimitRequestLine, 414, "URI Too Long", "uri_too_long"),
    (errors.LimitRequestHeaders, 431, "Request Header Fields Too Large", "headers_too_large"),
    (errors.UnsupportedTransferCoding, 501, "Not Implemented", "not_implemented"),
    (errors.ParseException, 400, "Bad Request", "bad_request"),
)
# A request with one of these headers has a body.
_FRAMING = {"CONTENT-LENGTH", "TRANSFER-ENCODING"}
# What accept() reports if there is no descriptor or no memory for another connection.
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Seconds between two checks of the connections that wait.
_TICK = 0.5


class JsonWorker(ThreadWorker):  # type: ignore[misc,unused-ignore]
    """A gunicorn thread worker with JSON error responses, in which a connection without a request holds no thread.

    New connections, and those kept alive once something arrives on them, wait in the main loop until the head of a
    request is there. If there are too many, or no descriptor is left, idle connections are closed first.
    """

    _reading = threading.local()
    _heads: RequestHeads
    _lingering: Lingering

    def init_signals(self) -> None:
        """Ignore SIGHUP until the application installs its handler."""
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Load the application and honour its ``Connection: close`` headers, which gunicorn would drop."""
        # Objects created while loading live until the process exits, so the garbage collector can skip them.
        gc.disable()
        super().load_wsgi()
        gc.freeze()
        gc.enable()
        self.wsgi: Any = _honour_connection_close(self.wsgi)

    def run(self) -> None:
        """Serve until the worker is stopped."""
        # gunicorn itself has to read TLS and HTTP/2 from the first byte.
        peek = self.cfg.is_ssl or getattr(self.cfg, "http2_cleartext", "off") != "off"
        self._heads = RequestHeads(
            self.poller, complete=self._begin, refuse=self._refuse_head, drop=self._drop, peek=peek
        )
        self._lingering = Lingering(self.poller, self._drop)
        super().run()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; make room for it by closing an idle one if need be."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                if not self._evict():
                    # Nothing can be closed. The main loop tries again.
                    self.set_accept_enabled(False)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self._heads.add(TConn(self.cfg, client, address, listener.getsockname()))
        if self.nr_conns >= self.worker_connections:
            self._evict()

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Read the next request of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._heads.add(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, then close the connections whose time is over."""
        super().wait_for_and_dispatch_events(min(timeout, _TICK))
        if not self.alive:
            # No request has begun on these.
            self._heads.close()
        now = time.monotonic()
        self._heads.sweep(now)
        self._lingering.sweep(now)

    def handle(self, conn: Any) -> Any:
        """Serve a connection; called in a worker thread once the head of a request is there."""
        self._reading.deadline = deadline = DEADLINES.start(conn.sock, HEAD_TIMEOUT)
        self._reading.more = True
        kept = None
        try:
            conn.init()
            if conn.light_run_head:
                conn.parser.unreader.unread(conn.light_run_head)
                conn.light_run_head = b""
            kept = super().handle(conn)
            return kept
        finally:
            DEADLINES.stop(deadline)
            if deadline.passed:
                self.log.warning("a request was refused: %s", "request_timeout")
                self._refuse(conn.sock, 408, "Request Timeout", "request_timeout")
            if not kept:
                conn.light_run_lingers = self._reading.more
                if not self._reading.more:
                    _end(conn.sock)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep or close a connection; called in the main loop."""
        if getattr(conn, "light_run_lingers", False):
            self._lingering.add(conn)
        else:
            super().finish_request(conn, fs)

    def _begin(self, conn: Any, head: bytes) -> None:
        conn.light_run_head = head
        # What gunicorn would wait for is there.
        conn.data_ready = True
        self.enqueue_req(conn)

    def _refuse_head(self, conn: Any, status: int) -> None:
        if status == HTTPStatus.REQUEST_TIMEOUT:
            phrase, word = "Request Timeout", "request_timeout"
        else:
            phrase, word = "Request Header Fields Too Large", "headers_too_large"
        self.log.warning("a request was refused: %s", word)
        # The first bytes of a connection fit its buffer: this does not block.
        self._refuse(conn.sock, status, phrase, word)
        self._lingering.add(conn)

    def _evict(self) -> bool:
        if self._lingering.evict() or self._heads.evict():
            return True
        if self.keepalived_conns:
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)
            return True
        return False

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request whose headers have arrived."""
        DEADLINES.stop(self._reading.deadline)
        self._reading.more = any(name in _FRAMING for name, _ in req.headers)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.warning("a connection was closed: the client did not read the response in time")
            _reset(conn.sock)
            # gunicorn's own way to end a connection.
            raise StopIteration from None

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Respond to a request that did not reach the application."""
        for kind, code, reason, word in _REFUSALS:
            if isinstance(exc, kind):
                status, phrase, error = code, reason, word
                self.log.warning("a request was refused: %s", word)
                break
        else:
            status, phrase, error = 500, "Internal Server Error", "internal_error"
            self.log.error("a request failed outside of the application", exc_info=exc)
        self._refuse(client, status, phrase, error)

    def _refuse(self, client: Any, status: int, phrase: str, error: str) -> None:
        body = json.dumps({"error": error})
        head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        try:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        except OSError:
            self.log.debug("the client closed the connection before the error response was sent")


def _end(connection: socket.socket) -> None:
    # gunicorn would wait for the client to close it, in its main loop.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.shutdown(socket.SHUT_RD)


def _reset(connection: socket.socket) -> None:
    # Closes the connection at once and discards unsent data, so that gunicorn need not wait for the client.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


def _honour_connection_close(application: Any) -> Any:
    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if ("Connection", "close") in headers or _leaves_body_unread(environ, status):
                start_response.__self__.force_close()
            return start_response(status, headers, *exc_info)

        return application(environ, start)

    return serve


def _leaves_body_unread(environ: dict[str, Any], status: str) -> bool:
    # gunicorn would read the rest before it keeps the connection, and hold a thread meanwhile.
    reader = getattr(environ.get("wsgi.input"), "reader", None)
    left = getattr(reader, "length", None)
    if left is None:
        return environ.get("HTTP_TRANSFER_ENCODING") is not None and int(status[:3]) >= HTTPStatus.BAD_REQUEST
    return bool(left > 0)
