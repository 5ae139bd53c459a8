"""`Runner`: run a container from a script or a server; the front door of the engine package."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from light_run.engine.build import Builder
from light_run.engine.cancel import CancelToken
from light_run.engine.client import Engine
from light_run.engine.config import RunnerConfig
from light_run.engine.disk import DiskWatch
from light_run.engine.images import Images
from light_run.engine.inventory import Found, Inventory
from light_run.engine.launch import House
from light_run.engine.leftovers import Leftovers
from light_run.engine.life import Life
from light_run.engine.mounts import Mounts
from light_run.engine.network import Networks
from light_run.engine.output import read_log
from light_run.engine.pool import ParkKey, Pool
from light_run.engine.spec import Destinations, Files, Observer, Phase, RunResult, RunSpec
from light_run.engine.workspace import Workspace
from light_run.errors import EngineError, Fault, InvalidSpec
from light_run.removal import remove_tree

if TYPE_CHECKING:
    from typing_extensions import Self

# A health check may come from every load balancer at once; the engine is asked this often at most.
_HEALTH_FRESH = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the engine answers (`docker`), how files get to it (`workspace`, None until known), what it runs with."""

    docker: bool
    workspace: str | None
    runtimes: tuple[str, ...] = ()


class _Silent:
    # An observer that wants to know nothing.
    def phase(self, phase: Phase) -> None: ...

    def progress(self, message: str) -> None: ...

    def assigned(self, container_id: str, *, parked: bool) -> None: ...

    def launched(self, started_at: datetime) -> None: ...

    def ended(self, result: RunResult) -> None: ...


