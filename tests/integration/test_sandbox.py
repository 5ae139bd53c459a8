"""What a container is allowed: seen from inside, and in the engine's own words."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import PYTHON, engine_api, inspect_container
from tests.support.server import Server

MIB = 1024 * 1024

# Linux capability numbers.
NUMBERS = {"SETPCAP": 8, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31}
NEVER = {"SYS_ADMIN": 21, "SYS_PTRACE": 19, "NET_ADMIN": 12, "SYS_MODULE": 16, "DAC_READ_SEARCH": 2}


def inspected(server: Server, **fields: Any) -> dict[str, Any]:
    """What the engine says about the container of a run, which goes by the first digits of its id inside."""
    run_id = server.start(entrypoint="hostname; echo up; sleep 60", **fields)
    server.wait_output(run_id, "up")
    found = inspect_container(server.state(run_id)["logs"][0], server.engine)
    server.cancel(run_id)
    server.wait_done(run_id, within=20)
    server.wait_clean()
    return found


@pytest.fixture(scope="module")
def container(server: Server) -> dict[str, Any]:
    """What the engine says about the container of a run that asks for nothing special."""
    return inspected(server, network=...)


def test_memory(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["Memory"] == container["HostConfig"]["MemorySwap"] == 512 * MIB


def test_cpus(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["NanoCpus"] == 1_000_000_000


def test_pids(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["PidsLimit"] == 100


def test_no_new_privileges(container: dict[str, Any]) -> None:
    options = container["HostConfig"]["SecurityOpt"]
    assert any(option.startswith("no-new-privileges") for option in options)
    assert not any("unconfined" in option for option in options)


def test_never_privileged(container: dict[str, Any]) -> None:
    host = container["HostConfig"]
    assert host["Privileged"] is False
    assert not host["CapAdd"]
    assert not host["Devices"]
    assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
    assert host["IpcMode"] in ("private", "none", "")


def test_an_init_process(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["Init"] is True


def test_a_capped_engine_log(container: dict[str, Any]) -> None:
    log = container["HostConfig"]["LogConfig"]
    assert log["Type"] == "none" or log["Config"]["max-size"]


def test_labels(server: Server, container: dict[str, Any]) -> None:
    labels = {
        name: value for name, value in container["Config"]["Labels"].items() if name.startswith("light-run.")
    }
    assert server.server_id in labels.values()
    assert len(labels) >= 2  # the run's id beside the server's


def test_no_host_path_but_its_own_workspace(server: Server, container: dict[str, Any]) -> None:
    assert not container["HostConfig"]["Binds"]
    for mount in container["Mounts"]:
        assert mount["Type"] in ("bind", "volume", "tmpfs")
        if mount["Type"] == "bind":
            assert mount["Source"].startswith(str(server.state_dir / "workspaces") + "/")


def test_the_default_network_is_the_server_s_own_and_isolated(container: dict[str, Any]) -> None:
    (name,) = container["NetworkSettings"]["Networks"]
    assert name not in ("bridge", "host", "none")
    with engine_api() as api:
        (network,) = [found for found in api.networks(names=[name]) if found["Name"] == name]
    assert network["Driver"] == "bridge"
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"


def test_limits_asked_for(server: Server) -> None:
    host = inspected(server, limits={"memory": "64m", "cpus": 0.5, "pids": 20})["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 64 * MIB
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 20


def test_capabilities_from_inside(server: Server) -> None:
    state = server.run(entrypoint="grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status")
    found = dict(line.split(":\t") for line in state["logs"])
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"
    for name, number in {**NUMBERS, **NEVER}.items():
        assert not int(found["CapBnd"], 16) >> number & 1, name
        assert not int(found["CapEff"], 16) >> number & 1, name


def test_an_init_process_reaps_zombies(server: Server) -> None:
    # The middle process ends at once; its child becomes the init's, ends, and must be gone.
    state = server.run(
        entrypoint="sh -c '(sleep 0.2 &)'; for n in $(seq 300); do "
        "grep -qs '^Name:.sleep' /proc/[0-9]*/status || { echo gone; exit; }; sleep 0.1; done; echo still there"
    )
    assert state["logs"] == ["gone"]


def test_none_has_only_loopback(server: Server) -> None:
    state = server.run(network="none", entrypoint="ls /sys/class/net")
    assert state["logs"] == ["lo"]


@pytest.mark.parametrize("network", ["bridge", ...])
def test_other_networks_have_an_interface(server: Server, network: Any) -> None:
    state = server.run(network=network, entrypoint="ls /sys/class/net")
    assert sorted(state["logs"]) == ["eth0", "lo"]


def test_a_named_network(server: Server) -> None:
    with engine_api() as api:
        made = api.create_network("light-run-test-named", driver="bridge")
        try:
            assert (
                "light-run-test-named"
                in inspected(server, network="light-run-test-named")["NetworkSettings"]["Networks"]
            )
        finally:
            api.remove_network(made["Id"])


METADATA = "169.254.169.254"
PORT = 8000


@contextmanager
def metadata_service() -> Iterator[None]:
    """Something that listens where clouds have their metadata: beyond this machine, as far as the engine can tell."""
    name = "light-run-meta"
    inside = ["ip", "netns", "exec", name]
    # A test that was killed may have left its own, to which the connections would go.
    remove = (["ip", "link", "delete", name], ["ip", "netns", "delete", name])
    for command in remove:
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", name, "type", "veth", "peer", "name", "inside", "netns", name],
        ["ip", "address", "add", "169.254.169.253/32", "dev", name],
        ["ip", "link", "set", name, "up"],
        # Whatever the machine itself has there, a route to the one address goes first.
        ["ip", "route", "add", f"{METADATA}/32", "dev", name, "src", "169.254.169.253"],
        [*inside, "ip", "address", "add", f"{METADATA}/30", "dev", "inside"],
        [*inside, "ip", "link", "set", "inside", "up"],
    ):
        subprocess.run(command, check=True)
    listen = [*inside, sys.executable, "-c", LISTEN]
    process = subprocess.Popen(listen, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield
    finally:
        process.kill()
        process.communicate()
        for command in remove:
            subprocess.run(command, check=True)


LISTEN = f"""
import socket
listener = socket.create_server(("0.0.0.0", {PORT}))
print("up", flush=True)
while True:
    listener.accept()[0].close()
