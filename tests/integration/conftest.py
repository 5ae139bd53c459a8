"""Fixtures: a real engine, real servers on it, and a check after every test for leftovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import FAILED
from tests.support.engine import missing_images
from tests.support.receiver import Receiver, receiving
from tests.support.server import Server, running_server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Fail all tests if there is no engine, or if it lacks an image."""
    missing = missing_images()
    assert not missing, f"run make test-engine first; missing: {', '.join(missing)}"


@pytest.fixture(scope="session")
def shared_servers() -> list[Server]:
    """Servers that outlive a test."""
    return []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, shared_servers: list[Server]) -> Iterator[Server]:
    """The server of most tests: with a token, and otherwise default settings."""
    with running_server(tmp_path_factory.mktemp("server")) as server:
        shared_servers.append(server)
        yield server
        shared_servers.remove(server)


@pytest.fixture(autouse=True)
def nothing_left_by_runs(request: pytest.FixtureRequest, shared_servers: list[Server]) -> Iterator[None]:
    """Fail a test whose runs leave a container, a workspace or a temporary file; parked ones may stay."""
    yield
    for server in shared_servers:
        if not server.stopped:
            if FAILED in request.node.stash:
                # The test may have failed before it ended its runs, which must not fail other tests.
                server.cancel_all()
            server.wait_clean()


@pytest.fixture(scope="module")
def server_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start a server that all tests of a module use; takes the arguments of `running_server`, the folder left out.

    A module's own fixture calls it with the settings that its tests need.
    """
    with ExitStack() as servers:

        def start(name: str = "module", **arguments: object) -> Server:
            return servers.enter_context(running_server(tmp_path_factory.mktemp(name), **arguments))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start a server of the test's own; takes the arguments of `running_server`, the folder left out."""
    with ExitStack() as servers:

        def start(name: str = "own", **arguments: object) -> Server:
            return servers.enter_context(running_server(tmp_path / name, **arguments))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server on loopback for callbacks, which responds with 204 unless configured otherwise."""
    with receiving() as receiver:
        yield receiver
