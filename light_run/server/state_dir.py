"""The state directory: creates it, locks it against a second server, and stores the server's id."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from light_run.errors import SettingsError
from light_run.system.folders import make_private

_guard = threading.Lock()
_held: dict[Path, tuple[int, int]] = {}


def prepare(state_dir: Path, artifacts_dir: Path) -> None:
    """Create both folders, with mode 0700, unless they exist. Raises `SettingsError`."""
    for name, folder in (("LIGHT_RUN_STATE_DIR", state_dir), ("LIGHT_RUN_ARTIFACTS_DIR", artifacts_dir)):
        try:
            make_private(folder)
            usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise SettingsError(f"{name}: cannot create {folder}: {error.strerror}") from None
        if not usable:
            raise SettingsError(f"{name}: this user cannot write to {folder}: give another folder")


@dataclass(frozen=True, slots=True)
class Identity:
    """The id that labels everything of one server, and whether its state directory is a copy of another one's."""

    server_id: str
    copied: bool = False


def identify(state_dir: Path) -> Identity:
    """Return the server's identity, the same after each restart.

    The id is bound to the inode of the file it lies in: a copy of the directory, which may be used beside the original,
    gets an id of its own. Otherwise each of the two servers would remove the other's containers.
    """
    path, bound = state_dir / "server-id", state_dir / "server-id.inode"
    # Both files can be empty after a power failure.
    known, inode = _text(path), _text(bound)
    copied = bool(known and inode) and inode != str(path.stat().st_ino)
    if copied or not known:
        known = str(uuid.uuid4())
        _replace(path, known)
        inode = ""
    if not inode:
        _replace(bound, str(path.stat().st_ino))
    return Identity(known, copied)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(f"{text}\n")
    new.replace(path)


def lock(state_dir: Path, wait: Callable[[int], bool] | None = None) -> None:
    """Lock `state_dir` for this process until `unlock` or until the process exits.

    A process can lock it several times. While another process holds the lock, `wait` is called repeatedly with
    that process's pid; it returns whether to keep waiting. Raises `SettingsError`.
    """
    with _guard:
        if state_dir in _held:
            descriptor, count = _held[state_dir]
            _held[state_dir] = (descriptor, count + 1)
            return
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try(descriptor):
                owner = _owner(descriptor)
                if wait is None or not wait(owner):
                    raise SettingsError(
                        f"LIGHT_RUN_STATE_DIR: another light-run (process {owner}) uses {state_dir}; "
                        "give this server a different folder"
                    )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        _held[state_dir] = (descriptor, 1)


def unlock(state_dir: Path) -> None:
    """Undo one `lock`."""
    with _guard:
        descriptor, count = _held.pop(state_dir)
        if count > 1:
            _held[state_dir] = (descriptor, count - 1)
        else:
            os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0