"""
# One connection to each, at the same time: where none comes about, nothing says so.
CONNECT = """
import os, socket
from concurrent.futures import ThreadPoolExecutor
def reached(name):
    address, port = os.environ[name].split(":")
    try:
        socket.create_connection((address, int(port)), timeout=10).close()
    except OSError:
        return False
    return True
names = ("HOST", "METADATA", "RUN")
with ThreadPoolExecutor() as pool:
    for name, there in zip(names, pool.map(reached, names)):
        there and print(name)
"""


# What the engine's own network leaves open shows that all of them were there to be reached.
@pytest.mark.parametrize(("network", "reached"), [("bridge", ["HOST", "METADATA", "RUN"]), (..., [])])
def test_the_default_network_reaches_neither_this_machine_nor_metadata_nor_other_runs(
    server: Server, network: Any, reached: list[str]
) -> None:
    python = {"image": PYTHON, "network": network, "entrypoint": "python3 m.py"}
    other = server.start(**python, files={"m.py": LISTEN})
    server.wait_output(other, "up")
    (found,) = [each for each in server.containers() if each["Labels"].get("light-run.run") == other]
    (address,) = found["NetworkSettings"]["Networks"].values()
    # Not the network's own configuration: an engine that started for the first time has no gateway there.
    with metadata_service(), socket.create_server((address["Gateway"], 0)) as listener:
        host, port = listener.getsockname()
        env = {
            "HOST": f"{host}:{port}",
            "METADATA": f"{METADATA}:{PORT}",
            "RUN": f"{address['IPAddress']}:{PORT}",
        }
        state = server.run(**python, env=env, files={"m.py": CONNECT})
    server.cancel(other)
    assert (state["status"], state.get("logs", [])) == ("succeeded", reached), state
    server.wait_done(other)


def test_devices_cannot_be_made(server: Server) -> None:
    state = server.run(entrypoint="mknod d b 8 0 2>&1; test -e d || echo none")
    assert state["logs"][-1] == "none"


def test_the_engine_s_socket_is_not_there(server: Server) -> None:
    state = server.run(entrypoint="ls /var/run/docker.sock /run/docker.sock 2>/dev/null; echo checked")
    assert state["logs"] == ["checked"]


# --- what an operator may tighten -----------------------------------------------------------------------


def test_every_capability_dropped(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_CAP_DROP": "ALL"})
    state = server.run(
        entrypoint="grep CapBnd /proc/self/status; cat main.txt; echo x > out", extract=["out"]
    )
    assert state["logs"] == ["CapBnd:\t0000000000000000", "hello"], state
    assert server.artifact(state["id"], "out").content == b"x\n"


def test_one_more_capability_dropped(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_CAP_DROP": "CHOWN"})
    bounding = int(server.run(entrypoint="grep CapBnd /proc/self/status")["logs"][0].split("\t")[1], 16)
    assert not bounding & 1  # CAP_CHOWN
    assert not bounding >> NUMBERS["NET_RAW"] & 1
    assert bounding >> 6 & 1  # CAP_SETGID stays


def test_a_read_only_root(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_READ_ONLY": "true"})
    state = server.run(
        entrypoint="touch /x 2>/dev/null || echo read-only; cat main.txt; echo t > /tmp/t && cat /tmp/t; echo x > out",
        extract=["out"],
    )
    assert state["logs"] == ["read-only", "hello", "t"], state
    assert server.artifact(state["id"], "out").content == b"x\n"
    nowhere = server.run(entrypoint="cat main.txt", workdir="/")
    assert nowhere["reason"] == "start_failed", nowhere
    assert "read-only" in nowhere["error"]


def test_a_user(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_USER": "65534"})
    state = server.run(entrypoint="id -u; cat main.txt; echo x > out", extract=["out"])
    assert state["logs"] == ["65534", "hello"], state
    assert server.artifact(state["id"], "out").content == b"x\n"


def test_everything_tightened_at_once(start_server: StartServer) -> None:
    server = start_server(
        settings={"LIGHT_RUN_CAP_DROP": "ALL", "LIGHT_RUN_READ_ONLY": "1", "LIGHT_RUN_USER": "65534:65534"}
    )
    state = server.run(
        image="light-run-test/python:latest",
        files={"m.py": "import os\nprint(os.getuid(), os.getgid())\nopen('out', 'w').write('x')\n"},
        entrypoint="python3 m.py",
        extract=["out"],
    )
    assert state["logs"] == ["65534 65534"], state
    assert server.artifact(state["id"], "out").content == b"x"
