"""The container engine that a server in this environment uses."""

from __future__ import annotations

from light_run.engine.daemon.address import engine_address


def address() -> str:
    """Return its URL. Raises SettingsError if it cannot be used."""
    return engine_address().url
