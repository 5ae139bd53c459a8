"""Stores the artifacts of runs on disk; lists, opens and removes them without following links."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from light_run.artifacts.paths import original, printable, segments
from light_run.errors import ArtifactNotFound, InvalidPath
from light_run.system.disk_usage import DiskUsage, disk_usage
from light_run.system.folders import make_private
from light_run.system.removal import remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe that replaced the file after the check must not block.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Errors of the file system for a path that names no accessible artifact.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES}

# On the same file system as the runs' folders, so that a folder can be moved here by a rename.
TRASH = ".trash"


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """A file or directory of a run: `path` is relative to its folder, `bytes` is 0 for a directory."""

    path: str
    bytes: int
    type: str


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open artifact; the caller closes `handle`.

    `name` is the last segment of its path and `location` the path relative to the store's root, both as in the
    file system. `modified` is in nanoseconds since the epoch.
    """

    handle: BinaryIO
    name: str
    location: str
    bytes: int
    modified: int

    @property
    def etag(self) -> str:
        """An entity tag without quotes. Artifacts are written once, so their size and time identify the content."""
        return f"{self.modified:x}-{self.bytes:x}"


class ArtifactStore:
    """The artifact folders in `root`, one for each run. `root` is created with mode 0700 if it is missing."""

    def __init__(self, root: Path) -> None:
        make_private(root)
        self.root = root
        self._lock = threading.Lock()
        # Names in the trash that a thread is removing.
        self._being_removed: set[str] = set()

    def folder(self, run_id: str) -> Path:
        """Return the folder of `run_id`, which may not exist. Raises `InvalidPath` if that is not a run id."""
        if not run_id or run_id.startswith(".") or "/" in run_id or "\0" in run_id:
            raise InvalidPath("the run id is not valid")
        return self.root / run_id

    def list(self, run_id: str) -> tuple[ArtifactEntry, ...]:
        """Return all files and directories of `run_id`, sorted by path; empty if it has no folder."""
        found: list[ArtifactEntry] = []
        ahead: list[tuple[str, ...]] = [()]
        while ahead:
            parents = ahead.pop()
            for entry, is_directory, size in self._scan(run_id, parents):
                path = (*parents, entry)
                if is_directory:
                    ahead.append(path)
                found.append(_entry("/".join(path), is_directory, size))
        return _sorted(found)

    def open(self, run_id: str, path: str) -> OpenFile | tuple[ArtifactEntry, ...]:
        """Open the file at `path` of `run_id`; for a directory, return its entries, with their names as paths.

        Raises `InvalidPath` if the path leads out of the folder, `ArtifactNotFound` if it is neither a regular
        file nor a directory. Names that are not UTF-8 can be decoded by ``os.fsdecode`` or encoded as in `list`.
        """
        names = segments(path)
        # As listed, as it is, and decoded.
        decoded = tuple(unquote(name, errors="surrogateescape") for name in names)
        missing: ArtifactNotFound | None = None
        for each in dict.fromkeys((tuple(map(original, names)), names, decoded)):
            if each == names or not any("/" in name or name in ("", ".", "..") for name in each):
                try:
                    return self._open(run_id, each)
                except ArtifactNotFound as error:
                    missing = error
        raise missing or ArtifactNotFound("there is no such artifact")

    def remove(self, run_id: str) -> None:
        """Remove the folder of `run_id`, if it exists, whatever the modes of the files in it.

        The folder disappears at once. An OSError means that some of its files still use disk space.
        """
        self.empty_trash(self.discard(run_id))

    def discard(self, run_id: str) -> str | None:
        """Move the folder to the trash and return its name there, or None if there is no folder."""
        trash = self.root / TRASH
        name = secrets.token_hex(16)
        try:
            trash.mkdir(mode=0o700, exist_ok=True)
            os.rename(self.folder(run_id), trash / name)
        except FileNotFoundError:
            return None
        return name

    def empty_trash(self, name: str | None = "") -> None:
        """Remove `name` from the trash, or everything if it is ""; None does nothing. Raises OSError."""
        if name is None:
            return
        trash = self.root / TRASH
        try:
            names = [name] if name else os.listdir(trash)
        except FileNotFoundError:
            return
        for each in names:
            self._remove_trash(trash, each)

    def _remove_trash(self, trash: Path, name: str) -> None:
        # Two threads must not remove the same tree.
        with self._lock:
            if name in self._being_removed:
                return
            self._being_removed.add(name)
        try:
            remove_tree(trash / name)
        finally:
            with self._lock:
                self._being_removed.discard(name)

    def run_ids(self) -> dict[str, float]:
        """Return the ids of all folders, including those of earlier servers, with their modification times."""
        found = {}
        # It may have been removed since the start.
        make_private(self.root)
        with os.scandir(self.root) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    # The run can be deleted in the meantime.
                    with suppress(FileNotFoundError):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_mtime
        return found

    def room(self) -> tuple[int, int]:
        """Return the free and the total bytes of the disk of the artifacts."""
        make_private(self.root)
        found = shutil.disk_usage(self.root)
        return found.free, found.total

    def usage(self, run_id: str) -> DiskUsage:
        """Measure the disk space of the folder of `run_id`; zero if it does not exist."""
        return disk_usage(str(self.folder(run_id)))

    def _open(self, run_id: str, names: tuple[str, ...]) -> OpenFile | tuple[ArtifactEntry, ...]:
        if not names:
            return self._children(run_id, ())
        with self._directory(run_id, names[:-1]) as parent, _missing_as_not_found():
            found = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                return _open_file(parent, names[-1], "/".join((run_id, *names)))
        if stat.S_ISDIR(found.st_mode):
            return self._children(run_id, names)
        raise ArtifactNotFound("the artifact is neither a file nor a directory")

    def _children(self, run_id: str, names: tuple[str, ...]) -> tuple[ArtifactEntry, ...]:
        with self._directory(run_id, names):
            pass
        return _sorted(_entry(*child) for child in self._scan(run_id, names))

    def _scan(self, run_id: str, names: tuple[str, ...]) -> Iterator[tuple[str, bool, int]]:
        # Yields (name, is directory, bytes) for each entry; entries removed in the meantime are skipped.
        try:
            with self._directory(run_id, names) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        yield entry.name, True, 0
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.name, False, entry.stat(follow_symlinks=False).st_size
        except (ArtifactNotFound, FileNotFoundError):
            return

    @contextmanager
    def _directory(self, run_id: str, names: tuple[str, ...]) -> Iterator[int]:
        # Opens each segment relative to the descriptor of its parent, so that no link in the path is followed.
        with _missing_as_not_found():
            current = os.open(self.folder(run_id), _DIRECTORY)
        try:
            for name in names:
                with _missing_as_not_found():
                    child = os.open(name, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = child
            yield current
        finally:
            os.close(current)


@contextmanager
def _missing_as_not_found() -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError:
        # The name has a surrogate that represents no byte, so no file can have it.
        raise ArtifactNotFound("there is no such artifact") from None
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise ArtifactNotFound("there is no such artifact") from None


def _entry(path: str, is_directory: bool, size: int) -> ArtifactEntry:
    return ArtifactEntry(printable(path), size, "directory" if is_directory else "file")


def _sorted(entries: Iterable[ArtifactEntry]) -> tuple[ArtifactEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _open_file(parent: int, name: str, location: str) -> OpenFile:
    descriptor = os.open(name, _FILE, dir_fd=parent)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ArtifactNotFound("the artifact is no longer a file")
    return OpenFile(open(descriptor, "rb"), name, location, found.st_size, found.st_mtime_ns)
