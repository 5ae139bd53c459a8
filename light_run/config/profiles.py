"""Profiles: named sets of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# No capabilities, no root user, no network unless the request names one, and a read-only root file system.
STRICT: Mapping[str, Any] = {
    "cap_drop": ("ALL",),
    "read_only": True,
    "user": "65534:65534",
    "network": "none",
}
PROFILES: Mapping[str, Mapping[str, Any]] = {"strict": STRICT}

# The runtime for runs that do not name one, if the engine has it.
PREFERRED_RUNTIMES: Mapping[str, str] = {"strict": "runsc"}
