"""What a server's answer means: a value, or the exception for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import requests

from light_run import errors
from light_run.errors import Fault, InvalidSpec, LightRunError, Overloaded, Refused, ServerUnavailable

# Words of the HTTP contract that have a name of their own, with a sentence where the answer brings none.
_NAMED: dict[str, tuple[Callable[[str], LightRunError], str]] = {
    "unauthorized": (errors.Unauthorized, "the server asks for a token, or for another one than was given"),
    "forbidden": (errors.Unauthorized, "the token may not do this"),
    "not_found": (errors.RunNotFound, "the server has no such run"),
    "not_started": (errors.RunNotStarted, "the run has no container at work yet"),
    "not_found_or_done": (errors.RunNotActive, "there is no such run, or it has ended"),
    "not_found_or_running": (errors.RunActive, "there is no such run, or it has not ended"),
    "artifact_not_found": (errors.ArtifactNotFound, "the run left no such artifact"),
    "invalid_path": (errors.InvalidPath, "the server gives no artifact of that name"),
    "idempotency_conflict": (errors.IdempotencyConflict, "the Idempotency-Key was used with another body"),
    "insufficient_storage": (errors.InsufficientStorage, "the server's disk is full"),
}

# What a proxy answers for a server that does not; 503 is also a server's own word for being full.
AWAY = frozenset({502, 503, 504})

_MOST_WAIT = 3600


def retry_after(response: requests.Response) -> int:
    """The seconds a busy server asks for before the next try; 0 where it names none."""
    given = response.headers.get("Retry-After", "")
    return min(int(given), _MOST_WAIT) if given.isascii() and given.isdigit() else 0


def failure(response: requests.Response) -> LightRunError:
    """The exception for an answer that is not a success."""
    body = _body(response)
    word, message = str(body.get("error") or ""), str(body.get("message") or "")
    # `not_found` is also for a path that no route has.
    if word in _NAMED and (word != "not_found" or "/runs/" in response.url):
        kind, sentence = _NAMED[word]
        return kind(message or sentence)
    if word == "bad_request":
        return InvalidSpec(
            _faults(body.get("details")) or [Fault((), word, message or "the request is wrong")]
        )
    if word == "overloaded":
        return Overloaded(message or "the server has no room for this now", max(1, retry_after(response)))
    if response.status_code in AWAY:
        return ServerUnavailable(f"{response.url} is away for now: {_sentence(response, word, message)}")
    return _refused(response, word, message)


def value(response: requests.Response) -> Any:
    """The JSON of an answer. Raises `Refused` for what is none: no light-run has answered."""
    try:
        return response.json()
    except ValueError:
        raise Refused(
            f"{response.url} answered, but not as a light-run server does", response.status_code
        ) from None


def unavailable(url: str, error: requests.RequestException) -> ServerUnavailable:
    """The exception for a request that got no answer."""
    if isinstance(error, requests.exceptions.SSLError):
        return ServerUnavailable(f"{url} cannot be trusted: {_reason(error)}")
    if isinstance(error, requests.exceptions.Timeout):
        return ServerUnavailable(f"{url} does not answer in time")
    return ServerUnavailable(f"{url} cannot be reached: {_reason(error)}")


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
        return Refused(f"{response.url} is elsewhere: use {target}", response.status_code)
    if word == "not_found":
        said = f"{response.url} is not there: the server is older than this, or its address is another"
        return errors.NoSuchRoute(said, response.status_code, word)
    return Refused(_sentence(response, word, message), response.status_code, word)


def _sentence(response: requests.Response, word: str, message: str) -> str:
    said = ": ".join(filter(None, [word, message])) or response.reason or "no reason given"
    return f"the server answered {response.status_code} ({said})"


def _reason(error: BaseException) -> str:
    # requests wraps urllib3, which wraps the system's own words: those say what is the matter.
    seen: BaseException | None = error
    words = str(error)
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            words = seen.strerror
        seen = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(seen, BaseException):
            break
    return words
