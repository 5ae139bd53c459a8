"""The exact bytes in the spool of a run, without splitting them into lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.spool import SpoolWalker
from light_run.engine.spec import RawPiece

# The bytes that are read from a spool at once; a single record may be longer.
BLOCK = 1 << 16

STREAMS = {"stdout": STDOUT, "stderr": STDERR}


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

    def read(self, most: int = BLOCK) -> list[RawPiece]:
        """Return the next pieces, about `most` bytes of them; an empty list if there are no more yet."""
        pieces: list[RawPiece] = []
        size = 0
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return pieces
        with file:
            walker = SpoolWalker(file, self._offset)
            for stream, _, start, end in walker:
                if self._stream in (None, stream):
                    skipped = min(self._skip, end - start)
                    self._skip -= skipped
                    if start + skipped < end:
                        pieces.append(RawPiece(stream, walker.read(start + skipped, end)))
                        size += end - start - skipped
                self._offset = end
                if size >= most:
                    break
        return pieces


def output_size(path: Path, stream: str | None = None) -> int:
    """Return how many bytes an `OutputReader` reads in all."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return 0
    wanted = None if stream is None else STREAMS[stream]
    with file:
        return sum(end - start for number, _, start, end in SpoolWalker(file) if wanted in (None, number))


def read_output(path: Path, stream: str | None, start: int, stop: int) -> Iterator[RawPiece]:
    """Yield the bytes of `stream` in the spool at `path`, from `start` up to `stop`."""
    reader, left = OutputReader(path, stream, start), stop - start
    while left > 0 and (pieces := reader.read(min(left, BLOCK))):
        for piece in pieces:
            if left > 0:
                yield RawPiece(piece.stream, piece.data[:left])
                left -= len(piece.data)


def read_blocks(path: Path, stream: str, stop: int) -> Iterator[bytes]:
    """Yield the first `stop` bytes of one stream in the spool at `path`, in blocks of about 64 KiB."""
    reader, left = OutputReader(path, stream), stop
    while left > 0 and (pieces := reader.read()):
        block = b"".join(piece.data for piece in pieces)[:left]
        left -= len(block)
        yield block
