"""Checks with a run whether runs can reach addresses that they should not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from light_run.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from light_run.errors import LightRunError

if TYPE_CHECKING:
    from light_run.client import Client, Run

# Small images with a shell that many engines have.
IMAGES = ("busybox", "alpine")

_SECONDS = 30.0
# A refused connection has reached the machine: rules drop, so that nothing comes back. Other nc's than BusyBox's do not
# say that a connection was refused.
_SCRIPT = r"""
exec 2>/dev/null
try() {
    if command -v python3 >/dev/null; then
        python3 -c 'import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
except ConnectionRefusedError:
    pass
except OSError:
    sys.exit(1)' "$1" "$2"
        return
    fi
    case $(nc --help 2>&1) in *BusyBox*) ;; *) exit 3 ;; esac
    said=$(printf 'GET / HTTP/1.0\r\n\r\n' | timeout 3 nc "$1" "$2" 2>&1)
    case $? in 0) return 0 ;; 124 | 143) return 1 ;; esac
    case $said in
        *efused*) return 0 ;;
        *nreachable* | *"o route"* | *"timed out"*) return 1 ;;
    esac
    exit 3
}
while read -r _ to by _; do if [ "$to" = 00000000 ]; then break; fi; done </proc/net/route
[ "$to" = 00000000 ] || exit 3
d=${by#??????} by=${by%??} c=${by#????} by=${by%??} b=${by#??} a=${by%??}
if try "$((0x$d)).$((0x$c)).$((0x$b)).$((0x$a))" 1; then echo "the engine's host"; fi
if try 169.254.169.254 80; then echo "the metadata address"; fi
"""
_FIX = "run `light-run firewall` as root on the engine's host; check for rules before its own that accept such packets"


def finding(client: Client, images: Sequence[str], *, active: bool) -> Finding:
    """What a run on the default network reaches; `active` says that the server has seen rules against that.

    The first of `images` that is there is used; none is pulled.
    """
    why = ""
    for image in images:
        try:
            run = _tried(client, image)
        except LightRunError as error:
            why = str(error)
            continue
        if run.succeeded:
            return _reached(run.logs, active=active)
        why = run.error or f"{image} has neither python3 nor BusyBox's nc"
    return Finding(
        OK, f"network: what a run reaches was not tried ({why}); --image names an image to try with"
    )


def _tried(client: Client, image: str) -> Run:
    run = client.submit(image, _SCRIPT, pull="never", timeout=_SECONDS)
    try:
        return client.wait(run.id, 2 * _SECONDS)
    finally:
        # No trace is left; one that has not ended goes its own way.
        with suppress(LightRunError):
            client.delete(run.id)


def _reached(found: Sequence[str], *, active: bool) -> Finding:
    if not found:
        return Finding(
            OK, "network: a run that tried reaches neither the engine's host nor the metadata address"
        )
    what = f"network: a run that tried reaches {' and '.join(found)}"
    return Finding(FAIL if active else WARN, what, _FIX)
