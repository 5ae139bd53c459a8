"""One life of a container's command: its input in, its output out, until it ends or is made to."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.events import PendingExit
from light_run.engine.daemon.signals import send_signal
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.output.frames import Demultiplexer, OutputSink
from light_run.engine.spec import Reason
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import Detached, Stop, StopRequest
from light_run.errors import ContainerGone, EngineRefused, EngineUnavailable

# The engine drains a container's output for at most 2 s after its exit; so long after the last of it, no more comes.
_DRAIN = 5.0
# A killed container is gone in milliseconds; one that is not by then belongs to an engine that hangs.
_KILL_PATIENCE = 60.0
# So long after a kill, and so often from then on, the engine is asked whether the container has exited.
_ASK_AFTER = 3.0
# The exit codes of SIGKILL and SIGTERM, with which an engine stops containers.
_SIGKILLED = 128 + 9
BY_SIGNAL = (_SIGKILLED, 128 + 15)
_ENDED_FROM_OUTSIDE = "the container was stopped by the container engine or by another client of it"
# Where the event stream has not reported the end, what killed a container may be written down so many seconds after it.
_EVENT_DELAY = 2.0
# The runtime reports an exit and a kill at the memory limit independently: of 164 such ends, up to 12 at a time on two
# cores, Docker 20.10 reported the kill behind the exit in 7, 714 ms at most, and in 6 within no second.
_OOM_DELAY = 2.0
# An engine that is there answers within so many seconds, however busy it is.
_PING_PATIENCE = 60.0
# Its times are RFC 3339 with up to nine digits of a second.
_ENGINE_TIME = re.compile(r"(?P<second>.{19})(?:\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d)", re.ASCII)
# Output may keep coming without pause: look at the clock and the cancel between this many reads.
_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Exit:
    """How the command ended.

    `killed` is why it was stopped, None if it ended on its own; `oom_kills` are the kills at the memory limit so far;
    `by_force` is True if it was ended by our SIGKILL.
    """

    code: int
    killed: Reason | None
    oom_kills: int = 0
    by_force: bool = False


class Streams:
    """What a run listens on: the container's stdio and its exit.

    `replay` says that the engine's copy of the output is read, so that nobody waits for it to be read.
    """

    def __init__(self, stdio: EngineStream, ending: PendingExit, *, replay: bool) -> None:
        self.stdio = stdio
        self.exit = ending
        self.replay = replay

    @classmethod
    def before_start(cls, engine: Engine, container: str) -> Streams:
        """Of a container that is to be started: all of its output, and its first exit."""
        return cls._both(engine.attach(container), engine, container, replay=False)

    @classmethod
    def replayed(cls, engine: Engine, container: str) -> Streams:
        """Of a container that was started before: its output from the beginning, and its exit if it has not been."""
        return cls._both(engine.logs(container), engine, container, replay=True)

    @classmethod
    def _both(cls, stdio: EngineStream, engine: Engine, container: str, *, replay: bool) -> Streams:
        try:
            return cls(stdio, engine.pending_exit(container, started=replay), replay=replay)
        except BaseException:
            stdio.close()
            raise

    def close(self) -> None:
        """Close both."""
        self.stdio.close()
        self.exit.close()


class Execution:
    """Pumps one command's input and output in the calling thread; `deadline` is in `time.monotonic()` seconds.

    What comes by `feed` is its input behind what `run` delivers.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        streams: Streams,
        *,
        log: OutputSink,
        deadline: float,
        stop: StopRequest,
        feed: StdinFeed | None = None,
    ) -> None:
        self._engine = engine
        self._container = container
        self._stdio = streams.stdio
        self._exit = streams.exit
        self._replay = streams.replay
        self._log = log
        self._deadline = deadline
        self._stop = stop
        self._feed = feed
        self._demultiplexer = Demultiplexer()
        self._input: memoryview | None = None
        self._input_accepted = True
        self._piece: memoryview | None = None
        self._room_awaited = False
        self._output_ended = False
        self._code: int | None = None
        self._killed: Reason | None = None
        self._forced = False
        self._kill_at: float | None = None
        self._give_up: float | None = None
        self._ask_at: float | None = None

    def run(self, stdin: bytes | None, delivered: Callable[[], None] = lambda: None) -> Exit:
        """Deliver `stdin` and end-of-file, call `delivered`, keep the output, return at the exit.

        None delivers nothing, to a command that had its input before. With a feed, `delivered` is called and
        end-of-file comes when the feed has ended.

        Ends the command at the deadline and as `stop` requests. Raises EngineUnavailable if the engine is lost on the
        way, Detached if the command is to go on without this process.
        """
        self._input = None if stdin is None else memoryview(stdin)
        self._delivered: Callable[[], None] | None = delivered
        with self._stop.descriptor() as requests, self._attached_feed():
            poll = select.poll()
            poll.register(requests, select.POLLIN)
            poll.register(self._exit, select.POLLIN)
            poll.register(self._stdio, select.POLLIN)
            self._exit.memory.open()
            if (memory := self._exit.memory.poll) is not None:
                poll.register(*memory)
            self._exit.accounting.open()
            if (accounting := self._exit.accounting.poll) is not None:
                poll.register(*accounting)
            self._send()
            self._await_room(poll)
            while self._code is None or not self._output_ended:
                self._step(poll, requests)
                if self._give_up is not None and time.monotonic() > self._give_up:
                    break
        if self._code is None:
            raise EngineUnavailable("the container engine did not end a container that was killed")
        # What ended with a code of its own was not ended by our kill: its exit was told late.
        in_time = self._killed is Reason.TIMEOUT and self._code not in BY_SIGNAL
        return Exit(
            self._code,
            None if in_time else self._killed,
            self._exit.memory.kills,
            by_force=self._forced and self._code in BY_SIGNAL,
        )

    def _attached_feed(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._feed is None else self._feed.attached(self._stop.wake)

    def _step(self, poll: select.poll, requests: int) -> None:
        events = dict(poll.poll(self._patience()))
        accounting = self._exit.accounting.poll
        if accounting is not None and accounting[0] in events:
            # First of all: the cgroup goes away at any moment.
            self._exit.accounting.look()
            self._exit.memory.conclude()
            poll.unregister(accounting[0])
        memory = self._exit.memory.poll
        if memory is not None and memory[0] in events and not self._exit.memory.look():
            poll.unregister(memory[0])
        if self._sending() and events.get(self._stdio.stdin_fileno(), 0) & ~select.POLLIN:
            self._send()
        if not self._output_ended and (self._stdio.buffered or self._stdio.fileno() in events):
            self._receive(poll)
        if self._code is None and self._exit.fileno() in events:
            self._code = self._exit.code()
            poll.unregister(self._exit)
            self._give_up = time.monotonic() + _DRAIN
        if requests in events:
            os.eventfd_read(requests)
            self._apply_requests()
            if not self._sending():
                self._take_from_feed()
        self._await_room(poll)
        self._check_limits()

    def _sending(self) -> bool:
        return self._input is not None

    @property
    def _transfer(self) -> bool:
        return self._stdio.stdin_fileno() == self._stdio.fileno()

    def _await_room(self, poll: select.poll) -> None:
        # Whoever polls for room while there is nothing to send is never left to wait.
        if self._sending() is self._room_awaited:
            return
        self._room_awaited = self._sending()
        both = self._transfer and not self._output_ended
        if self._room_awaited:
            poll.register(self._stdio.stdin_fileno(), select.POLLOUT | (select.POLLIN if both else 0))
        elif both:
            poll.modify(self._stdio, select.POLLIN)
        else:
            # Where both go by one connection, it is unregistered when the output ends.
            with contextlib.suppress(KeyError):
                poll.unregister(self._stdio.stdin_fileno())

    def _patience(self) -> float | None:
        # Milliseconds until something must be done though nothing comes.
        if self._stdio.buffered:
            return 0
        deadline = None if self._stop.paused else self._deadline + self._stop.paused_seconds()
        until = next((each for each in (self._give_up, self._kill_at, deadline) if each is not None), None)
        if until is not None and self._ask_at is not None and self._code is None:
            until = min(until, self._ask_at)
        return None if until is None else max(0.0, until - time.monotonic()) * 1000 + 1

    def _apply_requests(self) -> None:
        if self._stop.detached:
            raise Detached
        stop = self._stop.requested
        if stop is None or self._code is not None:
            return
        self._killed = self._killed or stop.reason
        if self._stop.paused:
            # A frozen process handles no signal.
            self._engine.resume(self._container)
            self._stop.resume()
        if stop.grace > 0:
            send_signal(self._engine, self._container, stop.signal)
            self._kill_at = time.monotonic() + stop.grace
        else:
            self._kill()

    def _check_limits(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at and self._code is None:
            self._kill()
        elif self._code is None and self._stop.requested is None and self._is_overdue(now):
            # Heeded by the next step, as every other request.
            self._stop.request(Stop(Reason.TIMEOUT))
        if self._ask_at is not None and now >= self._ask_at and self._code is None:
            self._ask_for_exit()

    def _is_overdue(self, now: float) -> bool:
        return not self._stop.paused and now >= self._deadline + self._stop.paused_seconds()

    def _kill(self) -> None:
        self._kill_at, self._forced = None, True
        self._engine.kill(self._container)
        # From now on: a busy engine may take a minute, and the exit is told by another connection.
        self._give_up = time.monotonic() + _KILL_PATIENCE
        self._ask_at = time.monotonic() + _ASK_AFTER

    def _ask_for_exit(self) -> None:
        # A connection that was cut off on its way does not tell of the exit, nor that it is dead.
        self._ask_at = time.monotonic() + _ASK_AFTER
        try:
            exited = self._engine.has_exited(self._container)
        except EngineUnavailable:
            # It may only be busy; it is given up in time.
            return
        if exited and not self._exit.known:
            raise EngineUnavailable("the connection to the container engine does not tell of exits any more")

    def _send(self) -> None:
        if self._input is None:
            return
        try:
            while self._input and (sent := self._stdio.send(self._input)):
                self._input = self._input[sent:]
        except OSError:
            # A command need not read its input; it may have exited already.
            self._input, self._input_accepted = self._input[:0], False
        if not self._input:
            self._input = None
            self._note_sent()

    def _note_sent(self) -> None:
        if self._delivered is not None:
            if self._feed is None:
                self._stdio.end_of_input()
            # The command has what its request brought; what follows comes from the feed.
            delivered, self._delivered = self._delivered, None
            delivered()
        elif self._feed is not None and self._piece is not None and self._input_accepted:
            self._feed.sent(self._piece)
        self._take_from_feed()

    def _take_from_feed(self) -> None:
        if self._feed is None or self._delivered is not None:
            return
        self._input = self._piece = self._feed.piece() if self._input_accepted else None
        if not self._input_accepted or (self._piece is None and self._feed.ended):
            self._feed.abandon()
            self._feed = None
            self._stdio.end_of_input()

    def _receive(self, poll: select.poll) -> None:
        for _ in range(_READS_AT_ONCE):
            data = self._stdio.read()
            if data is None:
                return
            # The engine takes minutes for a flood of short lines that it has kept.
            if not data or (self._replay and self._log.truncated):
                self._output_ended = True
                poll.unregister(self._stdio)
                return
            for stream, payload in self._demultiplexer.feed(data):
                self._log.write(stream, payload)
            if self._code is not None:
                self._give_up = time.monotonic() + _DRAIN


def inspect_container(engine: Engine, container: str) -> dict[str, Any]:
    """A container's configuration and state. Raises ContainerGone, EngineError."""
    try:
        return engine.inspect(container)
    except EngineRefused as error:
        if error.not_found:
            raise ContainerGone("the container is gone") from error
        raise


def with_cause(engine: Engine, container: str, ended: Exit, reported: PendingExit) -> Exit:
    """`ended`, with what the engine tells of it: out of memory, where its state does not say so yet.

    An engine that stops tells of the exits it causes, as if nothing were amiss. Raises ContainerGone where that,
    and not the command itself, ended it; EngineUnavailable where the engine is gone by now.
    """
    if ended.killed is not None or ended.code not in BY_SIGNAL:
        return ended
    if ended.oom_kills:
        return replace(ended, killed=Reason.OUT_OF_MEMORY)
    if reported.told and reported.signalled:
        raise ContainerGone(_ENDED_FROM_OUTSIDE)
    if reported.told and reported.complete and not engine.features().podman:
        # The engine holds the container's lock from before it sends a signal until it has said so, and to report an
        # exit: what has not been reported before the exit was not sent. At the memory limit, SIGKILL is sent.
        certain = reported.memory.final or ended.code != _SIGKILLED
        ran_out = not certain and _ran_out_of_memory_late(engine, container, reported)
        return replace(ended, killed=Reason.OUT_OF_MEMORY) if ran_out else ended
    found = inspect_container(engine, container)
    if found["State"].get("OOMKilled"):
        return replace(ended, killed=Reason.OUT_OF_MEMORY)
    # From now on, by the engine's clock: a busy one takes a second to clear up before it writes down an end. Since the
    # container was created: one that was restarted from outside has another start by now.
    created, now = _clock(engine, found)
    causes = engine.exit_causes(container, created, now + _EVENT_DELAY)
    # The events may have been cut short by an engine that stops; one that is only busy answers in the end.
    engine.ping(_PING_PATIENCE)
    if "oom" in causes:
        return replace(ended, killed=Reason.OUT_OF_MEMORY)
    if "kill" in causes:
        raise ContainerGone(_ENDED_FROM_OUTSIDE)
    return ended


def _ran_out_of_memory_late(engine: Engine, container: str, reported: PendingExit) -> bool:
    state = inspect_container(engine, container)["State"]
    return bool(state.get("OOMKilled")) or reported.memory.wait_reported(_OOM_DELAY)


def unattended_exit(engine: Engine, container: str, found: Mapping[str, Any]) -> Exit:
    """Return the exit of a container, described by `found`, that ended while the connection was broken.

    Raises ContainerGone if the engine, or another client of it, ended it: an engine that is stopped ends its containers
    and forgets its events, one that was killed ends them with SIGKILL when it starts again.
    """
    code = int(found["State"]["ExitCode"])
    causes = engine.exit_causes(container, *_clock(engine, found))
    same_engine = "start" in causes or code not in BY_SIGNAL
    if "die" not in causes or "kill" in causes or not same_engine:
        raise ContainerGone("the container engine was stopped and stopped the container as well")
    return Exit(code, Reason.OUT_OF_MEMORY if "oom" in causes else None)


def may_lack_output(engine: Engine, container: str, found: Mapping[str, Any]) -> bool:
    """Return True if a container, described by `found`, ended while an engine with ``live-restore`` was away.

    What it wrote meanwhile is in no log then. An engine forgets its events when it stops.
    """
    if found["State"].get("Running") or not engine.info().get("LiveRestoreEnabled"):
        return False
    return "start" not in engine.exit_causes(container, *_clock(engine, found))


def _clock(engine: Engine, found: Mapping[str, Any]) -> tuple[float, float]:
    # When the container was created and what time it is now, by the engine's clock.
    created, now = (
        engine_time(str(text)).timestamp() for text in (found["Created"], engine.info()["SystemTime"])
    )
    return created, now


def engine_time(text: str) -> datetime:
    """A point in time as the engine writes it: RFC 3339 with nanoseconds, which datetime does not read before 3.11.

    Raises ValueError.
    """
    found = _ENGINE_TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"no time as a container engine writes it: {text!r}")
    zone = "+00:00" if found["zone"] == "Z" else found["zone"]
    return datetime.fromisoformat(f"{found['second']}.{(found['fraction'] or '')[:6]:0<6}{zone}")
