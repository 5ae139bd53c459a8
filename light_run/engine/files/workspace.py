"""Workspaces: a folder for each run, written before the run is accepted, and mounted or copied at its workdir.

Workspaces live in ``<state>/workspaces/<run id>/files``. Everything above ``files`` is closed to other
users of the host (0700); ``files`` itself is open to whatever user the image runs as.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from light_run.engine.spec import MIB, File, Files
from light_run.errors import Fault, InvalidSpec
from light_run.system.folders import make_private
from light_run.system.removal import remove_tree

# Tars up to this size are created in memory, larger ones on disk.
_TAR_IN_MEMORY = 4 * MIB

# Every user of the image must be able to read and write the posted files.
FOR_ALL = 0o666
ANY_USER = 0o777

# Names the workspace that a run's files were moved to.
_MOVED = "moved"


# The hosts file that the engine writes for a container without a network.
_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


class Workspace:
    """One run's folder; `files` is what the container sees at its workdir, `hosts` as its ``/etc/hosts``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.hosts = folder / "hosts"

    def create(self) -> None:
        """Create the folder, empty. Raises OSError; nothing is left behind then."""
        # The folder of all of them may have been removed since the start.
        make_private(self.folder.parent)
        self.folder.mkdir(mode=0o700)
        try:
            self.files.mkdir()
            self.files.chmod(ANY_USER)
            self.hosts.write_text(_HOSTS)
            # As usual, root in the container may write it, and others may read it.
            self.hosts.chmod(0o644)
        except BaseException:
            self.remove()
            raise

    def write(self, files: Files) -> None:
        """Write `files`, relative path → content. Raises InvalidSpec for a path that leaves the folder, OSError."""
        if isinstance(files, Path):
            self._copy(files)
            return
        made: set[str] = set()
        for path, content in files.items():
            file = as_file(content)
            parts = relative_parts(path)
            parent = self._make_parents(parts[:-1], made)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(os.path.join(parent, parts[-1]), flags, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(file.content)
                os.fchmod(descriptor, file.mode | FOR_ALL)

    def _copy(self, folder: Path) -> None:
        shutil.copytree(folder, self.files, dirs_exist_ok=True, ignore=_not_regular)
        for parent, _, names in os.walk(self.files):
            os.chmod(parent, ANY_USER)
            for name in names:
                path = os.path.join(parent, name)
                os.chmod(path, os.stat(path).st_mode | FOR_ALL)

    def _make_parents(self, parts: tuple[str, ...], made: set[str]) -> str:
        path = str(self.files)
        for part in parts:
            path = os.path.join(path, part)
            if path not in made:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path)
                    # Not with mkdir's mode, which is reduced by the umask.
                    os.chmod(path, ANY_USER)
                made.add(path)
        return path

    def move_into(self, other: Workspace) -> None:
        """Move all files to `other`, an empty workspace next to this one."""
        # Recorded first, so that an interrupted move can be undone.
        (self.folder / _MOVED).write_text(other.folder.name)
        _move(self.files, other.files)

    def moved_to(self) -> Workspace | None:
        """Return the workspace to which `move_into` moved the files; None if it was not called, or undone."""
        try:
            return Workspace(self.folder.parent / (self.folder / _MOVED).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def move_back(self) -> None:
        """Undo `move_into`, even an interrupted one, and remove the other workspace."""
        other = self.moved_to()
        if other is None:
            return
        if other.files.is_dir():
            _move(other.files, self.files)
            other.remove()
        (self.folder / _MOVED).unlink()

    @contextlib.contextmanager
    def tar(self, name: str, *, opened: bool, hosts: bool) -> Iterator[IO[bytes]]:
        """An uncompressed tar of what was written: regular files and directories alone, in a folder `name`.

        `opened` says whether that folder is in it with a mode of its own, `hosts` whether ``etc/hosts`` is.
        """
        with tempfile.SpooledTemporaryFile(max_size=_TAR_IN_MEMORY, dir=str(self.folder)) as spool:
            with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as tar:
                if hosts:
                    # First: one that was posted to /etc takes its place.
                    tar.add(self.hosts, arcname="etc/hosts", filter=_anonymous)
                if opened:
                    tar.add(self.files, arcname=name, filter=_anonymous)
                else:
                    for path in self.files.iterdir():
                        tar.add(path, arcname=posixpath.join(name, path.name), filter=_anonymous)
            spool.seek(0)
            yield spool

    def remove(self) -> bool:
        """Remove the folder. Returns False if something in it cannot be removed by this user."""
        try:
            remove_tree(self.folder)
        except OSError:
            return False
        return True


class Workspaces:
    """The folder of all workspaces: in `state_dir`, or a temporary one if that is None."""

    def __init__(self, state_dir: Path | None) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._folder: Path | None = None
        self._earlier: list[Path] = []

    def of(self, run_id: str) -> Workspace:
        """The workspace of one run; it need not exist."""
        return Workspace(self._ensure() / run_id)

    @property
    def folder(self) -> Path:
        """The folder of all of them."""
        return self._ensure()

    @property
    def earlier(self) -> list[Path]:
        """The folders that existed before this process created its first one."""
        self._ensure()
        return self._earlier

    def close(self) -> None:
        """Remove the folder if it is a temporary one."""
        if self._temporary is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                remove_tree(self._folder)
            self._temporary.cleanup()

    def _ensure(self) -> Path:
        # Created on first use: creating a Runner has no side effects.
        with self._lock:
            if self._folder is None:
                state_dir = self._state_dir
                if state_dir is None:
                    self._temporary = tempfile.TemporaryDirectory(prefix="light-run-")
                    state_dir = Path(self._temporary.name)
                self._folder = state_dir / "workspaces"
                make_private(self._folder)
                self._earlier = list(self._folder.iterdir())
            return self._folder


def _move(source: Path, target: Path) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            os.rename(entry.path, target / entry.name)


def as_file(content: File | bytes | str) -> File:
    """Return `content` as a File; a string is encoded as UTF-8."""
    if isinstance(content, File):
        return content
    return File(content.encode() if isinstance(content, str) else content)


def relative_parts(path: str) -> tuple[str, ...]:
    """Return the segments of a relative path. Raises InvalidSpec if it is absolute, empty or has ``..``."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or not parts or ".." in parts or "\0" in path:
        message = f"{path!r} is no path inside the workdir: it must be relative, with no '..' segment"
        raise InvalidSpec([Fault(("files", path), "invalid_path", message)])
    return parts


def container_path(workdir: str, path: str) -> str:
    """Return `path` as an absolute, normalised path in the container."""
    return posixpath.normpath("/" + posixpath.join(workdir, path).lstrip("/"))


def parts_below(folder: str, path: str) -> tuple[str, ...] | None:
    """The segments from `folder` down to `path`, both absolute container paths; None where it lies elsewhere."""
    folder_parts = tuple(part for part in folder.split("/") if part)
    path_parts = tuple(part for part in path.split("/") if part)
    if path_parts[: len(folder_parts)] != folder_parts:
        return None
    return path_parts[len(folder_parts) :]


def _not_regular(folder: str, names: list[str]) -> list[str]:
    # A link may lead out of the folder or in circles, and reading a pipe would never end.
    kinds = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [name for name, mode in kinds.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
