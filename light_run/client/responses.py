"""Converts responses of a server to values or exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import requests

from light_run import errors
from light_run.errors import Fault, InvalidSpec, LightRunError, Overloaded, Refused, ServerUnavailable

# Error codes of the HTTP API with an exception of their own, and the message if the response has none.
_ERRORS: dict[str, tuple[Callable[[str], LightRunError], str]] = {
    "unauthorized": (errors.Unauthorized, "the token is missing or wrong"),
    "forbidden": (errors.Unauthorized, "the token does not have the scope for this request"),
    "not_found": (errors.RunNotFound, "the run does not exist"),
    "network_not_found": (errors.NetworkNotFound, "the network was not created through light-run"),
    "network_exists": (errors.NetworkExists, "the network exists already"),
    "network_conflict": (errors.NetworkConflict, "the addresses overlap with another network"),
    "network_in_use": (errors.NetworkInUse, "a container is connected to the network"),
    "not_started": (errors.RunNotStarted, "the run has not started yet"),
    "stdin_closed": (errors.StdinClosed, "the run takes no more input"),
    "not_found_or_done": (errors.RunNotActive, "the run does not exist or has ended"),
    "not_found_or_running": (errors.RunActive, "the run does not exist or has not ended"),
    "artifact_not_found": (errors.ArtifactNotFound, "the run has no such artifact"),
    "invalid_path": (errors.InvalidPath, "the path is not allowed for an artifact"),
    "idempotency_conflict": (errors.IdempotencyConflict, "the Idempotency-Key was used with another body"),
    "insufficient_storage": (errors.InsufficientStorage, "the server's disk is full"),
}

# Proxies respond with these for a server that is down. The server itself uses 503 if it is overloaded.
UNAVAILABLE_STATUSES = frozenset({502, 503, 504})

_MAX_RETRY_AFTER = 3600


def retry_after(response: requests.Response) -> int:
    """Return the seconds of the Retry-After header, or 0 without one."""
    given = response.headers.get("Retry-After", "")
    return min(int(given), _MAX_RETRY_AFTER) if given.isascii() and given.isdigit() else 0


def failure(response: requests.Response) -> LightRunError:
    """Return the exception for an error response."""
    body = _body(response)
    word, message = str(body.get("error") or ""), str(body.get("message") or "")
    # The server also uses `not_found` for an unknown route.
    if word in _ERRORS and (word != "not_found" or "/runs/" in response.url):
        kind, sentence = _ERRORS[word]
        return kind(message or sentence)
    if word == "bad_request":
        return InvalidSpec(
            _faults(body.get("details")) or [Fault((), word, message or "the request is not valid")]
        )
    if word == "overloaded":
        return Overloaded(
            message or "the server is overloaded: try again later", max(1, retry_after(response))
        )
    if response.status_code in UNAVAILABLE_STATUSES:
        return ServerUnavailable(f"{response.url} is unavailable: {_sentence(response, word, message)}")
    return _refused(response, word, message)


def value(response: requests.Response) -> Any:
    """Return the JSON of a response. Raises `Refused` if it is not JSON, so not from a light-run server."""
    try:
        return response.json()
    except ValueError:
        raise Refused(
            f"{response.url} responded, but not as a light-run server: check the address",
            response.status_code,
        ) from None


def unavailable(url: str, error: requests.RequestException) -> ServerUnavailable:
    """Return the exception for a request without a response."""
    if isinstance(error, requests.exceptions.SSLError):
        return ServerUnavailable(f"{url} has no valid certificate: {_reason(error)}")
    if isinstance(error, requests.exceptions.Timeout):
        return ServerUnavailable(f"{url} did not respond in time")
    return ServerUnavailable(f"cannot connect to {url}: {_reason(error)}")


def _body(response: requests.Response) -> Mapping[str, Any]:
    try:
        found = response.json()
    except (ValueError, requests.RequestException):
        return {}
    return found if isinstance(found, dict) else {}


def _faults(details: Any) -> list[Fault]:
    if not isinstance(details, list):
        return []
    return [
        Fault(tuple(each.get("path") or ()), str(each.get("code", "")), str(each.get("message", "")))
        for each in details
        if isinstance(each, dict)
    ]


def _refused(response: requests.Response, word: str, message: str) -> Refused:
    if response.is_redirect:
        target = response.headers["Location"]
        return Refused(f"{response.url} redirects: use {target}", response.status_code)
    if word == "not_found":
        said = f"{response.url} does not exist: the server is older than this client, or the address is wrong"
        return errors.NoSuchRoute(said, response.status_code, word)
    return Refused(_sentence(response, word, message), response.status_code, word)


def _sentence(response: requests.Response, word: str, message: str) -> str:
    said = ": ".join(filter(None, [word, message])) or response.reason or "no reason given"
    return f"the server responded with {response.status_code} ({said})"


def _reason(error: BaseException) -> str:
    # requests wraps urllib3, which wraps an OSError: the message of that is the clearest.
    seen: BaseException | None = error
    words = str(error)
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            words = seen.strerror
        seen = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(seen, BaseException):
            break
    return words
