"""The artifacts of one attempt: an index, and the contents of all files in one object."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote

from light_run.artifacts.paths import printable, segments
from light_run.artifacts.store import ArtifactEntry, OpenFile
from light_run.errors import ArtifactNotFound
from light_run.store.objects import BLOCK

_FORMAT = 1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe that replaced the file after the check must not block.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A file or directory: its `path` as in the file system, and where its content is.

    `modified` is in nanoseconds since the epoch. A directory has no content, and None for `offset`.
    """

    path: str
    offset: int | None
    bytes: int
    modified: int


class StoredArtifacts:
    """The artifacts in `entries`; `contents` opens the object with the contents of all files."""

    def __init__(
        self, entries: list[StoredEntry], contents: Callable[[], BinaryIO], *, location: str
    ) -> None:
        self._entries = {entry.path: entry for entry in entries}
        self._contents = contents
        self._location = location

    def list(self) -> tuple[ArtifactEntry, ...]:
        """Return all files and directories, sorted by path."""
        return _sorted((entry.path, entry) for entry in self._entries.values())

    def open(self, path: str) -> OpenFile | tuple[ArtifactEntry, ...]:
        """Open the file at `path`; for a directory, return its entries, with their names as paths.

        The caller closes the file. Raises `InvalidPath`, `ArtifactNotFound`, and as `Objects.open` does.
        """
        names = segments(path)
        if not names:
            return self._children("")
        entry = self._entries.get("/".join(names))
        if entry is None:
            decoded = [unquote(name, errors="surrogateescape") for name in names]
            entry = None if any("/" in name for name in decoded) else self._entries.get("/".join(decoded))
        if entry is None:
            raise ArtifactNotFound("there is no such artifact")
        if entry.offset is None:
            return self._children(f"{entry.path}/")
        return self._opened(entry, entry.offset, self._contents(), closes=True)

    def contents(self) -> Iterator[tuple[ArtifactEntry, OpenFile | None]]:
        """Yield every entry in one pass over the contents, directories before what is in them.

        A file is open until the next entry is asked for.
        """
        with self._contents() as contents:
            for path, entry in self._entries.items():
                if entry.offset is None:
                    yield _listed(path, entry), None
                    continue
                file = self._opened(entry, entry.offset, contents, closes=False)
                with file.handle:
                    yield _listed(path, entry), file

    def _opened(self, entry: StoredEntry, offset: int, contents: BinaryIO, *, closes: bool) -> OpenFile:
        window = io.BufferedReader(Window(contents, offset, entry.bytes, closes=closes), BLOCK)
        name = entry.path.rsplit("/", 1)[-1]
        location = f"{self._location}/{entry.path}"
        return OpenFile(cast("BinaryIO", window), name, location, entry.bytes, entry.modified)

    def _children(self, parent: str) -> tuple[ArtifactEntry, ...]:
        found = (
            (entry.path[len(parent) :], entry)
            for entry in self._entries.values()
            if entry.path.startswith(parent)
        )
        return _sorted((name, entry) for name, entry in found if name and "/" not in name)


class Window(io.RawIOBase):
    """The `size` bytes of `file` from `start`, as a file of its own. Closing it `closes` `file`."""

    def __init__(self, file: BinaryIO, start: int, size: int, *, closes: bool) -> None:
        self._file, self._start, self._size, self._closes = file, start, size, closes
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, from the start of the window."""
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        if position < 0:
            raise ValueError(f"there is no position {position}")
        self._at = position
        return position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into `buffer`; returns the number of bytes, 0 at the end of the window."""
        found = self._next(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """Return what is left of the window."""
        return self._next(self._size)

    def _next(self, most: int) -> bytes:
        wanted = min(most, self._size - self._at)
        if wanted <= 0:
            return b""
        self._file.seek(self._start + self._at)
        found = self._file.read(wanted)
        self._at += len(found)
        return found

    def close(self) -> None:
        """Close the window."""
        if self._closes:
            self._file.close()
        super().close()


@contextmanager
def packed(folder: Path) -> Iterator[tuple[list[StoredEntry], Iterator[bytes]]]:
    """Open `folder`; yields the list of entries, complete once the iterator of contents is exhausted.

    Follows no link. A file that shrinks or grows meanwhile is stored as it is found.
    """
    entries: list[StoredEntry] = []
    content = _pack(folder, entries) if folder.exists() else _nothing()
    try:
        yield entries, content
    finally:
        content.close()


def _nothing() -> Generator[bytes, None, None]:
    yield from ()


def _pack(folder: Path, entries: list[StoredEntry]) -> Generator[bytes, None, None]:
    offset = 0
    ahead: list[tuple[str, ...]] = [()]
    while ahead:
        names = ahead.pop()
        with _directory(folder, names) as directory:
            for name, is_directory in _scan(directory):
                path = (*names, name)
                if is_directory:
                    ahead.append(path)
                    entries.append(StoredEntry("/".join(path), None, 0, 0))
                    continue
                file = _open_regular(directory, name)
                if file is None:
                    continue
                start = offset
                with file:
                    modified = os.fstat(file.fileno()).st_mtime_ns
                    while block := file.read(BLOCK):
                        offset += len(block)
                        yield block
                entries.append(StoredEntry("/".join(path), start, offset - start, modified))


def _scan(directory: int) -> list[tuple[str, bool]]:
    with os.scandir(directory) as found:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in found
            if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
        )


@contextmanager
def _directory(folder: Path, names: tuple[str, ...]) -> Iterator[int]:
    # Opens each segment relative to the descriptor of its parent, so that no link in the path is followed.
    current = os.open(folder, _DIRECTORY)
    try:
        for name in names:
            child = os.open(name, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = child
        yield current
    finally:
        os.close(current)


def _open_regular(parent: int, name: str) -> BinaryIO | None:
    descriptor = os.open(name, _FILE, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return open(descriptor, "rb")


def encode_index(contents: str, entries: list[StoredEntry]) -> bytes:
    """Return the index: `contents` names the object with the contents of the files."""
    rows = [(entry.path, entry.offset, entry.bytes, entry.modified) for entry in entries]
    # Bytes that are not UTF-8 are lone surrogates, which JSON has an escape for.
    return json.dumps(
        {"format": _FORMAT, "contents": contents, "entries": rows}, separators=(",", ":")
    ).encode()


def decode_index(text: bytes) -> tuple[str, list[StoredEntry]]:
    """Return what `encode_index` was given. Raises ValueError."""
    try:
        index = json.loads(text)
        if index["format"] != _FORMAT:
            raise ValueError(f"it has format {index['format']!r}, this light-run knows {_FORMAT}")
        return index["contents"], [StoredEntry(*row) for row in index["entries"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no index of artifacts ({error})") from error


def _listed(path: str, entry: StoredEntry) -> ArtifactEntry:
    return ArtifactEntry(printable(path), entry.bytes, "directory" if entry.offset is None else "file")


def _sorted(entries: Iterator[tuple[str, StoredEntry]]) -> tuple[ArtifactEntry, ...]:
    return tuple(sorted((_listed(*each) for each in entries), key=lambda entry: entry.path))
