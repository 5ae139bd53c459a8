"""Writes the files of a request while they arrive: each once, in its final place, with limits on size and number."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import IO

from light_run.engine.files.workspace import ANY_USER, FOR_ALL, Workspace, as_file, relative_parts
from light_run.engine.spec import MOST_FILES, File
from light_run.errors import Fault, InvalidSpec, PayloadTooLarge

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777


class Intake:
    """Fills the empty `workspace` of a future run. A path that is given twice is a fault.

    `most_bytes` caps the contents in all, `most_entries` the files and folders. What a path is is left to
    the file system, where nobody else is at work yet: a million of them take no memory here.
    """

    def __init__(self, workspace: Workspace, most_bytes: int, most_entries: int = MOST_FILES) -> None:
        self.check: Callable[[], None] = lambda: None
        self.files = 0
        self._workspace = workspace
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._bytes = 0
        self._entries = 0

    def add_file(self, path: str, chunks: Iterable[bytes], mode: int = 0, source: str = "files") -> None:
        """Write a file at `path`, relative, with permissions `mode` beyond everybody's to read and write.

        `check` is called before each chunk. Raises InvalidSpec where `path` is taken or leads outside (the
        fault is that of ``source[path]``), PayloadTooLarge, OSError.
        """
        descriptor = self._create(relative_parts(path), source, path)
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                self.check()
                self._bytes += len(chunk)
                if self._bytes > self._most_bytes:
                    raise PayloadTooLarge(f"the files have more than {self._most_bytes} bytes in all")
                _write(file, chunk)
            os.fchmod(descriptor, mode & _PERMISSIONS | FOR_ALL)
        self.files += 1

    def add_directory(self, path: str, source: str = "files") -> None:
        """Create a folder and its parents; an existing one is fine. Raises as `add_file` does."""
        folder = self._make(relative_parts(path))
        if not os.path.isdir(folder):
            raise _fault(source, path, "is a folder, where a file is given")

    def copy_file(self, first: str, path: str, source: str = "files") -> bool:
        """Copy the file at `first`, which must have arrived already, to `path`. Returns False if it has not."""
        parts = relative_parts(first)
        where = self._workspace.files.joinpath(*parts)
        if parts == relative_parts(path) or not where.is_file():
            return False
        with where.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            self.add_file(path, iter(lambda: file.read(1 << 18), b""), mode, source)
        return True

    def write(self, files: Mapping[str, File | bytes | str]) -> None:
        """Write `files`, path → content. Raises as `add_file` does."""
        for path, content in files.items():
            file = as_file(content)
            self.add_file(path, [file.content], file.mode)

    def spool(self) -> IO[bytes]:
        """Return an empty, unnamed file on the same disk; it is removed when it is closed."""
        return tempfile.TemporaryFile(dir=self._workspace.folder)

    def _create(self, parts: tuple[str, ...], source: str, path: str) -> int:
        self.check()
        name = str(self._workspace.files.joinpath(*parts))
        try:
            try:
                descriptor = os.open(name, _NEW_FILE, 0o600)
            except FileNotFoundError:
                self._make(parts[:-1])
                descriptor = os.open(name, _NEW_FILE, 0o600)
        except FileExistsError:
            what = "is a file, and files lie below it" if os.path.isdir(name) else "is given more than once"
            raise _fault(source, path, what) from None
        except NotADirectoryError:
            raise _fault(source, path, "is in a folder that is also given as a file") from None
        try:
            self._count()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make(self, parts: tuple[str, ...]) -> str:
        folder = str(self._workspace.files)
        for part in parts:
            folder = os.path.join(folder, part)
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                os.mkdir(folder)
                self._count()
                # Not with mkdir's mode, which is reduced by the umask.
                os.chmod(folder, ANY_USER)
        return folder

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._most_entries:
            raise PayloadTooLarge(f"there are more than {self._most_entries} files and folders")


def _write(file: IO[bytes], chunk: bytes) -> None:
    # Unbuffered files may write only a part of the data.
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


def _fault(source: str, path: str, what: str) -> InvalidSpec:
    return InvalidSpec([Fault((source, path), "invalid_path", f"{source}[{json.dumps(path)}] {what}")])
