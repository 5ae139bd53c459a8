"""One run from image to clean-up."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from light_run.engine.daemon.execution import (
    BY_SIGNAL,
    Execution,
    Exit,
    Streams,
    engine_time,
    inspect_container,
    may_lack_output,
    unattended_exit,
    with_cause,
)
from light_run.engine.daemon.signals import signal_of
from light_run.engine.files.collect import Collector
from light_run.engine.files.extract import ArtifactFolder
from light_run.engine.files.workspace import Workspace
from light_run.engine.output.frames import Demultiplexer
from light_run.engine.output.spool import LogWriter
from light_run.engine.run.context import RunnerContext
from light_run.engine.run.failures import hide_paths, os_error_message
from light_run.engine.run.launch import Launch, RunResources, prepare_image
from light_run.engine.run.stopwatch import Stopwatch
from light_run.engine.sandbox.disk import WatchedDisk
from light_run.engine.spec import Observer, Phase, Reason, RunResult, RunSpec, RunUsage
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import Detached, StopRequest
from light_run.engine.upkeep.leftovers import Leftover
from light_run.errors import (
    BuildFailed,
    Cancelled,
    ContainerGone,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    ImageNotFound,
    PullFailed,
    StartFailed,
)
from light_run.system.disk_usage import disk_usage

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds until an engine that was lost is asked again; doubled each time, up to the second figure.
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_LACKS_OUTPUT = (
    "output may be missing: the command ended while the container engine was away, "
    "and what it wrote meanwhile was not kept"
)

_REASONS: dict[type[EngineError], Reason] = {
    ImageNotFound: Reason.IMAGE_NOT_FOUND,
    PullFailed: Reason.PULL_FAILED,
    BuildFailed: Reason.BUILD_FAILED,
    StartFailed: Reason.START_FAILED,
    EngineRefused: Reason.START_FAILED,
    ContainerGone: Reason.INTERRUPTED,
    EngineUnavailable: Reason.ENGINE_UNAVAILABLE,
}


class Supervisor:
    """One run of `spec`, whose files lie in `workspace`; one of `run` and `adopt` is called, once."""

    def __init__(
        self,
        context: RunnerContext,
        spec: RunSpec,
        run_id: str,
        *,
        workspace: Workspace,
        stop: StopRequest,
        log: Path,
        artifacts: Path | None,
        observer: Observer,
        feed: StdinFeed | None = None,
    ) -> None:
        self._context = context
        self._engine = context.engine
        self._spec = spec
        self._run_id = run_id
        self._own = RunResources(workspace)
        self._stop = stop
        self._log = log
        self._artifacts = artifacts
        self._observer = observer
        self._feed = feed if spec.interactive else None
        if feed is not None and not spec.interactive:
            feed.abandon()
        self._watch = Stopwatch()
        self._started_at: datetime | None = None
        self._begun: float | None = None
        self._ended: float | None = None
        self._truncated = False
        self._engine_lost = False
        self._disk_was_low = False
        self._lacks_output = False
        self._oom_kills = 0
        self._disk_bytes: int | None = None

    def run(self) -> RunResult:
        """Live the run; the observer has its result before the container is removed, the caller after."""
        return self._finish(self._launch_and_follow)

    def adopt(self, container: str, deadline: datetime) -> RunResult:
        """Take up a run whose command an earlier server launched in `container`; `deadline` is as it was (UTC)."""
        return self._finish(lambda: self._continue(container, deadline))

    def _finish(self, live: Callable[[], RunResult]) -> RunResult:
        detached = False
        try:
            result = self._guarded(live)
            self._observer.ended(result)
            return result
        except Detached:
            # Container, workspace and log stay for `adopt`.
            detached = True
            return self._result(Reason.INTERRUPTED, error="the server was stopped")
        finally:
            if self._own.streams is not None:
                self._own.streams.close()
            if self._feed is not None:
                self._feed.abandon()
            if not detached:
                self._clean_up()

    def _guarded(self, live: Callable[[], RunResult]) -> RunResult:
        try:
            result = live()
        except Cancelled:
            return self._discarded()
        except EngineError as error:
            reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
            self._engine_lost = isinstance(error, EngineUnavailable)
            result = self._result(reason, error=self._without_paths(str(error)))
        except OSError as error:
            _log.warning("a run failed", extra={"run": self._run_id, "error": str(error)})
            result = self._result(Reason.START_FAILED, error=os_error_message(error, self._watch.last))
        # A cancel takes precedence over whatever came after it.
        return self._discarded() if self._is_discarded() else result

    def _without_paths(self, text: str) -> str:
        # The operator finds them in the log.
        shown = hide_paths(text, (self._engine.root, str(self._own.staged.folder.parent.parent)))
        if shown != text:
            _log.warning("the engine's words have paths", extra={"run": self._run_id, "error": text})
        return shown

    def _launch_and_follow(self) -> RunResult:
        self._context.require_limits()
        with self._watch.step("image"):
            image = prepare_image(self._context, self._spec, self._stop, self._observer)
        self._observer.phase(Phase.STARTING)
        log = LogWriter(self._log, self._context.config.log_cap, self._observer.wrote)
        with contextlib.closing(log), self._context.pool.yielding() as launched:
            with self._watch.step("start"):
                launch = Launch(
                    self._context,
                    self._spec,
                    self._run_id,
                    resources=self._own,
                    stop=self._stop,
                    observer=self._observer,
                )
                stdin = launch.start(image)
            launched()
            self._begun = time.monotonic()
            self._started_at = datetime.now(timezone.utc)
            return self._follow(log, stdin, self._begun + self._spec.timeout)

    def _continue(self, container: str, deadline: datetime) -> RunResult:
        self._own.container = container
        if self._feed is not None:
            # It ended with the connection of the earlier server.
            self._feed.abandon()
        found = self._retry_while_away(lambda: inspect_container(self._engine, container))
        self._own.restore_from(found)
        self._lacks_output = self._retry_while_away(lambda: may_lack_output(self._engine, container, found))
        if self._stop.paused and not found["State"].get("Paused"):
            self._stop.resume()
        now = datetime.now(timezone.utc)
        self._started_at = engine_time(str(found["State"]["StartedAt"]))
        # A clock that was put back meanwhile makes no time negative, and gives a run no more than its own.
        self._begun = time.monotonic() - max(0.0, (now - self._started_at).total_seconds())
        # Before it is connected to, which takes a while.
        until = time.monotonic() + min(self._spec.timeout, (deadline - now).total_seconds())
        with contextlib.closing(self._resumed_log()) as log:
            self._own.streams = self._retry_while_away(lambda: Streams.replayed(self._engine, container))
            result = self._follow(log, None, until)
        self._read_last_lines(container)
        self._note_state(container)
        truncated = self._truncated or self._lacks_output
        return replace(result, logs_truncated=truncated, usage=self._usage())

    def _note_state(self, container: str) -> None:
        # What went on before we listened.
        with contextlib.suppress(EngineError):
            if not self._oom_kills and inspect_container(self._engine, container)["State"].get("OOMKilled"):
                self._oom_kills = 1

    def _read_last_lines(self, container: str) -> None:
        # A log that is followed may lose a last line without a newline.
        if self._truncated:
            return
        with contextlib.closing(self._resumed_log()) as log:
            with contextlib.suppress(EngineRefused), self._engine.whole_log(container) as chunks:
                demultiplexer = Demultiplexer()
                for chunk in chunks:
                    for stream, payload in demultiplexer.feed(chunk):
                        log.write(stream, payload)
                    if log.truncated:
                        break
            self._truncated |= log.truncated

    def _follow(self, log: LogWriter, stdin: bytes | None, deadline: float) -> RunResult:
        container, _ = self._own.started
        self._observer.phase(Phase.PAUSED if self._stop.paused else Phase.RUNNING)
        with self._watch.step("run"):
            try:
                ended = self._execute(log, stdin, deadline)
            except EngineUnavailable:
                ended = self._retry_while_away(lambda: self._reconnect(container, deadline), away=True)
            self._ended = time.monotonic()
        if self._is_discarded() and ended.killed is not None:
            return self._discarded()
        result = self._retry_while_away(lambda: self._describe(container, ended))
        with self._watch.step("extract"):
            result = self._retry_while_away(lambda: self._extract(container, result))
        return replace(result, timings=self._watch.timings(), usage=self._usage())

    def _execute(self, log: LogWriter, stdin: bytes | None, deadline: float) -> Exit:
        container, streams = self._own.started
        execution = Execution(
            self._engine,
            container,
            streams,
            log=log,
            deadline=deadline,
            stop=self._stop,
            # The engine ended the input of a command that this connection did not start.
            feed=None if stdin is None else self._feed,
        )
        try:
            with self._context.disk.watching(container, self._own.mounted, self._stop) as watched:
                ended = execution.run(stdin, self._delivered)
            self._note_disk(watched)
            return with_cause(self._engine, container, ended, streams.exit)
        except ContainerGone:
            # Killed through the engine: by a server before this one, it may be.
            reason = self._why_killed(container, deadline)
            if reason is None:
                raise
            return replace(ended, killed=reason)
        finally:
            self._truncated |= log.truncated
            self._note_memory()

    def _note_memory(self) -> None:
        if self._own.streams is not None:
            self._oom_kills = max(self._oom_kills, self._own.streams.exit.memory.kills)

    def _usage(self) -> RunUsage:
        # Of a kill in the last moment the engine may tell after the exit.
        self._note_memory()
        accounting = None if self._own.streams is None else self._own.streams.exit.accounting
        cpu = None if accounting is None else accounting.cpu_ms
        return RunUsage(
            cpu_ms=None if cpu is None else round(max(0.0, cpu)),
            memory_peak_bytes=None if accounting is None else accounting.memory_peak_bytes,
            oom_kills=self._oom_kills or None,
            disk_bytes=self._disk_bytes,
        )

    def _note_disk(self, watched: WatchedDisk) -> None:
        # What the workspace takes now, and what all of it took when it was looked at, if it was.
        self._disk_was_low = watched.for_space
        used = [] if watched.used is None else [watched.used]
        if self._own.mounted is not None:
            with contextlib.suppress(OSError):
                found = disk_usage(str(self._own.mounted.files))
                used += [] if found.closed else [found.bytes]
        known = [int(each) for each in used if math.isfinite(each)]
        if known:
            self._disk_bytes = max(known)

    def _reconnect(self, container: str, deadline: float) -> Exit:
        # The engine went away under a command that may go on without it.
        found = inspect_container(self._engine, container)
        if found["State"].get("Running"):
            with contextlib.closing(self._resumed_log()) as log:
                self._own.reconnect(Streams.replayed(self._engine, container))
                return self._execute(log, None, deadline)
        reason = self._why_killed(container, deadline)
        ended = Exit(int(found["State"]["ExitCode"]), reason)
        self._lacks_output = may_lack_output(self._engine, container, found)
        if reason is None and not self._engine.info().get("LiveRestoreEnabled"):
            ended = unattended_exit(self._engine, container, found)
        self._read_last_lines(container)
        return ended

    def _why_killed(self, container: str, deadline: float) -> Reason | None:
        # What a server had to kill it for; None where it had no reason to.
        state, requested = inspect_container(self._engine, container)["State"], self._stop.requested
        if requested is not None:
            # What ended with a code of its own was not ended by our kill: its exit was told late.
            in_time = requested.reason is Reason.TIMEOUT and int(state["ExitCode"]) not in BY_SIGNAL
            return None if in_time else requested.reason
        since = datetime.now(timezone.utc) - engine_time(str(state["FinishedAt"]))
        if time.monotonic() - since.total_seconds() >= deadline + self._stop.paused_seconds():
            return Reason.TIMEOUT
        return Reason.DISK_LIMIT if self._context.disk.exceeded(container, self._own.mounted) else None

    def _retry_while_away(self, work: Callable[[], T], *, away: bool = False) -> T:
        # Begun again where the engine goes away on the way; one that stops answers now and then until it is gone.
        patience, lost, pause = self._context.config.engine_patience, 0.0, _PAUSE
        while True:
            begun, answered = time.monotonic(), not away
            try:
                if away:
                    # What was lost may be the connection alone, and may not have broken but fallen silent.
                    self._engine.renew()
                    answered = True
                return work()
            except EngineUnavailable:
                now, away = time.monotonic(), True
                if not lost or (answered and now - begun > patience):
                    lost, pause = now, _PAUSE
                elif now - lost > patience:
                    raise
            if self._stop.wait(pause):
                self._stop.check()
                # What was to be killed must be found all the same.
                time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _resumed_log(self) -> LogWriter:
        return LogWriter.resume(self._log, self._context.config.log_cap, self._observer.wrote)

    def _delivered(self) -> None:
        self._observer.launched(self._started_at or datetime.now(timezone.utc))

    # -- what became of it

    def _describe(self, container: str, ended: Exit) -> RunResult:
        reason, error, code = ended.killed or Reason.EXIT, None, None
        if reason is Reason.TIMEOUT:
            error = f"killed after its timeout of {self._spec.timeout:g} s"
        elif reason is Reason.STOPPED:
            code = None if ended.by_force else ended.code
            error = "the run was stopped" + (", and killed after its grace" if ended.by_force else "")
        elif reason is Reason.DISK_LIMIT and self._disk_was_low:
            least = self._context.config.disk_reserve
            error = f"killed as the disk had less than {least} bytes left, and this run had written the most"
        elif reason is Reason.DISK_LIMIT:
            error = f"killed for filling the disk beyond {self._context.config.workspace_cap} bytes"
        else:
            code = ended.code
            if reason is Reason.OUT_OF_MEMORY or (code and self._ran_out_of_memory(container)):
                reason = Reason.OUT_OF_MEMORY
                self._oom_kills = max(self._oom_kills, 1)
                limit = self._context.limits(self._spec).memory
                error = f"out of memory: a process was killed at the limit of {limit} bytes"
        if self._lacks_output:
            error = _LACKS_OUTPUT if error is None else f"{error}; {_LACKS_OUTPUT}"
        return replace(self._result(reason, error=error), exit_code=code, signal=signal_of(ended.code))

    def _ran_out_of_memory(self, container: str) -> bool:
        self._note_memory()
        return bool(self._oom_kills or inspect_container(self._engine, container)["State"].get("OOMKilled"))

    def _extract(self, container: str, result: RunResult) -> RunResult:
        if not self._spec.extract or self._artifacts is None:
            return result
        self._observer.phase(Phase.EXTRACTING)
        config = self._context.config
        folder = ArtifactFolder(self._artifacts, config.extract_cap, config.extract_entries)
        collector = Collector(self._engine, container, self._spec, self._own.mounted, folder)
        extracted = tuple(
            each if each.error is None else replace(each, error=self._without_paths(each.error))
            for each in collector.collect(self._stop)
        )
        return replace(result, artifacts=folder.artifacts, extracted=extracted)

    def _is_discarded(self) -> bool:
        return self._stop.requested is not None and self._stop.requested.discards

    def _discarded(self) -> RunResult:
        stop = self._stop.requested
        if stop is not None and stop.reason is Reason.INTERRUPTED:
            return self._result(Reason.INTERRUPTED, error="the server was stopped while the run was at work")
        if stop is not None and stop.reason is Reason.STOPPED:
            return self._result(Reason.STOPPED, error="the run was stopped before its command was started")
        return self._result(Reason.CANCELLED, error="the run was cancelled")

    def _result(self, reason: Reason, error: str | None = None) -> RunResult:
        begun = self._begun
        return RunResult(
            reason=reason,
            error=error,
            started_at=self._started_at,
            duration=0.0 if begun is None else (self._ended or time.monotonic()) - begun,
            timings=self._watch.timings(),
            usage=self._usage(),
            logs_truncated=self._truncated or self._lacks_output,
            parked=self._own.was_parked,
        )

    # -- clean-up

    def _clean_up(self) -> None:
        own = self._own
        left = Leftover(own.container, tuple(own.workspaces), self._spec.image, self._spec.runtime)
        if self._engine_lost:
            self._context.leftovers.postpone(left)
        else:
            self._context.leftovers.remove(left)
