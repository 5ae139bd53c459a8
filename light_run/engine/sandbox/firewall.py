"""What a run on the isolated network must not reach: this host's own services and link-local addresses.

The engine keeps runs apart from each other (no inter-container traffic), but routes everything else, the
cloud's metadata service at 169.254.169.254 among it. Two rules close that, where this process may set
them: it is root, iptables is there, and the engine is on this host.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess

_log = logging.getLogger(__name__)

# RFC 3927; the metadata services of the clouds live there.
_LINK_LOCAL = "169.254.0.0/16"
# So many seconds a call may take; it waits for others' calls by itself.
_PATIENCE = 30.0


def protect(bridge: str) -> bool:
    """Keep what comes in by the interface `bridge` from this host and from link-local addresses.

    Idempotent; rules that are there are left as they are. False where the rules cannot be set from here.
    """
    iptables = _iptables()
    return iptables is not None and all(_ensure(iptables, rule) for rule in _rules(bridge))


def warn(bridge: str) -> None:
    """Say in the log that `bridge` is not protected, and by which rules it would be."""
    commands = "; ".join("iptables -I " + " ".join(rule) for rule in _rules(bridge))
    _log.warning(
        "runs on the default network can reach this host's services and the metadata address: "
        "this process may not set the rules against it; as root: %s",
        commands,
    )


def unprotect(bridge: str) -> None:
    """Take the rules for the interface `bridge`, which is gone, away again where `protect` has set them."""
    iptables = _iptables()
    if iptables is not None:
        for rule in _rules(bridge):
            _run(iptables, "-D", *rule)


def _rules(bridge: str) -> tuple[tuple[str, ...], ...]:
    return (
        # DOCKER-USER is the chain the engine leaves to others, before its own rules for forwarding.
        ("DOCKER-USER", "-i", bridge, "-d", _LINK_LOCAL, "-j", "DROP"),
        # To the host itself. The engine's name server for containers is inside them and not affected.
        ("INPUT", "-i", bridge, "-j", "DROP"),
    )


def _iptables() -> str | None:
    if os.geteuid() != 0:
        return None
    return shutil.which("iptables", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _ensure(iptables: str, rule: tuple[str, ...]) -> bool:
    if _run(iptables, "-C", *rule):
        return True
    # Said each time: more than once in a server's life, somebody else takes it away.
    _log.info("setting a rule of the packet filter that is not there: iptables -I %s", " ".join(rule))
    return _run(iptables, "-I", *rule)


def _run(iptables: str, *arguments: str) -> bool:
    command = [iptables, "-w", "5", *arguments]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
