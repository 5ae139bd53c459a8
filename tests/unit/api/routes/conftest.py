"""Runs of the fake engine that write what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from light_run.engine.output.spool import LogWriter
from light_run.runs.service import RunService
from tests.unit.fake_runner import FakeRunner

Write = Callable[..., None]


def start(client: FlaskClient) -> str:
    """Start a detached run and return its id."""
    body = {"image": "alpine", "files": {"a": ""}, "detached": True}
    run_id: str = json.loads(client.post("/run", data=json.dumps(body)).data)["id"]
    return run_id


def end(client: FlaskClient, runner: FakeRunner, run_id: str) -> None:
    """End a run."""
    runner.end(run_id)
    client.get(f"/runs/{run_id}?wait=30")


@pytest.fixture
def held(client: FlaskClient, runner: FakeRunner) -> Iterator[str]:
    """The id of a run that runs until the test ends it."""
    runner.hold()
    run_id = start(client)
    yield run_id
    runner.end(run_id)


@pytest.fixture
def write(held: str, service: RunService, tmp_path: Path) -> Iterator[Write]:
    """Let the run `held` write: takes pairs of a stream and bytes."""
    following = service.registry.following
    with closing(LogWriter(tmp_path / "logs" / held, 1 << 20, lambda: following.changed(held))) as log:

        def write(*output: tuple[int, bytes]) -> None:
            for stream, data in output:
                log.write(stream, memoryview(data))

        yield write


@pytest.fixture
def ended(
    request: pytest.FixtureRequest, client: FlaskClient, runner: FakeRunner, held: str, write: Write
) -> str:
    """The id of a run that has written the module's OUTPUT, and ended."""
    write(*request.module.OUTPUT)
    end(client, runner, held)
    return held
