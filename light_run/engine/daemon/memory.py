"""Processes killed at a container's memory limit: as the engine reports them, and as its cgroup counts them.

The engine's ``oom`` event says that there was one, not how many: with cgroup v1 it comes several times for one kill,
with v2 once for several. The kernel counts them in the container's cgroup, which is gone as soon as the container is;
where that is on this machine, and may be read, the kernel itself says when to look.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
# With cgroup v2, where all controllers share one hierarchy.
_UNIFIED = "memory.events"
_ID = re.compile(r"[0-9a-f]{64}")
_COUNT = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class MemoryEvents:
    """How many processes of one container were killed at its memory limit, as far as that is known.

    `open` it once the container is started. Any thread may call `reported`; everything else is for one.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._lock = threading.Lock()
        self._counts: int | None = None
        self._notices: int | None = None
        self._poll: tuple[int, int] | None = None
        self._kills = 0
        self._said = threading.Event()
        # True once the kernel's count was read after the last process of the container had ended.
        self.final = False

    @property
    def kills(self) -> int:
        """So many, at least."""
        return self._kills

    def open(self) -> None:
        """Look for the container's cgroup; none, or one that may not be read, is fine."""
        with self._lock:
            if self._counts is None:
                for path in _candidates(self._container):
                    with contextlib.suppress(OSError):
                        self._counts = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                        self._subscribe(path, self._counts)
                        break
        self.look()

    def _subscribe(self, path: Path, counts: int) -> None:
        if path.name == _UNIFIED:
            # The file itself says that it has changed.
            self._poll = counts, select.POLLPRI
            return
        notices = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            # For whoever may write to the cgroup.
            path.with_name("cgroup.event_control").write_text(f"{notices} {counts}")
        except OSError:
            os.close(notices)
        else:
            self._notices, self._poll = notices, (notices, select.POLLIN)

    @property
    def poll(self) -> tuple[int, int] | None:
        """A descriptor and the events to poll it for, upon which to call `look`; None where there is none."""
        return self._poll

    def look(self) -> bool:
        """Read what the kernel has counted so far; False where the cgroup is gone."""
        with self._lock:
            if self._counts is None:
                return False
            notices = 0
            if self._notices is not None:
                with contextlib.suppress(BlockingIOError):
                    notices = os.eventfd_read(self._notices)
            try:
                found = _COUNT.search(os.pread(self._counts, 4096, 0))
                alive, count = True, int(found[1]) if found else 0
            except OSError:
                # The last notice is of its end.
                alive, count, notices = False, 0, notices - 1
            self._kills = max(self._kills, count, 1 if notices > 0 else 0)
            return alive

    def conclude(self) -> None:
        """Read the last count: all processes of the container have ended."""
        self.final = self.look()

    def reported(self) -> None:
        """The engine has said that the container ran out of memory."""
        self._kills = max(self._kills, 1)
        self._said.set()
        self.look()

    def wait_reported(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for `reported`; True if it was called."""
        return self._said.wait(timeout)

    def close(self) -> None:
        """Close what is open; `kills` stays."""
        with self._lock:
            for descriptor in (self._counts, self._notices):
                if descriptor is not None:
                    os.close(descriptor)
            self._counts = self._notices = self._poll = None


def _candidates(container: str) -> Iterator[Path]:
    name = _UNIFIED if is_unified() else "memory.oom_control"
    return (folder / name for folder in cgroup_folders(container, "memory"))


def is_unified() -> bool:
    """Return True for cgroup v2, where all controllers share one hierarchy."""
    return (_CGROUPS / "cgroup.controllers").exists()


def cgroup_folders(container: str, controller: str) -> Iterator[Path]:
    """Yield where a container's cgroup of `controller` may be on this machine; the controller counts with v1 only."""
    if not _ID.fullmatch(container):
        return
    root = _CGROUPS if is_unified() else _CGROUPS / controller
    user = os.getuid()
    # Of Docker and Podman, with the cgroup driver cgroupfs or systemd, the last for an ordinary user.
    for prefix, parent in (("docker", "docker"), ("libpod", "libpod_parent")):
        yield root / parent / (container if prefix == "docker" else f"{prefix}-{container}")
        scope = f"{prefix}-{container}.scope"
        yield root / ("system.slice" if prefix == "docker" else "machine.slice") / scope
        yield root / f"user.slice/user-{user}.slice/user@{user}.service/user.slice" / scope
