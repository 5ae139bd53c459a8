"""A container's configuration, in the form that an engine other than Docker's takes."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from light_run.engine.daemon.features import Features, adapted, features, missing_limits

CORE = {"Name": "core", "Soft": 0, "Hard": 0}
CONFIG: dict[str, Any] = {
    "Image": "a",
    "HostConfig": {
        "Ulimits": [CORE],
        "LogConfig": {"Type": "local", "Config": {"max-size": "7", "max-file": "2", "compress": "false"}},
    },
}


XFS = [["Backing Filesystem", "xfs"], ["Supports d_type", "true"]]


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("Docker/20.10.24 (linux)", {}, Features()),
        (
            "Docker/20.10.24 (linux)",
            {"Plugins": {"Log": ["local", "none"]}, "SecurityOptions": ["name=seccomp", "name=userns"]},
            Features(("local", "none"), podman=False, remaps_users=True),
        ),
        ("Libpod/4.3.1 (linux)", {"Plugins": {"Log": None}}, Features((), podman=True)),
        ("Docker/28 (linux)", {"Driver": "overlay2", "DriverStatus": XFS}, Features(quota=True)),
        ("Docker/28 (linux)", {"Driver": "vfs", "DriverStatus": XFS}, Features()),
        (
            "Docker/28 (linux)",
            {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]},
            Features(),
        ),
        ("Libpod/4.3.1 (linux)", {"Driver": "overlay2", "DriverStatus": XFS}, Features(podman=True)),
        ("", {"Plugins": None, "SecurityOptions": None}, Features()),
        ("Docker/20.10.24 (linux)", {"SecurityOptions": ["name=rootless"]}, Features(rootless=True)),
    ],
)
def test_features(name: str, info: dict[str, Any], expected: Features) -> None:
    assert features(name, info) == expected


@pytest.mark.parametrize("quota", [True, False])
def test_a_size_is_asked_for_where_there_are_quotas(*, quota: bool) -> None:
    config = {"HostConfig": {"Memory": 1, "StorageOpt": {"size": "7"}}}
    kept = {"StorageOpt": {"size": "7"}} if quota else {}
    assert adapted(config, Features(quota=quota)) == {"HostConfig": {"Memory": 1, **kept}}


@pytest.mark.parametrize("rootless", [True, False])
def test_podman_says_that_it_is_rootless_by_its_own_api_alone(rootless: bool) -> None:
    host = {"security": {"rootless": rootless}}
    assert features("Libpod/4.3.1 (linux)", {}, host) == Features(podman=True, rootless=rootless)


@pytest.mark.parametrize(
    ("controllers", "missing"),
    [
        (["cpuset", "cpu", "memory", "pids"], ()),
        (["memory", "pids"], ("cpus",)),
        ([], ("memory", "cpus", "pids")),
    ],
)
def test_podman_has_the_limits_of_its_controllers(controllers: list[str], missing: tuple[str, ...]) -> None:
    # By Docker's API it has them all.
    info = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "SecurityOptions": ["name=seccomp"]}
    assert missing_limits(info, {"cgroupControllers": controllers}) == missing


@pytest.mark.parametrize("drivers", [(), ("json-file", "local")])
def test_docker_takes_it_as_it_is(drivers: tuple[str, ...]) -> None:
    assert adapted(CONFIG, Features(drivers)) == CONFIG


@pytest.mark.parametrize(
    ("drivers", "log"),
    [
        (("k8s-file", "journald", "none"), {"Type": "k8s-file", "Config": {"max-size": "28"}}),
        (("syslog", "json-file"), {"Type": "json-file", "Config": {"max-size": "42"}}),
        (("journald",), {"Type": "none", "Config": {}}),
    ],
)
def test_the_log_driver_is_one_that_it_has(drivers: tuple[str, ...], log: dict[str, Any]) -> None:
    assert adapted(CONFIG, Features(drivers))["HostConfig"] == {"Ulimits": [CORE], "LogConfig": log}
    assert adapted({"Image": "a"}, Features(drivers)) == {"Image": "a", "HostConfig": {}}
    none = {"HostConfig": {"LogConfig": {"Type": "none"}}}
    assert adapted(none, Features(drivers)) == none


def test_podman_is_told_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (1, 1024), resource.RLIMIT_NPROC: (1, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert adapted(CONFIG, Features(podman=True))["HostConfig"]["Ulimits"] == [
        CORE,
        {"Name": "nofile", "Soft": 1024, "Hard": 1024},
        {"Name": "nproc", "Soft": 32768, "Hard": 32768},
    ]
