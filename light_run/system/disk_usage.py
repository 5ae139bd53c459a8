"""Measures the disk space of a folder that a hostile container may be writing to."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field

BLOCK = 512
# The bytes that a file without blocks counts, because a disk has a limited number of inodes.
LEAST = 4096
# Down to this depth, a descriptor of each folder is kept open; below, only one in total.
_DEEPEST = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class DiskUsage:
    """The `bytes` on disk below a folder, and its number of `files` of any kind.

    Blocks count, not lengths, and a file counts once however many hard links it has. `closed` are the directories that
    this process may not read, as relative paths.
    """

    bytes: float = 0
    files: float = 0
    closed: list[str] = field(default_factory=list)


def disk_usage(folder: str) -> DiskUsage:
    """Measure `folder`. Follows no link, even one that is swapped in meanwhile. Raises OSError."""
    found = DiskUsage()
    _enter(folder, None, "", _DEEPEST, found)
    return found


def _enter(name: str, parent: int | None, path: str, levels: int, found: DiskUsage) -> None:
    directory = _open(name, parent, path, found)
    if directory is None:
        return
    if not levels:
        # `_walk_deep` closes the descriptor.
        _walk_deep(directory, path, found)
        return
    try:
        for child in _count(directory, path, found):
            _enter(child, directory, os.path.join(path, child), levels - 1, found)
    finally:
        os.close(directory)


def _open(name: str, parent: int | None, path: str, found: DiskUsage) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        found.closed.append(path)
        return None


def _count(directory: int, path: str, found: DiskUsage) -> list[str]:
    # Counts everything in one folder; returns the names of the folders in it.
    below = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    # Each of a file's names counts its share of it.
                    names = 1 if stat.S_ISDIR(status.st_mode) else max(1, status.st_nlink)
                    found.bytes += max(status.st_blocks * BLOCK, LEAST) / names
                    found.files += 1 / names
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
    except PermissionError:
        # The directory can be listed, but its entries cannot be inspected.
        found.closed.append(path)
        return []
    return below


def _walk_deep(directory: int, path: str, found: DiskUsage) -> None:
    # Walks any depth with one descriptor: goes back with "..", if that is still the parent directory.
    above: list[tuple[tuple[int, int], list[str]]] = []
    here = _identity(directory)
    ahead = _count(directory, path, found)
    try:
        while ahead or above:
            if ahead:
                below = _open(ahead.pop(), directory, path, found)
                if below is None:
                    continue
                above.append((here, ahead))
                os.close(directory)
                directory, here = below, _identity(below)
                ahead = _count(directory, path, found)
            else:
                expected, ahead = above.pop()
                parent = os.open("..", _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory, here = parent, _identity(parent)
                if here != expected:
                    # The directory was moved. Its new parent may be outside of the folder.
                    return
    finally:
        os.close(directory)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
