"""`RunHandle`: a run that was started from a script, to be watched, controlled and waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from signal import Signals

from light_run.engine.daemon.client import Engine
from light_run.engine.output.lines import START, OutputLine, last_lines, read_log, read_on
from light_run.engine.spec import Observer, Phase, Progress, Reason, RunResult
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import Stop, StopRequest
from light_run.errors import EngineRefused, Fault, InvalidSpec, RunNotActive, RunNotStarted, StillRunning

# Executes the run to its end and returns what became of it; the observer is told meanwhile.
Execute = Callable[[Observer], RunResult]


class RunHandle:
    """A run that was started by `Runner.start`. All methods may be called from any thread.

    Iterating over it yields its `OutputLine`\\ s as they come, from the first one on, until the run has ended.
    """

    def __init__(
        self,
        run_id: str,
        execute: Execute,
        *,
        engine: Engine,
        stop: StopRequest,
        feed: StdinFeed,
        log: Path,
        keep_lines: bool,
        observer: Observer,
        resources: ExitStack,
    ) -> None:
        self._id = run_id
        self._execute = execute
        self._engine = engine
        self._stop = stop
        self._feed = feed
        self._log = log
        self._keep_lines = keep_lines
        self._resources = resources
        self._progress = _Progress(observer)
        self._pausing = threading.Lock()
        self._result: RunResult | None = None
        self._error: BaseException | None = None
        self._lines: tuple[OutputLine, ...] = ()
        self._thread = threading.Thread(target=self._work, name=f"run-{run_id}"[:60], daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """The id of the run, which its container is labelled with."""
        return self._id

    @property
    def phase(self) -> Phase | None:
        """What the run is doing; None before it does anything, and once it has ended."""
        if self.ended:
            return None
        return Phase.PAUSED if self._stop.paused else self._progress.current

    @property
    def ended(self) -> bool:
        """True once the run has ended and is cleaned up."""
        return self._progress.over

    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait until the run has ended, and return what became of it.

        Raises `StillRunning` after `timeout` seconds, and OSError if its files or its log could not be written.
        """
        self.join(timeout)
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise StillRunning(f"the run {self._id} did not end within {timeout or 0:g} s")
        return self._result

    def join(self, timeout: float | None = None) -> None:
        """Wait until the run has ended, or `timeout` seconds, whatever became of it."""
        self._thread.join(timeout)

    def cancel(self) -> bool:
        """Kill the run, whatever it is doing; nothing is extracted. Returns False if it has ended already."""
        return self._stop.request()

    def stop(self, *, signal: str = "SIGTERM", grace: float = 10.0) -> bool:
        """Send the run `signal`, and SIGKILL after `grace` seconds; `extract` is done. Returns at once.

        Returns False if it has ended already. Raises `InvalidSpec` for an unknown signal, or a negative grace.
        """
        name = signal.upper() if signal.upper().startswith("SIG") else f"SIG{signal.upper()}"
        if name not in Signals.__members__:
            right = f"signal is {signal!r}; it must be the name of a signal, such as SIGTERM or INT"
            raise InvalidSpec([Fault(("signal",), "invalid_value", right)])
        if not grace >= 0:
            raise InvalidSpec(
                [Fault(("grace",), "out_of_range", f"grace is {grace}; it must be 0 seconds or more")]
            )
        return self._stop.request(Stop(Reason.STOPPED, signal=name, grace=grace))

    def write_stdin(self, data: bytes) -> None:
        """Append `data` to the standard input of an interactive run; returns once the engine has it.

        Raises `StdinClosed` if the run is not interactive, has ended, or takes no more input.
        """
        self._feed.write(data)

    def close_stdin(self) -> None:
        """End the standard input of an interactive run. Raises as `write_stdin` does."""
        self._feed.close()

    def pause(self) -> None:
        """Freeze the run; its timeout does not count until `resume`. One that is paused is fine.

        Raises `RunNotStarted`, `RunNotActive`, EngineError.
        """
        with self._pausing:
            self._call(self._engine.pause)
            self._stop.pause()

    def resume(self) -> None:
        """Let a paused run go on; one that is not paused is fine. Raises as `pause` does."""
        with self._pausing:
            self._call(self._engine.resume)
            self._stop.resume()

    def __iter__(self) -> Iterator[OutputLine]:
        at, ended = START, False
        while not ended:
            # Before the look: what is written afterwards is found by the next one.
            seen, ended = self._progress.seen(), self.ended
            while True:
                lines, at = read_on(self._log, at)
                if not lines:
                    break
                yield from lines
            if not ended:
                self._progress.wait(seen)
        # A log of the handle's own is gone by now; the last line of another may lack its newline.
        yield from self._lines[at.seq :] if self._keep_lines else last_lines(at)[0]

    def _call(self, act: Callable[[str], None]) -> None:
        if self.ended or self._stop.closed or self._progress.current is Phase.EXTRACTING:
            raise RunNotActive("the run has ended already")
        if self._progress.container is None or self._progress.current is not Phase.RUNNING:
            raise RunNotStarted("the run has not started yet")
        try:
            act(self._progress.container)
        except EngineRefused as error:
            raise RunNotActive("the run has ended already") from error

    def _work(self) -> None:
        # What was opened for the run is closed in any case.
        with self._resources:
            try:
                result = self._execute(self._progress)
                if self._keep_lines:
                    self._lines = tuple(read_log(self._log))
                    result = replace(result, logs=tuple(line.text for line in self._lines))
                self._result = result
            except BaseException as error:  # noqa: BLE001 - it is raised again by `wait`
                self._error = error
            finally:
                self._stop.close()
                self._feed.abandon()
        self._progress.end()


class _Progress:
    # An observer that passes everything on, and wakes threads that wait for more of the log.
    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._changed = threading.Condition()
        self._count = 0
        self.current: Phase | None = None
        self.container: str | None = None
        self.over = False

    def seen(self) -> int:
        return self._count

    def wait(self, seen: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count != seen)

    def end(self) -> None:
        self.over = True
        self._notify_observer()

    def _notify_observer(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def phase(self, phase: Phase) -> None:
        self.current = phase
        self._observer.phase(phase)

    def progress(self, progress: Progress) -> None:
        self._observer.progress(progress)

    def assigned(self, container_id: str, *, parked: bool) -> None:
        self.container = container_id
        self._observer.assigned(container_id, parked=parked)

    def launched(self, started_at: datetime) -> None:
        self._observer.launched(started_at)

    def waiting(self) -> AbstractContextManager[None]:
        return self._observer.waiting()

    def wrote(self) -> None:
        self._notify_observer()
        self._observer.wrote()

    def ended(self, result: RunResult) -> None:
        self._observer.ended(result)
