"""Leftovers: containers and workspaces that could not be removed when their run ended, retried until they can be."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.workspace import Workspace
from light_run.engine.sandbox.options import Sandbox, container_config, labels, never_started, usual_runtime
from light_run.errors import EngineError

# Seconds until a failed removal is retried; doubled each time, up to the second figure.
_PAUSE, _LONGEST_PAUSE = 5.0, 3600.0
# When the runner closes: the pause between retries, and how long they go on.
_LAST_PAUSE, _LAST_SECONDS = 0.2, 5.0
# Seconds that a container has to empty a folder.
_EMPTYING = 60.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A container and workspaces to remove.

    `image` may have a shell that can empty a folder under `runtime`; None is the default runtime of runs.
    """

    container: str | None
    workspaces: Sequence[Workspace]
    image: str | None = None
    runtime: str | None = None
    pause: float = _PAUSE
    due: float = 0.0


class Leftovers:
    """Removes containers and workspaces; `retry` tries again what could not be removed, as the engine was away."""

    def __init__(self, engine: Engine, config: RunnerConfig) -> None:
        self._engine = engine
        self._config = config
        self._lock = threading.Lock()
        self._left: list[Leftover] = []
        self._with_shell: str | None = None

    def __len__(self) -> int:
        return len(self._left)

    @property
    def folders(self) -> frozenset[Path]:
        """The folders of the workspaces that are still to be removed."""
        with self._lock:
            return frozenset(one.folder for leftover in self._left for one in leftover.workspaces)

    def remove(self, leftover: Leftover) -> None:
        """Remove the container and its workspaces, now or later. Never raises."""
        if not self._removed(leftover):
            self.postpone(leftover)

    def postpone(self, leftover: Leftover) -> None:
        """Remove them later: the engine does not answer now, and waiting for it would take minutes."""
        later = replace(
            leftover,
            pause=min(2 * leftover.pause, _LONGEST_PAUSE),
            due=time.monotonic() + leftover.pause,
        )
        with self._lock:
            self._left.append(later)

    def retry(self, now: float = float("inf")) -> None:
        """Retry the removals that are due at `now` (`time.monotonic()` seconds)."""
        with self._lock:
            due = [leftover for leftover in self._left if leftover.due <= now]
            self._left = [leftover for leftover in self._left if leftover.due > now]
        for leftover in due:
            self.remove(leftover)

    def close(self) -> None:
        """Try what is left again and again, for a few seconds: nobody may come after us to do it."""
        deadline = time.monotonic() + _LAST_SECONDS
        self.retry()
        while self._left and time.monotonic() < deadline:
            time.sleep(_LAST_PAUSE)
            self.retry()

    @contextlib.contextmanager
    def unstarted(self, image: str, **host: Any) -> Iterator[str]:
        """Yield a container of `image` for copying files, which is never started and removed at the end.

        `host` is merged into its HostConfig. Raises EngineError.
        """
        container = self._engine.create(never_started(image, self._config, **host))
        try:
            yield container
        finally:
            self.remove(Leftover(container, ()))

    def _removed(self, leftover: Leftover) -> bool:
        try:
            if leftover.container is not None:
                self._engine.remove(leftover.container)
        except EngineError:
            return False
        # Try every folder, even if one before it failed.
        removed = [self._remove_workspace(one, leftover) for one in leftover.workspaces]
        return all(removed)

    def _remove_workspace(self, workspace: Workspace, leftover: Leftover) -> bool:
        if workspace.remove():
            return True
        # A container's root, or another user, left files that only that user may remove.
        for candidate in dict.fromkeys((leftover.image, self._with_shell)):
            if candidate is None:
                continue
            if self._was_emptied(workspace, candidate, leftover.runtime) and workspace.remove():
                self._with_shell = candidate
                return True
        return False

    def _was_emptied(self, workspace: Workspace, image: str, runtime: str | None) -> bool:
        try:
            runtime = runtime or usual_runtime(self._engine, self._config)
            container = self._engine.create(emptying_command(workspace, image, runtime, self._config))
            try:
                exited = self._engine.pending_exit(container)
                try:
                    self._engine.start(container)
                    exited.wait(_EMPTYING)
                finally:
                    exited.close()
            finally:
                self.remove(Leftover(container, ()))
        except EngineError:
            return False
        return True


def emptying_command(
    workspace: Workspace, image: str, runtime: str | None, config: RunnerConfig
) -> dict[str, Any]:
    """Return the configuration of a container of `image` that empties `workspace`, whatever the owners of its files.

    The image is not trusted: the container has the sandbox of a run and may write nothing.
    """
    sandbox = Sandbox(
        image=image,
        # The folder itself is a mount point and stays; its contents are removed first.
        command=("sh", "-c", "rm -rf /workspace"),
        limits=config.limits,
        network="none",
        workdir="/workspace",
        runtime=runtime,
        source=str(workspace.files),
        labels=labels("probe", config),
    )
    container = container_config(sandbox, config)
    host = container["HostConfig"]
    # It has no room to write to.
    host.pop("StorageOpt", None)
    host.update(
        CapDrop=["ALL"],
        CapAdd=["DAC_OVERRIDE", "FOWNER"],
        ReadonlyRootfs=True,
        Ulimits=[*host["Ulimits"], {"Name": "fsize", "Soft": 0, "Hard": 0}],
        LogConfig={"Type": "none"},
    )
    silent = dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin"), False)
    return {**container, **silent, "User": "0:0"}
