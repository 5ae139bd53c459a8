"""Out of memory, by each of its witnesses alone: the engine's events, its state, and the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from light_run import Limits, RunSpec
from light_run.engine import Reason
from light_run.engine.daemon import events, memory
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.memory import MemoryEvents
from light_run.engine.spec import NullObserver
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX, engine_api

LIMITS = Limits(memory=32 * 1024 * 1024)
COMMAND, CHILD = "exec tail /dev/zero", "tail /dev/zero; sleep 0.2; exit 0"


@pytest.fixture(params=["events", "state", "kernel"])
def witness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The only one that says something."""

    def exit_causes(*_: object) -> Iterable[str]:
        return frozenset()

    def inspected(engine: Engine, container: str) -> dict[str, Any]:
        found = inspect(engine, container)
        return {**found, "State": {**found["State"], "OOMKilled": False}}

    inspect = Engine.inspect
    monkeypatch.setattr(Engine, "exit_causes", exit_causes)
    if request.param != "state":
        monkeypatch.setattr(Engine, "inspect", inspected)
    if request.param != "events":
        monkeypatch.setattr(events, "OUT_OF_MEMORY", "never")
        monkeypatch.setattr(events, "ACTIONS", events.EXITS)
    if request.param != "kernel":
        monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    return str(request.param)


def test_a_command_without_memory(witness: str, start_runner: StartRunner) -> None:
    result = start_runner().run(RunSpec(image=BUSYBOX, entrypoint=COMMAND, limits=LIMITS))
    assert (result.reason, result.exit_code) == (Reason.OUT_OF_MEMORY, 137), result
    assert result.usage.oom_kills == 1


def test_a_child_without_memory(witness: str, start_runner: StartRunner) -> None:
    result = start_runner().run(RunSpec(image=BUSYBOX, entrypoint=CHILD, limits=LIMITS))
    assert (result.reason, result.exit_code, result.error) == (Reason.EXIT, 0, None), result
    # A run that ends well is not inspected.
    assert result.usage.oom_kills == (None if witness == "state" else 1)


def test_the_kernel_counts_where_the_engine_tells_too_often(start_runner: StartRunner) -> None:
    command = "for i in 1 2 3; do tail /dev/zero & done; wait; sleep 0.2; exit 0"
    result = start_runner().run(RunSpec(image=BUSYBOX, entrypoint=command, limits=LIMITS))
    assert result.succeeded
    assert result.usage.oom_kills == 3


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("KILL", 137)])
def test_an_end_by_an_own_signal_is_waited_for_by_nobody(
    start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch, signal: str, code: int
) -> None:
    waits = list[str]()
    monkeypatch.setattr(MemoryEvents, "wait_reported", lambda *_: waits.append("event"))
    monkeypatch.setattr(Engine, "exit_causes", lambda *_: waits.append("history"))
    runner = start_runner()
    # The kernel's last count is there for a moment only, which a busy machine may miss.
    for _ in range(5):
        waits.clear()
        result = runner.run(
            RunSpec(image=BUSYBOX, entrypoint=f"sleep 0.3; kill -{signal} $$", network="none")
        )
        assert (result.reason, result.exit_code) == (Reason.EXIT, code), result
        if not waits:
            break
    assert not waits


def test_a_container_that_somebody_killed_is_interrupted_without_a_wait(
    start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killing(NullObserver):
        container = ""

        def assigned(self, container_id: str, *, parked: bool) -> None:
            self.container = container_id

        def launched(self, started_at: datetime) -> None:
            with engine_api() as api:
                api.kill(self.container)

    monkeypatch.setattr(Engine, "exit_causes", lambda *_: pytest.fail("the history was asked"))
    result = start_runner().run(
        RunSpec(image=BUSYBOX, entrypoint="sleep 60", network="none"), observer=Killing()
    )
    assert result.reason is Reason.INTERRUPTED, result
