"""A runner without an engine: runs end when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from light_run.engine.files.intake import Intake
from light_run.engine.files.workspace import Workspace
from light_run.engine.spec import (
    Destinations,
    File,
    Files,
    Firewall,
    MaintenanceReport,
    NetworkSpec,
    Observer,
    Phase,
    Progress,
    Reason,
    RunResult,
    RunSpec,
    RunTimings,
)
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import StopRequest
from light_run.errors import EngineUnavailable, NetworkExists

OK = RunResult(reason=Reason.EXIT, exit_code=0, timings=RunTimings(image=1, start=2, run=3, extract=4))
ERRORS = {
    Reason.CANCELLED: "the run was cancelled",
    Reason.INTERRUPTED: "the server was stopped while the run was at work",
    Reason.STOPPED: "the run was stopped",
}
GONE = RunResult(reason=Reason.INTERRUPTED, error="the container is gone")


@dataclass
class FakeHealth:
    """The engine's state, as a test wants it."""

    docker: bool = True
    engine: str = "Fake/1.0"
    workspace: str | None = None
    runtimes: tuple[str, ...] = ("runc", "runsc", "kata")
    missing_limits: tuple[str, ...] = ()
    firewall: Firewall | None = Firewall.ACTIVE
    disk_guards: tuple[str, ...] = ("size", "unlinked", "free_space")
    address: str = "unix:///fake.sock"


@dataclass
class FakeFound:
    """A container that the engine has."""

    container: str
    kind: str
    run_id: str


@dataclass
class Engine:
    """What outlives a runner: containers at work (by their id, with their run's), and staged files."""

    containers: dict[str, str] = field(default_factory=dict)
    staged: dict[str, dict[str, File | bytes | str]] = field(default_factory=dict)
    moved: dict[str, dict[str, File | bytes | str]] = field(default_factory=dict)
    uploads: Path = Path("/nowhere")


@dataclass
class Script:
    """How one run goes: it ends with `result` once `go` is set, and is cleaned up once `clean` is."""

    result: RunResult = OK
    go: threading.Event = field(default_factory=threading.Event)
    clean: threading.Event = field(default_factory=threading.Event)
    heeds_cancel: bool = True
    error: Exception | None = None
    # Where it stops on its way: before it is assigned, before it is launched.
    stops_at: str = ""


