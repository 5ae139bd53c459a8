"""Checks whether this machine can run a server: the container engine, the settings and the state directory."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from light_run.cli.diagnosis.finding import FAIL, OK, Finding
from light_run.config.settings import Settings
from light_run.errors import SettingsError
from light_run.system.sizes import decimal

_CONNECT_TIMEOUT = 3.0


def findings() -> Iterator[Finding]:
    """Check this machine and return a finding for each check."""
    try:
        # Slow: it imports docker-py, as the server does.
        from light_run.server.engine import address

        yield _engine(address())
        settings = Settings.from_env()
    except SettingsError as error:
        yield Finding(
            FAIL, f"settings: {error}", "change this setting: `light-run serve` does not start with it"
        )
        return
    yield Finding(OK, "settings: valid")
    yield _folder(settings.state_dir)


def _engine(address: str) -> Finding:
    what = f"engine: {address}"
    try:
        _connect(address)
    except FileNotFoundError:
        return Finding(FAIL, f"{what} does not exist", "install Docker, start it, or set DOCKER_HOST")
    except PermissionError:
        return Finding(
            FAIL, f"{what}: permission denied", "run `sudo usermod -aG docker $USER`, then log in again"
        )
    except OSError as error:
        fix = "start Docker with `sudo systemctl start docker`"
        return Finding(FAIL, f"{what} does not respond ({error.strerror or error})", fix)
    return Finding(OK, f"{what} accepts connections")


def _connect(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_CONNECT_TIMEOUT)
            connection.connect(parts.path)
    elif parts.hostname:
        socket.create_connection((parts.hostname, parts.port or 2375), _CONNECT_TIMEOUT).close()


def _folder(path: Path) -> Finding:
    existing = next(each for each in (path, *path.parents) if each.exists())
    what = f"state: {path}, {decimal(shutil.disk_usage(existing).free)} free"
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding(OK, what)
    return Finding(
        FAIL,
        f"state: {existing} is not a folder this user can write to",
        "set LIGHT_RUN_STATE_DIR to a writable folder",
    )