class Runner:
    """Runs containers; safe to use from any number of threads.

    Without a server::

        with Runner() as runner:
            result = runner.run(RunSpec(image="alpine:3.19", entrypoint="cat hello.txt", files={"hello.txt": "hi"}))
            print(result.exit_code, result.logs)

    The engine is the one DOCKER_HOST names, the local one where it is unset; it is first asked when it is
    first needed.
    """

    def __init__(self, config: RunnerConfig | None = None) -> None:
        self.config = config or RunnerConfig()
        self._engine = Engine()
        self._lock = threading.Lock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._folder: Path | None = None
        self._earlier: list[Path] = []
        self._health: tuple[float, Health] | None = None
        self._lives: dict[str, Life] = {}
        images = Images(self._engine)
        networks = Networks(self._engine, self.config.network)
        mounts = Mounts(self._engine, self.config, self._workspaces)
        leftovers = Leftovers(self._engine, mounts)
        self._inventory = Inventory(self._engine, leftovers, self.config)
        self._house = House(
            engine=self._engine,
            config=self.config,
            images=images,
            builder=Builder(self._engine, images, networks, self.config),
            networks=networks,
            mounts=mounts,
            pool=Pool(self._engine, self.config, mounts, leftovers, self._workspaces),
            leftovers=leftovers,
            disk=DiskWatch(self._engine, self.config.workspace_cap),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- runs

    def stage(self, run_id: str, files: Files) -> Path:
        """Write the files of a run that is to come; the folder. Raises InvalidSpec, OSError; leaves nothing then."""
        workspace = self._workspace(run_id)
        workspace.create()
        try:
            workspace.write(files)
        except BaseException:
            workspace.remove()
            raise
        return workspace.files

    def staged(self, run_id: str) -> bool:
        """True where the files that `stage` wrote for `run_id` are there."""
        return self._workspace(run_id).files.is_dir()

    def discard(self, run_id: str) -> None:
        """Remove what `stage` wrote for a run that will never be."""
        self._workspace(run_id).remove()

    def run(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        cancel: CancelToken | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """Run `spec` to its end and clean up behind it.

        With `run_id`, files that were staged under it are used and `spec.files` is added. What happens to
        a run is data in the result; raises InvalidSpec for a spec that cannot be run at all, OSError where
        the files cannot be written.
        """
        to = to or Destinations()
        if spec.extract and to.artifacts is None:
            fault = Fault(
                ("extract",), "no_destination", "extract needs a folder: to=Destinations(artifacts=...)"
            )
            raise InvalidSpec([fault])
        run_id = run_id or str(uuid.uuid4())
        workspace = self._workspace(run_id)
        if not workspace.folder.exists():
            workspace.create()
        try:
            workspace.write(spec.files)
        except BaseException:
            workspace.remove()
            raise
        with _spool(to.log) as log:
            life = Life(
                self._house,
                spec,
                run_id,
                workspace=workspace,
                cancel=cancel or CancelToken(),
                log=log,
                artifacts=to.artifacts,
                observer=observer or _Silent(),
            )
            with self._registered(run_id, life):
                result = life.run()
            if to.log is None:
                result = replace(result, logs=tuple(line.text for line in read_log(log)))
        return result

    def adopt(
        self,
        container: str,
        spec: RunSpec,
        *,
        run_id: str,
        deadline: datetime,
        log: Path,
        artifacts: Path,
        cancel: CancelToken | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """Take up a run that an earlier runner launched in `container`, running or ended, to its end.

        Its log goes on in `log` where it broke off; `deadline` (UTC) is as it was. A container that is
        gone ends the run as ``interrupted``.
        """
        life = Life(
            self._house,
            spec,
            run_id,
            workspace=self._workspace(run_id),
            cancel=cancel or CancelToken(),
            log=log,
            artifacts=artifacts,
            observer=observer or _Silent(),
        )
        with self._registered(run_id, life):
            return life.adopt(container, deadline)

    def leave(self, run_id: str) -> None:
        """Let go of a run under way, as this process stops: `run` or `adopt` returns soon, from whatever step.

        Container, workspace and log stay for `adopt`, or for `unassign` and another `run` where the command
        was not launched; the observer is not told of an end, and what `run` returns counts for nothing. A
        run that is unknown or over is fine.
        """
        with self._lock:
            life = self._lives.get(run_id)
        if life is not None:
            life.leave()

    def unassign(self, container: str, run_id: str) -> bool:
        """Undo what an earlier runner did for `run_id` before it launched anything; see `Inventory.unassign`."""
        return self._inventory.unassign(container, self._workspace(run_id))

    @contextlib.contextmanager
    def _registered(self, run_id: str, life: Life) -> Iterator[None]:
        with self._lock:
            self._lives[run_id] = life
        try:
            yield
        finally:
            with self._lock:
                del self._lives[run_id]

    # -- the runner itself

    def start(self) -> None:
        """Remove what an earlier runner with the same id left parked, try out workspaces, begin to park.

        An engine that does not answer yet is no failure: what is needed is tried again when it is needed.
        """
        with contextlib.suppress(EngineError):
            self._house.mounts.probe()
        self._pin()
        self._house.pool.start()

    def _pin(self) -> None:
        for name, count in self.config.parked_pins.items():
            with contextlib.suppress(EngineError):
                image = self._house.images.find(name)
                if image is not None:
                    spec = RunSpec(image=name)
                    network, runtime = self._house.network(spec), self._house.runtime(spec)
                    key = ParkKey(image.id, self.config.limits, network, spec.workdir, runtime)
                    self._house.pool.pin(key, count)

    @property
    def parked(self) -> int:
        """How many containers are parked."""
        return self._house.pool.size

    def health(self) -> Health:
        """Whether the engine answers; asked at most once a second, never raises."""
        now = time.monotonic()
        known = self._health
        if known is not None and now - known[0] < _HEALTH_FRESH:
            return known[1]
        try:
            self._engine.ping()
            docker = True
        except EngineError:
            docker = False
        health = Health(docker, self._house.mounts.mode)
        self._health = (now, health)
        return health

    def find(self) -> list[Found]:
        """The containers of earlier runners with the same server id. Raises EngineError."""
        return self._inventory.find()

    def clear(self, keep: Collection[str] = ()) -> None:
        """Remove what an earlier runner with the same server id left and `keep` does not name; see `Inventory`."""
        self._workspaces()
        self._inventory.clear(self._earlier, keep)

    def close(self) -> None:
        """Remove parked containers, stop the keeper, close connections. Runs under way must have ended."""
        self._house.pool.close()
        self._house.disk.close()
        self._house.leftovers.retry()
        self._engine.close()
        if self._temporary is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                remove_tree(self._folder)
            self._temporary.cleanup()

    def _workspace(self, run_id: str) -> Workspace:
        return Workspace(self._workspaces() / run_id)

    def _workspaces(self) -> Path:
        with self._lock:
            if self._folder is None:
                if self.config.state_dir is None:
                    self._temporary = tempfile.TemporaryDirectory(prefix="light-run-")
                    state = Path(self._temporary.name)
                else:
                    state = self.config.state_dir
                folder = state / "workspaces"
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Before the first of our own: what is here is an earlier runner's.
                self._earlier = list(folder.iterdir())
                self._folder = folder
            return self._folder


@contextlib.contextmanager
def _spool(log: Path | None) -> Iterator[Path]:
    if log is not None:
        yield log
        return
    with tempfile.TemporaryDirectory(prefix="light-run-") as folder:
        yield Path(folder) / "log"
