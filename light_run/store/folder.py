"""Objects as files of a folder that all hosts share, such as NFS or CephFS."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from light_run.errors import InsufficientStorage, StoredNotFound, StoreUnavailable
from light_run.system.removal import remove_tree

_FULL = {errno.ENOSPC, errno.EDQUOT}
# What a file system in the network answers for a file that another host has just replaced.
_STALE = errno.ESTALE
_ATTEMPTS = 3
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# No key begins so: a file that is being written is no object.
_UNFINISHED = "."


class FolderObjects:
    """The `Objects` in the folder `root`, which must exist: a file system that is not mounted must not go unnoticed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        """See `Objects`."""
        if not self._root.is_dir():
            raise StoreUnavailable(
                f"the store's folder {self._root} does not exist: create it, or mount its file system"
            )
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnavailable(f"this user cannot write to the store's folder {self._root}")

    def write(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Objects`."""
        path = self._root / key
        unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        with self._translated():
            self.check()
            self._make_parents(path.parent)
            descriptor = os.open(unfinished, _WRITE, 0o600)
        try:
            size = self._fill(descriptor, blocks)
            with self._translated():
                os.replace(unfinished, path)
                _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
        return size

    def _fill(self, descriptor: int, blocks: Iterable[bytes]) -> int:
        size = 0
        try:
            # Errors of the source are the caller's: only those of the folder are translated.
            for block in blocks:
                left = memoryview(block)
                while left:
                    with self._translated():
                        left = left[os.write(descriptor, left) :]
                size += len(block)
            with self._translated():
                os.fsync(descriptor)
        finally:
            with self._translated():
                os.close(descriptor)
        return size

    def open(self, key: str) -> BinaryIO:
        """See `Objects`."""
        with self._translated(key):
            for attempt in range(_ATTEMPTS):
                try:
                    return open(os.open(self._root / key, _READ), "rb")
                except OSError as error:
                    if error.errno != _STALE or attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Objects`."""
        ahead = [prefix]
        while ahead:
            folder = ahead.pop()
            for entry in self._scan(folder):
                key = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(key)
                    continue
                # It may have been removed in the meantime.
                with contextlib.suppress(FileNotFoundError), self._translated():
                    yield key, entry.stat(follow_symlinks=False).st_size

    def names(self, prefix: str) -> Iterator[str]:
        """See `Objects`."""
        for entry in self._scan(prefix):
            yield entry.name

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        with self._translated():
            try:
                with os.scandir(self._root / folder) as entries:
                    return [entry for entry in entries if not entry.name.startswith(_UNFINISHED)]
            except (FileNotFoundError, NotADirectoryError):
                self.check()
                return []

    def remove(self, keys: Iterable[str]) -> None:
        """See `Objects`."""
        for key in keys:
            path = self._root / key
            with self._translated():
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    self.check()

    def remove_all(self, prefix: str) -> None:
        """See `Objects`."""
        self.check()
        with self._translated():
            remove_tree(self._root / prefix)

    def close(self) -> None:
        """See `Objects`."""

    def _make_parents(self, folder: Path) -> None:
        missing = []
        while folder != self._root and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=0o700)
            _sync_folder(each.parent)

    @contextlib.contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if key is not None and self._root.is_dir():
                raise StoredNotFound(f"the store has no {key}") from error
            raise StoreUnavailable(f"the store's folder {self._root} cannot be used: {error}") from error
        except OSError as error:
            if error.errno in _FULL:
                raise InsufficientStorage(f"the store's folder {self._root} is full") from error
            raise StoreUnavailable(
                f"the store's folder {self._root} cannot be used: {error.strerror or error}"
            ) from error


def _sync_folder(folder: Path) -> None:
    # The name of a new file is on the disk only when its folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
