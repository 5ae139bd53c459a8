"""Browser origins: requests of web pages are allowed for the configured origins and refused for all others.

A browser sends the origin of a page with its requests (Fetch standard, section 3.2) and tells whether they cross sites
(``Sec-Fetch-Site``, Fetch Metadata); a page can forge neither. A page that has its own name resolve to this machine
(DNS rebinding) is found out by the ``Host`` of its requests.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask, Response, request

from light_run.api.requests.policy import matches
from light_run.api.responses.json import error_response

_AUTHORITY = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?)(?::(?P<port>[0-9]{1,5}))?"
_HOST = re.compile(_AUTHORITY)
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_AUTHORITY}")
_PORTS = {"http": "80", "https": "443"}

_METHODS = "GET, HEAD, POST, DELETE"
_REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Range"
)
_RESPONSE_HEADERS = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, Server-Timing, "
    "WWW-Authenticate"
)
# Seconds for which a browser may cache a preflight response; the maximum of Chromium.
_PREFLIGHT_AGE = 7200


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """Patterns of the `origins` whose pages may use the server, and of the host names (`hosts`) of the server."""

    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()

    def allows_origin(self, origin: str) -> bool:
        """Return True if a pattern matches `origin`; ``*`` matches every origin except ``null``."""
        if origin == "null":
            return origin in self.origins
        return "*" in self.origins or matches(self.origins, origin.lower())

    def is_foreign(self, origin: str | None, host: str, site: str | None) -> bool:
        """Return True for a request of another site's page; `site` is its Sec-Fetch-Site."""
        if site == "same-origin":
            return False
        if origin is None:
            return site == "cross-site"
        return site == "cross-site" or not _same(origin, host)

    def knows_host(self, host: str) -> bool:
        """Return True if `host` is an IP address, a loopback name, or matches a pattern."""
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = found["host"].removesuffix(".")
        return (
            name == "localhost"
            or name.endswith(".localhost")
            or _is_address(name)
            or matches(self.hosts, name)
        )


def register(app: Flask, browsers: OriginPolicy, *, secured: bool) -> None:
    """Make `app` refuse requests from pages of other sites first, and add CORS headers for allowed origins.

    Without a token (`secured` is False), the request's Host must be known as well.
    """

    def check() -> Response | None:
        host = request.headers.get("Host")
        if not secured and host is not None and not browsers.knows_host(host):
            return _misdirected(host)
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        if not browsers.is_foreign(origin, host or "", site):
            return None
        if origin is None or not browsers.allows_origin(origin):
            return _not_allowed(origin)
        wanted = request.headers.get("Access-Control-Request-Method")
        return Response(status=204) if request.method == "OPTIONS" and wanted else None

    def share(response: Response) -> Response:
        if browsers.origins:
            response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin is None or not browsers.allows_origin(origin):
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = _METHODS
            response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
            response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_AGE)
        return response

    app.before_request(check)
    app.after_request(share)


def _same(origin: str, host: str) -> bool:
    # By name and port alone: behind a proxy that ends TLS, the server does not know its own scheme.
    theirs, ours = _ORIGIN.fullmatch(origin.lower()), _HOST.fullmatch(host.lower())
    if theirs is None or ours is None:
        return False
    usual = _PORTS.get(theirs["scheme"])
    return theirs["host"] == ours["host"] and (theirs["port"] or usual) == (ours["port"] or usual)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _not_allowed(origin: str | None) -> Response:
    page = "a page of another site" if origin is None else f"pages of {_quoted(origin)}"
    message = f"{page} may not use this server; LIGHT_RUN_ORIGINS names the origins that may"
    return error_response("origin_not_allowed", 403, message)


def _misdirected(host: str) -> Response:
    message = (
        f"this server has no token and does not go by the name {_quoted(host)}; "
        "use its address, set LIGHT_RUN_TOKEN, or add the name to LIGHT_RUN_HOSTS"
    )
    return error_response("misdirected_request", 421, message)


def _quoted(text: str) -> str:
    return ascii(text[:100])
