"""Podman, by the API that it shares with Docker: what works there, and what is refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, RunnerConfig, RunResult
from light_run.engine.spec import Limits, Reason
from tests.support.engine import BUSYBOX, containers_of
from tests.support.podman_engine import podman_engine
from tests.support.poll import eventually, until_nothing

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def podman() -> Iterator[str]:
    """The address of a Podman of this module's own."""
    with podman_engine(BUSYBOX) as address:
        yield address


@contextmanager
def runner_on(address: str, folder: Path, **settings: Any) -> Iterator[Runner]:
    """A runner that leaves nothing at the engine."""
    config = RunnerConfig(
        server_id="podman",
        state_dir=folder / "state",
        default_network="none",
        limits=Limits(memory=64 * MIB, pids=50),
        **settings,
    )
    with Runner(config) as runner:
        runner.open()
        yield runner
    until_nothing(lambda: containers_of("podman", address), "no container is left")


def run(runner: Runner, folder: Path, **fields: Any) -> RunResult:
    """Run a command with a file, input and artifacts."""
    plain: dict[str, Any] = {
        "image": BUSYBOX,
        "files": {"in": "file\n"},
        "entrypoint": "cat in; cat; cat /etc/hosts >hosts; echo made >out",
        "stdin": b"input\n",
        "extract": ("out", "hosts"),
        "timeout": 60.0,
    }
    return runner.run(RunSpec(**{**plain, **fields}), to=Destinations(artifacts=folder))


@pytest.mark.parametrize("workspace", ["auto", "archive"])
def test_runs_parked_and_cold(
    podman: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    with runner_on(podman, tmp_path, workspace=workspace, parked_max=1, parked_pins={BUSYBOX: 1}) as runner:
        # Podman drops the name of an image that is imported, by which the probe's was looked for.
        assert runner.health().workspace == {"auto": "bind"}.get(workspace, workspace)
        for parked, network in ((True, "none"), (False, "bridge")):
            if parked:
                eventually(lambda: runner.parked == 1, "one is parked")
            folder = tmp_path / network
            result = run(runner, folder, network=network)
            assert result.succeeded, result
            assert (result.parked, result.logs) == (parked, ("file", "input")), result
            assert (folder / "out").read_text() == "made\n"
            assert "localhost" in (folder / "hosts").read_text()


def test_limits_hold_and_an_end_is_named(
    podman: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    with runner_on(podman, tmp_path, parked_max=0) as runner:
        forks = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done"
        assert "can't fork" in run(runner, tmp_path / "a", entrypoint=forks).logs[-1]
        starved = run(runner, tmp_path / "b", entrypoint="tail /dev/zero")
        assert (starved.reason, starved.exit_code) == (Reason.OUT_OF_MEMORY, 137), starved
        assert run(runner, tmp_path / "c", entrypoint="sleep 60", timeout=0.5).reason is Reason.TIMEOUT
        assert run(runner, tmp_path / "d", entrypoint="exit 3").exit_code == 3


def test_what_it_cannot_do_is_refused(podman: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    isolated = "does not keep containers on network 'light-run' from each other"
    with runner_on(podman, tmp_path, parked_max=0) as runner:
        for fields, words in (
            # It lists runtimes that are not there, and takes any name.
            ({"runtime": "runsc"}, "did not take the runtime 'runsc'"),
            ({"runtime": "none-such"}, "did not take the runtime 'none-such'"),
            ({"network": "light-run"}, isolated),
            # Steps have the isolated network.
            ({"steps": ("true",)}, isolated),
        ):
            result = run(runner, tmp_path / "x", **fields)
            assert result.reason is Reason.START_FAILED, result
            assert words in (result.error or "")
        assert run(runner, tmp_path / "x", runtime="runc").succeeded
