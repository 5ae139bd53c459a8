"""Profiles: several settings at once, by one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Nothing that a run does not ask for by name, and nothing that it can ask for beyond its own workspace.
STRICT: Mapping[str, Any] = {
    "cap_drop": ("ALL",),
    "read_only": True,
    "user": "65534:65534",
    "network": "none",
}
PROFILES: Mapping[str, Mapping[str, Any]] = {"strict": STRICT}

# The runtime that runs get which name none, where the engine has it.
PREFERRED_RUNTIMES: Mapping[str, str] = {"strict": "runsc"}
