"""The cap on what one run may write to the host's disk, held while the run goes on.

What counts is the folder that is mounted at the workdir, the container's own writable layer, where ``/tmp``
is, its anonymous volumes, the files that are mounted in its ``/etc``, and, where this process may look, files that
processes of the container hold open though they have no name any more. A run is looked at now and then, and at once
when the disks have grown by more than it has left.

While a disk has little free space left, the run that has written the most to it is ended, within its cap or not: what
the measurement cannot see fills the disk all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.workspace import Workspace
from light_run.engine.sandbox.open_files import may_look, unlinked_bytes
from light_run.engine.spec import MIB, Reason
from light_run.engine.stop import Stop, StopRequest
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.errors import EngineError
from light_run.system.disk_usage import disk_usage

_log = logging.getLogger(__name__)

# Most runs are over before the first look at them.
_FIRST_LOOK = 1.0
# Looking may take at most this part of the time.
_SHARE = 0.1
# A run that has written less is not ended for a disk that is nearly full.
_NOTABLE = 16 * MIB
# So long after one was ended the space of its files should be free again.
_RELIEF = 5.0
# So many closed folders are asked for one by one, more of them with everything around.
_ONE_BY_ONE = 8


@dataclass(eq=False, slots=True)
class WatchedDisk:
    """A container that is watched; `used` is how many bytes it took at the last look, None before the first."""

    container: str
    workspace: Workspace | None
    stop: StopRequest
    due: float
    # Seconds from one look to the next, at least.
    pace: float = _FIRST_LOOK
    # What the disks had free at the last look, and how much more the run could write then.
    free: int = 0
    room: float = field(default=float("inf"))
    used: float | None = None
    # Ended as the disk had little space left, not for its cap.
    for_space: bool = False

    @property
    def hurried(self) -> bool:
        """Whether it is worth a look before its time."""
        return self.pace <= _FIRST_LOOK and self.room < float("inf")


class DiskWatch:
    """Looks at running containers now and then, and kills those that wrote more than `config.workspace_cap` bytes."""

    def __init__(self, engine: Engine, config: RunnerConfig, leftovers: Leftovers) -> None:
        self._engine = engine
        self._leftovers = leftovers
        self._cap = config.workspace_cap
        self._reserve = config.disk_reserve
        self._relieved = float("-inf")
        self._lock = threading.Lock()
        self._watched: list[WatchedDisk] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._disks: tuple[str, ...] | None = None

    @contextlib.contextmanager
    def watching(
        self, container: str, workspace: Workspace | None, stop: StopRequest, pace: float = _FIRST_LOOK
    ) -> Iterator[WatchedDisk]:
        """Watch one running container, and the folder that is mounted into it, for as long as the block runs.

        It is looked at every `pace` seconds, or less often where that takes its time.
        """
        watched = WatchedDisk(container, workspace, stop, time.monotonic() + pace, pace)
        if not (self._cap or self._reserve):
            yield watched
            return
        with self._lock:
            self._watched.append(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="disk-watch", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            with self._lock:
                self._watched.remove(watched)

    def exceeded(self, container: str, workspace: Workspace | None) -> bool:
        """True where a container, running or not, has written more than the cap."""
        return 0 < self._cap < self._measured(WatchedDisk(container, workspace, StopRequest(), due=0.0))

    def step(self, now: float) -> None:
        """Look at whatever is due at `now` (`time.monotonic()` seconds), or may have outgrown its room since."""
        with self._lock:
            # One that was not looked at yet has no room to have outgrown; one that is watched at leisure has time.
            watched = [each for each in self._watched if each.due <= now or each.hurried]
        for each in watched:
            free = self._free(each)
            if each.due <= now and self._is_low(each) and now - self._relieved >= _RELIEF:
                self._relieve(now)
            if each.due <= now or each.free - free > each.room:
                each.free = free
                self._look(each, now)

    def _look(self, watched: WatchedDisk, now: float) -> None:
        begun = time.monotonic()
        watched.used = used = self._measured(watched)
        watched.room = self._cap - used if self._cap else float("inf")
        if watched.room < 0:
            watched.stop.request(Stop(Reason.DISK_LIMIT))
        watched.due = now + max(watched.pace, (time.monotonic() - begun) / _SHARE)

    def guards(self) -> tuple[str, ...]:
        """Return what keeps runs from filling the disk.

        ``size``: their files are measured; ``unlinked``: so are files that they hold open without a name;
        ``free_space``: while little is free, the largest ends; ``quota``: the engine's own limit. Raises EngineError.
        """
        local = self._engine.address.startswith("unix:")
        found = {
            "size": bool(self._cap),
            "unlinked": bool(self._cap) and local and may_look(),
            "free_space": bool(self._reserve) and local,
            "quota": bool(self._cap) and self._engine.features().quota,
        }
        return tuple(name for name, there in found.items() if there)

    def _is_low(self, watched: WatchedDisk) -> bool:
        return any(free < self._reserve for free in self._free_by_device(watched).values())

    def _relieve(self, now: float) -> None:
        with self._lock:
            watched = [each for each in self._watched if each.stop.requested is None and self._is_low(each)]
        for each in watched:
            each.used = self._measured(each, float("inf"))
        largest = max(watched, key=lambda each: each.used or 0.0, default=None)
        if largest is not None and (largest.used or 0.0) >= _NOTABLE:
            self._relieved, largest.for_space = now, True
            _log.warning("a disk has little space left: the run that has written the most is ended")
            largest.stop.request(Stop(Reason.DISK_LIMIT))

    def _measured(self, watched: WatchedDisk, most: float | None = None) -> float:
        # As far as `most`, which is the cap by default; beyond it, more makes no difference.
        try:
            return self._used(watched, most if most is not None else self._cap or float("inf"))
        except Exception:  # noqa: BLE001 - an engine's answer may have any shape
            # One run's files are no reason to watch no other's.
            _log.warning("the files of a run cannot be measured", exc_info=True)
            return 0

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_FIRST_LOOK / 4):
            try:
                self.step(time.monotonic())
            except Exception:  # noqa: BLE001 - whatever it was, it is in the log
                # Without this thread no run would be held to the cap.
                _log.exception("a look at the disks failed; the watch continues")

    def _free(self, watched: WatchedDisk) -> int:
        # What is free where the run may write, as far as this host has it.
        return sum(self._free_by_device(watched).values())

    def _free_by_device(self, watched: WatchedDisk) -> dict[int, int]:
        if self._disks is None:
            with contextlib.suppress(EngineError):
                self._disks = (str(self._engine.info().get("DockerRootDir") or "/"),)
        free = {}
        workspace = () if watched.workspace is None else (str(watched.workspace.folder),)
        for folder in (*(self._disks or ()), *workspace):
            with contextlib.suppress(OSError):
                disk = os.statvfs(folder)
                free[os.stat(folder).st_dev] = disk.f_bavail * disk.f_frsize
        return free

    def _used(self, watched: WatchedDisk, most: float) -> float:
        used: float = 0
        if watched.workspace is not None:
            found = disk_usage(str(watched.workspace.files))
            used = found.bytes
            if used <= most and found.closed:
                with contextlib.suppress(EngineError):
                    used = self._with_closed(watched, watched.workspace, found.closed, used, most)
        if used <= most:
            with contextlib.suppress(EngineError):
                used += self._engine.written_bytes(watched.container)
        if used <= most:
            used += unlinked_bytes(watched.container, self._devices(watched)) or 0
        return used

    def _devices(self, watched: WatchedDisk) -> set[int]:
        workspace = () if watched.workspace is None else (str(watched.workspace.folder),)
        devices = set()
        for folder in (*(self._disks or ()), *workspace):
            with contextlib.suppress(OSError):
                devices.add(os.stat(folder).st_dev)
        return devices

    def _with_closed(
        self, watched: WatchedDisk, workspace: Workspace, closed: list[str], used: float, most: float
    ) -> float:
        # Root in a container can close a folder to a server that is not root. The engine is, and reads it
        # through a container that only sees the workspace; nothing of an image, which may lie, is run.
        image = str(self._engine.inspect(watched.container)["Image"])
        mount = {"Type": "bind", "Source": str(workspace.files), "Target": "/probe", "ReadOnly": True}
        if len(closed) > _ONE_BY_ONE or not all(map(_is_plain, closed)):
            closed, used = [""], 0
        with self._leftovers.unstarted(image, Mounts=[mount]) as container:
            for path in closed:
                used += self._archive_bytes(container, f"/probe/{path}", most - used)
        return used

    def _archive_bytes(self, container: str, path: str, most: float) -> int:
        # Counted as they come, and no longer than it takes to know that they are too many.
        read = 0
        with self._engine.get_archive(container, path) as chunks:
            for chunk in chunks:
                read += len(chunk)
                if read > most:
                    break
        return read


def _is_plain(path: str) -> bool:
    # A name that is not UTF-8 cannot be asked for.
    return path.isprintable() and path.isascii()
