"""The packet filter's rules that keep runs on a network from the engine's host and from metadata addresses.

The engine keeps runs apart from each other (no inter-container traffic), but routes everything else. Its own options
for bridges do not close that: the gateway mode ``isolated`` of Engine 28 is for internal networks alone, which have no
way out. So rules of iptables do it, where this process may set them: it is root, iptables is there, and the engine's
bridge is an interface of this host.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from light_run.engine.sandbox.addresses import METADATA

_log = logging.getLogger(__name__)

# What goes out from a protected bridge passes this chain of our own.
_CHAIN = "LIGHT-RUN"
# The maximum seconds of a call; it waits for calls of other programs.
_PATIENCE = 30.0
_WAIT = ("-w", "5")
# Somebody may have set a rule more than once.
_COPIES = 8
# Two who change the packet filter at the same moment can make each other's change fail (nftables takes a change only
# on the state that it was made for).
_ATTEMPTS = 3

_IPV6 = Path("/proc/net/if_inet6")


def protect(bridge: str, *, ipv6: bool = False) -> bool:
    """Keep what comes in by the interface `bridge` from this host and from metadata addresses.

    Idempotent; rules that are there are left as they are. With `ipv6`, the rules for IPv6 have to stand as well;
    without, they are set where this host has IPv6. True only where the rules were seen to stand.
    """
    try:
        socket.if_nametoindex(bridge)
    except OSError:
        # An engine elsewhere, or in another network namespace, has its bridges elsewhere.
        return False
    four, six = _filters()
    stands = four is not None and four.protect(bridge)
    stands_6 = six is not None and _IPV6.exists() and six.protect(bridge)
    return stands and (stands_6 or not ipv6)


def available() -> bool:
    """Whether this process may set rules at all, as far as that shows ahead of trying."""
    return _program("iptables") is not None


def unprotect(bridge: str) -> None:
    """Remove the rules for the interface `bridge`, which is gone, where `protect` has set them."""
    for each in _filters():
        if each is not None:
            each.unprotect(bridge)


@dataclass(frozen=True)
class _Filter:
    """The packet filter of one version of IP, behind the program `iptables`."""

    iptables: str
    addresses: tuple[str, ...]
    # Of what goes to the host itself, all but this is dropped.
    allowed: tuple[str, ...] = ()

    def protect(self, bridge: str) -> bool:
        return any(self._is_complete(bridge) for _ in range(_ATTEMPTS))

    def unprotect(self, bridge: str) -> None:
        rules = {rule for forward in ("DOCKER-USER", "FORWARD") for rule in self._rules(bridge, forward)}
        for rule in rules:
            for _ in range(_COPIES):
                if not self._exits_with_zero("-D", *rule):
                    break

    def _is_complete(self, bridge: str) -> bool:
        return self._has_chain() and all(self._ensure(rule) for rule in self._rules(bridge, self._forward()))

    def _rules(self, bridge: str, forward: str) -> tuple[tuple[str, ...], ...]:
        return (
            (forward, "-i", bridge, "-j", _CHAIN),
            # To the host itself: whatever is no answer to the host. The engine's name server for containers is inside
            # them and not affected.
            (
                "INPUT",
                "-i",
                bridge,
                *self.allowed,
                "-m",
                "conntrack",
                "!",
                "--ctstate",
                "ESTABLISHED",
                "-j",
                "DROP",
            ),
        )

    def _forward(self) -> str:
        # The chain that the engine leaves to others, ahead of its own rules. It is not there where the engine does not
        # use iptables (of this version of IP), and not passed through where FORWARD was flushed.
        return "DOCKER-USER" if self._exits_with_zero("-C", "FORWARD", "-j", "DOCKER-USER") else "FORWARD"

    def _has_chain(self) -> bool:
        if self._chain() == self._wanted():
            return True
        _log.info("setting the chain %s of the packet filter: %s", _CHAIN, self.iptables)
        rules = "\n".join(self._wanted()[1:])
        # At once, and in this order.
        text = f"*filter\n:{_CHAIN} - [0:0]\n{rules}\nCOMMIT\n"
        _run([f"{self.iptables}-restore", *_WAIT, "--noflush"], text)
        return self._chain() == self._wanted()

    def _wanted(self) -> list[str]:
        # As the program lists them. Google, Oracle and Azure have their name servers at the metadata addresses.
        names = [f"-A {_CHAIN} -p {each} -m {each} --dport 53 -j RETURN" for each in ("udp", "tcp")]
        return [f"-N {_CHAIN}", *names, *(f"-A {_CHAIN} -d {address} -j DROP" for address in self.addresses)]

    def _chain(self) -> list[str]:
        listed = _run([self.iptables, *_WAIT, "-S", _CHAIN])
        return [] if listed is None else listed.splitlines()

    def _ensure(self, rule: Sequence[str]) -> bool:
        if self._exits_with_zero("-C", *rule):
            return True
        # Logged each time: other programs may remove the rule more than once.
        _log.info(
            "setting a rule of the packet filter that is not there: %s -I %s", self.iptables, " ".join(rule)
        )
        return self._exits_with_zero("-I", *rule)

    def _exits_with_zero(self, *arguments: str) -> bool:
        return _run([self.iptables, *_WAIT, *arguments]) is not None


def _filters() -> tuple[_Filter | None, _Filter | None]:
    four, six = _program("iptables"), _program("ip6tables")
    # Without ICMP, which has IPv6's neighbour discovery, nothing gets out at all.
    return (
        None if four is None else _Filter(four, _addresses(4)),
        None if six is None else _Filter(six, _addresses(6), allowed=("!", "-p", "ipv6-icmp")),
    )


def _addresses(version: int) -> tuple[str, ...]:
    return tuple(str(network) for network in METADATA if network.version == version)


def _program(name: str) -> str | None:
    if os.geteuid() != 0:
        return None
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _run(command: Sequence[str], text: str = "") -> str | None:
    # What it prints; None where it fails.
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, input=text, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
