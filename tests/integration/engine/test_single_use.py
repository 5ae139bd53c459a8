"""Nothing of one run is there for the next, in a parked container or a new one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from light_run import Runner, RunSpec
from light_run.engine import RunResult, StopRequest
from tests.integration.engine.conftest import StartRunner
from tests.integration.engine.test_library import Watcher
from tests.support.engine import PYTHON, containers_of, inspect_container
from tests.support.poll import eventually

# Whatever a program can leave: files everywhere it may write, processes, a name, memory that is shared.
LEAVE = r"""
import os, subprocess, mmap
for folder in ("/tmp", "/app", "/dev/shm", "/var/tmp", "/root", "/", "/etc", "/usr/bin"):
    os.makedirs(folder, exist_ok=True)
    open(f"{folder}/canary-file", "w").write("canary")
open("/etc/profile", "a").write("export CANARY=canary\n")
open("/etc/environment", "a").write("CANARY=canary\n")
open("/root/.profile", "a").write("export CANARY=canary\n")
for _ in range(3):
    subprocess.Popen(["sh", "-c", "trap '' HUP TERM INT; sleep 1000; : canary"], start_new_session=True)
os.environ["CANARY"] = "canary"
print("left")
"""

LOOK = r"""
import os
found = []
for folder, directories, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        directories.clear()
        continue
    found += [os.path.join(folder, name) for name in directories + files if "canary" in name]
for process in filter(str.isdigit, os.listdir("/proc")):
    for name in ("cmdline", "environ"):
        try:
            if b"canary" in open(f"/proc/{process}/{name}", "rb").read().lower():
                found.append(f"process {process} {name}")
        except OSError:
            pass
print(sorted(found), len([name for name in os.listdir("/proc") if name.isdigit()]))
"""


@pytest.fixture(params=["bind", "archive"])
def parking(request: pytest.FixtureRequest, start_runner: StartRunner) -> Runner:
    """A runner with a container of the python image parked."""
    runner = start_runner(workspace=request.param, parked_max=4, parked_pins={PYTHON: 2})
    runner.open()
    wait_until_parked(runner)
    return runner


def wait_until_parked(runner: Runner) -> None:
    eventually(lambda: runner.parked >= 2, "two are parked", within=60)


def run(runner: Runner, program: str, **fields: object) -> RunResult:
    spec = RunSpec(image=PYTHON, entrypoint="python3 .m.py; true", files={".m.py": program}, **fields)  # type: ignore[arg-type]
    return runner.run(spec)


def test_nothing_of_one_run_is_there_for_the_next(parking: Runner) -> None:
    for _ in range(3):
        wait_until_parked(parking)
        left = run(parking, LEAVE, env={"CANARY": "canary"}, stdin=b"canary")
        assert (left.parked, left.logs) == (True, ("left",)), left
        wait_until_parked(parking)
        looked = run(parking, LOOK)
        # The init, the shell and the program; in the shell's words "canary" is only a part of what it was told.
        assert (looked.parked, looked.logs) == (True, ("[] 3",)), looked


def test_a_container_is_gone_with_its_run(parking: Runner) -> None:
    seen = []
    for _ in range(4):
        wait_until_parked(parking)
        watcher = Watcher()
        result = parking.run(RunSpec(image=PYTHON, entrypoint="true"), observer=watcher)
        assert result.parked
        seen.append(watcher.container)
        eventually(lambda watcher=watcher: gone(watcher.container), "the container is gone")  # type: ignore[misc]
    assert len(set(seen)) == 4


def gone(container: str) -> bool:
    try:
        inspect_container(container)
    except docker.errors.NotFound:
        return True
    return False


SERVE = r"""
import socket, time
listener = socket.create_server(("0.0.0.0", 7007))
print(socket.gethostbyname(socket.gethostname()), flush=True)
listener.settimeout(20)
try:
    listener.accept()
    print("reached", flush=True)
except TimeoutError:
    print("left alone", flush=True)
"""

CONNECT = r"""
import socket, sys
for address in sys.stdin.read().split():
    with socket.socket() as peer:
        peer.settimeout(1)
        try:
            peer.connect((address, 7007))
            print("reached", address)
        except OSError as error:
            print("not reached")
"""


def test_runs_on_the_default_network_do_not_reach_each_other(parking: Runner, tmp_path: Path) -> None:
    stop, watcher = StopRequest(), Watcher()
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(
            parking.run,
            RunSpec(image=PYTHON, entrypoint="python3 m.py", files={"m.py": SERVE}),
            observer=watcher,
            stop=stop,
        )
        try:
            eventually(lambda: watcher.container, "it is there")
            address = eventually(lambda: address_of(watcher.container), "it has an address")
            # Also whoever waits to be used has one.
            neighbours = [address_of(found) for found in others(parking, watcher.container)]
            wait_until_parked(parking)
            stdin = " ".join([address, *filter(None, neighbours)]).encode()
            result = run(parking, CONNECT, stdin=stdin)
            assert result.parked
            assert set(result.logs) == {"not reached"}, result.logs
        finally:
            stop.request()
        assert "reached" not in serving.result(60).logs


def address_of(container: str) -> str:
    networks = inspect_container(container)["NetworkSettings"]["Networks"]
    return next((str(network["IPAddress"]) for network in networks.values()), "")


def others(runner: Runner, container: str) -> list[str]:
    return [found["Id"] for found in containers_of(runner.config.server_id) if found["Id"] != container]
