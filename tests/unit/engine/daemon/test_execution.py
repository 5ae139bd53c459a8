"""How a container's command ended, as far as an engine tells."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest

from light_run.engine.daemon import execution as container
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.events import PendingExit
from light_run.engine.daemon.execution import Execution, Exit, Streams, engine_time, with_cause
from light_run.engine.output.tail import Tail
from light_run.engine.spec import Reason
from light_run.engine.stop import StopRequest
from light_run.errors import ContainerGone
from tests.support.played_engine import HANG_UP, Answer, PlayedEngine, answer, versioned

NOW = datetime(2026, 11, 23, 5, 6, 10, 250_000, timezone.utc)


def ended(action: str, *, at: datetime) -> Answer:
    """An engine that took 3 s to clear up behind an exit, and tells `action` of it only then, at `at`."""

    def answers(line: str) -> bytes:
        if line.endswith("/json"):
            times = {"StartedAt": NOW - timedelta(seconds=4), "FinishedAt": NOW - timedelta(seconds=3)}
            state = {name: moment.isoformat().replace("+00:00", "Z") for name, moment in times.items()}
            created = (NOW - timedelta(seconds=5)).isoformat()
            return answer({"Id": "x", "Created": created, "State": {**state, "OOMKilled": False}})
        if line.endswith("/info"):
            # An engine in another time zone.
            return answer(
                {"SystemTime": NOW.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()}
            )
        if "/events" in line:
            since, until = (float(re.search(rf"{name}=([\d.]+)", line)[1]) for name in ("since", "until"))  # type: ignore[index]
            told = since <= at.timestamp() <= until
            return answer({"Action": action} if told else b"")
        return answer(b"OK")

    return versioned(answers)


@pytest.fixture
def unseen() -> Iterator[PendingExit]:
    """An exit that the event stream has not reported."""
    with closing(PendingExit("x", lambda: 0, lambda _: None)) as unseen:
        yield unseen


@pytest.mark.parametrize("code", [137, 143])
def test_what_an_engine_tells_long_after_the_exit(
    play: Callable[[Answer], PlayedEngine], unseen: PendingExit, code: int
) -> None:
    play(ended("oom", at=NOW + timedelta(milliseconds=500)))
    with closing(Engine(timeout=10)) as engine:
        assert with_cause(engine, "x", Exit(code, None), unseen) == Exit(code, Reason.OUT_OF_MEMORY)


def test_a_kill_through_the_engine_is_no_end_of_the_command_s_own(
    play: Callable[[Answer], PlayedEngine], unseen: PendingExit
) -> None:
    play(ended("kill", at=NOW - timedelta(seconds=3.5)))
    with closing(Engine(timeout=10)) as engine, pytest.raises(ContainerGone):
        with_cause(engine, "x", Exit(137, None), unseen)


def test_an_end_of_its_own(play: Callable[[Answer], PlayedEngine], unseen: PendingExit) -> None:
    # From before the container was created.
    play(ended("oom", at=NOW - timedelta(seconds=6)))
    with closing(Engine(timeout=10)) as engine:
        assert with_cause(engine, "x", Exit(137, None), unseen) == Exit(137, None)


@pytest.mark.parametrize("ended", [Exit(0, None), Exit(1, None), Exit(137, Reason.TIMEOUT)])
def test_what_needs_no_telling(
    play: Callable[[Answer], PlayedEngine], unseen: PendingExit, ended: Exit
) -> None:
    played = play(lambda _: None)
    with closing(Engine(timeout=10)) as engine:
        assert with_cause(engine, "x", ended, unseen) is ended
    assert played.requests == []


# --- an exit that the event stream has reported -----------------------------------------------------------


def seen(*, signalled: bool = False, final: bool = False, complete: bool = True) -> PendingExit:
    """An exit that the event stream has reported, perhaps behind a signal; `final` is the kernel's count."""
    reported = PendingExit("x", lambda: 0, lambda _: None, complete=complete)
    reported.told, reported.signalled, reported.memory.final = True, signalled, final
    return reported


@pytest.mark.parametrize(("code", "final"), [(137, True), (143, True), (143, False)])
def test_what_the_event_stream_and_the_kernel_have_told_is_not_asked_for(
    play: Callable[[Answer], PlayedEngine], code: int, final: bool
) -> None:
    played = play(ended("oom", at=NOW))
    with closing(Engine(timeout=10)) as engine, closing(seen(final=final)) as reported:
        assert with_cause(engine, "x", Exit(code, None), reported) == Exit(code, None)
    assert not [line for line in played.requests if "/events" in line or line.endswith("/json")]


