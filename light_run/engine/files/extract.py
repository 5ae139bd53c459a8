"""Files out: regular files and directories alone, whatever a hostile container left in their place.

Two sources, a mounted workspace (`from_folder`) and the engine's archive (`untar.from_tar`), fill one
`ArtifactFolder`, which holds the caps while it is filled. Names are bytes inside and reach the outside
by ``os.fsdecode``, since a container may call a file anything but NUL and slash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from light_run.engine.spec import RunArtifact
from light_run.system.folders import make_private

_CHUNK = 1 << 18
# Deeper trees are no one's output, and every path is opened segment by segment.
_DEEPEST = 100
# So many names may be looked at for each one that may be brought: links and special files cost time, too.
_LOOKS = 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a fifo that was swapped in must not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
# What a file system says that makes no hard link, or no more of one file.
_NO_LINK = {errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV}
# A front server in this one's group may send artifacts where the umask and the folder above allow it.
_FILE_MODE, _DIRECTORY_MODE = 0o640, 0o750

Parts = tuple[bytes, ...]


class ExtractError(Exception):
    """An entry that cannot be extracted; ``str()`` says why."""


class ArtifactFolder:
    """The folder artifacts are written to; it alone opens files for writing, below its own descriptor.

    `cap` is the most bytes one `extract` entry may bring, `entries` the most files and directories of
    all entries together; ten times as many names may be looked at, whatever they are. The folder is made when
    the first artifact comes. Names of one file are hard links to one file here, too: they count once, and no name
    outside is ever linked to. `check` is called before each name and each piece of a file; what it raises ends
    the extraction.
    """

    def __init__(self, path: Path, cap: int, entries: int) -> None:
        self.check: Callable[[], None] = lambda: None
        self._path = path
        self.cap = cap
        self._entries = entries
        self._looked_at = 0
        self._found: dict[Parts, RunArtifact] = {}
        self._entry_bytes = 0
        # Where a file with several names has come to, by its device and inode at the source, and the other way round.
        self._linked: dict[tuple[int, int], Parts] = {}
        self._sources: dict[Parts, tuple[int, int]] = {}

    @property
    def artifacts(self) -> tuple[RunArtifact, ...]:
        """What is in the folder, in order of path."""
        return tuple(self._found[parts] for parts in sorted(self._found))

    def begin_entry(self) -> None:
        """Count bytes anew: another `extract` entry begins."""
        self._entry_bytes = 0

    def look(self) -> None:
        """Count one more name, of an artifact or of what is none. Raises ExtractError, and what `check` raises."""
        self.check()
        self._looked_at += 1
        if self._looked_at > _LOOKS * self._entries:
            raise ExtractError(f"more than {_LOOKS * self._entries} names to look at")

    @property
    def entry_bytes(self) -> int:
        """Bytes the present entry has brought."""
        return self._entry_bytes

    def add_directory(self, parts: Parts) -> None:
        """Make a directory and its parents. Raises ExtractError, OSError."""
        if parts:
            with self._open_directory(parts):
                pass

    def add_file(self, parts: Parts, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file of at most `size` bytes; nothing of it stays on failure. Raises ExtractError, OSError."""
        if self._entry_bytes + size > self.cap:
            raise ExtractError(f"larger than the {self.cap} bytes that one entry may bring")
        _check_names(parts)
        self.check()
        with self._open_directory(parts[:-1]) as parent:
            self._count(parts)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=parent)
            self._forget(parts)
            written = 0
            try:
                with open(os.open(parts[-1], _NEW_FILE, _FILE_MODE, dir_fd=parent), "wb") as out:
                    for chunk in chunks:
                        self.check()
                        written += len(chunk)
                        # The file may have grown since it was measured.
                        if self._entry_bytes + written > self.cap:
                            raise ExtractError(f"larger than the {self.cap} bytes that one entry may bring")
                        _write_sparse(out, chunk)
                    out.truncate(written)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(parts[-1], dir_fd=parent)
                raise
        self._entry_bytes += written
        self._found[parts] = RunArtifact(_name(parts), written, "file")

    def add_link(self, first: Parts, parts: Parts) -> bool:
        """Make `parts` another name of the file `first`, which was added before; False if there is none.

        Raises ExtractError, OSError.
        """
        found = self._found.get(first)
        if found is None or found.type != "file" or first == parts:
            return False
        _check_names(parts)
        self.check()
        with self._open_directory(first[:-1]) as source, self._open_directory(parts[:-1]) as parent:
            self._count(parts)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=parent)
            self._forget(parts)
            try:
                os.link(first[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                linked = False
            else:
                linked = True
        if not linked:
            # A file may have no more names, or none but one where the file system knows no hard links.
            self.add_file(parts, 0, self._chunks(first))
        self._found[parts] = RunArtifact(_name(parts), found.bytes, "file")
        return True

    def add_name(self, parts: Parts, source: os.stat_result) -> bool:
        """Make `parts` another name of the file that came from `source` before; False if none did, or it is gone."""
        known = self._linked.get((source.st_dev, source.st_ino))
        return known is not None and self.add_link(known, parts)

    def note_name(self, parts: Parts, source: os.stat_result) -> None:
        """Remember that the file `parts` came from `source`, which has more names."""
        key = source.st_dev, source.st_ino
        self._linked[key], self._sources[parts] = parts, key

    def _forget(self, parts: Parts) -> None:
        # Another file takes its place.
        self._found.pop(parts, None)
        key = self._sources.pop(parts, None)
        if key is not None and self._linked.get(key) == parts:
            del self._linked[key]

    def _chunks(self, parts: Parts) -> Iterator[bytes]:
        with self._open_directory(parts[:-1]) as parent:
            descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
        with open(descriptor, "rb", buffering=0) as file:
            yield from chunks_of(file)

    def _count(self, parts: Parts) -> None:
        if parts not in self._found and len(self._found) >= self._entries:
            raise ExtractError(f"more than the {self._entries} files and directories that a run may bring")

    @contextlib.contextmanager
    def _open_directory(self, parts: Parts) -> Iterator[int]:
        if len(parts) > _DEEPEST:
            raise ExtractError(f"nested deeper than {_DEEPEST} directories")
        _check_names(parts)
        make_private(self._path.parent)
        self._path.mkdir(exist_ok=True, mode=_DIRECTORY_MODE)
        descriptor = os.open(self._path, _DIRECTORY)
        try:
            for depth, part in enumerate(parts, 1):
                if parts[:depth] not in self._found:
                    self._count(parts[:depth])
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, _DIRECTORY_MODE, dir_fd=descriptor)
                    self._found[parts[:depth]] = RunArtifact(_name(parts[:depth]), 0, "directory")
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def from_folder(root: Path, parts: tuple[str, ...], into: ArtifactFolder) -> None:
    """Take what lies at `parts` below `root`: a file as its basename, a directory's contents directly.

    Opens segment by segment and follows no link. Raises FileNotFoundError where there is nothing,
    ExtractError where it is neither file nor directory, PermissionError where this process may not read.
    """
    into.begin_entry()
    names = tuple(os.fsencode(part) for part in parts)
    top = os.open(root, _DIRECTORY)
    try:
        if not (names and _take_single_file(top, names, into)):
            take_tree(top, names, into)
    finally:
        os.close(top)


class Link(ExtractError):
    """A path leads through a symbolic link."""


def open_directory(top: int, names: Parts) -> int:
    """A descriptor of the directory at `names` below `top`, following no link. Raises Link, OSError."""
    # Only one stays open, however deep that is.
    descriptor = os.dup(top)
    for name in names:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=descriptor)
        except NotADirectoryError:
            # O_DIRECTORY with O_NOFOLLOW says this of a link and of a file alike.
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise Link("leads through a symbolic link, which is not followed") from None
            raise FileNotFoundError(os.fsdecode(name)) from None
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _take_single_file(top: int, names: Parts, into: ArtifactFolder) -> bool:
    # False where it is a directory.
    parent = open_directory(top, names[:-1])
    try:
        mode = os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            return False
        if not stat.S_ISREG(mode):
            raise ExtractError(f"is a {_kind(mode)}, and only regular files and directories are extracted")
        if not take_file(parent, names[-1], names[-1:], into):
            raise FileNotFoundError(os.fsdecode(names[-1]))
        return True
    finally:
        os.close(parent)


