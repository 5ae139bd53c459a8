"""Health checks of an engine that hangs: one thread asks, whoever else wants to know."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from light_run.engine import Runner, RunnerConfig
from light_run.engine import health as module
from light_run.engine.daemon.client import Engine
from light_run.errors import EngineUnavailable
from tests.support.poll import eventually


def test_a_hung_engine_is_asked_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    answers = threading.Event()

    def ping(*_: object) -> str:
        asked.append(None)
        assert answers.wait(30)
        raise EngineUnavailable("it does not answer")

    monkeypatch.setattr(Engine, "ping", ping)
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    runner = Runner(RunnerConfig(state_dir=tmp_path))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(runner.health)
        eventually(lambda: asked, "the engine is asked")
        assert [runner.health().docker for _ in range(3)] == [False] * 3
        assert len(asked) == 1
        answers.set()
        assert not first.result().docker
