"""The hardened container a run gets: a pure function of what it asks for and what the operator allows.

The result is a container configuration in the engine API's own form (``POST /containers/create``),
so that a test can hold the whole of it against what is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.spec import MIB, Limits

# The engine's own copy of the output serves a server that comes back after a crash. The local driver keeps
# bytes as they are (json-file replaces what is not UTF-8); rotation bounds the disk a chatty run can take.
_LOG_OPTIONS = {"max-file": "2", "compress": "false"}

# What the engine counts of a container in gVisor are tasks on the host: some sixty of its kernel, and about nine
# for each process in it (measured with the ptrace platform). With one too few gVisor itself crashes, with exit
# code 2, and the output that it still had is gone.
_GVISOR, _GVISOR_TASKS, _GVISOR_TASKS_EACH = "runsc", 200, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What is asked of one container.

    `command` None keeps the image's own entrypoint and command. `source` is the host folder that is
    mounted at `workdir`; None with `volume` mounts a fresh anonymous volume there, without it nothing.
    `own_hosts` says that ``/etc/hosts`` is ours to bring where the network is ``none``: the host file `hosts`
    is mounted there or, without it, the file is put into the container before its command begins. `user` None is the
    operator's, or else the image's own.
    """

    image: str
    command: Sequence[str] | None
    limits: Limits
    network: str
    workdir: str
    env: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    source: str | None = None
    volume: bool = False
    own_hosts: bool = False
    user: str | None = None
    hosts: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_own_hosts(self) -> bool:
        """True if ``/etc/hosts`` comes from the workspace: the container has no network."""
        return self.network == "none" and self.own_hosts


def labels(kind: str, config: RunnerConfig) -> dict[str, str]:
    """What marks a container as this runner's: `kind` is run, parked, build or probe."""
    return {
        "light-run.server": config.server_id,
        "light-run.session": config.session,
        "light-run.kind": kind,
    }


def usual_runtime(engine: Engine, config: RunnerConfig) -> str | None:
    """The engine's runtime for a run that asks for none; None is the engine's own default. Raises EngineError."""
    preferred = config.prefer_runtime
    if config.runtime is None and preferred is not None and preferred in engine.runtimes():
        return preferred
    return config.runtime


def never_started(image: str, config: RunnerConfig, **host: Any) -> dict[str, Any]:
    """The configuration of a container through which files are looked at: nothing of the image is run in it.

    `host` goes into its HostConfig.
    """
    return {
        "Image": image,
        "Entrypoint": ["/never-started"],
        "WorkingDir": "/",
        "Labels": labels("probe", config),
        "HostConfig": {"NetworkMode": "none", **host},
    }


def container_config(sandbox: Sandbox, config: RunnerConfig) -> dict[str, Any]:
    """The engine API's configuration of a hardened container for `sandbox` under the operator's `config`."""
    container: dict[str, Any] = {
        "Image": sandbox.image,
        "Env": [f"{name}={value}" for name, value in sandbox.env.items()],
        "WorkingDir": sandbox.workdir,
        "Labels": {
            **sandbox.labels,
            "light-run.server": config.server_id,
            "light-run.session": config.session,
        },
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        # Without it the end of the input never reaches the container.
        "StdinOnce": True,
        # An image's health check would run beside the command, and outlive the interest in it.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(sandbox, config),
    }
    if sandbox.command is not None:
        container["Entrypoint"] = list(sandbox.command)
        container["Cmd"] = []
    user = sandbox.user or config.user
    if user is not None:
        container["User"] = user
    if sandbox.has_own_hosts:
        # To the engine, "none" is a network to connect to, for which it starts itself once more. All that is of
        # use in there is /etc/hosts, and the loopback interface, which the runtime makes.
        container["NetworkDisabled"] = True
    return container


def _host_config(sandbox: Sandbox, config: RunnerConfig) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Memory": sandbox.limits.memory,
        # Equal to Memory: no swap beyond it.
        "MemorySwap": sandbox.limits.memory,
        "NanoCpus": int(sandbox.limits.cpus * 1_000_000_000),
        "PidsLimit": _tasks(sandbox),
        "CapDrop": list(config.cap_drop),
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "Init": True,
        "Ulimits": _ulimits(sandbox.limits),
        "LogConfig": {"Type": "local", "Config": {**_LOG_OPTIONS, "max-size": f"{_log_size(config)}"}},
        "NetworkMode": sandbox.network,
        "ReadonlyRootfs": config.read_only,
        "Mounts": _mounts(sandbox, config),
    }
    if config.workspace_cap:
        # Left out again for an engine whose storage has no quotas.
        host["StorageOpt"] = {"size": str(config.workspace_cap)}
    if config.read_only:
        host["Tmpfs"] = {"/tmp": "rw,nosuid,nodev,size=64m,mode=1777"}  # noqa: S108 - the container's
    if sandbox.runtime is not None:
        host["Runtime"] = sandbox.runtime
    if sandbox.limits.shm is not None:
        host["ShmSize"] = sandbox.limits.shm
    if (gpus := sandbox.limits.gpus) is not None:
        count = -1 if gpus == "all" else gpus
        host["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    return host


def _ulimits(limits: Limits) -> list[dict[str, Any]]:
    # A core dump would land in the workspace, as large as the memory limit.
    asked = {"core": 0, "nofile": limits.nofile, "fsize": limits.fsize}
    return [{"Name": name, "Soft": most, "Hard": most} for name, most in asked.items() if most is not None]


def _tasks(sandbox: Sandbox) -> int:
    if _GVISOR in (sandbox.runtime or ""):
        return _GVISOR_TASKS + _GVISOR_TASKS_EACH * sandbox.limits.pids
    return sandbox.limits.pids


def _log_size(config: RunnerConfig) -> int:
    # A replay is from the beginning, so that all that may be kept must be there: at worst nothing but empty lines,
    # for each of which the driver has a record of 26 bytes. They are in two files, the older of which goes.
    return 14 * config.log_cap + MIB


def _mounts(sandbox: Sandbox, config: RunnerConfig) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    if sandbox.source is not None:
        mounts.append(_bind(sandbox.source, sandbox.workdir))
    elif sandbox.volume:
        mounts.append({"Type": "volume", "Target": sandbox.workdir})
    if sandbox.hosts is not None and sandbox.has_own_hosts:
        mounts.append({**_bind(sandbox.hosts, "/etc/hosts"), "ReadOnly": config.read_only})
    return mounts


def _bind(source: str, target: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": False,
        "BindOptions": {"Propagation": "rprivate"},
    }
