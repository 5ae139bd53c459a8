"""Who asks, and what they may: the bearer token, its scopes, and whose runs are there for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Flask, Response, g, request

from light_run.api.auth import throttle
from light_run.api.responses.json import error_response
from light_run.api.routes import metrics
from light_run.config import tokens
from light_run.config.tokens import Token, TokenFile
from light_run.errors import RunNotFound
from light_run.runs.model import RunRecord
from light_run.runs.service import RunService

# The only path that answers without a token.
_OPEN = "/health"
# A browser that is pointed at one of these, or at what the page loads, has no way to send a token but this: a
# password, of any user.
_PASSWORD = frozenset({"/docs", "/openapi.json"})
_PASSWORD_BELOW = "/docs/"  # noqa: S105
_LOOKING = frozenset({"GET", "HEAD"})
# Where no token is set, everybody is the operator.
_ANYBODY = Token(None, "", frozenset({tokens.ADMIN}))
# No run has this id. Whoever asks for another's run is answered as if it were this one, whatever the route.
_NOBODYS = "-"


def caller() -> Token:
    """The token that the request at hand came with."""
    found: Token = g.get("caller", _ANYBODY)
    return found


def owner() -> str | None:
    """Whose runs the caller sees; None is everybody's."""
    asking = caller()
    return None if tokens.ADMIN in asking.scopes else asking.name


def sees(run: RunRecord) -> bool:
    """True where `run` is there for the caller."""
    return caller().sees(run.owner)


def register(
    app: Flask,
    service: RunService,
    token: str | None,
    named: TokenFile | None = None,
    trusted: Sequence[throttle.Network] = (),
) -> None:
    """Have `app` ask for `token` or one of `named`, if there are any, before anything else is looked at.

    `trusted` are the proxies whose X-Forwarded-For is believed when wrong tokens are counted.
    """
    if token is None and named is None:
        return
    one = () if token is None else (tokens.only(token),)
    app.before_request(_guard(lambda: one if named is None else (*one, *named.now()), trusted))
    app.before_request(lambda: _hide(service))


def _guard(
    known: Callable[[], Sequence[Token]], trusted: Sequence[throttle.Network]
) -> Callable[[], Response | None]:
    failures = throttle.FailedAttempts()

    def authorize() -> Response | None:
        if request.path.rstrip("/") == _OPEN and request.method in _LOOKING:
            return None
        forwarded = request.headers.get("X-Forwarded-For", "")
        address = throttle.address(request.remote_addr or "", forwarded, trusted)
        if seconds := failures.wait(address):
            return _too_many(seconds)
        given = _given()
        found = None if given is None else tokens.find(known(), given)
        if found is None:
            # Who gives no token at all has not guessed one.
            if given:
                failures.add(address)
            return _unauthorized()
        g.caller = found
        scope = _scope()
        return None if found.may(scope) else _forbidden(scope)

    return authorize


def _scope() -> str:
    # What is measured is of everybody's runs.
    if request.path == metrics.PATH:
        return tokens.METRICS
    if request.path == "/networks" or request.path.startswith("/networks/"):
        return tokens.NETWORK
    return tokens.READ if request.method in _LOOKING else tokens.RUN


def _given() -> bytes | None:
    authorization = request.authorization
    if authorization is not None and authorization.type == "basic" and _takes_password():
        return (authorization.password or "").encode()
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    # WSGI gives headers as Latin-1: encoded back, these are the client's own bytes.
    return given.strip().encode("latin-1", "replace")


def _takes_password() -> bool:
    return request.path in _PASSWORD or request.path.startswith(_PASSWORD_BELOW)


def _hide(service: RunService) -> None:
    # In one place for all routes, also for those that are still to come.
    arguments, asking = request.view_args, caller()
    if not arguments or "run_id" not in arguments or tokens.ADMIN in asking.scopes:
        return
    try:
        seen = sees(service.get(arguments["run_id"]))
    except RunNotFound:
        seen = False
    if not seen:
        arguments["run_id"] = _NOBODYS


def _unauthorized() -> Response:
    response = error_response("unauthorized", 401)
    response.headers["WWW-Authenticate"] = "Bearer"
    if _takes_password():
        response.headers.add("WWW-Authenticate", 'Basic realm="light-run", charset="UTF-8"')
    return response


def _forbidden(scope: str) -> Response:
    return error_response("forbidden", 403, f"this token lacks the scope {scope}")


def _too_many(seconds: int) -> Response:
    message = "too many wrong tokens came from this address; wait before the next try"
    response = error_response("too_many_requests", 429, message)
    response.headers["Retry-After"] = str(seconds)
    return response
