"""Registries: from which ones a tenant may pull, and why a pull failed."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase

from light_run.engine import references
from light_run.engine.references import Reference
from light_run.engine.sandbox.addresses import is_public
from light_run.errors import ImageNotFound, PullFailed

# The image exists, but not for the engine's platform. The engine reports this as "not found" as well.
_NO_SUCH_PLATFORM = re.compile(
    r"no matching manifest|does not match the (?:specified|detected) platform", re.IGNORECASE
)
# How engines and registries report that an image does not exist, in contrast to a failed download.
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|no such image|does not exist|name unknown|invalid reference", re.IGNORECASE
)
_STATUS = re.compile(r"\b(?:status(?: code)?:?|HTTP(?:/1\.[01])?) (?P<status>[1-5]\d\d)\b", re.IGNORECASE)
_REFUSED = (
    "the registry refuses access: the server's user has to log in, or the request to have a registryAuth"
)
_REFUSED_AUTH = "the registry refuses the registryAuth of the request"
_REASONS = tuple(
    (re.compile(words, re.IGNORECASE), reason)
    for words, reason in (
        (r"no space left", "the disk of the container engine is full"),
        (r"too ?many ?requests|rate limit", "the registry limits how often it is asked: try again later"),
        (
            r"unauthorized|denied|authentication|no basic auth",
            _REFUSED,
        ),
        # One message for all of these, so that pulls cannot be used to scan ports.
        (
            r"dial|refused|no such host|no route|unreachable|timeout|timed out|deadline|reset|EOF|pipe|tls|x509|http: ",
            "the registry cannot be reached",
        ),
    )
)


def check_registry(reference: Reference, allowed: Sequence[str]) -> None:
    """Raise PullFailed if a tenant may not pull `reference`, because its registry is not on the public internet.

    `allowed` are patterns of registries that may be anywhere. Names are resolved here: one that cannot be is left to
    the engine, which may have a proxy or another resolver.
    """
    registry = reference.registry
    if registry == references.HUB or any(fnmatchcase(registry, pattern) for pattern in allowed):
        return
    host, _, port = registry.partition(":")
    try:
        found = socket.getaddrinfo(host, int(port or 443), type=socket.SOCK_STREAM)
    except (OSError, OverflowError, ValueError):
        return
    if _is_address(host) or not all(is_public(str(entry[4][0])) for entry in found):
        raise PullFailed(
            f"registry {registry!r} is an address, or at a private one: images are pulled from public registries, "
            "unless LIGHT_RUN_REGISTRIES names this one"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_other_platform(words: str) -> bool:
    """Return True if the engine's `words` mean that the image exists, but not for its platform."""
    return _NO_SUCH_PLATFORM.search(words) is not None


def pull_error(name: str, words: str, more: str = "", *, asked: bool = False) -> ImageNotFound | PullFailed:
    """Return the error for a pull of `name` that failed with the engine's `words`.

    The engine quotes what the registry answered, which may be any service of the operator's network: nothing of that
    but the HTTP status gets into the error. `asked` is true if the request brought credentials of its own.
    """
    if is_other_platform(words):
        return PullFailed(f"image {name!r}: the registry does not have it for the engine's platform{more}")
    if _NO_SUCH_IMAGE.search(words):
        return ImageNotFound(
            f"image {name!r} not found: check the name, and that the registry needs no login{_status(words)}"
        )
    reason = next((reason for pattern, reason in _REASONS if pattern.search(words)), None)
    if asked and reason == _REFUSED:
        reason = _REFUSED_AUTH
    return PullFailed(
        f"image {name!r} cannot be pulled: {reason or 'the registry gave no usable answer'}{_status(words)}"
    )


def _status(words: str) -> str:
    found = _STATUS.search(words)
    return f" (HTTP status {found['status']})" if found else ""
