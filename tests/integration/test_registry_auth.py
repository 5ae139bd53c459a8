"""Credentials that a request brings for its registry: used for its pull, and to be found nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from light_run.client import Client
from tests.integration.conftest import StartServer
from tests.support.engine import engine_api
from tests.support.registry import PASSWORD, USER, pushed, registry
from tests.support.server import Server

AUTH = {"username": USER, "password": PASSWORD}
WRONG = {"username": USER, "password": "wrong-canary-77"}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """An image that its registry gives to nobody without a password."""
    with registry(tmp_path / "registry", password=True) as address, pushed(address, password=True) as image:
        yield image


def settings(tmp_path: Path) -> dict[str, str]:
    """A server whose user has logged in nowhere, and that has one slot."""
    (tmp_path / "docker").mkdir(exist_ok=True)
    return {"DOCKER_CONFIG": str(tmp_path / "docker"), "LIGHT_RUN_MAX_CONCURRENCY": "1"}


def nowhere(server: Server, *secrets: str) -> None:
    """Fail where a secret was written down, or is told."""
    told = server.get("/runs").text + server.stderr + server.stdout
    for secret in secrets:
        assert secret not in told
        for path in server.state_dir.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_pull_with_the_request_s_own_credentials(
    start_server: StartServer, image: str, tmp_path: Path
) -> None:
    server = start_server(settings=settings(tmp_path))
    for auth, words in (
        (None, "log in"),
        (WRONG, "refuses the registryAuth"),
        ({"token": PASSWORD}, "registry"),
    ):
        asked: dict[str, Any] = {} if auth is None else {"registryAuth": auth}
        state = server.run(image=image, **asked)
        assert state["reason"] in ("pull_failed", "image_not_found"), state
        assert words in state["error"], state
    with Client(server.url, server.token) as client:
        # Larger than what waits in memory.
        done = client.run(image, "wc -c", stdin=b"x" * 100_000, registry_auth=AUTH)
    assert (done.status, done.logs) == ("succeeded", ("100000",)), done.error
    again = server.run(image=image, pull="always")
    assert again["reason"] == "pull_failed", again
    nowhere(server, PASSWORD, WRONG["password"])


def test_they_are_gone_after_a_restart(start_server: StartServer, image: str, tmp_path: Path) -> None:
    server = start_server(settings=settings(tmp_path))
    first = server.start(entrypoint="echo up; sleep 60")
    server.wait_output(first, "up")
    waiting = server.start(image=image, registryAuth=AUTH)
    server.kill()
    nowhere_written = [path for path in server.state_dir.rglob("*") if path.is_file()]
    assert all(PASSWORD.encode() not in path.read_bytes() for path in nowhere_written)
    server = start_server(settings=settings(tmp_path))
    server.cancel(first)
    state = server.wait_done(waiting)
    assert (state["status"], state["reason"]) == ("failed", "pull_failed")
    assert "registryAuth" in state["error"]
    assert "send the request again" in state["error"]
    with engine_api() as api:
        assert not api.images(name=image)
