"""`Runner`: run a container from a script or a server; the front door of the engine package."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.intake import Intake
from light_run.engine.files.workspace import Workspace, Workspaces
from light_run.engine.handle import RunHandle
from light_run.engine.health import HealthCheck
from light_run.engine.images.uses import StepUses
from light_run.engine.output.lines import read_log
from light_run.engine.run.context import create_context
from light_run.engine.run.supervisor import Supervisor
from light_run.engine.sandbox.user_networks import UserNetworks
from light_run.engine.spec import (
    Destinations,
    EngineHealth,
    Files,
    NullObserver,
    Observer,
    RunResult,
    RunSpec,
)
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import StopRequest
from light_run.engine.upkeep.inventory import Inventory
from light_run.engine.upkeep.maintenance import EngineMaintenance
from light_run.engine.upkeep.methods import UpkeepMethods
from light_run.errors import EngineError, Fault, InvalidSpec

if TYPE_CHECKING:
    from typing_extensions import Self

_NO_DESTINATION = Fault(
    ("extract",), "no_destination", "extract needs a folder: to=Destinations(artifacts=...)"
)


class Runner(UpkeepMethods):
    """Runs containers; safe to use from any number of threads.

    Without a server::

        with Runner() as runner:
            result = runner.run(RunSpec(image="alpine:3.19", entrypoint="cat hello.txt", files={"hello.txt": "hi"}))
            print(result.exit_code, result.logs)

    The engine is the one that the Docker command would use: that of DOCKER_HOST, of the docker context in use, or the
    local one. It is first asked when it is first needed. Raises SettingsError where the address cannot be used.
    """

    def __init__(self, config: RunnerConfig | None = None) -> None:
        self.config = config or RunnerConfig()
        self._engine = Engine()
        self._workspaces = Workspaces(self.config.state_dir)
        state_dir = self.config.state_dir
        uses = StepUses(None if state_dir is None else state_dir / "step-images", time.time)
        self._handles: weakref.WeakSet[RunHandle] = weakref.WeakSet()
        self._context = create_context(self._engine, self.config, uses, self._workspaces)
        leftovers = self._context.leftovers
        self._inventory = Inventory(self._engine, leftovers, self.config)
        self._health = HealthCheck(self._context)
        self.networks = UserNetworks(
            self._engine, self.config.server_id, self.config.network, self._context.pool.release
        )
        self._maintenance = EngineMaintenance(
            self._engine, self.config, uses=uses, networks=self.networks, leftovers=leftovers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- runs

    def stage(self, run_id: str, files: Files) -> Path:
        """Write the files of a run that is to come; the folder. Raises InvalidSpec, OSError; leaves nothing then."""
        return self._workspace(run_id, files).files

    def receive(self, run_id: str) -> Intake:
        """Take the files of a run that is to come one by one, in place of `stage`. Raises OSError."""
        workspace = self._workspaces.of(run_id)
        workspace.create()
        return Intake(workspace, self.config.intake_cap)

    def staged(self, run_id: str) -> bool:
        """True where the files that `stage` wrote for `run_id` are there."""
        return self._workspaces.of(run_id).files.is_dir()

    def discard(self, run_id: str) -> None:
        """Remove what `stage` wrote for a run that will never be."""
        self._workspaces.of(run_id).remove()

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
        """Run `spec` to its end and clean up behind it.

        With `run_id`, files that were staged under it are used and `spec.files` is added. `feed` is the standard
        input of an interactive run behind `spec.stdin`. What happens to
        a run is data in the result; raises InvalidSpec for a spec that cannot be run at all, OSError where
        the files cannot be written.
        """
        to = to or Destinations()
        supervise = self._supervise(spec, run_id or str(uuid.uuid4()), stop or StopRequest(), to, feed)
        # In the caller's own thread: a server has one for each run already.
        with _spool(to.log) as log:
            result = supervise(log, observer or NullObserver()).run()
            if to.log is None:
                result = replace(result, logs=tuple(line.text for line in read_log(log)))
        return result

    def start(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        stop: StopRequest | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
    ) -> RunHandle:
        """Start `spec` in a thread of its own and return at once; `run` is this and `RunHandle.wait`.

        Its files have been written by then. Arguments and errors are those of `run`. A run that is still active when
        the runner is closed is cancelled.
        """
        to, run_id, stop = to or Destinations(), run_id or str(uuid.uuid4()), stop or StopRequest()
        feed = StdinFeed()
        supervise = self._supervise(spec, run_id, stop, to, feed)
        resources = contextlib.ExitStack()
        try:
            log = resources.enter_context(_spool(to.log))
            handle = RunHandle(
                run_id,
                lambda observer: supervise(log, observer).run(),
                engine=self._engine,
                stop=stop,
                feed=feed,
                log=log,
                keep_lines=to.log is None,
                observer=observer or NullObserver(),
                resources=resources,
            )
        except BaseException:
            resources.close()
            self.discard(run_id)
            raise
        self._handles.add(handle)
        return handle

    def _supervise(
        self, spec: RunSpec, run_id: str, stop: StopRequest, to: Destinations, feed: StdinFeed | None
    ) -> Callable[[Path, Observer], Supervisor]:
        # The files are written, and where the log is decides the caller.
        if spec.extract and to.artifacts is None:
            raise InvalidSpec([_NO_DESTINATION])
        workspace = self._workspace(run_id, spec.files)
        return lambda log, observer: Supervisor(
            self._context,
            spec,
            run_id,
            workspace=workspace,
            stop=stop,
            log=log,
            artifacts=to.artifacts,
            observer=observer,
            feed=feed,
        )

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
        """Take up a run that an earlier runner launched in `container`, running or ended, to its end.

        Its log goes on in `log` where it broke off; `deadline` (UTC) is as it was. A container that is
        gone ends the run as ``interrupted``.
        """
        supervisor = Supervisor(
            self._context,
            spec,
            run_id,
            workspace=self._workspaces.of(run_id),
            stop=stop or StopRequest(),
            log=log,
            artifacts=artifacts,
            observer=observer or NullObserver(),
        )
        return supervisor.adopt(container, deadline)

    def pause(self, container: str) -> None:
        """Freeze the container of a run. Raises EngineError. The run's `StopRequest.pause` stops its clock."""
        self._engine.pause(container)

    def resume(self, container: str) -> None:
        """Let a paused container go on. Raises EngineError."""
        self._engine.resume(container)

    def _workspace(self, run_id: str, files: Files) -> Workspace:
        # With what was staged there, where anything was; gone where `files` cannot be written.
        workspace = self._workspaces.of(run_id)
        if not workspace.folder.exists():
            workspace.create()
        try:
            workspace.write(files)
        except BaseException:
            workspace.remove()
            raise
        return workspace

    # -- the runner itself

    def open(self) -> None:
        """Try out workspaces, make the network, begin to park.

        An engine that does not answer yet, or a disk that is full, is no failure: what is needed is tried again
        when it is needed.
        """
        with contextlib.suppress(EngineError, OSError):
            self._context.mounts.probe()
        with contextlib.suppress(EngineError):
            # Now, so that rules which cannot be set are said at the start and not in the middle of the work.
            self._context.networks.ensure(self.config.default_network)
        self._context.pool.start()

    @property
    def parked(self) -> int:
        """How many containers are parked."""
        return self._context.pool.size

    def health(self) -> EngineHealth:
        """Whether the engine answers; asked at most once a second, by one thread at a time. Never raises.

        While an engine is slow to answer, the last answer is returned, for some seconds.
        """
        return self._health.check()

    def close(self) -> None:
        """Cancel the runs that `start` began, remove parked containers, stop the keeper, close connections.

        Runs under way in other threads must have ended.
        """
        for handle in list(self._handles):
            handle.cancel()
            handle.join()
        self._context.pool.close()
        self._context.builder.close()
        self._context.disk.close()
        self._context.leftovers.close()
        with contextlib.suppress(EngineError):
            self._context.mounts.clear()
        self._engine.close()
        self._workspaces.close()


@contextlib.contextmanager
def _spool(log: Path | None) -> Iterator[Path]:
    if log is not None:
        yield log
        return
    with tempfile.TemporaryDirectory(prefix="light-run-") as folder:
        yield Path(folder) / "log"
