"""``light-run serve``: runs gunicorn with one worker and many threads."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped,unused-ignore]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped,unused-ignore]
from gunicorn.glogging import Logger  # type: ignore[import-untyped,unused-ignore]
from gunicorn.http import errors  # type: ignore[import-untyped,unused-ignore]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped,unused-ignore]

from light_run.config.settings import Settings
from light_run.errors import SettingsError
from light_run.server import json_log
from light_run.system.deadlines import DEADLINES

if TYPE_CHECKING:
    from flask import Flask

_log = logging.getLogger(__name__)

# Error responses for requests that do not reach the application.
_REFUSALS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (errors.LimitRequestLine, 414, "URI Too Long", "uri_too_long"),
    (errors.LimitRequestHeaders, 431, "Request Header Fields Too Large", "headers_too_large"),
    (errors.UnsupportedTransferCoding, 501, "Not Implemented", "not_implemented"),
    (errors.ParseException, 400, "Bad Request", "bad_request"),
)
# Seconds within which the headers of a request must arrive.
HEADER_TIMEOUT = 10.0
# Seconds that a client which may still be sending gets to read its response before the connection is closed.
LINGER = 2.0
# A request with one of these headers has a body.
_FRAMING = {"CONTENT-LENGTH", "TRANSFER-ENCODING"}
_UNREAD = 1 << 16
# Maximum number of connections, besides those of clients that follow logs.
CONNECTIONS = 1000
# Seconds to kill containers, send responses and close connections, after the grace period of sync runs.
_STOP_MARGIN = 25


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`. Raises `SettingsError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsError(f'LIGHT_RUN_HOST (--host) is "{host}": there is no such address') from None
    # Prefer IPv4 if the host has both kinds of addresses, as "localhost" does: some clients use IPv4 only.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # With SO_REUSEADDR, two sockets can be bound to the same port as long as neither of them listens.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on `listener` until SIGTERM or SIGINT, then exit the process with 0.

    If the application cannot be created, the error is logged to stderr and the exit code is 2.
    """
    json_log.configure("", level=logging.WARNING)
    json_log.configure("light_run", "gunicorn.error")
    for warning in settings.warnings:
        _log.warning(warning)
    _warn_if_exposed(settings)
    master = os.getpid()
    try:
        _Server(settings, listener).run()
    except SystemExit as end:
        # The worker process gets here, too; the master needs its unchanged exit code.
        if os.getpid() == master and end.code == Arbiter.APP_LOAD_ERROR:
            sys.exit(2)
        raise


class JsonLogger(Logger):  # type: ignore[misc,unused-ignore]
    """Logs gunicorn's messages as JSON, like the server's own. The application logs the requests."""

    def setup(self, cfg: Any) -> None:
        """Set up JSON logging and ignore the handlers and formats of `cfg`."""
        self.loglevel = logging.INFO
        self._access_log_enabled = False
        json_log.configure("gunicorn.error")
        # gunicorn's messages about starting and stopping are of no use here, but warnings and errors are.
        self.error_log.setLevel(logging.WARNING)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Do nothing: the application logs requests, in more detail."""


class JsonWorker(ThreadWorker):  # type: ignore[misc,unused-ignore]
    """A gunicorn thread worker with JSON error responses and a timeout for request headers."""

    _reading = threading.local()

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

    def handle(self, conn: Any) -> Any:
        """Serve a connection; called in a worker thread once there is data to read."""
        self._reading.deadline = deadline = DEADLINES.start(conn.sock, HEADER_TIMEOUT)
        self._reading.more = True
        kept = None
        try:
            kept = super().handle(conn)
            return kept
        finally:
            DEADLINES.stop(deadline)
            if deadline.passed:
                self.log.warning("a request was refused: %s", "request_timeout")
                self._refuse(conn.sock, 408, "Request Timeout", "request_timeout")
            if not kept:
                _linger(conn.sock, LINGER if self._reading.more else 0.0)

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


def _linger(connection: socket.socket, linger: float) -> None:
    # Waits until a client that may still be sending has read its response. gunicorn would do the same in its main
    # loop and block all other connections meanwhile; after this, it has nothing left to wait for.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + linger
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(_UNREAD):
                break
        connection.shutdown(socket.SHUT_RD)


def _reset(connection: socket.socket) -> None:
    # Closes the connection at once and discards unsent data, so that gunicorn need not wait for the client.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


def _honour_connection_close(application: Any) -> Any:
    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, *exc_info)

        return application(environ, start)

    return serve


class _Arbiter(Arbiter):  # type: ignore[misc,unused-ignore]
    def handle_hup(self) -> None:
        """Pass SIGHUP on to the worker instead of replacing it.

        The environment, and so the settings, cannot have changed. Replacing the worker would only end the runs
        that clients wait for.
        """
        self.kill_workers(signal.SIGHUP)


class _Server(BaseApplication):  # type: ignore[misc,unused-ignore]
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings, self._address = settings, listener.getsockname()
        # gunicorn creates its own socket from the descriptor, and closes it.
        self._descriptor = listener.detach()
        super().__init__()

    def load_config(self) -> None:
        """Configure gunicorn; its own environment variables and configuration files are not read."""
        options = {
            "bind": f"fd://{self._descriptor}",
            "workers": 1,
            "worker_class": JsonWorker,
            "threads": self._settings.threads + self._settings.max_followers,
            "worker_connections": CONNECTIONS + self._settings.max_followers,
            "logger_class": JsonLogger,
            "proc_name": "light-run",
            "keepalive": 75,
            "timeout": 60,
            "graceful_timeout": int(self._settings.grace) + _STOP_MARGIN,
            "limit_request_line": 8190,
            "control_socket_disable": True,
        }
        if os.access("/dev/shm", os.W_OK):  # noqa: S108 - the heartbeat's file: unnamed, and never on a disk
            options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
        for name, value in options.items():
            # Older versions of gunicorn lack some of these settings and do not need them.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def run(self) -> None:
        """Serve until a signal arrives."""
        _Arbiter(self).run()

    def load(self) -> Flask:
        """Create the application; called in the worker."""
        from light_run.app import create_app

        app = create_app(self._settings)
        _log.info("listening", extra={"host": self._address[0], "port": self._address[1]})
        return app


def _warn_if_exposed(settings: Settings) -> None:
    loopback = _is_loopback(settings.host)
    if settings.callback_private and not loopback:
        _log.warning(
            "remote clients can send callbacks to private addresses of this network; "
            "to forbid that, set LIGHT_RUN_CALLBACK_PRIVATE to false"
        )
    if settings.token is not None or settings.tokens_file is not None:
        return
    if loopback:
        _log.warning(
            "no token is set: anybody who can connect to this address can run containers; set LIGHT_RUN_TOKEN"
        )
    else:
        _log.critical(
            "NO TOKEN IS SET AND THE SERVER IS NOT LIMITED TO LOOPBACK: anybody in the network can run containers "
            "on this machine; set LIGHT_RUN_TOKEN, or set LIGHT_RUN_HOST to 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
