"""Archives of all artifacts of a run, created while they are sent."""

from __future__ import annotations

import errno
import logging
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import RawIOBase
from typing import IO, cast

from flask import Response

from light_run.artifacts.paths import segments
from light_run.artifacts.store import ArtifactEntry, ArtifactStore, OpenFile
from light_run.errors import ArtifactError, InvalidPath

_log = logging.getLogger(__name__)

_BLOCK = 64 * 1024
_GZIP = 31  # zlib's window bits for a gzip header and trailer
# Artifacts are mostly sent once, over a fast connection: speed matters more than size.
_LEVEL = 1


def response(store: ArtifactStore, run_id: str, kind: str) -> Response:
    """Return an attachment ``<run id>.<kind>`` with all files and directories of the run."""
    headers = {"Content-Disposition": f'attachment; filename="{run_id}.{kind}"'}
    pieces = KINDS[kind](store, run_id)
    return Response(pieces, headers=headers, content_type=_TYPES[kind])


def tar_gz(store: ArtifactStore, run_id: str) -> Iterator[bytes]:
    """Yield the bytes of a tar.gz file in bounded pieces."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    for entry, file in _contents(store, run_id):
        yield packer.compress(_tar_header(entry, file))
        if file is not None:
            for block in _blocks(file):
                yield packer.compress(block)
            yield packer.compress(bytes(-file.bytes % tarfile.BLOCKSIZE))
    yield packer.compress(bytes(2 * tarfile.BLOCKSIZE)) + packer.flush()


def zip_file(store: ArtifactStore, run_id: str) -> Iterator[bytes]:
    """Yield the bytes of a zip file in bounded pieces."""
    sink = _Sink()
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for entry, file in _contents(store, run_id):
            if file is None:
                archive.writestr(_zip_info(entry, time.time()), b"")
                continue
            with archive.open(_zip_info(entry, file.modified / 1e9), "w", force_zip64=True) as member:
                for block in _blocks(file):
                    member.write(block)
                    yield sink.drain()
            yield sink.drain()
    yield sink.drain()


KINDS: dict[str, Callable[[ArtifactStore, str], Iterator[bytes]]] = {"tar.gz": tar_gz, "zip": zip_file}
_TYPES = {"tar.gz": "application/gzip", "zip": "application/zip"}


class _Sink(RawIOBase):
    # The file that zipfile writes to. It cannot seek, and `drain` returns what was written since the last call.
    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def drain(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


def _contents(store: ArtifactStore, run_id: str) -> Iterator[tuple[ArtifactEntry, OpenFile | None]]:
    # Yields each entry, with files opened. Names that no URL may have (``x\\..\\y``) are skipped: on some systems,
    # unpacking them would write outside of the folder.
    for entry in store.list(run_id):
        if entry.type == "directory":
            with suppress(InvalidPath):
                segments(entry.path)
                yield entry, None
            continue
        try:
            file = store.open(run_id, entry.path)
        except ArtifactError:
            if not store.folder(run_id).is_dir():
                # Clients notice a download that is cut off, but not an archive that lacks some files.
                _log.warning("archive broken off: the run was deleted or evicted", extra={"run": run_id})
                raise ConnectionResetError(errno.ECONNRESET, "the run was deleted or evicted") from None
            continue
        if isinstance(file, OpenFile):
            with file.handle:
                yield entry, file


def _blocks(file: OpenFile) -> Iterator[bytes]:
    # Yields exactly as many bytes as were announced, even if the file has shrunk or grown.
    left = file.bytes
    while left:
        block = file.handle.read(min(_BLOCK, left))
        if not block:
            raise OSError(f"{file.name} is shorter than it was")
        left -= len(block)
        yield block


def _tar_header(entry: ArtifactEntry, file: OpenFile | None) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.mtime = time.time() if file is None else file.modified / 1e9
    if file is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        info.size = file.bytes
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _zip_info(entry: ArtifactEntry, modified: float) -> zipfile.ZipInfo:
    # The format covers the years 1980 to 2107.
    moment = max((1980, 1, 1, 0, 0, 0), min(time.gmtime(modified)[:6], (2107, 12, 31, 23, 59, 58)))
    directory = entry.type == "directory"
    info = zipfile.ZipInfo(entry.path + "/" if directory else entry.path, moment)
    info.compress_type = zipfile.ZIP_STORED if directory else zipfile.ZIP_DEFLATED
    info.external_attr = (0o40755 << 16 | 0x10) if directory else 0o100644 << 16
    return info
