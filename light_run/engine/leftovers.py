"""What could not be removed when its run ended, kept in mind until it can be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from light_run.engine.client import Engine
from light_run.engine.mounts import Mounts
from light_run.engine.workspace import Workspace
from light_run.errors import EngineError


@dataclass(frozen=True, slots=True)
class Leftover:
    """A container and folders that nobody needs any more; `image` can empty a folder that is not ours to remove."""

    container: str | None
    workspaces: Sequence[Workspace]
    image: str | None = None


class Leftovers:
    """Removes what runs leave; what cannot be removed now, since the engine is away, is tried again by `retry`."""

    def __init__(self, engine: Engine, mounts: Mounts) -> None:
        self._engine = engine
        self._mounts = mounts
        self._lock = threading.Lock()
        self._left: list[Leftover] = []

    def __len__(self) -> int:
        return len(self._left)

    def remove(self, leftover: Leftover) -> bool:
        """Remove all of it; False where something stays. Never raises."""
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
        return image is not None and self._mounts.remove_by_container(workspace, image)

    def remember(self, leftover: Leftover) -> None:
        """Try again later."""
        with self._lock:
            self._left.append(leftover)

    def retry(self) -> None:
        """Try what is left once more."""
        with self._lock:
            left, self._left = self._left, []
        for leftover in left:
            if not self.remove(leftover):
                self.remember(leftover)
