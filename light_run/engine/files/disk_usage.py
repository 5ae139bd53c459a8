"""How much disk a folder takes that a hostile container writes to at this moment."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field

_BLOCK = 512
# What a name without a block of its own counts, as one with a block: a disk runs out of names, too.
_EMPTY = 4096
# Each level costs a descriptor; nobody nests deeper but to hide.
_DEEPEST = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class DiskUsage:
    """The `bytes` of disk below a folder, infinite where it is nested too deep to look at.

    `closed` are the directories below it that this process may not look into, as relative paths.
    """

    bytes: float = 0
    closed: list[str] = field(default_factory=list)


def disk_usage(folder: str) -> DiskUsage:
    """Measure `folder`. Follows no link, also none that is swapped in meanwhile. Raises OSError."""
    found = DiskUsage()
    _enter(folder, None, "", _DEEPEST, found)
    return found


def _enter(name: str, parent: int | None, path: str, levels: int, found: DiskUsage) -> None:
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        found.closed.append(path)
        return
    try:
        _count(directory, path, levels, found)
    except PermissionError:
        # It may be listed, and what is in it not be looked at.
        found.closed.append(path)
    finally:
        os.close(directory)


def _count(directory: int, path: str, levels: int, found: DiskUsage) -> None:
    if not levels:
        found.bytes = float("inf")
        return
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                # Each of a file's names counts its share of it.
                names = 1 if stat.S_ISDIR(status.st_mode) else status.st_nlink
                found.bytes += max(status.st_blocks * _BLOCK, _EMPTY) / max(1, names)
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
    for name in below:
        _enter(name, directory, os.path.join(path, name), levels - 1, found)
