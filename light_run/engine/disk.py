"""The cap on what one run may write to the host's disk, held while the run goes on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from light_run.engine.cancel import Halt
from light_run.engine.client import Engine
from light_run.engine.spec import Reason
from light_run.engine.workspace import Workspace
from light_run.errors import EngineError

# Most runs are over before the first look at them.
_FIRST_LOOK = 1.0
# Looking may take at most this part of the time.
_SHARE = 0.1
_BLOCK = 512
# Each level costs a descriptor; nobody nests deeper but to hide.
_DEEPEST = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(eq=False, slots=True)
class _Watched:
    container: str
    workspace: Workspace | None
    halt: Halt
    due: float


class DiskWatch:
    """Looks at running containers now and then, and kills those whose files exceed `cap` bytes; 0 is no cap."""

    def __init__(self, engine: Engine, cap: int) -> None:
        self._engine = engine
        self._cap = cap
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, container: str, workspace: Workspace | None, halt: Halt) -> Iterator[None]:
        """Watch one running container, and the folder that is mounted into it, for as long as the block runs."""
        if not self._cap:
            yield
            return
        watched = _Watched(container, workspace, halt, time.monotonic() + _FIRST_LOOK)
        with self._lock:
            self._watched.append(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="disk-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.remove(watched)

    def step(self, now: float) -> None:
        """Look at whatever is due at `now` (`time.monotonic()` seconds)."""
        with self._lock:
            due = [watched for watched in self._watched if watched.due <= now]
        for watched in due:
            begun = time.monotonic()
            if self._used(watched) > self._cap:
                watched.halt.kill(Reason.DISK_LIMIT)
            spent = time.monotonic() - begun
            watched.due = now + max(_FIRST_LOOK, spent / _SHARE)

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_FIRST_LOOK / 4):
            self.step(time.monotonic())

    def _used(self, watched: _Watched) -> float:
        used = tree_bytes(str(watched.workspace.files)) if watched.workspace is not None else 0
        if used <= self._cap:
            with contextlib.suppress(EngineError):
                used += self._engine.layer_bytes(watched.container)
        return used


def tree_bytes(folder: str) -> float:
    """Bytes of disk below `folder`; infinite where it is nested too deep to look at.

    Follows no link, also none that is swapped in meanwhile: the container goes on under the walk.
    """
    try:
        directory = os.open(folder, _DIRECTORY)
    except OSError:
        return 0
    try:
        return _bytes_below(directory, _DEEPEST)
    finally:
        os.close(directory)


def _bytes_below(directory: int, levels: int) -> float:
    if not levels:
        return float("inf")
    total: float = 0
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
    for name in below:
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        try:
            total += _bytes_below(descriptor, levels - 1)
        finally:
            os.close(descriptor)
    return total
