"""What engines other than Docker's need put differently: a container's configuration in the engine's own terms."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any, NamedTuple

# The log driver that containers are configured with, and what takes its place; Podman's comes second.
_LOG_DRIVER, _OTHER_LOG_DRIVERS = "local", ("json-file", "k8s-file")
# The most that a record of an empty line takes, by driver, in such records of the local driver. They do not rotate:
# what is beyond the size is lost, the beginning of the output first.
_RECORD_SIZES = {"json-file": 6, "k8s-file": 4}
# By which words of its description an engine without delegated cgroups, such as a rootless one, says that a limit is
# not held, and the cgroup controllers that hold them. It takes the limit without a word.
_LIMITS = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
_CONTROLLERS = {"memory": "memory", "cpus": "cpu", "pids": "pids"}
# Podman would give containers a million open files, which a host with a lower limit refuses. Processes are limited by
# PidsLimit; this one, of all processes of a user, must be no more than Podman itself may have.
_ULIMITS = {"nofile": (resource.RLIMIT_NOFILE, 65536), "nproc": (resource.RLIMIT_NPROC, 32768)}
# The storage driver and the file system that have quotas, if that is mounted with the option pquota.
_QUOTA = ("overlay2", "xfs")
_PAIR = 2
# What Podman says instead of the name of a runtime.
UNNAMED_RUNTIME = "oci"


class Features(NamedTuple):
    """The log drivers of an engine, empty where it does not say, whether it is Podman, and whether it remaps users.

    Where it does (``userns-remap``), root in a container is another user on the host. One that is `rootless` has its
    networks in a namespace of its own.
    """

    log_drivers: tuple[str, ...] = ()
    podman: bool = False
    remaps_users: bool = False
    # Whether the engine's storage may limit the size of a container's layer; only creating one tells for certain.
    quota: bool = False
    rootless: bool = False


def is_podman(name: str) -> bool:
    """Whether an engine that calls itself `name` is Podman."""
    return name.startswith("Libpod")


def features(name: str, info: Mapping[str, Any], host: Mapping[str, Any] | None = None) -> Features:
    """Return the features of the engine that calls itself `name` and describes itself as `info`.

    `host` is what Podman says of its host by its own API: by Docker's it leaves out that it is rootless.
    """
    drivers = (info.get("Plugins") or {}).get("Log") or ()
    security = info.get("SecurityOptions") or ()
    podman = is_podman(name)
    backing = dict(each for each in info.get("DriverStatus") or () if len(each) == _PAIR).get(
        "Backing Filesystem"
    )
    quota = not podman and (info.get("Driver"), backing) == _QUOTA
    rootless = "name=rootless" in security or bool(((host or {}).get("security") or {}).get("rootless"))
    return Features(tuple(drivers), podman, "name=userns" in security, quota, rootless)


def missing_limits(info: Mapping[str, Any], host: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return which of ``memory``, ``cpus``, ``pids`` and ``seccomp`` the engine cannot hold containers to.

    `info` and `host` are as for `features`. Without delegated cgroups Podman says by Docker's API that it has every
    limit; by its own it lists the controllers that it has.
    """
    missing = [name for name, key in _LIMITS.items() if info.get(key) is False]
    controllers = (host or {}).get("cgroupControllers")
    if controllers is not None:
        missing = [name for name, controller in _CONTROLLERS.items() if controller not in controllers]
    options = info.get("SecurityOptions")
    if options is not None and not any("seccomp" in option for option in options):
        missing.append("seccomp")
    return tuple(missing)


def adapted(config: Mapping[str, Any], found: Features) -> dict[str, Any]:
    """Return the container configuration `config` in the form that an engine with these features takes."""
    host = dict(config.get("HostConfig") or {})
    log = host.get("LogConfig")
    if log and log["Type"] == _LOG_DRIVER and found.log_drivers and _LOG_DRIVER not in found.log_drivers:
        host["LogConfig"] = _log_config(log, found.log_drivers)
    if not found.quota:
        host.pop("StorageOpt", None)
    if found.podman and "Ulimits" in host:
        host["Ulimits"] = [*host["Ulimits"], *(_ulimit(name) for name in _ULIMITS)]
    return {**config, "HostConfig": host}


def _log_config(log: Mapping[str, Any], drivers: tuple[str, ...]) -> dict[str, Any]:
    driver = next((each for each in _OTHER_LOG_DRIVERS if each in drivers), None)
    # Without one, the engine keeps no copy: a server that was restarted lacks what came while it was away.
    if driver is None:
        return {"Type": "none", "Config": {}}
    size = int(log["Config"]["max-size"]) * _RECORD_SIZES[driver]
    return {"Type": driver, "Config": {"max-size": str(size)}}


def _ulimit(name: str) -> dict[str, Any]:
    # No more than this process has: where the engine is on this host, it can give that.
    kind, most = _ULIMITS[name]
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    return {"Name": name, "Soft": most, "Hard": most}