def take_tree(top: int, names: Parts, into: ArtifactFolder, below: Parts = ()) -> None:
    """Take what is in the directory at `names` below `top`, as what is in `below`. Raises as `from_folder`."""
    ahead: list[Parts] = [()]
    while ahead:
        parts = ahead.pop()
        try:
            directory = open_directory(top, names + parts)
        except (FileNotFoundError, Link):
            if not parts:
                raise
            # Swapped since it was listed; what it is now is not what was asked for.
            continue
        try:
            into.add_directory((*below, *parts))
            ahead += _take_entries(directory, parts, into, below)
        finally:
            os.close(directory)


def _take_entries(directory: int, parts: Parts, into: ArtifactFolder, below: Parts) -> list[Parts]:
    # Takes the files; the directories are counted now and taken later.
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            into.look()
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                into.add_directory((*below, *parts, name))
                directories.append((*parts, name))
            elif entry.is_file(follow_symlinks=False):
                take_file(directory, name, (*below, *parts, name), into)
    return directories


def take_file(directory: int, name: bytes, parts: Parts, into: ArtifactFolder) -> bool:
    """Take the file `name` in `directory` as `parts`; False where it is no regular file any more."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except OSError as error:
        # Nothing, a link, a socket, a device of no driver; anything else is a failure of ours.
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV):
            return False
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        if status.st_nlink > 1 and into.add_name(parts, status):
            return True
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            into.add_file(parts, status.st_size, chunks_of(file))
        if status.st_nlink > 1:
            into.note_name(parts, status)
        return True
    finally:
        os.close(descriptor)


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of `file`, piece by piece."""
    while chunk := file.read(_CHUNK):
        yield chunk


# The block of most file systems, which is the least that a hole saves.
_BLOCK = 4096
_ZEROS = bytes(_CHUNK)
_HOLE = bytes(_BLOCK)


def _write_sparse(out: IO[bytes], chunk: bytes) -> None:
    # A sparse file that a container left must not take more of the disk here than it did there.
    if len(chunk) == _CHUNK and chunk == _ZEROS:
        out.seek(_CHUNK, os.SEEK_CUR)
    elif _HOLE not in chunk:
        out.write(chunk)
    else:
        for start in range(0, len(chunk), _BLOCK):
            block = chunk[start : start + _BLOCK]
            if block == _HOLE:
                out.seek(_BLOCK, os.SEEK_CUR)
            else:
                out.write(block)


def _check_names(parts: Parts) -> None:
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in parts):
        raise ExtractError("a name that leaves its directory")


def _name(parts: Parts) -> str:
    return os.fsdecode(b"/".join(parts))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "symbolic link",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
