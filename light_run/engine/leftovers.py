"""What could not be removed when its run ended, kept in mind until it can be."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from light_run.engine.client import Engine
from light_run.engine.config import RunnerConfig
from light_run.engine.sandbox import labels, never_started
from light_run.engine.workspace import Workspace
from light_run.errors import EngineError

# Seconds until what could not be removed is tried again; doubled each time, up to the second figure.
_PAUSE, _LONGEST_PAUSE = 5.0, 3600.0
# Emptying a folder takes no longer, in seconds.
_EMPTYING = 60.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A container and folders that nobody needs any more; `image` may have a shell to empty a folder with."""

    container: str | None
    workspaces: Sequence[Workspace]
    image: str | None = None
    pause: float = _PAUSE
    due: float = 0.0


class Leftovers:
    """Removes what runs leave; what cannot be removed now, since the engine is away, is tried again by `retry`."""

    def __init__(self, engine: Engine, config: RunnerConfig) -> None:
        self._engine = engine
        self._config = config
        self._lock = threading.Lock()
        self._left: list[Leftover] = []
        self._with_shell: str | None = None

    def __len__(self) -> int:
        return len(self._left)

    def remove(self, leftover: Leftover) -> None:
        """Remove all of it, now or later. Never raises."""
        if not self._removed(leftover):
            later = replace(
                leftover,
                pause=min(2 * leftover.pause, _LONGEST_PAUSE),
                due=time.monotonic() + leftover.pause,
            )
            with self._lock:
                self._left.append(later)

    def retry(self, now: float = float("inf")) -> None:
        """Try once more what is due at `now` (`time.monotonic()` seconds)."""
        with self._lock:
            due = [leftover for leftover in self._left if leftover.due <= now]
            self._left = [leftover for leftover in self._left if leftover.due > now]
        for leftover in due:
            self.remove(leftover)

    @contextlib.contextmanager
    def unstarted(self, image: str, **host: Any) -> Iterator[str]:
        """A container of `image` to get files in and out by, never started, and removed in the end.

        `host` goes into its HostConfig. Raises EngineError.
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
        # Every folder is tried, whatever became of the one before.
        removed = [self._remove_workspace(one, leftover.image) for one in leftover.workspaces]
        return all(removed)

    def _remove_workspace(self, workspace: Workspace, image: str | None) -> bool:
        if workspace.remove():
            return True
        # Root, or another user, in a container left what only it may remove.
        for candidate in dict.fromkeys((image, self._with_shell)):
            if candidate is not None and self._emptied(workspace, candidate) and workspace.remove():
                self._with_shell = candidate
                return True
        return False

    def _emptied(self, workspace: Workspace, image: str) -> bool:
        # What is in the image is not trusted: no better box than a run's, and only what removing takes.
        config = {
            "Image": image,
            # The folder itself is a mount point and stays; what is in it goes first.
            "Entrypoint": ["sh", "-c", "rm -rf /workspace"],
            "Cmd": [],
            "User": "0:0",
            "WorkingDir": "/",
            "Labels": labels("probe", self._config),
            "HostConfig": {
                "NetworkMode": "none",
                "SecurityOpt": ["no-new-privileges"],
                "CapDrop": ["ALL"],
                "CapAdd": ["DAC_OVERRIDE", "FOWNER"],
                "Memory": self._config.limits.memory,
                "PidsLimit": self._config.limits.pids,
                "Runtime": self._config.runtime or "",
                "Mounts": [{"Type": "bind", "Source": str(workspace.files), "Target": "/workspace"}],
            },
        }
        try:
            container = self._engine.create(config)
            try:
                exited = self._engine.wait(container)
                try:
                    self._engine.start(container)
                    exited.json(timeout=_EMPTYING)
                finally:
                    exited.close()
            finally:
                self._engine.remove(container)
        except EngineError:
            return False
        return True
