"""Files out of the engine's archive, which was made of whatever a hostile container left.

The archive is read as a stream, member by member; nothing of it is trusted, tarfile's own extraction is
not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator

from light_run.engine.files.extract import ArtifactFolder, ExtractError, Parts, chunks_of

PathMapper = Callable[[Parts], Parts | None]


def from_tar(chunks: Iterator[bytes], into: ArtifactFolder, map_path: PathMapper | None = None) -> bool:
    """Extract an archive of one file or directory, as the engine returns it, named by its basename.

    A file is extracted as its basename, a directory's contents directly. `map_path` returns the path in the artifacts
    for a path below the directory, None for what is left out. Returns False if nothing was extracted.
    Raises ExtractError where a cap is reached or the archive is broken, OSError.
    """
    into.begin_entry()
    with _opened(chunks) as tar:
        return _take_members(tar, into, map_path)


def checksum(chunks: Iterator[bytes], check: Callable[[], None]) -> int:
    """Return a number that differs if the files of two archives do: names, types, owners, modes or contents, not times.

    `check` is called again and again, and what it raises ends the work. Raises ExtractError where the archive is
    broken.
    """
    found = 0
    with _opened(chunks) as tar:
        for member in tar:
            check()
            head = (
                member.name,
                member.type,
                member.mode,
                member.uid,
                member.gid,
                member.linkname,
                member.size,
            )
            digest = hashlib.sha256(repr((*head, member.devmajor, member.devminor)).encode())
            content = tar.extractfile(member) if member.isreg() else None
            for chunk in () if content is None else chunks_of(content):
                check()
                digest.update(chunk)
            # Regardless of the order in which the engine lists them.
            found ^= int.from_bytes(digest.digest(), "big")
            tar.members = []  # type: ignore[attr-defined]
    return found


@contextlib.contextmanager
def _opened(chunks: Iterator[bytes]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=_Readable(chunks), mode="r|", errors="surrogateescape") as tar:  # type: ignore[call-overload]
            yield tar
    except (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError) as error:
        raise ExtractError(f"the engine's archive is broken: {error}") from error


def _take_members(tar: tarfile.TarFile, into: ArtifactFolder, map_path: PathMapper | None) -> bool:
    found = False
    above = None
    for member in tar:
        into.look()
        parts = _parts_of(member.name)
        if above is None:
            # The requested directory comes first, with its basename; the root has none.
            above = len(parts) if member.isdir() or map_path is not None else max(0, len(parts) - 1)
        below = parts[above:] if map_path is None else map_path(parts[above:])
        if below is None:
            pass
        elif member.isdir():
            into.add_directory(below)
            found = True
        elif member.isreg() and below:
            if member.size < 0:
                raise ExtractError("the engine's archive is broken: a file of negative size")
            content = tar.extractfile(member)
            if content is not None:
                into.add_file(below, member.size, chunks_of(content))
                found = True
        elif member.islnk() and below:
            first = _parts_of(member.linkname)[above:]
            target = first if map_path is None else map_path(first)
            if target is None:
                raise ExtractError(f"{_shown(below)} is a second name of {_shown(first)}, which is no match")
            # Only to what has come out already.
            found = into.add_link(target, below) or found
        # tarfile remembers every member, which a million of them would make us pay for.
        tar.members = []  # type: ignore[attr-defined]
    return found


def _parts_of(name: str) -> Parts:
    parts = tuple(part for part in os.fsencode(name).split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise ExtractError("the engine's archive holds a name that leaves its directory")
    return parts


def _shown(parts: Parts) -> str:
    return os.fsdecode(b"/".join(parts))


# At the end of a valid archive, tarfile needs two or three of them.
_READS_AT_END = 20


class _Readable:
    # The part of a file that tarfile needs of a stream: read(size).

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._reads_at_end = 0

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._buffer += chunk
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if not data:
            # tarfile passes over a member by reading to where it says it ends, be that exabytes away.
            self._reads_at_end += 1
            if self._reads_at_end > _READS_AT_END:
                raise ExtractError("the engine's archive is broken: it is truncated")
        return data
