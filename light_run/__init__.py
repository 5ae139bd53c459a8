"""light-run: run a Docker container from an HTTP request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from light_run.version import __version__

__all__ = ["Client", "Limits", "RunResult", "RunSpec", "Runner", "__version__", "create_app"]

if TYPE_CHECKING:
    from light_run.app import create_app
    from light_run.client import Client
    from light_run.engine import Limits, Runner, RunResult, RunSpec

_HOMES = {
    "Client": "light_run.client",
    "create_app": "light_run.app",
    "Limits": "light_run.engine",
    "RunResult": "light_run.engine",
    "RunSpec": "light_run.engine",
    "Runner": "light_run.engine",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `light-run --version` does not pay for Flask and docker-py.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
