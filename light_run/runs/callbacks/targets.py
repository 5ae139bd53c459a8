"""Where a callback may go: its URL taken apart, and every address behind it checked."""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from light_run.engine.sandbox.addresses import NEVER, PRIVATE, meanings, within

_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_PORTS = {"http": 80, "https": 443}


class TargetRefused(Exception):
    """A callback may not go there; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A callback URL's parts; `path` has the query too, `authorization` is a header made of user and password."""

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """What shares a receiver: ``https://example.com:443``."""
        return f"{self.scheme}://{self.host}:{self.port}"


def parse(url: str) -> Target:
    """The parts of `url`. Raises `TargetRefused` where it is no http or https URL with a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii") if parts.hostname else ""
    except ValueError:
        raise TargetRefused("the callback URL cannot be read") from None
    if parts.scheme not in _PORTS or not host:
        raise TargetRefused("the callback URL must be http or https and name a host")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], _ascii(path), authorization)


def resolve(target: Target, *, private: bool) -> list[str]:
    """The addresses of `target`, each of them one that a callback may go to.

    `private` allows loopback and private networks. Raises `TargetRefused` where a single one is not
    allowed, OSError where the name has none. Connect to these, do not resolve again: the next answer
    may be another.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check(address, private=private)
    return addresses


def check(text: str, *, private: bool) -> None:
    """Raise `TargetRefused` where a callback may not go to the address `text`."""
    for address in meanings(text):
        if within(address, NEVER):
            raise TargetRefused(f"callbacks never go to {address}")
        if not private and within(address, PRIVATE):
            raise TargetRefused(f"callbacks do not go to private addresses here, and {address} is one")


def _ascii(path: str) -> str:
    # What is not ASCII goes percent-encoded; what is percent-encoded already stays as it is.
    return quote(path, safe=_VISIBLE, errors="surrogatepass")
