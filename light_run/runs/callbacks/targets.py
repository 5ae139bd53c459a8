"""Where a callback may go: its URL taken apart, and every address behind it checked."""

from __future__ import annotations

import base64
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from light_run.engine.sandbox.addresses import METADATA, Network, networks

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# No callback goes there: metadata services, the unspecified address, multicast and reserved addresses.
_NEVER = (*METADATA, *networks("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8"))

# Not the public internet (IANA's special-purpose registries); an operator may want callbacks to stay in here.
# `ipaddress.is_global` does not replace this list: its answer differs between patch releases of one Python version
# (CVE-2024-4032), and it takes multicast, NAT64 and the deprecated fec0::/10 for global.
_PRIVATE = networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "192.0.0.0/24",
    "198.18.0.0/15",
    "::1/128",
    "fc00::/7",
    "fec0::/10",
)

# These reach the IPv4 address in the last four bytes: NAT64 (RFC 6052), stateless translation (RFC 2765) and,
# deprecated, on some stacks, RFC 4291 section 2.5.5.1; ``::`` and ``::1`` are none of the last.
_TRANSLATED = networks("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")
# NAT64 of a network's own, RFC 8215: with this length of prefix the address lies around the ninth byte.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# In front of the IPv4 address at the other end of an ISATAP tunnel, RFC 5214.
_ISATAP = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))

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
    # A zone (`fe80::1%eth0`) says only which link.
    for address in _meanings(ipaddress.ip_address(text.partition("%")[0])):
        if _within(address, _NEVER):
            raise TargetRefused(f"callbacks never go to {address}")
        if not private and _within(address, _PRIVATE):
            raise TargetRefused(f"callbacks do not go to private addresses here, and {address} is one")


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _meanings(address: Address) -> list[Address]:
    # The address, and the IPv4 ones that reach the same machine through it.
    meanings: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        packed = address.packed
        embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        translated = _within(address, _TRANSLATED) and int(address) > 1
        if translated or address in _LOCAL_NAT64 or packed[8:12] in _ISATAP:
            embedded.append(ipaddress.IPv4Address(packed[-4:]))
        if address in _LOCAL_NAT64:
            embedded.append(ipaddress.IPv4Address(packed[6:8] + packed[9:11]))
        meanings += [meaning for meaning in embedded if meaning is not None]
    return meanings


def _ascii(path: str) -> str:
    # What is not ASCII goes percent-encoded; what is percent-encoded already stays as it is.
    return quote(path, safe=_VISIBLE, errors="surrogatepass")
