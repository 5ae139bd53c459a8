"""Runners without a server, each with an id of its own, which leave nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from light_run import Runner
from light_run.engine import Destinations, RunnerConfig
from tests.support.abilities import under_test
from tests.support.engine import containers_of, remove_step_images
from tests.support.poll import eventually

StartRunner = Callable[..., Runner]


def nothing_of(config: RunnerConfig) -> bool:
    """Whether no container and no workspace of a runner is there."""
    assert config.state_dir is not None
    workspaces = config.state_dir / "workspaces"
    return not containers_of(config.server_id) and not list(workspaces.glob("*"))


@pytest.fixture
def start_runner(tmp_path: Path) -> Iterator[StartRunner]:
    """Make runners from settings; each leaves no container, workspace or step's image when it is closed."""
    with ExitStack() as runners:

        def start(**settings: Any) -> Runner:
            name = f"test-{uuid.uuid4()}"
            plain = {"workspace": "bind", "parked_max": 0, "state_dir": tmp_path / name}
            settings = {**plain, **under_test().config, **settings}
            config = RunnerConfig(server_id=name, **settings)
            runners.callback(remove_step_images, name)
            runners.callback(lambda: eventually(lambda: nothing_of(config), "nothing is left", within=20))
            return runners.enter_context(Runner(config))

        yield start


@pytest.fixture(params=["bind", "archive"])
def runner(request: pytest.FixtureRequest, start_runner: StartRunner) -> Runner:
    """A runner that parks nothing, once for each way of getting files in and out."""
    return start_runner(workspace=request.param)


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Where artifacts go."""
    return tmp_path / "artifacts"


@pytest.fixture
def to(tmp_path: Path) -> Destinations:
    """Where output and artifacts go."""
    return Destinations(log=tmp_path / "log", artifacts=tmp_path / "artifacts")
