"""A container's configuration, in the form that an engine other than Docker's takes."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from light_run.engine.daemon.features import Features, adapted, features

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
    ],
)
def test_features(name: str, info: dict[str, Any], expected: Features) -> None:
    assert features(name, info) == expected


@pytest.mark.parametrize("quota", [True, False])
def test_a_size_is_asked_for_where_there_are_quotas(*, quota: bool) -> None:
    config = {"HostConfig": {"Memory": 1, "StorageOpt": {"size": "7"}}}
    kept = {"StorageOpt": {"size": "7"}} if quota else {}
    assert adapted(config, Features(quota=quota)) == {"HostConfig": {"Memory": 1, **kept}}


@pytest.mark.parametrize("drivers", [(), ("json-file", "local")])
def test_docker_takes_it_as_it_is(drivers: tuple[str, ...]) -> None:
    assert adapted(CONFIG, Features(drivers)) == CONFIG


@pytest.mark.parametrize(
    ("drivers", "log"),
    [
        (("k8s-file", "journald", "none"), {"Type": "k8s-file", "Config": {"max-size": "7"}}),
        (("syslog", "json-file"), {"Type": "json-file", "Config": {"max-size": "7"}}),
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
