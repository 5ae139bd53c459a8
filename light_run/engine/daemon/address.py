"""Which container engine is used: the one that the Docker command would use in the same environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from docker.constants import DEFAULT_UNIX_SOCKET
from docker.context import ContextAPI
from docker.errors import DockerException
from docker.utils import kwargs_from_env, parse_host

from light_run.errors import SettingsError

_DEFAULT = DEFAULT_UNIX_SOCKET.removeprefix("http+")
_FORWARD = "ssh -nNT -L /run/light-run/engine.sock:/var/run/docker.sock USER@HOST"


class EngineAddress(NamedTuple):
    """Where an engine is: a URL such as ``unix:///var/run/docker.sock``, and docker-py's ``TLSConfig`` or None."""

    url: str
    tls: Any = None


def engine_address(environ: Mapping[str, str] = os.environ) -> EngineAddress:
    """Return the address that DOCKER_HOST names, else the context of DOCKER_CONTEXT or of ``docker context use``.

    With neither, it is that of the local engine. Raises `SettingsError` for one that cannot be used.
    """
    source, found = _named_by_host(environ) if environ.get("DOCKER_HOST") else _named_by_context(environ)
    try:
        scheme = str(parse_host(found.url, tls=found.tls is not None)).partition("://")[0]
    except (DockerException, ValueError) as error:
        raise SettingsError(f"{source}: {error}") from None
    if scheme == "ssh":
        raise SettingsError(
            f"{source} is {found.url}: engines over ssh:// are not supported; forward the engine's socket with "
            f"`{_FORWARD}` and set DOCKER_HOST=unix:///run/light-run/engine.sock"
        )
    if scheme == "npipe":
        raise SettingsError(f"{source} is {found.url}: only unix:// and tcp:// are supported")
    return found


def _named_by_host(environ: Mapping[str, str]) -> tuple[str, EngineAddress]:
    try:
        found = kwargs_from_env(dict(environ))
    except DockerException as error:
        raise SettingsError(f"DOCKER_TLS_VERIFY and DOCKER_CERT_PATH: {error}") from None
    return "DOCKER_HOST", EngineAddress(found["base_url"], found.get("tls"))


def _named_by_context(environ: Mapping[str, str]) -> tuple[str, EngineAddress]:
    name = environ.get("DOCKER_CONTEXT") or None
    try:
        context = ContextAPI.get_context(name)
    except Exception as error:  # noqa: BLE001 - docker-py raises Exception itself for files it cannot read
        raise SettingsError(f"the docker context {name or 'in use'} cannot be read: {error}") from None
    if context is None:
        raise SettingsError(
            f"the docker context {name or 'in use'} does not exist: choose another with `docker context use`, "
            "or set DOCKER_HOST"
        )
    address = EngineAddress(context.Host or _DEFAULT, context.TLSConfig)
    return f"docker context {context.Name!r}", address
