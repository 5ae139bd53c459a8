"""The connection to the engine: one docker-py client a thread, and what the engine says about itself.

docker-py wants one client a thread (its sessions are not thread-safe), so each thread that calls gets its own, and the
API version is asked for only once.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import docker

from light_run.engine.daemon.address import engine_address
from light_run.engine.daemon.features import Features, features, is_podman, missing_limits
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.daemon.transport import connect, open_stream, translated_errors

# An engine under a few hundred starts at once takes its time over each; a hung one must not hold us for ever.
CALL_TIMEOUT = 300
# So long at most for a call that somebody waits for with a deadline, or by which a connection is tried.
URGENT_TIMEOUT = 10
# Podman's own API, which every version from 4.0 has.
_LIBPOD = "/v4.0.0/libpod"


class Session:
    """The clients of an engine, and its own description of itself."""

    def __init__(self, timeout: int = CALL_TIMEOUT) -> None:
        self._address = engine_address()
        self.address = self._address.url
        self._timeout = timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: weakref.WeakSet[docker.APIClient] = weakref.WeakSet()
        self._version: str | None = None
        self._description: dict[str, Any] | None = None
        self._features: Features | None = None
        self._host: dict[str, Any] | None = None

    def _connect(self) -> Any:
        client = connect(self._address, self._version, self._timeout)
        self._version = client.api_version
        with self._lock:
            self._clients.add(client)
        return client

    @property
    def api(self) -> Any:
        """This thread's docker-py client; Any, since its stubs leave out most of what is used here."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        return client

    @contextlib.contextmanager
    def urgent(self) -> Iterator[Any]:
        """Yield a client with connections of its own, whose calls take 10 s at most, whatever became of others."""
        client = connect(self._address, self._version, URGENT_TIMEOUT)
        try:
            yield client
        finally:
            client.close()

    def renew(self) -> None:
        """Give up this thread's connections, which may be dead; its next call makes new ones.

        Raises EngineUnavailable where the engine does not answer on a new one within 10 seconds.
        """
        with translated_errors():
            self.api.close()
            with self.urgent() as client:
                client._raise_for_status(client._get(client._url("/_ping")))

    def close(self) -> None:
        """Close the idle connections of every thread; the engine stays usable."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    def ping(self, timeout: float = 3.0) -> str:
        """What the engine calls itself, such as ``Docker/20.10.24 (linux)``, if it answers in `timeout` seconds."""
        with translated_errors():
            api = self.api
            response = api._get(api._url("/_ping"), timeout=timeout)
            api._raise_for_status(response)
            return str(response.headers.get("Server", ""))

    def info(self) -> dict[str, Any]:
        """The engine's own description of itself."""
        with translated_errors():
            return dict(self.api.info())

    def runtimes(self) -> tuple[str, ...]:
        """The names of the runtimes the engine has; asked once.

        Podman lists every runtime that it has heard of: of these, only the one that it uses is known to be there.
        """
        host = self._podman_host()
        if host is not None:
            return (str((host.get("ociRuntime") or {}).get("name")),)
        return tuple(sorted(self.description().get("Runtimes") or {}))

    def missing_limits(self) -> tuple[str, ...]:
        """What the engine cannot hold containers to, of ``memory``, ``cpus``, ``pids`` and ``seccomp``; asked once."""
        return missing_limits(self.description(), self._podman_host())

    @property
    def root(self) -> str:
        """The folder in which the engine keeps what is its own, as far as it has said so; else ``""``."""
        return str((self._description or {}).get("DockerRootDir") or "")

    def description(self) -> dict[str, Any]:
        """The engine's own description of itself; asked once."""
        if self._description is None:
            self._description = self.info()
        return self._description

    def features(self) -> Features:
        """What the engine wants put differently than Docker does; asked once."""
        if self._features is None:
            self._features = features(self.ping(self._timeout), self.description(), self._podman_host())
        return self._features

    def without_quota(self) -> None:
        """Note that the engine's storage has no quotas after all."""
        self._features = self.features()._replace(quota=False)

    def _podman_host(self) -> dict[str, Any] | None:
        # What Podman says of its host by its own API; None where the engine is another.
        if self._host is None:
            self._host = dict(self._libpod("/info")["host"]) if is_podman(self.ping(self._timeout)) else {}
        return self._host or None

    def _libpod(self, path: str) -> dict[str, Any]:
        with translated_errors():
            api = self.api
            return dict(api._result(api._get(f"{api.base_url}{_LIBPOD}{path}"), json=True))

    @contextlib.contextmanager
    def _chunks(self, url: str, container: str, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        with translated_errors():
            stream = self._open("GET", url, container, params)
        with contextlib.closing(stream):
            yield stream.chunks(self._timeout)

    def _open(
        self,
        method: str,
        url: str,
        container: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> EngineStream:
        api = self.api
        return open_stream(api, method, api._url(url, container), params, headers)
