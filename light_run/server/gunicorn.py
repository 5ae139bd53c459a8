"""``light-run serve``: gunicorn, with one worker of many threads, inside the command."""

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

# What clients may get before the application sees their request.
_REFUSALS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (errors.LimitRequestLine, 414, "URI Too Long", "uri_too_long"),
    (errors.LimitRequestHeaders, 431, "Request Header Fields Too Large", "headers_too_large"),
    (errors.UnsupportedTransferCoding, 501, "Not Implemented", "not_implemented"),
    (errors.ParseException, 400, "Bad Request", "bad_request"),
)
# Seconds in which the headers of a request have to arrive.
HEADER_TIMEOUT = 10.0
# Seconds in which a client that may still be sending takes its answer, before the connection is closed.
LINGER = 2.0
# Headers of a request that has a body.
_FRAMING = {"CONTENT-LENGTH", "TRANSFER-ENCODING"}
_UNREAD = 1 << 16
# Connections at once, those of followers aside.
CONNECTIONS = 1000
# Beside the time for sync runs to end: kill containers, send answers, close connections.
_STOP_MARGIN = 25


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port`. Raises `SettingsError` where that cannot be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsError(f'LIGHT_RUN_HOST (--host) is "{host}": there is no such address') from None
    # "localhost" is both; clients that know one kind of address only know the older one.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two sockets may both be bound, as long as none listens.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on `listener` until SIGTERM or SIGINT; exits the process: with 0 after those.

    The code is 2 where the application cannot be made; why is on stderr then.
    """
    json_log.configure("", level=logging.WARNING)
    json_log.configure("light_run", "gunicorn.error")
    for warning in settings.warnings:
        _log.warning(warning)
    _warn_of_openness(settings)
    master = os.getpid()
    try:
        _Server(settings, listener).run()
    except SystemExit as end:
        # The worker comes by here too: its own code is what tells the master why it ended.
        if os.getpid() == master and end.code == Arbiter.APP_LOAD_ERROR:
            sys.exit(2)
        raise


class JsonLogger(Logger):  # type: ignore[misc,unused-ignore]
    """Has gunicorn's own lines written as the server's others are; requests are logged by the application."""

    def setup(self, cfg: Any) -> None:
        """Ignore the handlers and formats of `cfg`."""
        self.loglevel = logging.INFO
        self._access_log_enabled = False
        json_log.configure("gunicorn.error")
        # What it says of starting and stopping is for its own developers, but for what goes wrong.
        self.error_log.setLevel(logging.WARNING)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Nothing: the application knows more of a request."""


class JsonWorker(ThreadWorker):  # type: ignore[misc,unused-ignore]
    """A worker of threads whose own errors are JSON, too, and that does not wait for slow headers."""

    _reading = threading.local()

    def init_signals(self) -> None:
        """Have nothing happen on SIGHUP until the application wants to know of it."""
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Have the application's own ``Connection: close`` hold, which gunicorn would leave out."""
        # What is loaded here stays until the end: it is not worth looking for garbage in, now or ever.
        gc.disable()
        super().load_wsgi()
        gc.freeze()
        gc.enable()
        self.wsgi: Any = _closing(self.wsgi)

    def handle(self, conn: Any) -> Any:
        """Serve a connection; called in one of the threads once there is something to read."""
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
                _finish(conn.sock, LINGER if self._reading.more else 0.0)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request, whose headers are there."""
        DEADLINES.stop(self._reading.deadline)
        self._reading.more = any(name in _FRAMING for name, _ in req.headers)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.warning("a client was dropped: it did not take its answer")
            _reset(conn.sock)
            # As gunicorn itself ends a connection.
            raise StopIteration from None

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that never reached the application."""
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
            self.log.debug("nobody was there to hear of it")


def _finish(connection: socket.socket, linger: float) -> None:
    # What gunicorn does as well before it closes a connection, but in the main loop, where nobody else is served
    # meanwhile: wait until a client that may still be sending has read its answer. It finds nothing left to do.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + linger
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(_UNREAD):
                break
        connection.shutdown(socket.SHUT_RD)


def _reset(connection: socket.socket) -> None:
    # Closed like this, it takes with it what the client did not take; and gunicorn need not wait for its end.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


def _closing(application: Any) -> Any:
    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, *exc_info)

        return application(environ, start)

    return serve


class _Arbiter(Arbiter):  # type: ignore[misc,unused-ignore]
    def handle_hup(self) -> None:
        """Pass SIGHUP on to the worker.

        Settings are of the environment, which stays as it is: another worker would know no more, and end
        the runs that clients wait for.
        """
        self.kill_workers(signal.SIGHUP)


class _Server(BaseApplication):  # type: ignore[misc,unused-ignore]
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings, self._address = settings, listener.getsockname()
        # gunicorn makes a socket of its own of the descriptor, and closes it.
        self._descriptor = listener.detach()
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn up; nothing of its own environment variables or files is read."""
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
            # Older versions do not know all of them, and need none of those.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def run(self) -> None:
        """Serve until a signal ends it."""
        _Arbiter(self).run()

    def load(self) -> Flask:
        """Make the application; called in the worker."""
        from light_run.app import create_app

        app = create_app(self._settings)
        _log.info("listening", extra={"host": self._address[0], "port": self._address[1]})
        return app


def _warn_of_openness(settings: Settings) -> None:
    loopback = _is_loopback(settings.host)
    if settings.callback_private and not loopback:
        _log.warning(
            "callbacks may go to private addresses, and clients from elsewhere may ask for them; "
            "set LIGHT_RUN_CALLBACK_PRIVATE to false where that matters"
        )
    if settings.token is not None or settings.tokens_file is not None:
        return
    if loopback:
        _log.warning("no token is set: whoever reaches this address may run containers; set LIGHT_RUN_TOKEN")
    else:
        _log.critical(
            "NO TOKEN IS SET AND THE SERVER LISTENS BEYOND LOOPBACK: anybody in the network may run containers "
            "on this machine; set LIGHT_RUN_TOKEN, or LIGHT_RUN_HOST to 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
