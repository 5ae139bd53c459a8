"""Checks a server by its responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from light_run.cli.diagnosis import machine as machine_diagnosis
from light_run.cli.diagnosis import network as network_diagnosis
from light_run.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from light_run.cli.server import sentence
from light_run.errors import LightRunError, NoSuchRoute, ServerUnavailable, Unauthorized
from light_run.version import __version__

if TYPE_CHECKING:
    from light_run.client import Client, Info

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_START = "start a server with `light-run serve`, or set LIGHT_RUN_URL to its address"
_SET_TOKEN = "set LIGHT_RUN_TOKEN to the server's token, or to one made by `light-run token new`"  # noqa: S105


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
        for each in info.findings:
            yield Finding(each.level, f"{each.check}: {each.summary}", each.fix)
            if each.check == "network" and images and _may_try(info):
                yield network_diagnosis.finding(client, images, active=info.firewall == "active")


def _may_try(info: Info) -> bool:
    # What has no network is not tried, nor what is too old to say.
    asked = info.docker and not info.missing_limits and info.firewall in ("active", "absent")
    return asked and (info.open or bool({"run", "admin"} & set(info.scopes)))


def _version(info: Info) -> Finding:
    if info.version == __version__:
        return Finding(OK, f"version: {__version__} (client and server)")
    what = f"version: {__version__} (client), {info.version} (server)"
    return Finding(WARN, what, "install the same version on both: one may lack features of the other")
