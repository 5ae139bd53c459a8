"""Finds lines in the spool of a run without assembling the lines before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.lines import Cursor
from light_run.engine.output.spool import PIECE, SpoolWalker

# The bytes that are read from a spool at once.
_BLOCK = 1 << 20
_NUMBERS = {"stdout": STDOUT, "stderr": STDERR}


@dataclass(frozen=True, slots=True)
class LineCount:
    """The number of all lines, and of those that are `wanted`."""

    all: int
    wanted: int


@dataclass(slots=True)
class _Scan:
    # The state of a pass over a spool: like a cursor, but lines are only counted.
    since: int
    stream: int | None
    offset: int = 0
    seq: int = 0
    time: int = 0
    wanted: int = 0
    begun: dict[int, bytearray] = field(default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()})

    @property
    def first_wanted(self) -> int:
        return max(self.seq, self.since + 1)

    def cursor(self) -> Cursor:
        return Cursor(
            self.offset, self.seq, self.time, (bytes(self.begun[STDOUT]), bytes(self.begun[STDERR]))
        )

    def wants(self, stream: int, lines: int) -> int:
        """Return how many of the next `lines` lines, all of `stream`, are wanted."""
        if self.stream not in (None, stream):
            return 0
        return max(0, self.seq + lines - self.first_wanted)

    def count_unfinished(self) -> None:
        # In the same order as `last_lines`.
        for stream, begun in self.begun.items():
            if begun:
                self.wanted += self.wants(stream, 1)
                self.seq += 1


def count_lines(path: Path, *, since: int, stream: str | None, ended: bool) -> LineCount:
    """Count the lines of the spool at `path`; those of `stream` (None: both) with a `seq` above `since` are wanted.

    With `ended`, what lacks its newline counts, too.
    """
    scan = _Scan(since, _NUMBERS.get(stream or ""))
    for number, data, lines in _pieces(path, scan):
        scan.wanted += scan.wants(number, lines)
        _advance(scan, number, data, lines)
    if ended:
        scan.count_unfinished()
    return LineCount(scan.seq, scan.wanted)


def find_line(path: Path, skip: int, *, since: int, stream: str | None) -> tuple[Cursor, int]:
    """Find the wanted line (see `count_lines`) that comes after `skip` others.

    Returns a place before it and the `seq` after which it comes: reading from there, lines up to this one have to be
    left out.
    """
    scan = _Scan(since, _NUMBERS.get(stream or ""))
    for number, data, lines in _pieces(path, scan):
        here = scan.wants(number, lines)
        if scan.wanted + here > skip:
            return scan.cursor(), scan.first_wanted + skip - scan.wanted - 1
        scan.wanted += here
        _advance(scan, number, data, lines)
    # Only unterminated lines follow, at most one of each stream.
    left_out = skip - scan.wanted
    if left_out and stream is not None:
        left_out = len(scan.begun)
    return scan.cursor(), scan.first_wanted + left_out - 1


def _pieces(path: Path, scan: _Scan) -> Iterator[tuple[int, bytes, int]]:
    # The stream, the bytes and the number of line ends of each group of records. The caller passes a group before the
    # scan goes on, so that until then its cursor is the place before the group.
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return
    with file:
        for stream, milliseconds, data, end in _groups(SpoolWalker(file, block=_BLOCK)):
            yield stream, data, data.count(b"\n")
            scan.offset, scan.time = end, milliseconds


def _groups(walker: SpoolWalker) -> Iterator[tuple[int, int, bytes, int]]:
    # Neighbouring records of one stream together, as a spool may have a million of a byte each; with the time of the
    # last of them, and where they end in the file.
    known, time, found, size, at = 0, 0, list[bytes](), 0, 0
    read = walker.read
    for stream, milliseconds, start, end in walker:
        if found and (stream != known or size >= PIECE):
            yield known, time, b"".join(found), at
            found, size = [], 0
        found.append(read(start, end))
        known, time, size, at = stream, milliseconds, size + end - start, end
    if found:
        yield known, time, b"".join(found), at


def _advance(scan: _Scan, stream: int, data: bytes, lines: int) -> None:
    begun = scan.begun[stream]
    if lines:
        scan.seq += lines
        begun[:] = data[data.rfind(b"\n") + 1 :]
    else:
        begun += data
