"""Trees to extract from, hostile ones too, and what came out of them."""

from __future__ import annotations

import os
import socket
import stat
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from light_run.engine.files.extract import ArtifactFolder, from_folder
from light_run.engine.files.untar import from_tar

SECRET = b"a secret of the host\n"

# Every name is legal to the kernel; none may do anything but name a file.
ODD_NAMES = (
    b"-rf",
    b"new\nline",
    b"n" * 255,
    b"not-utf8-\xff\xfe",
    b"\xed\xa0\x80",
    b"back\\..\\slash",
    b"..name",
    b"...",
    b" ",
    b"C:",
    b"%2e%2e",
    b"*",
    b"\x01\x7f",
    "ünï-\U0001f600".encode(),
    b"a\tb;c'd\"e$(id)",
)


class Chunks:
    """An archive in the pieces that a connection gives; `ended` once it was read to its end."""

    def __init__(self, data: bytes, size: int = 65536) -> None:
        self._data = data
        self._size = size
        self._position = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self._data[self._position : self._position + self._size]
        if not piece:
            raise StopIteration
        self._position += len(piece)
        return piece


class Pieces:
    """Like `Chunks`, of an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self._file.read(65536)
        if not piece:
            raise StopIteration
        return piece


def take_from_folder(root: Path, parts: tuple[str, ...], into: ArtifactFolder) -> None:
    """What a mounted workspace gives."""
    from_folder(root, parts, into)


def take_from_archive(root: Path, parts: tuple[str, ...], into: ArtifactFolder) -> None:
    """What the engine's archive of the same path gives."""
    path = os.path.join(root, *parts)
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(path, arcname=os.path.basename(path))
        archive.seek(0)
        from_tar(cast("Iterator[bytes]", Pieces(archive)), into)


def content_of(folder: Path) -> dict[bytes, bytes | None]:
    """Everything below `folder` by its path: bytes, or None for a directory; fails for anything else."""
    found: dict[bytes, bytes | None] = {}
    names: dict[int, list[bytes]] = defaultdict(list)
    links: dict[int, int] = {}
    top = os.fsencode(folder)
    for parent, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            assert kind in (stat.S_IFREG, stat.S_IFDIR), (path, oct(status.st_mode))
            assert not status.st_mode & 0o7027, (path, oct(status.st_mode))
            if kind == stat.S_IFREG:
                names[status.st_ino].append(path)
                links[status.st_ino] = status.st_nlink
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = file.read()
            else:
                found[os.path.relpath(path, top)] = None
    # No file has a name elsewhere.
    assert {inode: len(paths) for inode, paths in names.items()} == links, names
    return found


def assert_told_truly(folder: Path, into: ArtifactFolder) -> None:
    """Fail where the artifacts that were reported are not those that are there."""
    sizes = {
        (os.fsdecode(path), "directory" if data is None else "file", len(data or b""))
        for path, data in content_of(folder).items()
    }
    assert {(one.path, one.type, one.bytes) for one in into.artifacts} == sizes
    assert len(into.artifacts) == len(sizes)


def make_hostile(root: Path, outside: Path) -> None:
    """Links of every kind, special files and odd names in `root`, beside some regular files."""
    (root / "good").write_bytes(b"good")
    (root / "real" / "deep").mkdir(parents=True)
    (root / "real" / "deep" / "good").write_bytes(b"deep good")
    for name, target in {
        "to-secret": str(outside / "secret"),
        "to-outside": str(outside),
        "to-root": "/",
        "to-proc": "/proc/self/root/etc/passwd",
        "up": "..",
        "up-far": "../" * 30 + "etc/passwd",
        "loop": "loop",
        "dangling": "no-such-file",
        "to-good": "good",
        "to-real": "real",
        "to-self": ".",
    }.items():
        (root / name).symlink_to(target)
    os.link(root / "good", root / "hard")
    os.link(root / "good", root / "real" / "hard")
    os.mkfifo(root / "fifo")
    bind_socket(root / "socket")
    if os.geteuid() == 0:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mknod(root / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))


def bind_socket(path: Path) -> None:
    """Leave a unix socket at `path`, whose length does not matter."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


# What of `make_hostile` is regular.
REGULAR: dict[bytes, bytes | None] = {
    b"good": b"good",
    b"hard": b"good",
    b"real": None,
    b"real/deep": None,
    b"real/deep/good": b"deep good",
    b"real/hard": b"good",
}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Have the rights of no one in particular; needs root."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
