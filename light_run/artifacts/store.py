"""The folders that runs leave: listed, opened and removed without ever following a link."""

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

from light_run.artifacts.paths import printable, segments
from light_run.errors import ArtifactNotFound, InvalidPath
from light_run.system.removal import remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe swapped in between the look and the open must not hold the thread.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# How the file system says that a path names nothing that may be given.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES}

# Beside the runs' folders, on the same file system, so that taking a folder away is one rename.
TRASH = ".trash"


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """A file or directory of a run: `path` below its folder, `bytes` 0 for a directory."""

    path: str
    bytes: int
    type: str


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An artifact's bytes, to be closed by the caller.

    `name` is its last segment and `location` its path below the store's root, both as the file system
    has them. `modified` is in nanoseconds since the epoch; `etag` changes with the bytes.
    """

    handle: BinaryIO
    name: str
    location: str
    bytes: int
    modified: int

    @property
    def etag(self) -> str:
        """An opaque word without quotes: artifacts are written once, so size and time say enough."""
        return f"{self.modified:x}-{self.bytes:x}"


class ArtifactStore:
    """The folders below `root`, one a run; made where it is missing, closed to other users."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root
        self._lock = threading.Lock()
        # What somebody removes from the trash right now.
        self._going: set[str] = set()

    def folder(self, run_id: str) -> Path:
        """Where `run_id`'s artifacts go; it need not exist. Raises `InvalidPath` for what is no run id."""
        if not run_id or run_id.startswith(".") or "/" in run_id or "\0" in run_id:
            raise InvalidPath("that is no run id")
        return self.root / run_id

    def list(self, run_id: str) -> tuple[ArtifactEntry, ...]:
        """Every file and directory of `run_id`, sorted by path; none where it left nothing."""
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
        """The file at `path` of `run_id`, or a directory's own entries with their names as paths.

        Raises `InvalidPath` where the path leads out of the folder, `ArtifactNotFound` where it names
        neither a regular file nor a directory. A name that is not UTF-8 may be given as ``os.fsdecode``
        makes it, or as `list` writes it.
        """
        names = segments(path)
        try:
            return self._open(run_id, names)
        except ArtifactNotFound:
            decoded = tuple(unquote(name, errors="surrogateescape") for name in names)
            if decoded == names or any("/" in name or name in ("", ".", "..") for name in decoded):
                raise
            return self._open(run_id, decoded)

    def remove(self, run_id: str) -> None:
        """Remove `run_id`'s folder, whatever modes are in it; one that is not there is fine.

        It is out of sight at once; an OSError means that some of it still takes room.
        """
        self.empty_trash(self.discard(run_id))

    def discard(self, run_id: str) -> str | None:
        """Take the folder out of sight in one step; its name in the trash, None where there was none."""
        trash = self.root / TRASH
        name = secrets.token_hex(16)
        try:
            trash.mkdir(mode=0o700, exist_ok=True)
            os.rename(self.folder(run_id), trash / name)
        except FileNotFoundError:
            return None
        return name

    def empty_trash(self, name: str | None = "") -> None:
        """Remove `name` from the trash, or everything in it; None is nothing. Raises OSError."""
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
        # Two that remove one tree disturb each other.
        with self._lock:
            if name in self._going:
                return
            self._going.add(name)
        try:
            remove_tree(trash / name)
        finally:
            with self._lock:
                self._going.discard(name)

    def run_ids(self) -> dict[str, float]:
        """Every folder there is, also one an earlier server left, and when it was made."""
        found = {}
        with os.scandir(self.root) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    # Its run may be deleted meanwhile.
                    with suppress(FileNotFoundError):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_mtime
        return found

    def room(self) -> tuple[int, int]:
        """How many bytes are free on the disk of the artifacts, and how many it has."""
        found = shutil.disk_usage(self.root)
        return found.free, found.total

    def size(self, run_id: str) -> int:
        """Bytes of all files of `run_id`."""
        return sum(entry.bytes for entry in self.list(run_id))

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
        # (name, is it a directory, bytes) of what is there now; what vanishes meanwhile is left out.
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
        # Segment by segment, each from its parent's descriptor: no link is followed anywhere on the way.
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
        # A lone surrogate that stands for no byte: no file has such a name.
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
