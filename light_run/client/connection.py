"""Sends requests to a server, with authorization, timeouts and retries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import requests

from light_run.client import responses
from light_run.client.retries import Retries
from light_run.errors import LightRunError, RunNotFound, ServerUnavailable, SettingsError
from light_run.version import __version__

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0

_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

# Returns the body of a request; called once for each attempt.
Body = Callable[[], Any]


class _Failure(NamedTuple):
    # A failed attempt, whether a retry may succeed, and the seconds of the server's Retry-After.
    error: LightRunError
    temporary: bool
    pause: int


class Connection:
    """Connections to the server at `url`, with the bearer token `token` unless it is None.

    The server must start to respond within `timeout` seconds, and each further chunk must arrive in that time.
    Every request of the HTTP API can be retried, because runs are submitted with an Idempotency-Key; `retries`
    limits how long. Raises `SettingsError` if `url` is not an HTTP address.
    """

    def __init__(self, url: str, token: str | None, *, timeout: float, retries: Retries) -> None:
        self.url = _base(url)
        self.retries = retries
        self.timeout = timeout
        self._answered = False
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"light-run/{__version__}"
        self._session.auth = _authorization(token)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return the JSON of the response; `options` are those of `send`."""
        with self.send(method, path, **options) as response:
            return responses.value(response)

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeout: float | None = None,
        stream: bool = False,
        retry: bool = True,
    ) -> Iterator[requests.Response]:
        """Send a request and yield the response if it is a success; `stream` leaves the body unread.

        Raises `ServerUnavailable` without a response, and the exception of `responses.failure` for an error.
        """
        known = self._answered
        tries = self.retries.begin(known=known)
        options = {
            "params": params,
            "headers": headers,
            "timeout": (CONNECT_TIMEOUT, timeout or self.timeout),
        }
        while isinstance(found := self._try(method, path, body, stream=stream, **options), _Failure):
            if self._answered and not known:
                # The server responded for the first time: from now on, the longer retry time applies.
                known, tries = True, self.retries.begin()
            if not (retry and found.temporary and tries.again(found.pause)):
                raise found.error
            _log.info("%s; trying again", found.error)
        with found:
            yield found

    def _try(self, method: str, path: str, body: Body | None, **options: Any) -> requests.Response | _Failure:
        data = None if body is None else body()
        try:
            # Following a redirect would turn a POST into a GET.
            response = self._session.request(
                method, self.url + path, data=data, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            temporary = isinstance(error, _BROKEN) and not isinstance(error, requests.exceptions.SSLError)
            return _Failure(self.broken(error), temporary, 0)
        self._answered = True
        if response.ok and not response.is_redirect:
            return response
        with response:
            temporary = response.status_code in responses.UNAVAILABLE_STATUSES
            return _Failure(responses.failure(response), temporary, responses.retry_after(response))

    def broken(self, error: requests.RequestException) -> ServerUnavailable:
        """Return the exception for a response that is missing or incomplete."""
        return responses.unavailable(self.url, error)


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right or parts.query or parts.fragment:
        raise SettingsError(f"{url!r} is not a server address: give one such as http://127.0.0.1:3000")
    return url.rstrip("/")


def _authorization(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    # Set even without a token: otherwise requests would send credentials from ~/.netrc.
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token:
            request.headers["Authorization"] = f"Bearer {token}".encode()  # type: ignore[assignment]
        return request

    return authorize


def run_path(run_id: str) -> str:
    """Return the path of a run in URLs. Raises RunNotFound for an id that would change the URL."""
    if run_id in {"", ".", ".."}:
        raise RunNotFound(f"{run_id!r} is not a run id")
    return f"/runs/{quote(run_id, safe='')}"
