"""Exits by the engine's event stream: none is lost, none is mixed up, nothing is left open."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from queue import Queue

import pytest

from light_run.engine.daemon import events
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.events import PendingExit
from light_run.errors import EngineRefused, EngineUnavailable
from tests.support.played_engine import Answer, PlayedEngine, answer, versioned
from tests.support.poll import eventually

Play = Callable[[Answer], PlayedEngine]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON = 10.0


def die(container: str, code: object = 0, action: str = "die", name: str = "exitCode") -> bytes:
    """One line of the event stream, as Docker writes it."""
    event = {"Type": "container", "Action": action, "Actor": {"ID": container, "Attributes": {name: code}}}
    return json.dumps(event).encode() + b"\n"


class EventStream:
    """The event stream of a played engine, which tells what it is given; None breaks it off."""

    def __init__(self) -> None:
        self.connections = 0
        self.exited: list[str] = []
        self.state: dict[str, object] = {"Running": False, "ExitCode": 7}
        self.refuses = False
        self.audits = 0
        self.audits_fail = False
        # One for each connection: one that the client has closed takes nothing away from the next.
        self._pieces: list[Queue[bytes | None]] = [Queue()]

    def send(self, *pieces: bytes | None) -> None:
        """Send these over every connection, each in a chunk of its own."""
        for connection in self._pieces:
            for piece in pieces:
                connection.put(piece)

    def answers(self, line: str) -> bytes | Iterator[bytes]:
        """What the engine answers to a request."""
        if "/events" in line:
            if self.refuses:
                return answer({"message": "no events today"}, "500 Internal Server Error")
            self.connections += 1
            if self.connections > 1:
                self._pieces.append(Queue())
            return self._stream(self._pieces[-1])
        if "/containers/json" in line:
            self.audits += 1
            if self.audits_fail:
                return answer({"message": "busy"}, "500 Internal Server Error")
            return answer([{"Id": container} for container in self.exited])
        return answer({"Id": "x", "State": self.state})

    def _stream(self, pieces: Queue[bytes | None]) -> Iterator[bytes]:
        yield HEAD
        while (piece := pieces.get(timeout=30)) is not None:
            yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        yield b"0\r\n\r\n"


@pytest.fixture
def stream(play: Play) -> Iterator[EventStream]:
    stream = EventStream()
    play(versioned(stream.answers))
    yield stream
    stream.send(None)  # whoever still serves it, ends


@pytest.fixture
def engine(stream: EventStream) -> Iterator[Engine]:
    with closing(Engine(timeout=10)) as engine:
        yield engine


def test_each_learns_of_its_own_exit_by_one_connection(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a")) as first, closing(engine.pending_exit("b")) as second:
        stream.send(die("c", "3"), die("b", "1") + die("a", "137"))
        assert (first.wait(SOON), second.wait(SOON)) == (137, 1)
    assert stream.connections == 1


def test_an_event_that_arrives_in_pieces(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a")) as pending:
        line = die("a", "4")
        stream.send(line[:10], line[10:-1], line[-1:])
        assert pending.wait(SOON) == 4


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(die("a", "5", action="died"), id="Podman's word"),
        pytest.param(die("a", 5, name="containerExitCode"), id="Podman's attribute"),
        pytest.param(b'{"Action": "attach"}\n\n[]\nnull\n' + die("a", "5"), id="other events before"),
    ],
)
def test_other_forms_of_the_event(engine: Engine, stream: EventStream, line: bytes) -> None:
    with closing(engine.pending_exit("a")) as pending:
        stream.send(line)
        assert pending.wait(SOON) == 5


def test_an_engine_that_reports_out_of_memory(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a")) as first, closing(engine.pending_exit("b")) as second:
        out = b'{"Type": "container", "Action": "oom", "Actor": {"ID": "a", "Attributes": {}}}\n'
        stream.send(out + out, die("a", "0"), die("b", "0"))
        assert (first.wait(SOON), second.wait(SOON)) == (0, 0)
        assert (first.memory.kills, second.memory.kills) == (1, 0)


def test_an_event_without_a_code_has_the_engine_asked(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a")) as pending:
        stream.send(die("a", "", name="image"))
        assert pending.wait(SOON) == 7


@pytest.mark.parametrize("end", [None, b"no event\n"])
def test_a_broken_connection_loses_the_wait_and_the_next_connects_anew(
    engine: Engine, stream: EventStream, end: bytes | None
) -> None:
    with closing(engine.pending_exit("a")) as pending:
        stream.send(end)
        with pytest.raises(EngineUnavailable, match="event stream"):
            pending.wait(SOON)
    stream.send(None)  # whoever still serves it, ends
    with closing(engine.pending_exit("a")) as pending:
        stream.send(die("a", "2"))
        assert pending.wait(SOON) == 2
    assert stream.connections == 2


def test_a_container_that_had_exited_before(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a", started=True)) as pending:
        assert pending.wait(SOON) == 7


def test_a_container_that_was_started_before_and_runs(engine: Engine, stream: EventStream) -> None:
    stream.state = {"Running": True}
    with closing(engine.pending_exit("a", started=True)) as pending:
        assert not pending.known
        stream.send(die("a", "9"))
        assert pending.wait(SOON) == 9


def test_an_event_that_was_missed_is_found(
    engine: Engine, stream: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_AUDIT_SECONDS", 0.05)
    stream.exited = ["a", "another"]
    with closing(engine.pending_exit("a")) as pending:
        assert pending.wait(SOON) == 7


def test_a_look_that_fails_loses_nothing(
    engine: Engine, stream: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_AUDIT_SECONDS", 0.05)
    stream.audits_fail = True
    with closing(engine.pending_exit("a")) as pending:
        eventually(lambda: stream.audits > 2, "it has looked, in vain")
        stream.send(die("a", "6"))
        assert pending.wait(SOON) == 6


def test_an_engine_that_has_no_events(engine: Engine, stream: EventStream) -> None:
    stream.refuses = True
    with pytest.raises(EngineRefused, match="no events today"):
        engine.pending_exit("a")


def test_a_wait_that_takes_too_long(engine: Engine, stream: EventStream) -> None:
    with (
        closing(engine.pending_exit("a")) as pending,
        pytest.raises(EngineUnavailable, match=r"within 0\.01 s"),
    ):
        pending.wait(0.01)


def test_many_connect_at_once_and_one_connection_stays(engine: Engine, stream: EventStream) -> None:
    pending: list[PendingExit] = []

    def watch(number: int) -> None:
        pending.append(engine.pending_exit(f"{number}"))

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listening = [thread for thread in threading.enumerate() if thread.name == "engine-events"]
    assert len(listening) == 1
    stream.send(*[None] * stream.connections)
    for each in pending:
        with pytest.raises(EngineUnavailable):
            each.wait(SOON)
        each.close()


def test_a_closed_engine_keeps_nobody_waiting(engine: Engine, stream: EventStream) -> None:
    with closing(engine.pending_exit("a")) as pending:
        engine.close()
        with pytest.raises(EngineUnavailable):
            pending.wait(SOON)


def test_a_closed_wait_is_not_written_to(engine: Engine, stream: EventStream) -> None:
    pending = engine.pending_exit("a")
    pending.close()
    # Whatever has the number now must not become readable.
    with socket.socket() as other:
        pending.resolve(0)
        pending.close()
        assert other.fileno() != -1
    assert not pending.known
