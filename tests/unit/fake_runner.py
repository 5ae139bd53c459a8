"""A runner without an engine: runs end when a test says so."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from light_run.engine.cancel import CancelToken
from light_run.engine.spec import (
    Destinations,
    File,
    Files,
    Observer,
    Phase,
    Reason,
    RunResult,
    RunSpec,
    Timings,
)

OK = RunResult(reason=Reason.EXIT, exit_code=0, timings=Timings(image=1, start=2, run=3, extract=4))
KILLED = RunResult(reason=Reason.CANCELLED, error="the run was cancelled")


@dataclass
class FakeHealth:
    """The engine's state, as a test wants it."""

    docker: bool = True


@dataclass
class Script:
    """How one run goes: it ends with `result` once `go` is set, and is cleaned up once `clean` is."""

    result: RunResult = OK
    go: threading.Event = field(default_factory=threading.Event)
    clean: threading.Event = field(default_factory=threading.Event)
    heeds_cancel: bool = True
    error: Exception | None = None


class FakeRunner:
    """Runs end at once; `hold` makes the next ones wait for their script's `go`."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.default = Script()
        self.default.go.set()
        self.default.clean.set()
        self.staged: dict[str, dict[str, File | bytes | str]] = {}
        self.stage_error: OSError | None = None
        self.began: list[str] = []
        self.over: list[str] = []
        self.started = self.closed = 0
        self.health_now = FakeHealth()

    def hold(self, *, clean_up: bool = False) -> None:
        """Runs from here on wait until `end` names them, and in their clean-up as well where `clean_up`."""
        self.default = Script()
        if not clean_up:
            self.default.clean.set()

    def script(self, run_id: str) -> Script:
        """How `run_id` goes."""
        default = self.default
        clone = Script(default.result, heeds_cancel=default.heeds_cancel, error=default.error)
        script = self.scripts.setdefault(run_id, clone)
        if script is clone:
            for mine, theirs in ((script.go, default.go), (script.clean, default.clean)):
                if theirs.is_set():
                    mine.set()
        return script

    def end(self, run_id: str, result: RunResult | None = None) -> None:
        """Let `run_id` end."""
        script = self.script(run_id)
        script.result = result or script.result
        script.go.set()

    def stage(self, run_id: str, files: Files) -> None:
        """See `Runner`."""
        if self.stage_error is not None:
            raise self.stage_error
        assert not isinstance(files, Path)
        self.staged[run_id] = dict(files)

    def discard(self, run_id: str) -> None:
        """See `Runner`."""
        self.staged.pop(run_id, None)

    def run(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        cancel: CancelToken | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """See `Runner`."""
        assert run_id is not None
        assert cancel is not None
        assert to is not None
        assert observer is not None
        assert not spec.files, "a staged run's spec must not hold its files"
        script = self.script(run_id)
        self.began.append(run_id)
        if script.error is not None:
            raise script.error
        observer.phase(Phase.PULLING)
        observer.progress("1 of 2 layers")
        observer.phase(Phase.STARTING)
        observer.assigned(f"container-{run_id}", parked=False)
        observer.launched(datetime.now(timezone.utc))
        observer.phase(Phase.RUNNING)
        with cancel.calling(script.go.set if script.heeds_cancel else lambda: None):
            script.go.wait(30)
        result = KILLED if script.heeds_cancel and cancel.cancelled else script.result
        observer.ended(result)
        script.clean.wait(30)
        self.staged.pop(run_id, None)
        self.over.append(run_id)
        return result

    def health(self) -> FakeHealth:
        """See `Runner`."""
        return self.health_now

    def start(self) -> None:
        """See `Runner`."""
        self.started += 1

    def close(self) -> None:
        """See `Runner`."""
        self.closed += 1
