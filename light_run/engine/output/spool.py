"""The spool: a run's output on disk, in the order of arrival.

It has a record for each piece: a 13-byte header (stream, milliseconds since the epoch, length) and the bytes. Lines are
assembled when the spool is read, so writing it is fast and needs little memory, whatever the output.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from light_run.system.folders import make_private

_log = logging.getLogger(__name__)

# The bytes that are read from a spool at once.
PIECE = 1 << 14

# The header of a record: stream, milliseconds since the epoch, length.
RECORD = struct.Struct(">BQL")
# The headers of a spool whose cap is lower may take this many bytes.
_LEAST_OVERHEAD = 1 << 20


def _ignore() -> None:
    """Do nothing."""


class LogWriter:
    """Spools output to `path`, at most `cap` bytes of it; the rest is dropped.

    The headers of the records may take as many bytes again. Output that comes byte by byte is therefore cut earlier:
    with the default cap of 10 MiB, after 806,596 pieces.

    `wrote` is called behind each piece that a reader of the spool can find now.
    """

    def __init__(self, path: Path, cap: int, wrote: Callable[[], None] = _ignore) -> None:
        self._cap = cap
        self._wrote = wrote
        self._kept = self._records = 0
        self._skip: dict[int, int] = {}
        self._file = _created(path, "wb")
        self.truncated = False

    @classmethod
    def resume(cls, path: Path, cap: int, wrote: Callable[[], None] = _ignore) -> LogWriter:
        """Continue an existing spool, for an output that is replayed from its beginning."""
        kept: dict[int, int] = {}
        writer = cls.__new__(cls)
        writer._file = _created(path, "r+b" if path.exists() else "w+b")
        count = 0
        walker = SpoolWalker(writer._file)
        for stream, _, start, end in walker:
            count += 1
            kept[stream] = kept.get(stream, 0) + end - start
        # A killed server may have left a partial record.
        writer._file.seek(walker.end)
        writer._file.truncate()
        writer._cap, writer._kept, writer._skip = cap, sum(kept.values()), kept
        writer._records = count
        # If the spool is full, more output may have been dropped; replaying all of it to find out is not worth it.
        writer.truncated, writer._wrote = 0 < cap <= writer._kept, wrote
        return writer

    def write(self, stream: int, data: memoryview) -> None:
        """Append `data` of `stream`, up to the cap. Never raises: if the disk is full, output is dropped."""
        already = min(self._skip.get(stream, 0), len(data))
        if already:
            self._skip[stream] -= already
            data = data[already:]
        room = 0 if self._records >= _most_records(self._cap) else max(0, self._cap - self._kept)
        if len(data) > room:
            self.truncated = True
            data = data[:room]
        if not data:
            return
        self._kept += len(data)
        self._records += 1
        try:
            self._append(RECORD.pack(stream, time.time_ns() // 1_000_000, len(data)) + data)
        except OSError as error:
            _log.warning(
                "the rest of a run's output is dropped: %s cannot be written: %s", self._file.name, error
            )
            self.truncated = True
            self._cap = 0
        else:
            self._wrote()

    def _append(self, record: bytes) -> None:
        written = self._file.write(record)
        if written < len(record):
            # A nearly full disk stores a part of the record: remove it, or later records could not be read.
            self._file.seek(-written, os.SEEK_CUR)
            self._file.truncate()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the spool."""
        self._file.close()


def _created(path: Path, mode: str) -> BinaryIO:
    # The folder of all logs may have been removed since the start.
    make_private(path.parent)
    return cast("BinaryIO", path.open(mode, buffering=0))


def _most_records(cap: int) -> int:
    return max(cap, _LEAST_OVERHEAD) // RECORD.size


class SpoolWalker:
    """Walks over the whole records of a spool, from `offset` on.

    Iterating yields the stream of each record, its milliseconds since the epoch, and where its bytes begin and end in
    the file; `read` returns these bytes. A record that is still being written is left out. `end` is where the last
    record ends. `file` is best opened without a buffer: `block` bytes are read at once.
    """

    def __init__(self, file: BinaryIO, offset: int = 0, block: int = PIECE) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._block = block
        self._window = b""
        self._base = offset
        self.end = offset

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        # A spool may have a million records: no attribute is looked up twice for one of them.
        unpack, header, size = RECORD.unpack_from, RECORD.size, self._size
        base, window = self._base, self._window
        at, last = self.end, len(window) - header
        while (start := at + header) <= size:
            if at - base > last:
                base, window = self._load(at)
                last = len(window) - header
                if last < 0:
                    return
            stream, milliseconds, length = unpack(window, at - base)
            at = start + length
            if at > size:
                return
            self.end = at
            yield stream, milliseconds, start, at

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end` of the file."""
        base, window = self._base, self._window
        if end - base > len(window) or start < base:
            if end - start >= self._block:
                self._file.seek(start)
                return self._file.read(end - start)
            base, window = self._load(start)
        return window[start - base : end - base]

    def _load(self, at: int) -> tuple[int, bytes]:
        self._file.seek(at)
        self._base, self._window = at, self._file.read(self._block)
        return self._base, self._window


def records(file: BinaryIO, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Yield the stream, the milliseconds since the epoch and the bytes of each whole record behind `offset`."""
    walker = SpoolWalker(file, offset)
    for stream, milliseconds, start, end in walker:
        yield stream, milliseconds, walker.read(start, end)
