"""What is right and wrong with a server, as ``GET /info`` has it: ``light-run doctor`` and the console show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from light_run.system.sizes import decimal

OK, WARN, FAIL = "ok", "warn", "fail"
LEVELS = (OK, WARN, FAIL)

# Free bytes on disk below which the check warns or fails.
_LOW_DISK, _VERY_LOW_DISK = 5_000_000_000, 500_000_000

_ENGINE = "check that `docker --host ADDRESS info` works with that address for the user of the server"
_LIMITS = (
    "enable the missing cgroup controllers for the engine, or set LIGHT_RUN_ALLOW_UNLIMITED=true to start runs "
    "without these limits"
)
_RUNTIMES = "set LIGHT_RUN_RUNTIME or LIGHT_RUN_RUNTIMES to a runtime that `docker info` lists"
_CRUN = (
    "crun starts runs faster than runc: register it with the engine and set LIGHT_RUN_RUNTIME=crun, "
    "unless the host has cgroups in hybrid mode"
)
_BIND = "bind mounts are faster: set LIGHT_RUN_STATE_DIR to a folder that the engine has at the same path"
_FIREWALL = "run `light-run firewall` as root on the engine's host"
_DISK = "free disk space: remove runs with `light-run rm`, or lower LIGHT_RUN_MAX_ARTIFACTS_BYTES"
_GUARDS = {
    "size": "size of a run's files",
    "unlinked": "files without a name",
    "free_space": "free space",
    "quota": "quota of the engine",
}
_GUARD_FIX = (
    "run the server as root on the engine's host, set LIGHT_RUN_MAX_WORKSPACE_BYTES and LIGHT_RUN_MIN_FREE_BYTES, or "
    "give the engine overlay2 on xfs mounted with pquota"
)
_OPEN = "set LIGHT_RUN_TOKEN on the server: without a token, anybody who can connect can run containers"

Finding = dict[str, str]


def findings(info: Mapping[str, Any]) -> list[Finding]:
    """Check the server that `info`, the response of ``GET /info``, describes.

    Each finding has ``check``, what was checked, in one word; ``level``, one of `LEVELS`; ``summary``; and ``fix``, how
    to fix a problem or what would be better, empty if there is nothing to do.
    """
    return [
        _token(info["token"]),
        *_engine(info),
        *_network(info),
        _disk(info["disk"]),
        *_disk_guards(info),
    ]


def _finding(check: str, level: str, summary: str, fix: str = "") -> Finding:
    return {"check": check, "level": level, "summary": summary, "fix": fix}


def _token(token: Mapping[str, Any]) -> Finding:
    if not token["required"]:
        return _finding("token", WARN, "the server does not require one", _OPEN)
    summary = f"accepted, scopes: {', '.join(token['scopes'])}"
    if not {"run", "admin"} & set(token["scopes"]):
        return _finding("token", WARN, summary, "to start runs, use a token with the scope run")
    return _finding("token", OK, summary)


def _engine(info: Mapping[str, Any]) -> Iterator[Finding]:
    engine = info["engine"]
    where = f" at {engine['address']}" if engine["address"] else ""
    if not info["docker"]:
        yield _finding("engine", FAIL, f"does not respond{where}", _ENGINE)
        return
    yield _finding("engine", OK, f"{engine['name']}{where}")
    if engine["missingLimits"]:
        missing = ", ".join(engine["missingLimits"])
        yield _finding("limits", FAIL, f"the engine cannot enforce {missing}", _LIMITS)
    if engine["runtimes"]:
        # Podman chooses its runtime by itself.
        slower = "crun" not in engine["runtimes"] and (engine["name"] or "").startswith("Docker/")
        yield _finding("runtimes", OK, ", ".join(engine["runtimes"]), _CRUN if slower else "")
    else:
        yield _finding("runtimes", WARN, "the engine has none of the allowed runtimes", _RUNTIMES)
    if info["workspace"] == "archive":
        yield _finding("workspaces", WARN, "archive (files are copied)", _BIND)
    else:
        known = "bind (files are mounted)"
        yield _finding(
            "workspaces", OK, known if info["workspace"] else "bind or archive, detected by the first run"
        )


def _network(info: Mapping[str, Any]) -> Iterator[Finding]:
    if not info["docker"]:
        return
    if info["firewall"] == "not_needed":
        yield _finding("network", OK, "runs that name none have none")
    elif info["firewall"] == "active":
        yield _finding(
            "network", OK, "rules keep runs on the default network from the engine's host and metadata"
        )
    elif info["firewall"] is not None:
        summary = (
            "runs on the default network reach the host's services and the metadata address: the packet filter's rules "
            "cannot be set or seen by the server"
        )
        yield _finding("network", WARN, summary, _FIREWALL)


def _disk(disk: Mapping[str, Any]) -> Finding:
    free = disk["freeBytes"]
    summary = f"{decimal(free)} of {decimal(disk['totalBytes'])} free"
    level = FAIL if free < _VERY_LOW_DISK else WARN if free < _LOW_DISK else OK
    return _finding("disk", level, summary, "" if level == OK else _DISK)


def _disk_guards(info: Mapping[str, Any]) -> Iterator[Finding]:
    guards = info["disk"]["guards"]
    if not info["docker"] or not guards:
        return
    names = ", ".join(_GUARDS[each] for each in guards)
    missing = [each for each in ("size", "unlinked", "free_space") if each not in guards]
    if missing and "quota" not in guards:
        lacking = ", ".join(_GUARDS[each] for each in missing)
        yield _finding("disk guards", WARN, f"{names}; not: {lacking}", _GUARD_FIX)
    else:
        yield _finding("disk guards", OK, names)
