"""Removes directory trees that a hostile program may have created."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Needs no permission on the directory itself.
_NAMED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(root: Path) -> None:
    """Remove the directory `root` and its contents. Links are not followed; missing files are no error.

    Directories found inside are moved up to `root` and emptied there, so the depth of the tree, the
    length of its paths, and directories without permissions do not matter. Raises OSError.
    """
    try:
        if not _allow(None, os.fspath(root)):
            os.unlink(root)
            return
        top = os.open(root, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        os.rmdir(root)


def _empty(top: int) -> None:
    ahead = _unlink_files(top)
    while ahead:
        name = ahead.pop()
        with suppress(FileNotFoundError):
            try:
                descriptor = os.open(name, _DIRECTORY, dir_fd=top)
            except PermissionError:
                # The directory of another user. If it is empty, it can be removed nevertheless.
                if not _remove_empty(top, name):
                    raise
                continue
            try:
                for child in _unlink_files(descriptor):
                    # A unique name, because the directory's own may exist in the upper directory.
                    unique = f".{secrets.token_hex(16)}"
                    os.rename(child, unique, src_dir_fd=descriptor, dst_dir_fd=top)
                    ahead.append(unique)
            finally:
                os.close(descriptor)
            os.rmdir(name, dir_fd=top)


def _remove_empty(parent: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _unlink_files(directory: int) -> list[str]:
    # Removes everything except directories, which are made accessible and returned.
    with os.scandir(directory) as entries:
        # The type in the listing needs no system call. It may have changed in the meantime.
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    directories = []
    for name, is_directory in found:
        with suppress(FileNotFoundError):
            if is_directory and _allow(directory, name):
                directories.append(name)
            else:
                os.unlink(name, dir_fd=directory)
    return directories


def _allow(parent: int | None, name: str) -> bool:
    # Returns True for a directory, and gives us access to it. Its name may be a link by now, so the mode is changed
    # through the descriptor.
    try:
        descriptor = os.open(name, _NAMED, dir_fd=parent)
    except NotADirectoryError:
        return False
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)
    return True
