"""The real server as a subprocess, driven over HTTP, and what it leaves behind when it stops."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from tests.support.abilities import under_test
from tests.support.described import assert_described
from tests.support.engine import (
    BUSYBOX,
    Container,
    containers_of,
    engine_api,
    images_of,
    is_parked,
    remove_step_images,
)
from tests.support.poll import eventually, until_nothing
from tests.support.processes import session_of

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "token-canary-4f1d9b"
FINAL = frozenset({"succeeded", "failed", "cancelled"})
START_SECONDS = 30.0
STOP_SECONDS = 45.0

# Below those that the kernel gives to connections, and to whoever asks for any: such a port may be another's by the
# time it is used. Each process that tests has some of its own, and takes none twice before it has had them all.
FIRST_PORT, PORTS_EACH, SHARES = 15_000, 1000, 16
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
_SHARE = int(_worker.removeprefix("gw")) if _worker else os.getpid()
_drawn = itertools.count(os.getpid())

RunState = dict[str, Any]


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    for number in itertools.islice(_drawn, PORTS_EACH):
        port = FIRST_PORT + _SHARE % SHARES * PORTS_EACH + number % PORTS_EACH
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"none of {PORTS_EACH} ports is free")


def server_environment(folder: Path, token: str | None, settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of its own, everything written under `folder`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LIGHT_RUN_")}
    environ["DOCKER_CONFIG"] = environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))
    for name, variable in (("home", "HOME"), ("tmp", "TMPDIR")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        environ[variable] = str(folder / name)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), environ.get("PYTHONPATH")]))
    environ["LIGHT_RUN_STATE_DIR"] = str(folder / "state")
    environ["LIGHT_RUN_ARTIFACTS_DIR"] = str(folder / "artifacts")
    if token is not None:
        environ["LIGHT_RUN_TOKEN"] = token
    environ.update({**under_test().settings, **settings})
    return environ


@dataclass
class Server:
    """A server process and a client of it."""

    process: subprocess.Popen[bytes]
    url: str
    token: str | None
    folder: Path
    engine: str | None = None
    stopped: bool = field(default=False, init=False)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def state_dir(self) -> Path:
        """LIGHT_RUN_STATE_DIR."""
        return self.folder / "state"

    @property
    def artifacts_dir(self) -> Path:
        """LIGHT_RUN_ARTIFACTS_DIR."""
        return self.folder / "artifacts"

    @property
    def server_id(self) -> str:
        """What this server labels everything with that it creates in the engine."""
        return (self.state_dir / "server-id").read_text().strip()

    @property
    def stderr(self) -> str:
        """Everything written to stderr so far."""
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def stdout(self) -> str:
        """Everything written to stdout so far."""
        return (self.folder / "stdout").read_text(errors="replace")

    def request(
        self, method: str, path: str, *, token: str | None = None, **arguments: Any
    ) -> requests.Response:
        """Send a request with the server's token, or `token` where one is given ("" for none at all).

        Whatever is answered has to be as the server's own document says.
        """
        headers = dict(arguments.pop("headers", None) or {})
        token = self.token if token is None else token
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        arguments.setdefault("timeout", 100)
        response = requests.request(method, self.url + path, headers=headers, **arguments)
        assert_described(response, read=not arguments.get("stream"))
        return response

    def get(self, path: str, **arguments: Any) -> requests.Response:
        """GET `path`."""
        return self.request("GET", path, **arguments)

    def post_run(self, **fields: Any) -> requests.Response:
        """POST /run with a minimal valid request (busybox, one file, no network) updated by `fields`."""
        return self.request("POST", "/run", json=run_request(**fields))

    def run(self, **fields: Any) -> RunState:
        """The final state of a synchronous run."""
        response = self.post_run(**fields)
        assert response.status_code == 200, (response.status_code, response.text)
        state: RunState = response.json()
        assert state["status"] in FINAL, state
        return state

    def start(self, **fields: Any) -> str:
        """The id of a detached run that was accepted."""
        response = self.post_run(detached=True, **fields)
        assert response.status_code == 202, (response.status_code, response.text)
        run_id: str = response.json()["id"]
        return run_id

    def state(self, run_id: str) -> RunState:
        """Return the response of GET /runs/ID."""
        response = self.get(f"/runs/{run_id}")
        assert response.status_code == 200, (response.status_code, response.text)
        state: RunState = response.json()
        return state

    def wait_done(self, run_id: str, *, within: float = 60.0) -> RunState:
        """The final state of a run, polled for."""

        def look() -> RunState | None:
            state = self.state(run_id)
            return state if state["status"] in FINAL else None

        state = eventually(look, f"run {run_id} has ended", within=within)
        assert state is not None
        return state

    def wait_output(self, run_id: str, line: str, *, within: float = 60.0) -> None:
        """Return once a detached run has written `line`."""
        eventually(
            lambda: line in self.state(run_id).get("logs", ()), f"{line!r} in the output", within=within
        )

    def cancel(self, run_id: str) -> requests.Response:
        """POST /runs/ID/cancel."""
        return self.request("POST", f"/runs/{run_id}/cancel")

    def cancel_all(self) -> None:
        """Cancel every run that has not ended."""
        for status in ("running", "queued"):
            for run in self.get(f"/runs?status={status}").json():
                self.cancel(run["id"])

    def artifact(self, run_id: str, path: str, **arguments: Any) -> requests.Response:
        """GET one artifact; `path` is sent as it is."""
        return self.get(f"/runs/{run_id}/artifacts/{path}", **arguments)

    def processes(self) -> list[int]:
        """The server's processes, the first one included."""
        return session_of(self.process.pid)

    def containers(self) -> list[Container]:
        """Containers this server made, parked ones left out."""
        return [found for found in self.all_containers() if not is_parked(found)]

    def all_containers(self) -> list[Container]:
        """Containers this server made."""
        try:
            server_id = self.server_id
        except FileNotFoundError:
            return []
        return containers_of(server_id, self.engine)

    def workspaces(self) -> list[str]:
        """Workspace folders that are there."""
        folder = self.state_dir / "workspaces"
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def left_by_runs(self) -> list[str]:
        """What ended runs should not leave: containers, temporary files; workspaces only parked ones have."""
        containers = self.all_containers()
        left = [f"container {each['Names']} {each['Status']}" for each in containers if not is_parked(each)]
        left += [f"temporary file {entry}" for entry in self.temporary_files()]
        if not containers:
            left += [f"workspace {name}" for name in self.workspaces()]
        return left

    def temporary_files(self) -> list[Path]:
        """What is in the server's TMPDIR."""
        return sorted((self.folder / "tmp").rglob("*"))

    def wait_clean(self, *, within: float = 20.0) -> None:
        """Wait until ended runs have left nothing; fail if something stays."""
        until_nothing(self.left_by_runs, "nothing is left by runs that have ended", within=within)

    def stop(self, stop_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server and return its exit code; fail if it does not stop, or a process stays."""
        leader = self.process.pid
        if self.process.poll() is None:
            self.process.send_signal(stop_signal)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {STOP_SECONDS:g} s after {stop_signal.name}") from None
        self.stopped = True
        eventually(lambda: not session_of(leader), "no process of the server is left", within=10)
        return code

    def kill(self) -> None:
        """End the server's processes at once, with no clean-up of any kind."""
        # As a group: one that is being forked just now is not found by looking.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)
        self.stopped = True
        # A worker that is killed while it writes to the disk holds the state directory's lock until that is done.
        eventually(
            lambda: not session_of(self.process.pid), "no process of the killed server is left", within=30
        )

    def assert_nothing_left(self) -> None:
        """Fail if the stopped server left a container, an image, a workspace or a temporary file."""
        server_id = self.server_id

        def left() -> list[object]:
            # An engine that is busy lists what it was told to remove for a while; with a million files, for long.
            at_engine = [*containers_of(server_id, self.engine), *images_of(server_id, self.engine)]
            return [*at_engine, *self.workspaces(), *self.temporary_files()]

        until_nothing(left, "the server has left nothing", within=60)


def run_request(**fields: Any) -> dict[str, Any]:
    """A minimal valid body of POST /run, updated by `fields`; a value of `...` takes a field out."""
    body: dict[str, Any] = {
        "image": BUSYBOX,
        "files": {"main.txt": "hello\n"},
        "entrypoint": "true",
        "network": "none",
    }
    body.update(fields)
    return {name: value for name, value in body.items() if value is not ...}


def serve_command(port: int) -> list[str]:
    """The command line of ``light-run serve`` on `port`."""
    return [sys.executable, "-m", "light_run", "serve", "--port", str(port)]


@contextmanager
def running_server(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    options: Iterable[str] = (),
    token: str | None = TOKEN,
    command: Sequence[str] | None = None,
    port: int | None = None,
    url: str | None = None,
    ready: int | None = 200,
    umask: int = -1,
) -> Iterator[Server]:
    """A server that writes everything under `folder`, ready when this enters, gone when it leaves.

    `settings` are environment variables, `options` are appended to the command line. `command` replaces
    ``light-run serve``; `url` is where it listens, where that is another host. `ready` is the status of /health
    to wait for, None to wait for none, `umask` the process's file mode mask, -1 for ours.
    On the way out the server gets SIGTERM and must exit with 0 and leave nothing, except where the test
    has stopped or killed it already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    arguments = [*(command or serve_command(port)), *options]
    environ = server_environment(folder, token, settings or {})
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            arguments,
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=umask,
        )
    server = Server(process, url or f"http://127.0.0.1:{port}", token, folder, environ.get("DOCKER_HOST"))
    try:
        if ready is not None:
            wait_ready(server, ready)
        yield server
        if not server.stopped:
            code = server.stop()
            assert code == 0, f"exit code {code} after SIGTERM; stderr:\n{server.stderr}"
            server.assert_nothing_left()
    finally:
        if not server.stopped:
            server.kill()
        if process.returncode != 0:
            remove_leavings(server)
        with suppress(FileNotFoundError, docker.errors.DockerException):
            remove_step_images(server.server_id, server.engine)


def remove_leavings(server: Server) -> None:
    """Remove what a server left that did not end in order, so that no later test meets it."""
    with suppress(FileNotFoundError), engine_api(server.engine) as api:
        for container in containers_of(server.server_id, server.engine):
            with suppress(docker.errors.APIError):
                api.remove_container(container["Id"], force=True, v=True)
        for image in images_of(server.server_id, server.engine):
            with suppress(docker.errors.APIError):
                api.remove_image(image)


def wait_ready(server: Server, status: int = 200) -> None:
    """Wait until /health responds with `status`; fail if the server exits first."""

    def look() -> bool:
        code = server.process.poll()
        assert code is None, f"the server exited with {code}; stderr:\n{server.stderr}"
        try:
            return server.get("/health", timeout=10).status_code == status
        except (requests.ConnectionError, requests.Timeout):
            return False

    eventually(look, f"/health answers {status}", within=START_SECONDS)


def run_cli(
    folder: Path, *arguments: str, settings: Mapping[str, str] | None = None, within: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run ``light-run ARGUMENTS`` to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "light_run", *arguments],
        env=server_environment(folder, None, settings or {}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def log_events(stderr: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines a server wrote to stderr."""
    events = []
    for line in stderr.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
