"""What schemathesis may send where a server runs it for real: a module of hooks, named by SCHEMATHESIS_HOOKS.

Whatever it thinks of, no registry but this machine is asked for an image, nobody elsewhere is called back, and a
container that does start has something short to do. LIGHT_RUN_FUZZ_RUN is a run that has ended and left `KEPT`,
LIGHT_RUN_FUZZ_TOKEN a token that may do everything.
"""

from __future__ import annotations

import ipaddress
import os
import zlib
from typing import Any

import schemathesis

from tests.support.engine import BUSYBOX

NOWHERE = "127.0.0.1:1"
KEPT = ("kept", "folder", "folder/below")
KEEPING = "echo kept >kept; mkdir -p d/folder; echo below >d/folder/below"
COMMANDS = ("true", "exit 3", "cat; env", "echo out; echo err >&2; sleep 0.2")
# A tar with nothing in it.
EMPTY = "\0" * 1024
# One POST in so many gets an image that is there.
RARELY = 6


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Leave a case as right or wrong as it is, but for where it leads."""
    number = zlib.crc32(repr(case).encode())
    # Wrong tokens are counted by address.
    case.headers["X-Forwarded-For"] = str(ipaddress.IPv4Address(number))
    # Only looking at these is for everybody; whoever else is known hears that there is nothing else to do there.
    if case.path in ("/health", "/console/{filename}") and case.method != "GET":
        case.headers["Authorization"] = f"Bearer {os.environ['LIGHT_RUN_FUZZ_TOKEN']}"
    # No schema says which runs there are.
    case.query.pop("before", None)
    if "run_id" in case.path_parameters:
        lead_to_a_run(case, number)
    right = case.meta.generation.mode == schemathesis.GenerationMode.POSITIVE
    if case.path == "/networks" and isinstance(case.body, dict) and right:
        # No schema says which addresses fit together, nor which the engine has left.
        case.body.pop("ipam", None)
    if case.path != "/run" and isinstance(case.body, dict):
        case.body = {name: whole(value) for name, value in case.body.items()}
    if case.path == "/run" and isinstance(case.body, dict):
        if case.media_type == "multipart/form-data":
            right = case.meta.generation.mode == schemathesis.GenerationMode.POSITIVE
            case.body = uploaded(case.body, number, right=right)
        else:
            case.body = harmless(case.body, number)


def uploaded(parts: dict[str, Any], number: int, *, right: bool) -> dict[str, Any]:
    """`parts`; where they are `right`, without those that no schema can say what is right for, but an archive."""
    parts = {"request": parts["request"], "archive": EMPTY} if right else dict(parts)
    if isinstance(parts.get("request"), dict):
        parts["request"] = harmless(parts["request"], number)
        if right:
            parts["request"].setdefault("files", {"a": ""})
    return parts


def lead_to_a_run(case: Any, number: int) -> None:
    """Have every other look be one at the run that is there, which nobody deletes."""
    there = os.environ["LIGHT_RUN_FUZZ_RUN"]
    if case.method == "GET" and number % 2:
        case.path_parameters["run_id"] = there
        if "path" in case.path_parameters and number % 8 < 6:
            case.path_parameters["path"] = KEPT[number % len(KEPT)]
    elif case.method == "DELETE" and case.path_parameters["run_id"] == there:
        case.path_parameters["run_id"] = there[::-1]


def harmless(body: dict[str, Any], number: int) -> dict[str, Any]:
    """`body`, with an image that is not pulled and a callback to nobody."""
    body = dict(body)
    if is_text(body.get("callbackUrl")) and body["callbackUrl"].lower().startswith("http"):
        body["callbackUrl"] = f"http://{NOWHERE}/"
    if isinstance(body.get("limits"), dict):
        body["limits"] = {name: whole(value) for name, value in body["limits"].items()}
        # No schema says how much a text is.
        sizes = (name for name in ("memory", "shm", "fsize") if isinstance(body["limits"].get(name), str))
        body["limits"] |= dict.fromkeys(sizes, "64m")
    body = {name: whole(value) for name, value in body.items()}
    if is_text(body.get("image")):
        body["image"] = f"{NOWHERE}/image"
        if number % RARELY == 0:
            for name in ("run", "setup", "runtime", "limits", "timeout", "network", "networks"):
                body.pop(name, None)
            command = "sleep 1" if body.get("detached") else COMMANDS[number // RARELY % len(COMMANDS)]
            body |= {"image": BUSYBOX, "network": "none", "timeout": 5000, "entrypoint": command}
    return body


def whole(value: object) -> object:
    """`value` as we take it: to JSON Schema, 1.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_text(value: object) -> bool:
    """True where a field that takes text would take `value`."""
    return isinstance(value, str) and 0 < len(value) <= 300 and "\0" not in value
