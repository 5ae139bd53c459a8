"""A `Runner` whose run is broken off: what the next one, or the same one a moment later, makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from threading import Thread
from typing import Any

import pytest

from light_run import Runner, RunSpec
from light_run.engine import (
    Destinations,
    ExtractResult,
    Phase,
    Progress,
    Reason,
    RunResult,
    StopRequest,
    read_log,
)
from light_run.engine.daemon.execution import Execution, Exit
from light_run.errors import EngineUnavailable
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX, engine_api
from tests.support.private_engine import PrivateEngine, private_engine

MIB = 1024 * 1024
RUN = "run-1"


@dataclass
class Script:
    """An observer that does something when a run first comes to a phase."""

    moment: Phase
    container: str = ""
    started_at: datetime | None = None
    acted: bool = False

    def phase(self, phase: Phase) -> None:
        if phase is self.moment and not self.acted:
            self.acted = True
            self.act()

    def act(self) -> None:
        """What is done then."""

    def progress(self, progress: Progress) -> None: ...

    def assigned(self, container_id: str, *, parked: bool) -> None:
        self.container = container_id

    def launched(self, started_at: datetime) -> None:
        self.started_at = started_at

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote(self) -> None: ...

    def ended(self, result: RunResult) -> None: ...


@dataclass
class Leaving(Script):
    """The server stops, as one that is killed does for its container, before anything is extracted."""

    stop: StopRequest = field(default_factory=StopRequest)

    def act(self) -> None:
        self.stop.detach()


@dataclass
class Restarting(Script):
    """The engine goes away, and comes back only when it was missed."""

    engine: PrivateEngine | None = None
    coming: Thread | None = None

    def act(self) -> None:
        assert self.engine is not None
        self.engine.stop()
        self.coming = Thread(target=self._come_back)
        self.coming.start()

    def _come_back(self) -> None:
        assert self.engine is not None
        time.sleep(2)
        self.engine.start()


def asked(entrypoint: str, timeout: float = 600.0) -> RunSpec:
    return RunSpec(image=BUSYBOX, entrypoint=entrypoint, network="none", extract=("out",), timeout=timeout)


def broken_off(runner: Runner, spec: RunSpec, to: Destinations) -> Leaving:
    """Run `spec`, and leave when it has ended and nothing is extracted yet."""
    watcher = Leaving(Phase.EXTRACTING)
    result = runner.run(spec, run_id=RUN, stop=watcher.stop, to=to, observer=watcher)
    assert result.reason is Reason.INTERRUPTED
    return watcher


def taken_up(runner: Runner, spec: RunSpec, to: Destinations, left: Leaving) -> RunResult:
    """What the next server makes of it."""
    assert left.started_at is not None
    assert to.log is not None
    assert to.artifacts is not None
    return runner.adopt(
        left.container,
        spec,
        run_id=RUN,
        deadline=left.started_at + timedelta(seconds=spec.timeout),
        log=to.log,
        artifacts=to.artifacts,
    )


@pytest.mark.engines("recovery")
def test_a_run_that_was_killed_for_its_time_is_what_it_was(runner: Runner, to: Destinations) -> None:
    spec = asked("echo x > out; sleep 600", timeout=4.0)
    left = broken_off(runner, spec, to)
    result = taken_up(runner, spec, to, left)
    assert (result.reason, result.exit_code) == (Reason.TIMEOUT, None)
    assert result.extracted == (ExtractResult("out", "ok", 2),)


def test_a_run_that_was_killed_for_the_disk_is_what_it_was(
    start_runner: StartRunner, to: Destinations
) -> None:
    runner = start_runner(workspace_cap=10 * MIB)
    spec = asked("echo x > out; head -c 50000000 /dev/urandom > big; sleep 600")
    left = broken_off(runner, spec, to)
    result = taken_up(runner, spec, to, left)
    assert (result.reason, result.exit_code) == (Reason.DISK_LIMIT, None)
    assert result.extracted == (ExtractResult("out", "ok", 2),)


@pytest.mark.engines("recovery")
def test_a_run_that_somebody_killed_is_interrupted(runner: Runner, to: Destinations) -> None:
    spec = asked("echo x > out; sleep 600", timeout=4.0)
    left = broken_off(runner, spec, to)
    # Long before its time.
    left.started_at = datetime.now(timezone.utc)
    assert taken_up(runner, spec, to, left).reason is Reason.INTERRUPTED


@pytest.fixture(scope="module")
def own_engine() -> Iterator[PrivateEngine]:
    """An engine of this file's own."""
    with private_engine(BUSYBOX) as engine:
        yield engine


@pytest.mark.timeout(200)
def test_an_engine_that_restarts_behind_the_command(
    own_engine: PrivateEngine, start_runner: StartRunner, to: Destinations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", own_engine.address)
    runner = start_runner(workspace="archive")
    watcher = Restarting(Phase.EXTRACTING, engine=own_engine)
    result = runner.run(asked("echo x > out; echo said; exit 3"), to=to, observer=watcher)
    assert watcher.coming is not None
    watcher.coming.join()
    assert (result.reason, result.exit_code) == (Reason.EXIT, 3), result
    assert result.extracted == (ExtractResult("out", "ok", 2),)


# --- a connection that breaks -----------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (143, 143)])
def test_a_run_that_ended_while_the_connection_was_broken_keeps_its_end(
    start_runner: StartRunner, to: Destinations, monkeypatch: pytest.MonkeyPatch, code: int, expected: int
) -> None:
    run = Execution.run

    def broken(self: Execution, *arguments: Any) -> Exit:
        run(self, *arguments)
        raise EngineUnavailable("the connection broke")

    monkeypatch.setattr(Execution, "run", broken)
    spec = RunSpec(
        image=BUSYBOX, entrypoint=f"echo said; echo kept > out; exit {code}", network="none", extract=("out",)
    )
    result = start_runner().run(spec, to=to)
    assert (result.reason, result.exit_code) == (Reason.EXIT, expected), result
    assert to.log is not None
    assert [line.text for line in read_log(to.log)] == ["said"]
    assert [each.path for each in result.artifacts] == ["out"]


@pytest.mark.parametrize("action", ["kill", "restart"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_container_that_somebody_else_ended_is_interrupted(
    start_runner: StartRunner, to: Destinations, monkeypatch: pytest.MonkeyPatch, action: str, connected: bool
) -> None:
    run = Execution.run

    def broken(self: Execution, *arguments: Any) -> Exit:
        ended = run(self, *arguments)
        if connected or action == "restart":
            return ended
        raise EngineUnavailable("the connection broke")

    class Ending(Script):
        def act(self) -> None:
            with engine_api() as api:
                getattr(api, action)(self.container, **({"timeout": 0} if action == "restart" else {}))

    monkeypatch.setattr(Execution, "run", broken)
    spec = RunSpec(image=BUSYBOX, entrypoint="sleep 60", network="none")
    result = start_runner().run(spec, to=to, observer=Ending(Phase.RUNNING))
    assert result.reason is Reason.INTERRUPTED, result
