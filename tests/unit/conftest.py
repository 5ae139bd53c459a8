"""The API in front of real runs on a fake engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from light_run.api import Policy, create_api
from light_run.artifacts.store import ArtifactStore
from light_run.runs.execution.executor import Executor
from light_run.runs.execution.job import RunJob
from light_run.runs.service import RunService
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from tests.unit.fake_runner import FakeRunner

MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def runner(tmp_path: Path) -> FakeRunner:
    """A runner whose runs end at once."""
    runner = FakeRunner()
    runner.engine.uploads = tmp_path / "uploads"
    runner.engine.uploads.mkdir()
    return runner


@pytest.fixture
def service(tmp_path: Path, runner: FakeRunner) -> Iterator[RunService]:
    """Runs on the fake runner; two at once, two more may wait."""
    artifacts = ArtifactStore(tmp_path / "artifacts")
    journal, queue = SQLiteJournal(tmp_path / "journal.sqlite"), Executor[RunJob](concurrency=2, max_queue=2)
    service = RunService(runner, artifacts, journal, queue, logs_dir=tmp_path / "logs")
    service.start()
    yield service
    service.close(grace=0)


@pytest.fixture
def make_client(service: RunService) -> MakeClient:
    """A client of an API of the test's own; takes the arguments of `create_api`, the service left out."""

    def make(**arguments: Any) -> FlaskClient:
        arguments = {"token": None, "body_limit": 100_000, "policy": Policy(), **arguments}
        return create_api(service, **arguments).test_client()

    return make


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    """A client of an API without a token."""
    return make_client()
