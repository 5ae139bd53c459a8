"""The bytes in the spool of a run, exactly as they were written: no lines are made of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from light_run.engine.output import RECORD, STDERR, STDOUT

# What one read takes of a spool, in bytes; a single record may be longer.
BLOCK = 1 << 16

STREAMS = {"stdout": STDOUT, "stderr": STDERR}


class OutputPiece(NamedTuple):
    """Bytes that came together; `stream` is STDOUT or STDERR."""

    stream: int
    data: bytes


class OutputReader:
    """Reads the spool at `path`, each time from where the last read ended.

    `stream` is ``stdout`` or ``stderr``, None for both in the order of arrival. The first `skip` bytes of that are left
    out.
    """

    def __init__(self, path: Path, stream: str | None = None, skip: int = 0) -> None:
        self._path = path
        self._stream = None if stream is None else STREAMS[stream]
        self._skip = skip
        self._offset = 0

    def read(self, most: int = BLOCK) -> list[OutputPiece]:
        """Return the next pieces, of `most` bytes or little more; none where there are no more yet."""
        pieces: list[OutputPiece] = []
        size = 0
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return pieces
        with file:
            for stream, start, length in _spans(file, self._offset):
                if self._stream in (None, stream):
                    skipped = min(self._skip, length)
                    self._skip -= skipped
                    if skipped < length:
                        file.seek(start + skipped)
                        pieces.append(OutputPiece(stream, file.read(length - skipped)))
                        size += length - skipped
                self._offset = start + length
                if size >= most:
                    break
        return pieces


def output_size(path: Path, stream: str | None = None) -> int:
    """Return how many bytes an `OutputReader` reads in all."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    wanted = None if stream is None else STREAMS[stream]
    with file:
        return sum(length for number, _, length in _spans(file, 0) if wanted in (None, number))


def read_output(path: Path, stream: str | None, start: int, stop: int) -> Iterator[OutputPiece]:
    """Yield what the spool at `path` has of `stream` from byte `start` up to byte `stop`."""
    reader, left = OutputReader(path, stream, start), stop - start
    while left > 0 and (pieces := reader.read(min(left, BLOCK))):
        for piece in pieces:
            if left > 0:
                yield OutputPiece(piece.stream, piece.data[:left])
                left -= len(piece.data)


def read_blocks(path: Path, stream: str, stop: int) -> Iterator[bytes]:
    """Yield the first `stop` bytes of one stream in the spool at `path`, in blocks of some 64 KiB."""
    reader, left = OutputReader(path, stream), stop
    while left > 0 and (pieces := reader.read()):
        block = b"".join(piece.data for piece in pieces)[:left]
        left -= len(block)
        yield block


def _spans(file: BinaryIO, offset: int) -> Iterator[tuple[int, int, int]]:
    # The stream of each whole record behind `offset`, where its bytes begin, and how many there are.
    end = os.fstat(file.fileno()).st_size
    while offset + RECORD.size <= end:
        file.seek(offset)
        stream, _, length = RECORD.unpack(file.read(RECORD.size))
        start = offset + RECORD.size
        offset = start + length
        if offset > end:
            # It is still being written.
            return
        yield stream, start, length
