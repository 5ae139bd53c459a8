"""No engine call that is not needed: every request on the engine's socket is looked at."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from light_run.engine import Destinations, Runner, RunnerConfig, RunSpec
from tests.support.poll import eventually

IMAGE = "light-run-test/busybox:latest"
ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|HEAD) (\S+) HTTP/1.1\r\n")


class Tap:
    """Stands before the engine's socket and notes the request lines that pass."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._lines: list[str] = []
        self._begin(self._accept)

    def close(self) -> None:
        """Cut every connection."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for one in self._sockets:
            one.close()

    @contextmanager
    def noting(self) -> Iterator[list[str]]:
        """What passes while the block runs, as ``VERB /path`` with ids taken out."""
        noted: list[str] = []
        self._lines = noted
        yield noted
        self._lines = []

    def _begin(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                self._sockets += [client, engine]
                engine.connect(ENGINE)
                self._begin(self._pump, client, engine, True)
                self._begin(self._pump, engine, client, False)

    def _pump(self, source: socket.socket, target: socket.socket, look: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                for verb, path in REQUEST.findall(data) if look else ():
                    self._lines.append(f"{verb.decode()} {_plain(path.decode())}")
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def _plain(path: str) -> str:
    path = re.sub(r"^/v[0-9.]+", "", path.partition("?")[0])
    return re.sub(r"[0-9a-f]{64}", "ID", path)


@pytest.fixture
def tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tap]:
    path = tmp_path / "tap.sock"
    tap = Tap(path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    yield tap
    tap.close()


@pytest.fixture
def config(tmp_path: Path) -> RunnerConfig:
    """The settings of a runner that has no disk watched: how often a slow run is looked at is nobody's to say."""
    return RunnerConfig(state_dir=tmp_path, parked_max=0, workspace="bind", workspace_cap=0)


def run_once(runner: Runner, folder: Path, command: str = "cat in > out") -> bool:
    spec = RunSpec(image=IMAGE, files={"in": "x"}, entrypoint=command, network="none", extract=("out",))
    result = runner.run(spec, to=Destinations(folder / "log", folder / "artifacts"))
    assert result.exit_code in (0, 3), result
    return result.parked


COLD = [
    "GET /images/light-run-test/busybox:latest/json",
    "POST /containers/create",
    "POST /containers/ID/attach",
    "POST /containers/ID/start",
    "DELETE /containers/ID",
]


def test_a_cold_run_asks_five_times(tap: Tap, tmp_path: Path, config: RunnerConfig) -> None:
    with Runner(config) as runner:
        run_once(runner, tmp_path)
        with tap.noting() as noted:
            run_once(runner, tmp_path)
    assert noted == COLD


def test_only_a_failed_command_is_inspected(tap: Tap, tmp_path: Path, config: RunnerConfig) -> None:
    with Runner(config) as runner:
        run_once(runner, tmp_path)
        with tap.noting() as noted:
            run_once(runner, tmp_path, "exit 3")
    # Whether it ran out of memory stands in the container's state alone.
    assert noted == [*COLD[:-1], "GET /containers/ID/json", COLD[-1]]


def test_archives_are_two_more(tap: Tap, tmp_path: Path, config: RunnerConfig) -> None:
    with Runner(replace(config, workspace="archive")) as runner:
        run_once(runner, tmp_path)
        with tap.noting() as noted:
            run_once(runner, tmp_path)
    put, get = "PUT /containers/ID/archive", "GET /containers/ID/archive"
    assert noted == [*COLD[:2], put, *COLD[2:4], get, COLD[4]]


def test_a_parked_run_asks_twice(tap: Tap, config: RunnerConfig) -> None:
    with Runner(replace(config, parked_max=4, parked_pins={IMAGE: 1})) as runner:
        runner.open()
        eventually(lambda: runner.parked == 1, "one container is parked")
        spec = RunSpec(image=IMAGE, files={"in": "x"}, entrypoint="cat in")
        with tap.noting() as noted:
            assert runner.run(spec).parked
            eventually(lambda: runner.parked == 1, "one container is parked")
    # Its successor is parked beside it and after it.
    own = [line for line in noted if line in (COLD[0], COLD[4])]
    assert own == [COLD[0], COLD[4]]
    assert sorted(line for line in noted if line not in own) == sorted(COLD[1:4])
