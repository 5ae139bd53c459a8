"""Requests to one server: authorized, bounded in time, and sent again where that is safe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from light_run.client import responses
from light_run.client.retries import Retries
from light_run.errors import LightRunError, ServerUnavailable, SettingsError
from light_run.version import __version__

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0

_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

# What makes the body of a request, anew for each try.
Body = Callable[[], Any]


class _Failure(NamedTuple):
    # A try that brought no success, whether it may pass, and the seconds a server asks for before the next one.
    error: LightRunError
    passing: bool
    pause: int


class Connection:
    """A server at `url`, asked with `token` (None is without).

    An answer has to begin within `timeout` seconds, and each further piece of it to follow as soon.
    Every request of the HTTP API may be sent again, as a run is asked for with an Idempotency-Key;
    `retries` says for how long. Raises `SettingsError` for what is no URL.
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
        """Close the connections that are kept open."""
        self._session.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that is answered; `options` are those of `send`."""
        with self.send(method, path, **options) as response:
            return responses.value(response)

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeout: float | None = None,
        stream: bool = False,
        retry: bool = True,
    ) -> Iterator[requests.Response]:
        """The answer to a request, if it is a success; `stream` leaves its body to be read.

        Raises `ServerUnavailable` where none comes, what `answers.failure` says for one that is no success.
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
                # It is there: what it has answered now counts, too.
                known, tries = True, self.retries.begin()
            if not (retry and found.passing and tries.again(found.pause)):
                raise found.error
            _log.info("%s; trying again", found.error)
        with found:
            yield found

    def _try(self, method: str, path: str, body: Body | None, **options: Any) -> requests.Response | _Failure:
        data = None if body is None else body()
        try:
            # A redirect would make a GET of a POST.
            response = self._session.request(
                method, self.url + path, data=data, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            passing = isinstance(error, _BROKEN) and not isinstance(error, requests.exceptions.SSLError)
            return _Failure(self.broken(error), passing, 0)
        self._answered = True
        if response.ok and not response.is_redirect:
            return response
        with response:
            passing = response.status_code in responses.AWAY
            return _Failure(responses.failure(response), passing, responses.retry_after(response))

    def broken(self, error: requests.RequestException) -> ServerUnavailable:
        """The exception for an answer that did not come, or broke off while it was read."""
        return responses.unavailable(self.url, error)


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right or parts.query or parts.fragment:
        raise SettingsError(f"{url!r} is no address of a server; one looks like http://127.0.0.1:3000")
    return url.rstrip("/")


def _authorization(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    # Set also where there is no token: otherwise requests puts in what it finds in ~/.netrc.
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token:
            request.headers["Authorization"] = f"Bearer {token}".encode()  # type: ignore[assignment]
        return request

    return authorize
