"""An engine that is played, for what no real one can be made to answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.played_engine import Answer, PlayedEngine


@pytest.fixture(params=["unix", "tcp"])
def play(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Answer], PlayedEngine]]:
    """Make DOCKER_HOST name an engine that is played."""
    with ExitStack() as engines:

        def start(answers: Answer) -> PlayedEngine:
            if request.param == "unix":
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(tmp_path / "s"))
                listener.listen(10)
                monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
            else:
                listener = socket.create_server(("127.0.0.1", 0))
                monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            return engines.enter_context(closing(PlayedEngine(listener, answers)))

        yield start
