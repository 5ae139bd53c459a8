"""The whole configuration a container is created with, by default and with everything tightened."""

from __future__ import annotations

from typing import Any

import pytest

from light_run.engine.config import DROPPED_CAPABILITIES, RunnerConfig
from light_run.engine.sandbox.options import Sandbox, container_config
from light_run.engine.spec import MIB, Limits


def sandbox(**fields: Any) -> Sandbox:
    """What a run without any wish of its own asks for, updated by `fields`."""
    plain: dict[str, Any] = {
        "image": "sha256:abc",
        "command": ("sh", "-c", "true"),
        "limits": Limits(),
        "network": "light-run",
        "workdir": "/app",
    }
    return Sandbox(**{**plain, **fields})


def test_by_default() -> None:
    asked = sandbox(
        env={"A": "1", "B": "x=y"},
        source="/state/workspaces/7/files",
        labels={"light-run.kind": "run", "light-run.run": "7"},
    )
    assert container_config(asked, RunnerConfig(server_id="here", session="now")) == {
        "Image": "sha256:abc",
        "Entrypoint": ["sh", "-c", "true"],
        "Cmd": [],
        "Env": ["A=1", "B=x=y"],
        "WorkingDir": "/app",
        "Labels": {
            "light-run.kind": "run",
            "light-run.run": "7",
            "light-run.server": "here",
            "light-run.session": "now",
        },
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Memory": 512 * MIB,
            "MemorySwap": 512 * MIB,
            "NanoCpus": 1_000_000_000,
            "PidsLimit": 100,
            "CapDrop": ["NET_RAW", "MKNOD", "SYS_CHROOT", "SETPCAP", "SETFCAP", "AUDIT_WRITE"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "Init": True,
            "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
            "LogConfig": {
                "Type": "local",
                "Config": {"max-file": "2", "compress": "false", "max-size": str(141 * MIB)},
            },
            "NetworkMode": "light-run",
            "ReadonlyRootfs": False,
            "StorageOpt": {"size": str(10 * 1024 * MIB)},
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": "/state/workspaces/7/files",
                    "Target": "/app",
                    "ReadOnly": False,
                    "BindOptions": {"Propagation": "rprivate"},
                }
            ],
        },
    }


def test_tightened() -> None:
    asked = sandbox(
        command=None,
        limits=Limits(memory=64 * MIB, cpus=0.5, pids=20),
        network="none",
        workdir="/srv",
        runtime="runsc",
        volume=True,
        labels={"light-run.kind": "parked"},
    )
    config = RunnerConfig(
        server_id="here", cap_drop=("ALL",), read_only=True, user="65534:65534", log_cap=MIB, session="now"
    )
    assert container_config(asked, config) == {
        "Image": "sha256:abc",
        "User": "65534:65534",
        "Env": [],
        "WorkingDir": "/srv",
        "Labels": {"light-run.kind": "parked", "light-run.server": "here", "light-run.session": "now"},
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Memory": 64 * MIB,
            "MemorySwap": 64 * MIB,
            "NanoCpus": 500_000_000,
            # 20 of the container, and what gVisor needs for them.
            "PidsLimit": 600,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "Init": True,
            "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
            "LogConfig": {
                "Type": "local",
                "Config": {"max-file": "2", "compress": "false", "max-size": str(15 * MIB)},
            },
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "StorageOpt": {"size": str(10 * 1024 * MIB)},
            "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=64m,mode=1777"},
            "Mounts": [{"Type": "volume", "Target": "/srv"}],
            "Runtime": "runsc",
        },
    }


@pytest.mark.parametrize("read_only", [False, True])
def test_without_a_network_the_engine_has_nothing_to_connect(read_only: bool) -> None:
    own = {"own_hosts": True, "hosts": "/state/7/hosts"}
    asked = sandbox(network="none", source="/state/7/files", **own)
    config = container_config(asked, RunnerConfig(read_only=read_only))
    assert (config["NetworkDisabled"], config["HostConfig"]["NetworkMode"]) == (True, "none")
    files, hosts = config["HostConfig"]["Mounts"]
    assert (files["Source"], files["Target"], files["ReadOnly"]) == ("/state/7/files", "/app", False)
    assert (hosts["Source"], hosts["Target"], hosts["ReadOnly"]) == (
        "/state/7/hosts",
        "/etc/hosts",
        read_only,
    )


def test_hosts_that_come_with_the_files_are_not_mounted() -> None:
    config = container_config(sandbox(network="none", own_hosts=True), RunnerConfig())
    assert config["NetworkDisabled"]
    assert config["HostConfig"]["Mounts"] == []


@pytest.mark.parametrize(
    "fields", [{"own_hosts": True, "hosts": "/state/7/hosts"}, {"own_hosts": True}, {"network": "none"}]
)
def test_a_network_and_hosts_of_the_engine_s_own_stay_the_engine_s(fields: dict[str, Any]) -> None:
    config = container_config(sandbox(**fields), RunnerConfig())
    assert "NetworkDisabled" not in config
    assert config["HostConfig"]["Mounts"] == []


def test_without_a_place_for_files_nothing_is_mounted() -> None:
    assert container_config(sandbox(), RunnerConfig())["HostConfig"]["Mounts"] == []


def test_a_label_of_the_server_cannot_be_given_by_what_is_asked() -> None:
    asked = sandbox(labels={"light-run.server": "another"})
    assert container_config(asked, RunnerConfig(server_id="here", session="now"))["Labels"] == {
        "light-run.server": "here",
        "light-run.session": "now",
    }


def test_what_is_promised_is_what_is_dropped() -> None:
    promised = {"NET_RAW", "MKNOD", "SYS_CHROOT", "SETPCAP", "SETFCAP", "AUDIT_WRITE"}
    assert set(DROPPED_CAPABILITIES) == promised == set(RunnerConfig().cap_drop)


@pytest.mark.parametrize(("cpus", "nano"), [(0.1, 100_000_000), (0.29, 290_000_000), (2, 2_000_000_000)])
def test_cpus_are_not_rounded_down(cpus: float, nano: int) -> None:
    config = container_config(sandbox(limits=Limits(cpus=cpus)), RunnerConfig())
    assert abs(config["HostConfig"]["NanoCpus"] - nano) <= 1


def test_nothing_asked_for_is_changed_by_it() -> None:
    config = RunnerConfig()
    first, second = container_config(sandbox(), config), container_config(sandbox(), config)
    first["HostConfig"]["CapDrop"].clear()
    first["HostConfig"]["LogConfig"]["Config"].clear()
    assert second == container_config(sandbox(), config)


def test_a_user_and_further_limits() -> None:
    asked = sandbox(user="7:8", limits=Limits(shm=MIB, nofile=99, fsize=0, gpus=2))
    config = container_config(asked, RunnerConfig(user="65534:65534"))
    host = config["HostConfig"]
    assert (config["User"], host["ShmSize"]) == ("7:8", MIB)
    assert host["Ulimits"] == [
        {"Name": "core", "Soft": 0, "Hard": 0},
        {"Name": "nofile", "Soft": 99, "Hard": 99},
        {"Name": "fsize", "Soft": 0, "Hard": 0},
    ]
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]
    every = container_config(sandbox(limits=Limits(gpus="all")), RunnerConfig())
    assert every["HostConfig"]["DeviceRequests"][0]["Count"] == -1
