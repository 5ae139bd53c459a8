"""Engines of an ordinary user to whom no cgroups are delegated: they limit nothing, and do not say so to a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from light_run import Runner, RunSpec
from light_run.engine import RunnerConfig
from light_run.engine.spec import Firewall, Reason
from tests.support.engine import BUSYBOX, containers_of
from tests.support.podman_engine import podman_engine
from tests.support.poll import until_nothing
from tests.support.rootless import OrdinaryUser, ordinary_user, rootless_docker

ENGINES: dict[str, Callable[[OrdinaryUser], AbstractContextManager[str]]] = {
    "docker": lambda user: rootless_docker(user, BUSYBOX),
    "podman": lambda user: podman_engine(BUSYBOX, user=user),
}


@pytest.fixture(scope="module", params=ENGINES)
def rootless(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each."""
    with ordinary_user() as user, ENGINES[request.param](user) as address:
        yield address


@pytest.mark.parametrize("allowed", [False, True])
def test_nothing_starts_unless_that_is_allowed(
    rootless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setenv("DOCKER_HOST", rootless)
    config = RunnerConfig(
        server_id="rootless",
        state_dir=tmp_path / "state",
        default_network="bridge",
        # The host's own engine has a network of that name, and an interface.
        guarded=("bridge",),
        allow_unlimited=allowed,
        parked_max=0,
    )
    spec = RunSpec(image=BUSYBOX, files={"a": "file\n"}, entrypoint="cat a", network="none", timeout=60.0)
    with Runner(config) as runner:
        runner.open()
        health, result = runner.health(), runner.run(spec)
    if allowed:
        assert (result.succeeded, result.logs) == (True, ("file",)), result
    else:
        assert health.missing_limits == ("memory", "cpus", "pids")
        assert result.reason is Reason.START_FAILED
        assert "the container engine cannot limit memory, cpus, pids" in (result.error or "")
    assert health.firewall is Firewall.ABSENT
    until_nothing(lambda: containers_of("rootless", rootless), "no container is left")
