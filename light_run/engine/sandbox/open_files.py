"""Files that processes of a container hold open, and that have no name any more: no walk through folders finds them.

They are looked for in ``/proc``, which a server may read that is root on the engine's host, or may trace processes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from light_run.engine.daemon.memory import cgroup_folders, is_unified
from light_run.system.disk_usage import BLOCK

_PROC = Path("/proc")
# Descriptors, and what is mapped without one.
_FOLDERS = ("fd", "map_files")
_TRACE = 1 << 19


def may_look() -> bool:
    """Whether this process may look at what processes of others have open: it has CAP_SYS_PTRACE."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = (_PROC / "self" / "status").read_text()
        return bool(int(status.partition("CapEff:")[2].split()[0], 16) & _TRACE)
    return False


def unlinked_bytes(container: str, devices: Collection[int]) -> int | None:
    """Return the bytes on disk of files without a name that processes of `container` hold.

    Only files on its root file system and on `devices` count, each once; not those in memory, which is limited by
    itself. None if that cannot be known here.
    """
    found: dict[tuple[int, int], int] = {}
    looked = False
    for process in _processes(container):
        with contextlib.suppress(OSError):
            wanted = {*devices, os.stat(process / "root" / ".").st_dev}
            for name in _FOLDERS:
                # Not of a process that has ended meanwhile.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    _note(process / name, wanted, found)
                    looked = looked or name == _FOLDERS[0]
    return sum(found.values()) if looked else None


def _processes(container: str) -> Iterator[Path]:
    for folder in cgroup_folders(container, "" if is_unified() else "memory"):
        if folder.is_dir():
            for below, _, _ in os.walk(folder):
                with contextlib.suppress(OSError):
                    for line in (Path(below) / "cgroup.procs").read_text().split():
                        # 0 is a process of another pid namespace.
                        if line != "0":
                            yield _PROC / line
            return


def _note(folder: Path, devices: Collection[int], found: dict[tuple[int, int], int]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            # Closed meanwhile, or not to be followed by us.
            with contextlib.suppress(OSError):
                status = entry.stat()
                if status.st_nlink == 0 and stat.S_ISREG(status.st_mode) and status.st_dev in devices:
                    found[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