class FakeNetworks:
    """Networks by name, with who created each."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}

    def create(self, spec: NetworkSpec, *, exclusive: bool = False) -> None:
        """See `UserNetworks`."""
        if exclusive and spec.name in self.owners:
            raise NetworkExists("there is one already")
        self.owners.setdefault(spec.name, spec.owner)

    def exists(self, name: str) -> bool:
        """See `UserNetworks`."""
        return name in self.owners

    def owns(self, name: str, owner: str) -> bool:
        """See `UserNetworks`."""
        return self.owners.get(name) == owner

    def delete(self, name: str, owner: str | None, in_use: Callable[[], Collection[str]] = frozenset) -> None:
        """See `UserNetworks`."""
        self.owners.pop(name, None)

    def clean_up(
        self,
        prefix: str,
        max_age: float,
        owner: str | None,
        in_use: Callable[[], Collection[str]] = frozenset,
    ) -> int:
        """See `UserNetworks`."""
        found = [name for name in self.owners if name.startswith(prefix)]
        for name in found:
            del self.owners[name]
        return len(found)


class FakeRunner:
    """Runs end at once; after `hold` they wait for `end`."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        self.scripts: dict[str, Script] = {}
        self.default = Script()
        self.default.go.set()
        self.default.clean.set()
        self.stage_error: OSError | None = None
        self.most_bytes, self.most_entries = 1_000_000, 1000
        self.began: list[str] = []
        self.specs: dict[str, RunSpec] = {}
        self.adopted: dict[str, datetime] = {}
        self.over: list[str] = []
        self.paused: set[str] = set()
        self.networks = FakeNetworks()
        self.cleared: list[str] = []
        self.started = self.closed = self.parked = 0
        self.health_now = FakeHealth()

    @property
    def staged_files(self) -> dict[str, dict[str, File | bytes | str]]:
        """Files by run id."""
        return self.engine.staged

    def hold(self, *, clean_up: bool = False, stops_at: str = "") -> None:
        """Runs from here on wait until `end` names them, and in their clean-up as well where `clean_up`."""
        self.default = Script(stops_at=stops_at)
        if not clean_up:
            self.default.clean.set()

    def script(self, run_id: str) -> Script:
        """How `run_id` goes."""
        default = self.default
        clone = Script(
            default.result, heeds_cancel=default.heeds_cancel, error=default.error, stops_at=default.stops_at
        )
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
        self.engine.staged[run_id] = dict(files)

    def receive(self, run_id: str) -> Intake:
        """See `Runner`."""
        workspace = Workspace(self.engine.uploads / run_id)
        workspace.create()
        self.engine.staged[run_id] = {}
        return Intake(workspace, self.most_bytes, self.most_entries)

    def staged(self, run_id: str) -> bool:
        """See `Runner`."""
        return run_id in self.engine.staged

    def discard(self, run_id: str) -> None:
        """See `Runner`."""
        self.engine.staged.pop(run_id, None)
        Workspace(self.engine.uploads / run_id).remove()

    def run(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        stop: StopRequest | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
        feed: StdinFeed | None = None,
    ) -> RunResult:
        """See `Runner`."""
        assert run_id is not None
        assert stop is not None
        assert to is not None
        assert observer is not None
        assert not spec.files, "a staged run's spec must not hold its files"
        script = self.script(run_id)
        self.began.append(run_id)
        self.specs[run_id] = spec
        if script.error is not None:
            raise script.error
        container = f"container-{run_id}"
        observer.phase(Phase.PULLING)
        observer.progress(Progress(layers=2, done=1))
        with self._waking(script, stop):
            if script.stops_at != "queued":
                observer.phase(Phase.STARTING)
                self.engine.containers[container] = run_id
                observer.assigned(container, parked=False)
                if script.stops_at != "assigned":
                    observer.launched(datetime.now(timezone.utc))
                    observer.phase(Phase.RUNNING)
            return self._to_the_end(run_id, container, script, stop, observer)

    def adopt(
        self,
        container: str,
        spec: RunSpec,
        *,
        run_id: str,
        deadline: datetime,
        log: Path,
        artifacts: Path,
        stop: StopRequest | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """See `Runner`."""
        assert stop is not None
        assert observer is not None
        self.adopted[run_id] = deadline
        self.specs[run_id] = spec
        script = self.script(run_id)
        if container not in self.engine.containers:
            observer.ended(GONE)
            return GONE
        with self._waking(script, stop):
            return self._to_the_end(run_id, container, script, stop, observer)

    @contextmanager
    def _waking(self, script: Script, stop: StopRequest) -> Iterator[None]:
        def heed() -> None:
            # Asked when it is cancelled: a test may change its mind while the run is under way.
            if script.heeds_cancel or stop.detached:
                script.go.set()

        with stop.subscribed(heed):
            yield

    def _to_the_end(
        self, run_id: str, container: str, script: Script, stop: StopRequest, observer: Observer
    ) -> RunResult:
        script.go.wait(30)
        if stop.detached:
            return GONE
        result = script.result
        if script.heeds_cancel and stop.requested is not None:
            result = RunResult(reason=stop.requested.reason, error=ERRORS[stop.requested.reason])
        observer.ended(result)
        script.clean.wait(30)
        self.engine.containers.pop(container, None)
        self.discard(run_id)
        self.over.append(run_id)
        return result

    def pause(self, container: str) -> None:
        """See `Runner`."""
        self.paused.add(container)

    def resume(self, container: str) -> None:
        """See `Runner`."""
        self.paused.discard(container)

    def begun(self, container: str) -> datetime | None:
        """See `Runner`."""
        if not self.health_now.docker:
            raise EngineUnavailable("away")
        return datetime.now(timezone.utc) if container in self.engine.containers else None

    def unassign(self, container: str, run_id: str) -> bool:
        """See `Runner`."""
        if not self.health_now.docker:
            raise EngineUnavailable("away")
        self.engine.containers.pop(container, None)
        if run_id in self.engine.moved:
            self.engine.staged[run_id] = self.engine.moved.pop(run_id)
        return self.staged(run_id)

    def find(self) -> list[FakeFound]:
        """See `Runner`."""
        if not self.health_now.docker:
            raise EngineUnavailable("away")
        return [FakeFound(container, "run", run_id) for container, run_id in self.engine.containers.items()]

    def maintain(
        self,
        keep: Collection[str] | None = None,
        *,
        keep_networks: Callable[[], Collection[str]] = frozenset,
        stopping: Callable[[], bool] = lambda: False,
    ) -> MaintenanceReport:
        """See `Runner`."""
        return MaintenanceReport(networks=len(set(self.networks.owners) - set(keep_networks())))

    def clear(self, keep: Collection[str]) -> MaintenanceReport:
        """See `Runner`."""
        if not self.health_now.docker:
            raise EngineUnavailable("away")
        before = len(self.engine.containers)
        for container, run_id in list(self.engine.containers.items()):
            if container not in keep and run_id not in keep:
                self.cleared.append(container)
                del self.engine.containers[container]
        for run_id in list(self.engine.staged):
            if run_id not in keep:
                self.cleared.append(run_id)
                self.discard(run_id)
        return MaintenanceReport(containers=before - len(self.engine.containers))

    def health(self) -> FakeHealth:
        """See `Runner`."""
        return self.health_now

    def open(self) -> None:
        """See `Runner`."""
        self.started += 1

    def close(self) -> None:
        """See `Runner`."""
        self.closed += 1
