"""How an engine is reached through docker-py, and how what goes wrong on the way is named."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import docker
import requests
import urllib3
from docker.transport.unixconn import UnixHTTPAdapter
from docker.utils import kwargs_from_env
from requests.structures import CaseInsensitiveDict

from light_run.errors import EngineRefused, EngineUnavailable

CONFIGURATION = "the docker configuration (config.json) of the server's user"


def connect(version: str | None, timeout: int) -> Any:
    """A docker-py client of the engine that DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH name.

    `version` is that of the engine's API, None asks for it. Any, since docker-py's stubs leave out most
    of what is used here.
    """
    try:
        client: Any = _LeanClient(version=version, timeout=timeout, **kwargs_from_env())
    except (ValueError, TypeError, AttributeError):
        # It reads the credentials too. Not chained: the words may quote some of them.
        raise EngineUnavailable(
            f"{CONFIGURATION} is broken: mend it, or log in to the registries anew"
        ) from None
    adapter = client.adapters.get("http+docker://")
    if isinstance(adapter, UnixHTTPAdapter):
        client._custom_adapter.close()
        client._custom_adapter = _OnePoolAdapter(
            "http+unix://" + adapter.socket_path, timeout=timeout, pool_connections=1
        )
        client.mount("http+docker://", client._custom_adapter)
    return client


class _OnePoolAdapter(UnixHTTPAdapter):
    # docker-py keys its pools by the whole URL: nothing would be reused between containers, and up to 25
    # idle sockets a thread would stay open.
    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+unix://engine", proxies)


class _LeanClient(docker.APIClient):
    def _raise_for_status(self, response: requests.Response) -> None:
        try:
            super()._raise_for_status(response)  # type: ignore[misc,unused-ignore]
        except (TypeError, KeyError) as error:
            # JSON, but not of an engine: a proxy's, say.
            raise EngineRefused(response.status_code, response.text) from error

    # What requests does for a browser (cookies, redirects, .netrc, merging settings) takes twice the
    # processor time of the call itself, and an engine has a use for none of it.
    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        data = kwargs.get("data")
        if not (self.base_url.startswith("http+docker://") and isinstance(data, str | bytes | None)):
            return super().request(method, url, **kwargs)
        prepared = requests.PreparedRequest()
        prepared.method = method
        # A parameter that is None is not sent, as requests has it.
        given = {name: value for name, value in (kwargs.get("params") or {}).items() if value is not None}
        prepared.url = f"{url}?{urlencode(given, doseq=True)}" if given else url
        prepared.body = data.encode() if isinstance(data, str) else data
        length = {"Content-Length": str(len(prepared.body or b""))}
        prepared.headers = CaseInsensitiveDict({**(kwargs.get("headers") or {}), **length})
        stream = bool(kwargs.get("stream"))
        response = self.get_adapter(url).send(prepared, stream=stream, timeout=kwargs.get("timeout"))
        if not stream:
            # Read to its end, which gives the connection back.
            _ = response.content
        return response


@contextmanager
def breakable(client: Any) -> Iterator[Callable[[], None]]:
    """Gives what breaks, from any thread, every connection that `client` uses in the block; closes them after it.

    A call that waits for an answer has no other end than its time-out.
    """
    opened: list[Any] = []
    # Idle ones are not used again.
    client.close()

    def remember(pool: Any) -> Any:
        connect = pool._new_conn

        def connect_and_remember() -> Any:
            opened.append(connect())
            return opened[-1]

        pool._new_conn = connect_and_remember
        return pool

    adapter = client.get_adapter(client.base_url)
    if isinstance(adapter, UnixHTTPAdapter):
        remember(adapter.get_connection(client.base_url))
    else:
        make_pool = adapter.poolmanager._new_pool
        adapter.poolmanager._new_pool = lambda *args, **kwargs: remember(make_pool(*args, **kwargs))

    def break_all() -> None:
        for connection in opened:
            # None before it has connected, and after it was closed.
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    try:
        yield break_all
    finally:
        for connection in opened:
            connection.close()
        client.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn whatever docker-py, requests or the socket raises into an `EngineError`."""
    try:
        yield
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        words: Any = error.explanation or str(error)
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        raise EngineRefused(status, text.strip()) from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise EngineUnavailable(f"the container engine does not answer: {error}") from error


def translated_chunks(response: requests.Response) -> Iterator[bytes]:
    """The body of `response` piece by piece; raises `EngineError` where it breaks off."""
    with translated():
        yield from response.iter_content(1 << 16)
