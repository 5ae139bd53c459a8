"""The report of ``light-run firewall``, by which a server that may not see the packet filter knows that rules stand.

It has the ids of the networks that are protected, one a line. An id says which engine's network it is: two engines on
one host have networks and bridges of the same name. Only root may write where it lies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

PATH = Path("/run/light-run-firewall/networks")

# It is written anew every few seconds; of one that is older, nobody knows whether it still holds.
_FRESH = 30.0


def write(networks: Iterable[str]) -> None:
    """Report the `networks` whose rules stand now. Raises OSError."""
    PATH.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = PATH.with_suffix(".new")
    new.write_text("".join(f"{network}\n" for network in sorted(networks)))
    new.chmod(0o644)
    os.replace(new, PATH)


def is_there() -> bool:
    """Whether somebody reports, or did so before: the file outlives its writer where that is a container."""
    return PATH.exists()


def is_fresh() -> bool:
    """Whether somebody keeps the report up to date."""
    try:
        return time.time() - PATH.stat().st_mtime < _FRESH
    except OSError:
        return False


def names(network: str) -> bool:
    """Whether the network with that id is protected now, as far as the report tells."""
    try:
        return is_fresh() and network in PATH.read_text().split()
    except (OSError, ValueError):
        return False
