"""Networks over HTTP, and runs on several of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from light_run import errors
from light_run.client import Client
from light_run.config import tokens
from tests.integration.conftest import StartServer
from tests.support.engine import engine_api
from tests.support.poll import eventually
from tests.support.server import Server, run_request

# Waits for a connection and answers; asks one by its container's address.
LISTEN = "hostname -i; while :; do echo hello | nc -l -p 9000; done"
ASK = "nc -w 5 {address} 9000 </dev/null 2>/dev/null"


def create(server: Server, name: str, token: str | None = None, **fields: Any) -> requests.Response:
    return server.request("POST", "/networks", json={"name": name, **fields}, token=token)


@pytest.fixture
def names(server: Server) -> Iterator[list[str]]:
    """Four names; networks that are called so are removed."""
    found = [f"light-run-test-{uuid.uuid4().hex[:8]}" for _ in range(4)]
    yield found
    with engine_api() as api:
        for network in api.networks(names=found):
            api.remove_network(network["Id"])


@contextmanager
def listening(server: Server, **fields: Any) -> Iterator[list[str]]:
    """The addresses of a run that answers on port 9000."""
    run_id = server.start(entrypoint=LISTEN, network=..., **fields)
    try:
        (line,) = eventually(lambda: server.state(run_id)["logs"], "it listens")
        yield line.split()
    finally:
        server.cancel(run_id)


def test_create_look_delete(server: Server, names: list[str]) -> None:
    name, *_ = names
    assert server.get(f"/networks/{name}").json() == {"name": name, "exists": False}
    for _ in range(2):
        response = create(server, name, labels={"team": "a"}, ipam={"subnet": "100.64.231.0/24"})
        assert (response.status_code, response.json()) == (201, {"name": name, "created": True})
    assert create(server, name, exclusive=True).json()["error"] == "network_exists"
    assert server.get(f"/networks/{name}").json() == {"name": name, "exists": True}
    assert server.get(f"/networks/{name[:-1]}").json()["exists"] is False
    with engine_api() as api:
        (found,) = api.networks(names=[name])
        assert found["Labels"]["team"] == "a"
        assert found["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    overlapping = create(server, names[1], ipam={"subnet": "100.64.231.0/25"})
    assert (overlapping.status_code, overlapping.json()["error"]) == (409, "network_conflict")
    for _ in range(2):
        assert server.request("DELETE", f"/networks/{name}").status_code == 204
    assert server.get(f"/networks/{name}").json()["exists"] is False


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (None, []),
        ({}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "x" * 101}, ["name"]),
        ({"name": "a b/c"}, ["name"]),
        ({"name": "bridge"}, ["name"]),
        ({"name": "light-run"}, ["name"]),
        ({"name": "cleanup"}, ["name"]),
        ({"name": "x", "driver": "overlay"}, ["driver"]),
        ({"name": "x", "labels": {"k": 1}}, ["labels", "k"]),
        ({"name": "x", "labels": {"light-run.owner": "me"}}, ["labels", "light-run.owner"]),
        ({"name": "x", "ipam": {"subnet": "nowhere"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"gateway": "10.0.0.0/8"}}, ["ipam", "gateway"]),
        # These would become routes of the engine's host.
        ({"name": "x", "ipam": {"subnet": "0.0.0.0/0"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"subnet": "8.8.8.0/24"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"subnet": "10.0.0.0/8"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"subnet": "169.254.0.0/16"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"subnet": "fd00::/64"}}, ["ipam", "subnet"]),
        ({"name": "x", "ipam": {"gateway": "1.1.1.1"}}, ["ipam", "gateway"]),
        ({"name": "x", "other": 1}, ["other"]),
    ],
)
def test_bad_bodies(server: Server, body: object, path: list[str]) -> None:
    response = server.request("POST", "/networks", json=body)
    assert response.status_code == 400
    if body is not None:
        assert [each["path"] for each in response.json()["details"]] == [path]


@pytest.mark.parametrize("name", ["bridge", "none", "host", "light-run"])
def test_networks_of_the_engine_are_not_deleted(server: Server, name: str) -> None:
    assert server.request("DELETE", f"/networks/{name}").status_code == 400


def test_a_network_of_somebody_else_is_not_touched(server: Server, names: list[str]) -> None:
    with engine_api() as api:
        api.create_network(names[0])
    response = server.request("DELETE", f"/networks/{names[0]}")
    assert (response.status_code, response.json()["error"]) == (404, "network_not_found")
    cleaned = server.request("POST", "/networks/cleanup", json={"prefix": names[0], "maxAgeMs": 0})
    assert cleaned.json() == {"removed": 0}
    assert server.get(f"/networks/{names[0]}").json()["exists"] is True


def test_clean_up(server: Server, names: list[str]) -> None:
    for name in names[:3]:
        assert create(server, name).status_code == 201
    prefix = "light-run-test-"

    def clean(**fields: Any) -> int:
        removed: int = server.request("POST", "/networks/cleanup", json=fields).json()["removed"]
        return removed

    assert server.request("POST", "/networks/cleanup").json() == {"removed": 0}
    assert clean(prefix="another", maxAgeMs=0) == 0
    with listening(server, networks=[names[0]]):
        used = server.request("DELETE", f"/networks/{names[0]}")
        assert (used.status_code, used.json()["error"]) == (409, "network_in_use")
        assert clean(prefix=prefix, maxAgeMs=0) == 2
        assert server.get(f"/networks/{names[0]}").json()["exists"] is True
    # The end of a run is known before its container is gone.
    for _ in range(3):
        server.run(entrypoint="true", network=names[0])
        assert clean(prefix=prefix, maxAgeMs=0) == 1
        assert create(server, names[0]).status_code == 201
    server.run(entrypoint="true", network=names[0])
    assert server.request("DELETE", f"/networks/{names[0]}").status_code == 204


@pytest.mark.parametrize("icc", [True, False])
def test_a_run_on_two_networks_reaches_a_container_on_each(
    server: Server, names: list[str], icc: bool
) -> None:
    first, second, *_ = names
    for name in (first, second):
        assert create(server, name, iccEnabled=icc).status_code == 201
    with listening(server, networks=[first]) as (one,), listening(server, networks=[second]) as (other,):
        ask = f"{ASK.format(address=one)}; {ASK.format(address=other)}; exit 0"
        assert server.run(network=..., networks=[first, second], entrypoint=ask)["logs"] == (
            ["hello"] * 2 if icc else []
        )
        # Both are there at the first instruction.
        seen = server.run(network=..., networks=[first, second, first], entrypoint="ls /sys/class/net")[
            "logs"
        ]
        assert seen == ["eth0", "eth1", "lo"]


def test_a_parked_container_does_not_keep_a_network(server: Server, names: list[str]) -> None:
    name = names[0]
    assert create(server, name).status_code == 201
    for _ in range(4):
        assert server.run(network=..., networks=[name], entrypoint="true")["status"] == "succeeded"
    assert server.request("DELETE", f"/networks/{name}").status_code == 204


@pytest.mark.parametrize("networks", [[], ["none"]])
def test_the_usual_networks(server: Server, networks: list[str]) -> None:
    shown = server.run(network=..., networks=networks, entrypoint="ls /sys/class/net")["logs"]
    assert shown == (["lo"] if networks else ["eth0", "lo"])


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"networks": "none"}, ["networks"]),
        ({"networks": [""]}, ["networks", 0]),
        ({"networks": ["host"]}, ["networks", 0]),
        ({"networks": ["bridge", "none"]}, ["networks"]),
        ({"networks": ["x"] * 21}, ["networks"]),
        ({"networks": ["bridge"], "network": "none"}, ["networks"]),
    ],
)
def test_bad_networks(server: Server, fields: dict[str, Any], path: list[object]) -> None:
    response = server.request("POST", "/run", json=run_request(**{"network": ..., **fields}))
    assert response.status_code == 400
    assert [each["path"] for each in response.json()["details"]] == [path]


def test_a_network_that_does_not_exist_is_named(server: Server, names: list[str]) -> None:
    state = server.run(network=..., networks=["bridge", names[3]])
    assert (state["status"], state["reason"]) == ("failed", "start_failed")
    assert names[3] in state["error"]


def test_tenants_have_networks_of_their_own(
    start_server: StartServer, names: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    alice = tokens.create(file, "alice", ["read", "run", "network"])
    bob = tokens.create(file, "bob", ["read", "run", "network"])
    carol = tokens.create(file, "carol", ["read", "run"])
    server = start_server(settings={"LIGHT_RUN_TOKENS_FILE": str(file)})

    def run(token: str, **fields: Any) -> requests.Response:
        return server.request("POST", "/run", json=run_request(**{"network": ..., **fields}), token=token)

    assert create(server, names[0], token=carol).status_code == 403
    assert create(server, names[0], token=alice).status_code == 201
    assert run(alice, networks=[names[0]]).json()["status"] == "succeeded"
    for token in (bob, carol):
        refused = run(token, networks=[names[0]])
        assert refused.status_code == 400
        assert "LIGHT_RUN_NETWORKS" in refused.json()["details"][0]["message"]
    # Nor any other network of the engine, unless the operator says so.
    assert run(alice, network="bridge").status_code == 400
    assert run(alice, network="none").json()["status"] == "succeeded"
    assert server.request("DELETE", f"/networks/{names[0]}", token=bob).status_code == 404
    assert server.request("POST", "/networks/cleanup", json={"maxAgeMs": 0}, token=bob).json() == {
        "removed": 0
    }
    eventually(
        lambda: server.request("DELETE", f"/networks/{names[0]}", token=alice).status_code == 204,
        "it is deleted",
    )


def test_the_client(server: Server, names: list[str]) -> None:
    name = names[0]
    with Client(server.url, server.token) as client:
        assert not client.network_exists(name)
        client.create_network(name, icc=True, subnet="100.64.232.0/24", labels={"a": "b"})
        assert client.network_exists(name)
        with pytest.raises(errors.NetworkExists):
            client.create_network(name, exclusive=True)
        with pytest.raises(errors.NetworkConflict):
            client.create_network(names[1], subnet="100.64.232.0/25")
        with pytest.raises(errors.InvalidSpec):
            client.create_network("bridge")
        with listening(server, networks=[name]), pytest.raises(errors.NetworkInUse):
            client.delete_network(name)
        client.delete_network(name)
        client.delete_network(name)
        assert client.clean_up_networks(name, max_age=0) == 0


def test_ids_with_a_prefix(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_ID_PREFIX": "light-runner-"})
    run_id = server.start(entrypoint="echo here")
    assert run_id.startswith("light-runner-")
    assert len(run_id) == len("light-runner-") + 12
    assert server.wait_done(run_id)["logs"] == ["here"]
    assert server.request("DELETE", f"/runs/{run_id}").status_code == 204
