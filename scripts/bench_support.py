"""What the bench measures with: the bare engine, servers of ours and of nginx, clients."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

IMAGE = "light-run-test/busybox:latest"
SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
MIB = 1024 * 1024
START_PATIENCE = 30.0


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over the engine's unix socket."""

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> bytes:
    """One request on an open connection; its answer's body."""
    payload = None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json"} if payload else {}
    connection.request(method, path, payload, headers)
    response = connection.getresponse()
    data = response.read()
    if response.status >= http.client.BAD_REQUEST:
        raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
    return data


class BareEngine:
    """The engine without light-run: one empty container after the other."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._connection = UnixConnection("localhost")

    def run(self) -> None:
        """Create, start, wait, remove."""
        container = self.begin("true")
        ask(self._connection, "POST", f"/containers/{container}/wait")
        ask(self._connection, "DELETE", f"/containers/{container}")

    def begin(self, command: str) -> str:
        """Create and start one; its id."""
        host = {
            "NetworkMode": self._network,
            "Memory": 512 * MIB,
            "NanoCpus": 10**9,
            "PidsLimit": 100,
            "Init": True,
        }
        config = {"Image": IMAGE, "Entrypoint": ["sh", "-c", command], "Cmd": [], "HostConfig": host}
        container: str = json.loads(ask(self._connection, "POST", "/containers/create", config))["Id"]
        ask(self._connection, "POST", f"/containers/{container}/start")
        return container

    def remove(self, container: str) -> None:
        """Kill and remove one."""
        ask(self._connection, "DELETE", f"/containers/{container}?force=1")


@dataclass(eq=False)
class Server:
    """A light-run server of the bench's own."""

    process: subprocess.Popen[bytes]
    port: int
    first_answer: float
    timings: dict[str, list[float]] = field(default_factory=dict)

    def client(self, *, fetch: bool = True) -> Callable[[str | None], None]:
        """A client on a connection of its own: one run from request to answer, or to the fetched artifact."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)

        def run(network: str | None) -> None:
            body = {
                "image": IMAGE,
                "files": {"in.txt": "hello\n"},
                "entrypoint": "cat in.txt > out.txt",
                "extract": ["out.txt"],
            }
            if network is not None:
                body["network"] = network
            state = json.loads(ask(connection, "POST", "/run", body))
            if state["status"] != "succeeded":
                raise RuntimeError(f"the run did not succeed: {state}")
            if fetch and ask(connection, "GET", f"/runs/{state['id']}/artifacts/out.txt") != b"hello\n":
                raise RuntimeError("the artifact is not what went in")
            for step, spent in state["timings"].items():
                self.timings.setdefault(step, []).append(spent)

        return run

    def cpu(self) -> float:
        """Seconds of processor time of the server and its children so far."""
        ticks = 0
        for pid in [self.process.pid, *_children(self.process.pid)]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss(self) -> float:
        """MiB of memory of the process that answers."""
        pids = _children(self.process.pid) or [self.process.pid]
        return max(_status_kib(pid, "VmRSS") for pid in pids) / 1024

    def descriptors(self) -> int:
        """How many files it has open now."""
        pids = _children(self.process.pid) or [self.process.pid]
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    def peak(self, *, anew: bool = False) -> float:
        """MiB of memory that process had at most; `anew`, from now on."""
        pids = _children(self.process.pid) or [self.process.pid]
        for pid in pids if anew else ():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return max(_status_kib(pid, "VmHWM") for pid in pids) / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _status_kib(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def server(**settings: str) -> Iterator[Server]:
    """Start one with these settings (LIGHT_RUN_...); stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="light-run-bench-") as state:
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHT_RUN_")}
        environment |= {"LIGHT_RUN_STATE_DIR": state, **settings}
        log = Path(state, "log").open("wb")  # noqa: SIM115 - closed below, behind the process that writes it
        begun = time.monotonic()
        command = [sys.executable, "-m", "light_run", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        try:
            while True:
                try:
                    ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/health")
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() - begun > START_PATIENCE:
                        raise RuntimeError(Path(state, "log").read_text()) from None
                    time.sleep(0.01)
            yield Server(process, port, time.monotonic() - begun)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.close()


@contextmanager
def bridge() -> Iterator[str]:
    """A bridge network of the bench's own, as the server has one; its name."""
    connection, name = UnixConnection("localhost"), "light-run-bench"
    ask(connection, "POST", "/networks/create", {"Name": name, "Driver": "bridge"})
    try:
        yield name
    finally:
        ask(connection, "DELETE", f"/networks/{name}")


def timed(work: Callable[[], object]) -> float:
    """Milliseconds `work` takes."""
    begun = time.monotonic()
    work()
    return (time.monotonic() - begun) * 1000


def table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a reStructuredText list-table."""
    print(f"\n.. list-table:: {title}\n   :header-rows: 1\n")
    for row in [header, *rows]:
        print("   * - " + "\n     - ".join(row))
