"""Runs that a script has started, and controls while they are at work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, Limits, Phase, Reason
from light_run.errors import InvalidSpec, RunNotActive, RunNotStarted, StillRunning
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX, containers_of
from tests.support.poll import eventually

TRAP = "trap 'echo stopping; echo 1 > kept; exit 5' USR1; echo up; while :; do sleep 0.1; done"


def spec(entrypoint: str, **fields: object) -> RunSpec:
    """A run of busybox without a network."""
    return RunSpec(image=BUSYBOX, entrypoint=entrypoint, network="none", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("own_log", [False, True])
def test_lines_come_while_it_runs_and_a_signal_ends_it(
    runner: Runner, artifacts: Path, tmp_path: Path, own_log: bool
) -> None:
    to = Destinations(log=tmp_path / "log" if own_log else None, artifacts=artifacts)
    handle = runner.start(spec(TRAP, extract=("kept",)), run_id="mine", to=to)
    assert handle.id == "mine"
    lines = iter(handle)
    assert next(lines).text == "up"
    assert (handle.ended, handle.phase) == (False, Phase.RUNNING)
    with pytest.raises(StillRunning):
        handle.wait(0.01)
    with pytest.raises(InvalidSpec, match="NOPE"):
        handle.stop(signal="NOPE")
    with pytest.raises(InvalidSpec, match="grace"):
        handle.stop(grace=-1)
    assert handle.stop(signal="usr1", grace=30)
    assert [line.text for line in lines] == ["stopping"]
    result = handle.wait()
    assert (result.reason, result.exit_code) == (Reason.STOPPED, 5)
    assert (artifacts / "kept").read_text() == "1\n"
    assert result.logs == (() if own_log else ("up", "stopping"))
    assert [line.text for line in handle] == ["up", "stopping"]
    assert (handle.ended, handle.phase, handle.cancel(), handle.stop()) == (True, None, False, False)
    with pytest.raises(RunNotActive):
        handle.pause()


def test_a_pause_stops_the_clock(start_runner: StartRunner) -> None:
    runner = start_runner()
    handle = runner.start(spec("echo up; sleep 1; printf end", timeout=2.5))
    assert next(iter(handle)).text == "up"
    handle.pause()
    handle.pause()
    assert handle.phase is Phase.PAUSED
    time.sleep(3)
    assert not handle.ended
    handle.resume()
    result = handle.wait(60)
    assert (result.reason, result.logs) == (Reason.EXIT, ("up", "end"))
    assert [line.text for line in handle] == ["up", "end"]


def test_what_has_not_started_cannot_be_paused_and_can_be_cancelled(start_runner: StartRunner) -> None:
    runner = start_runner()
    handle = runner.start(spec("true", steps=("sleep 60",)))
    eventually(lambda: handle.phase is Phase.BUILDING, "it builds")
    with pytest.raises(RunNotStarted):
        handle.pause()
    assert handle.cancel()
    assert handle.wait(30).reason is Reason.CANCELLED


def test_a_runner_that_is_closed_takes_its_runs_along(start_runner: StartRunner) -> None:
    runner = start_runner()
    handle = runner.start(spec("echo up; sleep 600"))
    assert next(iter(handle)).text == "up"
    runner.close()
    assert handle.wait(0).reason is Reason.CANCELLED
    assert not containers_of(runner.config.server_id)


def test_a_spec_that_cannot_be_run_is_said_at_once(start_runner: StartRunner) -> None:
    with pytest.raises(InvalidSpec):
        start_runner().start(spec("true", extract=("a",)))


def test_sizes_as_people_write_them() -> None:
    found = Limits.of(memory="64m", cpus="0.5", pids=20, shm="1k", gpus="all")
    assert found == Limits(memory=64 << 20, cpus=0.5, pids=20, shm=1024, gpus="all")
    for wrong in ({"memory": "lots"}, {"pids": "2.5"}, {"memroy": "1m"}):
        with pytest.raises(InvalidSpec):
            Limits.of(**wrong)
