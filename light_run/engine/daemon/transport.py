"""How an engine is reached through docker-py, and how what goes wrong on the way is named."""

from __future__ import annotations

import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import docker
import requests
import urllib3
from docker.transport.unixconn import UnixHTTPAdapter
from requests.structures import CaseInsensitiveDict

from light_run.engine.daemon.address import EngineAddress
from light_run.engine.daemon.errors import note
from light_run.engine.daemon.stream import READ_SIZE, EngineStream
from light_run.engine.daemon.wire import HttpConnection, ResponseHead, read_body
from light_run.errors import EngineRefused, EngineUnavailable

# A connection over a network that was cut off would be waited on for as long as any call may take. The kernel finds out
# sooner, while an engine that is only slow acknowledges what it is asked: nothing within 20 seconds ends a connection.
_TCP_OPTIONS = (
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)

CONFIGURATION = "the docker configuration (config.json) of the server's user"


def connect(address: EngineAddress, version: str | None, timeout: int) -> Any:
    """A docker-py client of the engine at `address`.

    `version` is that of the engine's API, None asks for it. Any, since docker-py's stubs leave out most
    of what is used here.
    """
    try:
        return _Client(address.url, version=version, timeout=timeout, tls=address.tls or False)
    except (ValueError, TypeError, AttributeError):
        # It reads the credentials too. Not chained: the words may quote some of them.
        raise EngineUnavailable(
            f"{CONFIGURATION} is broken: mend it, or log in to the registries anew"
        ) from None


class _OnePoolAdapter(UnixHTTPAdapter):
    # docker-py keys its pools by the whole URL: nothing would be reused between containers, and up to 25
    # idle sockets a thread would stay open.
    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+unix://engine", proxies)


class _Client(docker.APIClient):
    # What requests does for a browser (cookies, redirects, .netrc, pools, merging settings) takes several
    # times the processor time of the call itself, and an engine on this host has a use for none of it.
    wire: HttpConnection | None = None
    # An engine is never reached through HTTP_PROXY, and neither ~/.netrc nor REQUESTS_CA_BUNDLE concerns it.
    trust_env = property(lambda _: False, lambda *_: None)  # type: ignore[assignment,unused-ignore]

    def _raise_for_status(self, response: requests.Response) -> None:
        try:
            super()._raise_for_status(response)  # type: ignore[misc,unused-ignore]
        except (TypeError, KeyError) as error:
            # JSON, but not of an engine: a proxy's, say.
            raise EngineRefused(response.status_code, response.text) from error

    def mount(self, prefix: Any, adapter: Any) -> None:
        if isinstance(adapter, UnixHTTPAdapter):
            self.wire = HttpConnection(adapter.socket_path, adapter.timeout)
            # A thread that ends takes its client with it, and nobody closes that.
            weakref.finalize(self, self.wire.close)
            adapter.close()
            adapter = self._custom_adapter = _OnePoolAdapter(
                "http+unix://" + adapter.socket_path, timeout=adapter.timeout, pool_connections=1
            )
        elif hasattr(adapter, "poolmanager"):
            adapter.poolmanager.connection_pool_kw["socket_options"] = list(_TCP_OPTIONS)
        super().mount(prefix, adapter)

    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        data = kwargs.get("data")
        if self.wire is None or kwargs.get("stream") or not isinstance(data, str | bytes | None):
            return super().request(method, url, **kwargs)
        body = data.encode() if isinstance(data, str) else data or b""
        target = _target(url, kwargs.get("params"))
        answer = self.wire.call(method, target, kwargs.get("headers") or {}, body, kwargs.get("timeout"))
        return _response(answer.head, answer.body)

    def close(self) -> None:
        super().close()
        if self.wire is not None:
            self.wire.close()


def open_stream(
    client: Any, method: str, url: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> EngineStream:
    """An answer whose body is read as it comes, on a connection of its own. Raises what `client` raises."""
    if client.wire is None:
        return _upgraded(client, method, url, params, headers)
    head, connection, early = client.wire.open(method, _target(url, params), headers or {})
    if head.status >= HTTPStatus.BAD_REQUEST:
        with closing(connection):
            client._raise_for_status(_response(head, read_body(connection, head, early)[0]))
    return EngineStream(connection, early, head.coding())


def _upgraded(
    client: Any, method: str, url: str, params: Mapping[str, Any], headers: Mapping[str, str] | None
) -> EngineStream:
    # docker-py has this only as a raw socket that loses what its reader had buffered, so the connection is
    # taken from under the response; with it goes what requests would do about a compressed body.
    headers = {"Accept-Encoding": "identity", **(headers or {})}
    response = client.request(
        method, url, params=params, headers=headers, stream=True, timeout=client.timeout
    )
    client._raise_for_status(response)
    http_response = response.raw._fp
    reader = http_response.fp
    connection = getattr(reader.raw, "_sock", reader.raw)
    connection.setblocking(False)
    try:
        early = reader.read1(READ_SIZE) or b""
    except ssl.SSLWantReadError:
        early = b""
    head = ResponseHead(
        response.status_code, response.reason, dict(response.headers.lower_items()), lasting=False
    )
    # Not by the response's own close, which would give the connection back to the pool it came from.
    return EngineStream(connection, early, head.coding(), held=response.raw)


def _target(url: str, params: Mapping[str, Any] | None) -> str:
    # The path alone; a parameter that is None is not sent, as requests has it.
    path = "/" + url.partition("://")[2].partition("/")[2]
    given = {name: value for name, value in (params or {}).items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _response(head: ResponseHead, body: bytes) -> requests.Response:
    # What docker-py reads results and errors from.
    response = requests.Response()
    response.status_code, response.reason = head.status, head.reason
    response.headers = CaseInsensitiveDict(head.headers)
    response.encoding = "utf-8"
    response._content = body
    return response


@contextmanager
def breakable(client: Any) -> Iterator[Callable[[], None]]:
    """Gives what breaks, from any thread, every connection that `client` uses in the block; closes them after it.

    A call that waits for an answer has no other end than its time-out.
    """
    open_stream, broken = list[Any](), threading.Event()
    # Idle ones are not used again.
    client.close()

    def remember(pool: Any) -> Any:
        connect = pool._new_conn

        def connect_and_remember() -> Any:
            open_stream.append(_close_if_broken(broken, connect()))
            return open_stream[-1]

        pool._new_conn = connect_and_remember
        return pool

    adapter = client.get_adapter(client.base_url)
    if isinstance(adapter, UnixHTTPAdapter):
        remember(adapter.get_connection(client.base_url))
    else:
        make_pool = adapter.poolmanager._new_pool
        adapter.poolmanager._new_pool = lambda *args, **kwargs: remember(make_pool(*args, **kwargs))

    def break_all() -> None:
        broken.set()
        for connection in open_stream:
            # None before it has connected, and after it was closed.
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    try:
        yield break_all
    finally:
        for connection in open_stream:
            connection.close()
        client.close()


def _close_if_broken(broken: threading.Event, connection: Any) -> Any:
    # What is broken off before it has connected must not go on to wait for an answer.
    connect = connection.connect

    def connect_unless_broken() -> None:
        connect()
        if broken.is_set():
            connection.close()
            raise ConnectionAbortedError("the call was cancelled before it started")

    connection.connect = connect_unless_broken
    return connection


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn whatever docker-py, requests or the socket raises into an `EngineError`."""
    try:
        yield
    except EngineUnavailable as error:
        note(error)
        raise
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        words: Any = error.explanation or str(error)
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        raise note(EngineRefused(status, text.strip())) from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise note(EngineUnavailable(f"the container engine does not answer: {error}")) from error
