"""Throttling of wrong tokens: an address with too many failures is refused for a while."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_FAILURES = 20
WINDOW = 60.0
# Bounds the memory. An attacker with more addresses than this makes the oldest ones forgotten.
MOST_ADDRESSES = 10_000


class FailedAttempts:
    """Counts wrong tokens by address; after MOST_FAILURES in WINDOW seconds, the address must wait.

    The right token does not end the wait: it would tell a guesser that it was right.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def wait(self, address: str) -> int:
        """Return the whole seconds until requests of `address` are accepted again; 0 means now."""
        with self._lock:
            times = self._times.get(address)
            if times is None or len(times) < MOST_FAILURES:
                return 0
            return max(0, math.ceil(times[0] + WINDOW - self._clock()))

    def add(self, address: str) -> None:
        """Record a wrong token from `address`."""
        with self._lock:
            self._times.setdefault(address, deque(maxlen=MOST_FAILURES)).append(self._clock())
            self._times.move_to_end(address)
            if len(self._times) > MOST_ADDRESSES:
                self._times.popitem(last=False)


def address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Whose failures are counted: `peer`, or the last in `forwarded` (X-Forwarded-For) that is no proxy.

    What a client writes into that header itself comes first in it, and is not believed: only what the
    `trusted` have added is. An IPv6 address stands for its /64: that is what one customer has.
    """
    found = peer
    for hop in reversed([each.strip() for each in forwarded.split(",")]):
        if not hop or not _is_trusted(found, trusted):
            break
        found = hop
    parsed = _parsed(found)
    if parsed is None:
        return found[:64]
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    # The peer at the other end of a unix socket has no address; only a proxy is given one.
    if not text:
        return bool(trusted)
    parsed = _parsed(text)
    return parsed is not None and any(parsed in network for network in trusted)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
