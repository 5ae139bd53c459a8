"""Checks a server by its responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from light_run.cli.diagnosis import machine as machine_diagnosis
from light_run.cli.diagnosis import network as network_diagnosis
from light_run.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from light_run.cli.display import tables
from light_run.cli.server import sentence
from light_run.errors import LightRunError, NoSuchRoute, ServerUnavailable, Unauthorized
from light_run.version import __version__

if TYPE_CHECKING:
    from light_run.client import Client, Info

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Free bytes on disk below which the check warns or fails.
_LOW_DISK, _VERY_LOW_DISK = 5_000_000_000, 500_000_000

_START = "start a server with `light-run serve`, or set LIGHT_RUN_URL to its address"
_SET_TOKEN = "set LIGHT_RUN_TOKEN to the server's token, or to one made by `light-run token new`"  # noqa: S105
_ENGINE = "check that `docker --host ADDRESS info` works with that address for the user of the server"
_LIMITS = (
    "enable the missing cgroup controllers for the engine, or set LIGHT_RUN_ALLOW_UNLIMITED=true to start runs "
    "without these limits"
)
_BIND = "bind mounts are faster: set LIGHT_RUN_STATE_DIR to a folder that the engine has at the same path"
_FIREWALL = "run `light-run firewall` as root on the engine's host"
_DISK = "free disk space: remove runs with `light-run rm`, or lower LIGHT_RUN_MAX_ARTIFACTS_BYTES"
_OPEN = "set LIGHT_RUN_TOKEN on the server: without a token, anybody who can connect can run containers"


def findings(client: Client, images: Sequence[str] = ()) -> Iterator[Finding]:
    """Check the server of `client`; if it is on this machine and does not respond, check the machine.

    Runs one of `images`, if the token allows it, to test what a run can reach.
    """
    try:
        info = client.info()
    except ServerUnavailable as error:
        yield Finding(FAIL, f"server: {error}", _START)
        if urlsplit(client.url).hostname in _LOOPBACK:
            yield from machine_diagnosis.findings()
    except Unauthorized as error:
        yield Finding(OK, f"server: {client.url} responds")
        yield Finding(FAIL, f"token: {sentence(error)}", _SET_TOKEN)
    except NoSuchRoute:
        what = (
            f"server: {client.url} has no /info: the server is older than this command ({__version__}), "
            "or the address is wrong"
        )
        yield Finding(FAIL, what, "update the server, or check the path in LIGHT_RUN_URL")
    except LightRunError as error:
        yield Finding(
            FAIL, f"server: {error}", "check that LIGHT_RUN_URL is the address of a light-run server"
        )
    else:
        yield Finding(OK, f"server: {client.url} responds")
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
        return Finding(OK, f"version: {__version__} (client and server)")
    what = f"version: {__version__} (client), {info.version} (server)"
    return Finding(WARN, what, "install the same version on both: one may lack features of the other")


def _token(info: Info) -> Finding:
    scopes = ", ".join(info.scopes)
    if info.open:
        return Finding(WARN, "token: the server does not require one", _OPEN)
    if not {"run", "admin"} & set(info.scopes):
        return Finding(
            WARN, f"token: accepted, scopes: {scopes}", "to start runs, use a token with the scope run"
        )
    return Finding(OK, f"token: accepted, scopes: {scopes}")


def _engine(info: Info) -> Iterator[Finding]:
    where = f" at {info.engine_address}" if info.engine_address else ""
    if not info.docker:
        yield Finding(FAIL, f"engine: does not respond{where}", _ENGINE)
        return
    yield Finding(OK, f"engine: {info.engine}{where}")
    if info.missing_limits:
        yield Finding(FAIL, f"limits: the engine cannot enforce {', '.join(info.missing_limits)}", _LIMITS)
    if info.runtimes:
        yield Finding(OK, f"runtimes: {', '.join(info.runtimes)}")
    else:
        fix = "set LIGHT_RUN_RUNTIME or LIGHT_RUN_RUNTIMES to a runtime that `docker info` lists"
        yield Finding(WARN, "runtimes: the engine has none of the allowed runtimes", fix)
    if info.workspace == "archive":
        yield Finding(WARN, "workspaces: archive (files are copied)", _BIND)
    else:
        mode = "bind (files are mounted)" if info.workspace else "bind or archive, detected by the first run"
        yield Finding(OK, f"workspaces: {mode}")


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
    if info.disk_free < _VERY_LOW_DISK:
        return Finding(FAIL, what, _DISK)
    return Finding(WARN, what, _DISK) if info.disk_free < _LOW_DISK else Finding(OK, what)
