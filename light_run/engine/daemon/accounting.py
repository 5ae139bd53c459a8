"""CPU time and peak memory of a container, as the kernel counts them in its cgroup.

The cgroup is gone a few milliseconds after the container's first process, before the engine reports the exit. But that
process can be watched: once it has exited, all others of the container are dead, and what the kernel counted is final.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
from pathlib import Path

from light_run.engine.daemon import memory

_USAGE = re.compile(rb"^usage_usec (\d+)$", re.MULTILINE)


class Accounting:
    """What one container has used. `open` it once the container is started; nothing is known if its cgroup is not here.

    `cpu_ms` and `memory_peak_bytes` are None where they are not known.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._opened = False
        self._cpu: int | None = None
        self._memory: int | None = None
        self._process: int | None = None
        self._before = 0.0
        self.cpu_ms: float | None = None
        self.memory_peak_bytes: int | None = None

    def open(self) -> None:
        """Look for the container's cgroup and its first process; without them, nothing will be known."""
        if self._opened:
            return
        self._opened = True
        with contextlib.suppress(OSError, ValueError):
            if memory.is_unified():
                folder = _folder(self._container, "")
                names = (folder / "cpu.stat", folder / "memory.peak")
            else:
                folder = _folder(self._container, "memory")
                cpu = _folder(self._container, "cpuacct")
                names = (cpu / "cpuacct.usage", folder / "memory.max_usage_in_bytes")
            # The first process is the oldest. One of another pid namespace is 0 here, which no descriptor is of.
            process = min(int(line) for line in (folder / "cgroup.procs").read_bytes().split())
            self._process = os.pidfd_open(process)
            self._cpu, self._memory = map(_open, names)

    def begin(self) -> None:
        """Do not count the CPU time so far: it was used before the command was started."""
        self.open()
        with contextlib.suppress(OSError, ValueError):
            self._before = self._read_cpu() or 0.0

    @property
    def poll(self) -> tuple[int, int] | None:
        """A descriptor and the events to poll it for, upon which to call `look` once; None where there is none."""
        return None if self._process is None else (self._process, select.POLLIN)

    def look(self) -> None:
        """Read what the container has used in all, now that its first process has exited."""
        # Where the cgroup is gone, it was too late: what is not final is not told.
        with contextlib.suppress(OSError, ValueError):
            cpu, self.cpu_ms = self._read_cpu(), None
            peak = None if self._memory is None else int(os.pread(self._memory, 64, 0))
            self.cpu_ms, self.memory_peak_bytes = None if cpu is None else cpu - self._before, peak

    def close(self) -> None:
        """Close what is open; what is known stays."""
        for descriptor in (self._cpu, self._memory, self._process):
            if descriptor is not None:
                os.close(descriptor)
        self._cpu = self._memory = self._process = None

    def _read_cpu(self) -> float | None:
        if self._cpu is None:
            return None
        text = os.pread(self._cpu, 4096, 0)
        found = _USAGE.search(text)
        return int(found[1]) / 1000 if found else int(text) / 1_000_000


def _folder(container: str, controller: str) -> Path:
    for folder in memory.cgroup_folders(container, controller):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(container)


def _open(path: Path) -> int | None:
    # Linux before 5.19 has no memory.peak.
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