def test_a_signal_that_was_reported_before_the_exit(play: Callable[[Answer], PlayedEngine]) -> None:
    play(ended("oom", at=NOW))
    with (
        closing(Engine(timeout=10)) as engine,
        closing(seen(signalled=True)) as reported,
        pytest.raises(ContainerGone),
    ):
        with_cause(engine, "x", Exit(143, None), reported)


def test_a_kill_at_the_memory_limit_may_be_reported_behind_the_exit(
    play: Callable[[Answer], PlayedEngine],
) -> None:
    play(ended("nothing", at=NOW))
    with closing(Engine(timeout=10)) as engine, closing(seen()) as reported:
        late = threading.Timer(0.1, reported.memory.reported)
        late.start()
        try:
            assert with_cause(engine, "x", Exit(137, None), reported) == Exit(137, Reason.OUT_OF_MEMORY)
        finally:
            late.join()


def test_the_stream_that_came_too_late_for_a_signal_is_not_believed(
    play: Callable[[Answer], PlayedEngine],
) -> None:
    play(ended("kill", at=NOW - timedelta(seconds=3.5)))
    told_late = seen(complete=False, final=True)
    with closing(Engine(timeout=10)) as engine, closing(told_late) as reported, pytest.raises(ContainerGone):
        with_cause(engine, "x", Exit(137, None), reported)


# --- a command that is to be killed -----------------------------------------------------------------------


def exit_event(container: str, code: int) -> bytes:
    """An event stream that ends behind one exit."""
    event = {"Action": "die", "Actor": {"ID": container, "Attributes": {"exitCode": str(code)}}}
    return answer(json.dumps(event).encode() + b"\n")


def executed(play: Callable[[Answer], PlayedEngine], code: int, kill_takes: float, deadline: float) -> Exit:
    """Execute a command that ends with `code` once a kill, which takes so many seconds, has been answered."""
    killed = threading.Event()

    def exit_code() -> Iterator[bytes]:
        # The head comes at once, as it does of an engine.
        said = exit_event("x", code)
        body = said.index(b"{")
        yield said[:body]
        killed.wait(10)
        yield said[body:]

    def answers(line: str) -> bytes | Iterator[bytes]:
        if "/attach" in line:
            return b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + HANG_UP
        if "/events" in line:
            return exit_code()
        time.sleep(kill_takes)
        killed.set()
        return answer(b"", "204 No Content")

    play(versioned(answers))
    with closing(Engine(timeout=10)) as engine, closing(Streams.before_start(engine, "x")) as streams:
        execution = Execution(
            engine, "x", streams, log=Tail(100), deadline=time.monotonic() + deadline, stop=StopRequest()
        )
        return execution.run(None)


def test_a_kill_that_takes_its_time_is_a_kill(
    play: Callable[[Answer], PlayedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_KILL_PATIENCE", 0.2)
    assert executed(play, 137, kill_takes=0.5, deadline=0.0) == Exit(137, Reason.TIMEOUT, by_force=True)


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_had_ended_by_itself_was_not_killed(
    play: Callable[[Answer], PlayedEngine], code: int
) -> None:
    assert executed(play, code, kill_takes=0.0, deadline=0.0) == Exit(code, None)


# --- times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T05:06:10.608316625Z", datetime(2026, 11, 23, 5, 6, 10, 608_316, timezone.utc)),
        ("2026-11-23T05:06:10.6Z", datetime(2026, 11, 23, 5, 6, 10, 600_000, timezone.utc)),
        ("2026-11-23T05:06:10Z", datetime(2026, 11, 23, 5, 6, 10, 0, timezone.utc)),
        ("2026-11-23T07:06:10.25+02:00", datetime(2026, 11, 23, 5, 6, 10, 250_000, timezone.utc)),
        ("2026-11-23T00:06:10.25-05:00", datetime(2026, 11, 23, 5, 6, 10, 250_000, timezone.utc)),
        # That of a container that never started.
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=timezone.utc)),
    ],
)
def test_times_of_an_engine(text: str, moment: datetime) -> None:
    assert engine_time(text) == moment


@pytest.mark.parametrize("text", ["", "now", "2026-11-23", "2026-11-23T05:06:10", "2026-11-23T05:06:10.Z"])
def test_what_is_no_time_of_an_engine(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        engine_time(text)
