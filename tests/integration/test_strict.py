"""``LIGHT_RUN_PROFILE=strict``: shell and Python work under it, with gVisor and without, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import PYTHON, engine_api
from tests.support.server import RunState, Server, running_server

# gVisor is what the engine of these tests has; naming runc is what an engine without it comes to.
RUNTIMES = {"runsc": {}, "runc": {"LIGHT_RUN_RUNTIME": "runc"}}


@pytest.fixture(scope="module", params=RUNTIMES)
def strict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_servers: list[Server]
) -> Iterator[Server]:
    """A server with the strict profile, in either runtime."""
    with engine_api() as api:
        assert "runsc" in api.info()["Runtimes"], "the engine has no runtime runsc"
    settings = {"LIGHT_RUN_PROFILE": "strict", **RUNTIMES[request.param]}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path_factory.mktemp("strict"), settings=settings))
        shared_servers.append(server)
        yield server
        shared_servers.remove(server)


def run(server: Server, **fields: Any) -> RunState:
    """The final state of a run that names no network."""
    return server.run(network=..., timeout=60_000, **fields)


def test_a_shell_workload(strict: Server) -> None:
    state = run(
        strict,
        files={"in": "b\na\n", "d/f": "f\n"},
        entrypoint="sort in > out; cat d/f; mkdir -p deep/er; echo x > deep/er/y; read line; echo $line",
        input="given",
        extract=["out", "deep"],
    )
    assert (state["status"], state["logs"]) == ("succeeded", ["f", '"given"']), state
    assert strict.artifact(state["id"], "out").content == b"a\nb\n"
    assert strict.artifact(state["id"], "er/y").content == b"x\n"


def test_a_python_workload(strict: Server) -> None:
    program = (
        "import json, subprocess, tempfile, threading\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    file.write(b'x' * 1000000)\n"
        "thread = threading.Thread(target=print, args=('thread',), kwargs={'flush': True})\n"
        "thread.start(); thread.join()\n"
        "print(subprocess.check_output(['id', '-u'], text=True).strip())\n"
        "json.dump({'done': True}, open('result.json', 'w'))\n"
    )
    state = run(
        strict, image=PYTHON, files={"m.py": program}, entrypoint="python3 m.py", extract=["result.json"]
    )
    assert (state["status"], state["logs"]) == ("succeeded", ["thread", "65534"]), state
    assert strict.artifact(state["id"], "result.json").json() == {"done": True}


def test_who_it_is_and_what_it_may(strict: Server) -> None:
    state = run(strict, entrypoint="id -u; id -g; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status")
    assert state["logs"][:2] == ["65534", "65534"], state
    sets = [int(line.split()[1], 16) for line in state["logs"][2:]]
    assert sets == [0, 0, 0], state


@pytest.mark.parametrize("path", ["/x", "/etc/x", "/usr/x", "/root/x"])
def test_the_root_is_read_only(strict: Server, path: str) -> None:
    state = run(strict, entrypoint=f"echo x > {path}")
    assert state["exitCode"] != 0, state


def test_tmp_is_small_and_can_be_written(strict: Server) -> None:
    state = run(
        strict,
        entrypoint="echo x > /tmp/x && cat /tmp/x; head -c 100000000 /dev/zero > /tmp/big || echo full",
    )
    assert state["logs"][0] == "x", state
    assert "full" in state["logs"], state


def test_there_is_no_network_unless_asked_for(strict: Server, request: pytest.FixtureRequest) -> None:
    look = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort"
    assert run(strict, entrypoint=look)["logs"] == ["lo"]
    asked = strict.run(network="bridge", entrypoint=look, timeout=60_000)
    # An engine may have gVisor set up without a network of any kind; then asking for one brings none.
    if request.node.callspec.params["strict"] == "runc":
        assert "eth0" in asked["logs"], asked


def test_the_runtime(strict: Server, request: pytest.FixtureRequest) -> None:
    state = run(strict, entrypoint="dmesg 2>/dev/null | head -n 1")
    gvisor = "gVisor" in "".join(state["logs"])
    assert gvisor == (request.node.callspec.params["strict"] == "runsc"), state


def test_what_is_set_comes_before_the_profile(start_server: StartServer) -> None:
    settings = {
        "LIGHT_RUN_PROFILE": "strict",
        "LIGHT_RUN_USER": "1234",
        "LIGHT_RUN_READ_ONLY": "false",
        "LIGHT_RUN_RUNTIME": "runc",
    }
    server = start_server(settings=settings)
    state = server.run(entrypoint="id -u; grep CapEff /proc/self/status | cut -f2; touch /tmp/x && echo ok")
    assert state["logs"] == ["1234", "0" * 16, "ok"], state
