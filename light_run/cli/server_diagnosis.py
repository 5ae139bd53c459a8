"""What there is to say of a server, from what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from light_run.cli import machine_diagnosis, network_diagnosis, tables
from light_run.cli.diagnosis import FAIL, OK, WARN, Finding
from light_run.cli.server import sentence
from light_run.errors import LightRunError, NoSuchRoute, ServerUnavailable, Unauthorized
from light_run.version import __version__

if TYPE_CHECKING:
    from light_run.client import Client, Info

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Of the disk: less than this is no longer much, less than that will not last.
_LITTLE, _NEXT_TO_NOTHING = 5_000_000_000, 500_000_000

_START = "start one with `light-run serve`, or say by LIGHT_RUN_URL where it is"
_SET_TOKEN = "set LIGHT_RUN_TOKEN to the token of the server, or to one of `light-run token new`"  # noqa: S105
_ENGINE = "see that `docker info` works for the user of the server, with its DOCKER_HOST"
_LIMITS = (
    "give the engine cgroups of its own, or set LIGHT_RUN_ALLOW_UNLIMITED=true to start runs all the same"
)
_BIND = "faster: give the server a LIGHT_RUN_STATE_DIR that the engine sees by the same path"
_FIREWALL = "on the engine's host, as root: light-run firewall"
_DISK = "make room: remove runs with `light-run rm`, or lower LIGHT_RUN_MAX_ARTIFACTS_BYTES"
_OPEN = "anybody who reaches the server may run containers: set its LIGHT_RUN_TOKEN"


def findings(client: Client, images: Sequence[str] = ()) -> Iterator[Finding]:
    """How the server of `client` is, or where none answers on this machine, how the machine is.

    One of `images` is run, where the token may run anything, to see what a run reaches.
    """
    try:
        info = client.info()
    except ServerUnavailable as error:
        yield Finding(FAIL, f"server: {error}", _START)
        if urlsplit(client.url).hostname in _LOOPBACK:
            yield from machine_diagnosis.findings()
    except Unauthorized as error:
        yield Finding(OK, f"server: {client.url} answers")
        yield Finding(FAIL, f"token: {sentence(error)}", _SET_TOKEN)
    except NoSuchRoute:
        what = (
            f"server: {client.url} has no /info: it is older than this command, {__version__}, or elsewhere"
        )
        yield Finding(FAIL, what, "update it, or see that LIGHT_RUN_URL has no path that is not the server's")
    except LightRunError as error:
        yield Finding(FAIL, f"server: {error}", "see that LIGHT_RUN_URL is the address of a light-run server")
    else:
        yield Finding(OK, f"server: {client.url} answers")
        yield _version(info)
        yield _token(info)
        yield from _engine(info)
        yield from _network(info)
        if images and _may_try(info):
            yield network_diagnosis.finding(client, images, active=info.firewall == "active")
        yield _disk(info)


def _may_try(info: Info) -> bool:
    # What has no network is not tried, nor what is too old to say.
    asked = info.docker and not info.missing_limits and info.firewall in ("active", "absent")
    return asked and (info.open or bool({"run", "admin"} & set(info.scopes)))


def _version(info: Info) -> Finding:
    if info.version == __version__:
        return Finding(OK, f"version: {__version__}, here and there")
    what = f"version: {__version__} here, {info.version} on the server"
    return Finding(WARN, what, "install the same one on both sides, lest one asks for what the other has not")


def _token(info: Info) -> Finding:
    scopes = ", ".join(info.scopes)
    if info.open:
        return Finding(WARN, "token: the server asks for none", _OPEN)
    if not {"run", "admin"} & set(info.scopes):
        return Finding(
            WARN, f"token: accepted, for {scopes} alone", "ask for one with the scope run to run anything"
        )
    return Finding(OK, f"token: accepted, for {scopes}")


def _engine(info: Info) -> Iterator[Finding]:
    if not info.docker:
        yield Finding(FAIL, "engine: does not answer", _ENGINE)
        return
    yield Finding(OK, f"engine: {info.engine}")
    if info.missing_limits:
        yield Finding(
            FAIL, f"limits: the engine cannot hold runs to {', '.join(info.missing_limits)}", _LIMITS
        )
    if info.runtimes:
        yield Finding(OK, f"runtimes: {', '.join(info.runtimes)}")
    else:
        mend = "set LIGHT_RUN_RUNTIME or LIGHT_RUN_RUNTIMES to what `docker info` lists"
        yield Finding(WARN, "runtimes: the engine has none of those that the server allows", mend)
    if info.workspace == "archive":
        yield Finding(WARN, "workspaces: sent (archive)", _BIND)
    else:
        known = "mounted (bind)" if info.workspace else "mounted or sent, which the first run finds out"
        yield Finding(OK, f"workspaces: {known}")


def _network(info: Info) -> Iterator[Finding]:
    if not info.docker:
        return
    if info.firewall == "not_needed":
        yield Finding(OK, "network: runs that name none have none")
    elif info.firewall == "active":
        yield Finding(
            OK, "network: rules keep runs on the default network from the engine's host and metadata"
        )
    elif info.firewall is not None:
        yield Finding(
            WARN,
            "network: runs on the default network reach the host's services and the metadata address: the packet "
            "filter's rules cannot be set or seen by the server",
            _FIREWALL,
        )


def _disk(info: Info) -> Finding:
    what = f"disk: {tables.size(info.disk_free)} of {tables.size(info.disk_total)} free"
    if info.disk_free < _NEXT_TO_NOTHING:
        return Finding(FAIL, what, _DISK)
    return Finding(WARN, what, _DISK) if info.disk_free < _LITTLE else Finding(OK, what)
