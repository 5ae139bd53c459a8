"""What this machine would need for a server of its own: an engine, and a folder to keep things in."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from light_run.cli import tables
from light_run.cli.diagnosis import FAIL, OK, Finding
from light_run.config.settings import Settings
from light_run.errors import SettingsError

_SOCKET = "unix:///var/run/docker.sock"
_PATIENCE = 3.0


def findings() -> Iterator[Finding]:
    """How this machine is."""
    yield _engine(os.environ.get("DOCKER_HOST") or _SOCKET)
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        yield Finding(FAIL, f"settings: {error}", "`light-run serve` would refuse it: set another value")
        return
    yield Finding(OK, "settings: `light-run serve` would take them")
    yield _folder(settings.state_dir)


def _engine(address: str) -> Finding:
    # Only whether somebody is there: what it is, the server finds out, which has the library for it.
    what = f"engine: {address}"
    try:
        _connect(address)
    except FileNotFoundError:
        return Finding(FAIL, f"{what} is not there", "install Docker, start it, or set DOCKER_HOST")
    except PermissionError:
        return Finding(
            FAIL, f"{what} is closed to this user", "sudo usermod -aG docker $USER, and log in again"
        )
    except OSError as error:
        mend = "start Docker: sudo systemctl start docker"
        return Finding(FAIL, f"{what} does not answer ({error.strerror or error})", mend)
    return Finding(OK, f"{what} answers")


def _connect(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(parts.path)
    elif parts.hostname:
        socket.create_connection((parts.hostname, parts.port or 2375), _PATIENCE).close()


def _folder(path: Path) -> Finding:
    there = next(each for each in (path, *path.parents) if each.exists())
    what = f"state: {path}, {tables.size(shutil.disk_usage(there).free)} free"
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(OK, what)
    return Finding(
        FAIL, f"state: {there} is not for this user to write", "set LIGHT_RUN_STATE_DIR to a folder that is"
    )
