"""``light-run serve``: runs gunicorn with one worker and many threads."""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped,unused-ignore]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped,unused-ignore]
from gunicorn.glogging import Logger  # type: ignore[import-untyped,unused-ignore]

from light_run.config.settings import Settings
from light_run.errors import SettingsError
from light_run.server import json_log
from light_run.server.http_worker import JsonWorker

if TYPE_CHECKING:
    from flask import Flask

_log = logging.getLogger(__name__)

# Maximum number of connections, besides those of clients that follow logs.
CONNECTIONS = 1000
# Where fewer files may be open than there could be connections: those of a run, of a request and of the rest, and the
# least number of connections.
_OF_A_RUN, _OF_A_THREAD, _OF_THE_REST, _FEWEST = 6, 2, 64, 16
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


def _connections(settings: Settings) -> int:
    # As many as there are descriptors for: worker.allow_descriptors raises the limit as far as it goes.
    wanted = CONNECTIONS + settings.max_followers
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return wanted
    threads = settings.threads + settings.max_followers
    taken = _OF_A_RUN * settings.max_concurrency + _OF_THE_REST
    # At most one thread a connection.
    left = max(most - taken - _OF_A_THREAD * threads, (most - taken) // (1 + _OF_A_THREAD))
    return max(_FEWEST, min(wanted, left))


class _Arbiter(Arbiter):  # type: ignore[misc,unused-ignore]
    def handle_hup(self) -> None:
        """Pass SIGHUP on to the worker instead of replacing it.

        The environment, and so the settings, cannot have changed. Replacing the worker would only end the runs
        that clients wait for.
        """
        self.kill_workers(signal.SIGHUP)

    def handle_ttin(self) -> None:
        """Start no second worker: it would wait for the first one's state directory for ever."""
        self._ignore("SIGTTIN")

    def handle_ttou(self) -> None:
        """Stop no worker."""
        self._ignore("SIGTTOU")

    def handle_usr2(self) -> None:
        """Start no second server on the same state directory."""
        self._ignore("SIGUSR2")

    def _ignore(self, name: str) -> None:
        self.log.warning("%s is ignored: the server has one worker", name)


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
            "worker_connections": _connections(self._settings),
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
