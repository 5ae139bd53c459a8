"""Bearer tokens: authentication, scopes, and which runs a token can see."""

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

# The only path that needs no token.
_OPEN = "/health"
# A browser that is pointed at this, or whose user opened /docs without the console, has no way to send a token but
# this: a password, of any user.
_PASSWORD = "/openapi.json"  # noqa: S105
_LOOKING = frozenset({"GET", "HEAD"})
# Without a token, every client is the operator.
_ANYBODY = Token(None, "", frozenset({tokens.ADMIN}))
# No run has this id. Requests for runs of another token are treated as requests for this id.
_NOBODYS = "-"


def caller() -> Token:
    """Return the token of the current request."""
    found: Token = g.get("caller", _ANYBODY)
    return found


def owner() -> str | None:
    """Return the owner whose runs the caller can see; None means all runs."""
    asking = caller()
    return None if tokens.ADMIN in asking.scopes else asking.name


def sees(run: RunRecord) -> bool:
    """Return True if the caller can see `run`."""
    return caller().sees(run.owner)


def register(
    app: Flask,
    service: RunService,
    token: str | None,
    named: TokenFile | None = None,
    trusted: Sequence[throttle.Network] = (),
) -> None:
    """Make `app` require `token` or one of `named`, if there are any, before anything else.

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
            # A request without a token is not a failed attempt.
            if given:
                failures.add(address)
            return _unauthorized()
        g.caller = found
        scope = _scope()
        return None if found.may(scope) else _forbidden(scope)

    return authorize


def _scope() -> str:
    # The metrics cover the runs of all tokens.
    if request.path == metrics.PATH:
        return tokens.METRICS
    if request.path == "/networks" or request.path.startswith("/networks/"):
        return tokens.NETWORK
    if request.path == "/maintenance":
        return tokens.ADMIN
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
    return request.path == _PASSWORD


def _hide(service: RunService) -> None:
    # In one place for all routes, including future ones.
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
