"""File objects for tarfile and zipfile that bound how much of a hostile archive is held in memory."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

from light_run.engine.spec import MIB

CHUNK = 64 * 1024
# tarfile reads a header of any length at once, and zipfile the whole central directory. These are the limits.
_MOST_TAR_HEADER = CHUNK
MOST_ZIP_TABLE = 4 * MIB
# zipfile needs about 600 bytes of memory for each entry, besides its name.
MOST_ZIP_ENTRIES = 25_000
_ZIP_ENTRY = b"PK\x01\x02"
# Skipped data costs only time, but a compressed archive can cost hours of it.
MOST_PASSED = 256 * MIB


class ForwardReader:
    """Presents `chunks` as a file that is read once, from start to end, in bounded pieces.

    `spare` is the number of bytes that may still be read, None for no limit. Skipped bytes do not count.
    """

    def __init__(self, chunks: Iterator[bytes], most: int = _MOST_TAR_HEADER) -> None:
        self.last = b""
        self.spare: int | None = None
        self._most = most
        self._chunks = chunks
        self._buffer = bytearray()
        self._position = 0
        self._passed = 0

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without consuming them."""
        while len(self._buffer) < size and (chunk := next(self._chunks, b"")):
            self._buffer += chunk
        return bytes(self._buffer[:size])

    def read(self, size: int) -> bytes:
        """Read the next `size` bytes, or the rest. Raises ReadError if that is too much."""
        if size > self._most:
            raise tarfile.ReadError(f"it has a header of {size} bytes")
        if self.spare is not None:
            self.spare -= size
            if self.spare < 0:
                raise tarfile.ReadError("it has too many headers for one member")
        return self._take(size)

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip to `position`. Raises ReadError if that is too far, backwards, or beyond the end."""
        if position < self._position:
            raise tarfile.ReadError("an offset points backwards")
        while position > self._position:
            passed = len(self._take(min(CHUNK, position - self._position)))
            if not passed:
                raise tarfile.ReadError("it is truncated")
            self._passed += passed
            if self._passed > MOST_PASSED:
                raise tarfile.ReadError(f"more than {MOST_PASSED} bytes of it had to be skipped")
        return position

    def _take(self, size: int) -> bytes:
        self.last = self.peek(size)
        del self._buffer[: len(self.last)]
        self._position += len(self.last)
        return self.last


class BoundedReader:
    """Limits each read of `file`, a zip, including the one of its central directory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """See `io.IOBase`. Raises BadZipFile."""
        if size > MOST_ZIP_TABLE:
            raise zipfile.BadZipFile(
                f"its central directory has {size} bytes; the maximum is {MOST_ZIP_TABLE}, send a tar instead"
            )
        data = self._file.read(MOST_ZIP_TABLE if size < 0 else size)
        # The archive's own count cannot be trusted. Only the central directory is read in one piece of this size.
        if size > CHUNK and data.count(_ZIP_ENTRY) > MOST_ZIP_ENTRIES:
            raise zipfile.BadZipFile(
                f"it has more than {MOST_ZIP_ENTRIES} entries, the maximum for a zip; send a tar instead"
            )
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """See `io.IOBase`. Raises BadZipFile."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            raise zipfile.BadZipFile("an offset points outside of the archive") from None
