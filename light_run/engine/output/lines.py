"""Lines of a run's output, assembled from the records of its spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.spool import PIECE, SpoolWalker, records

_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class OutputLine(NamedTuple):
    """One line of output: `seq` counts from 0 over both streams, `time` is when it ended (ms since the epoch)."""

    seq: int
    time: int
    stream: str
    text: str


# The same as OutputLine._make, without a Python call for each of millions of lines.
_line: Callable[[tuple[int, int, str, str]], OutputLine] = partial(tuple.__new__, OutputLine)


class Cursor(NamedTuple):
    """A position between two records of a spool: its `offset` in bytes, and the lines up to there.

    `seq` lines end before it, the last record at `time`; `begun` is what follows them of either stream.
    """

    offset: int = 0
    seq: int = 0
    time: int = 0
    begun: tuple[bytes, bytes] = (b"", b"")


START = Cursor()


class LineAssembler:
    """Assembles lines from spooled records, separately for each stream."""

    def __init__(self, at: Cursor = START) -> None:
        stdout, stderr = at.begun
        self._partial = {STDOUT: bytearray(stdout), STDERR: bytearray(stderr)}
        self._time = at.time
        self._seq = at.seq

    def cursor(self, offset: int) -> Cursor:
        """Return the cursor for `offset`, a position in bytes."""
        begun = (bytes(self._partial[STDOUT]), bytes(self._partial[STDERR]))
        return Cursor(offset, self._seq, self._time, begun)

    def feed(self, stream: int, milliseconds: int, data: bytes) -> Iterator[OutputLine]:
        """Yield the lines that `data` completes."""
        self._time = milliseconds
        begun = self._partial[stream if stream in self._partial else STDOUT]
        if b"\n" not in data:
            begun += data
            return
        whole, _, rest = data.rpartition(b"\n")
        # Decoded in one call: a newline is never part of another character, even in invalid UTF-8.
        texts = _text(bytes(begun) + whole).split("\n")
        begun[:] = rest
        numbers = range(self._seq, self._seq + len(texts))
        self._seq += len(texts)
        name = repeat(_NAMES.get(stream, "stdout"))
        yield from map(_line, zip(numbers, repeat(milliseconds), name, texts))

    def end(self) -> Iterator[OutputLine]:
        """Yield the unterminated lines at the end of the output."""
        for stream, begun in self._partial.items():
            if begun:
                text = _text(begun)
                begun.clear()
                yield OutputLine(self._seq, self._time, _NAMES[stream], text)
                self._seq += 1


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "replace")


def read_log(path: Path, *, ended: bool = True) -> Iterator[OutputLine]:
    """Yield the lines of the spool at `path`, if `ended` including unterminated ones; none if there is no file."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return
    assembler = LineAssembler()
    with file:
        for record in records(file):
            yield from assembler.feed(*record)
    if ended:
        yield from assembler.end()


def read_on(path: Path, at: Cursor, most: int = PIECE) -> tuple[list[OutputLine], Cursor]:
    """Return the next complete lines of the spool at `path`, about `most` bytes of them, and the cursor after them.

    No lines: there are no more yet. What lacks its newline is in the cursor, see `last_lines`.
    """
    assembler = LineAssembler(at)
    lines: list[OutputLine] = []
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return lines, at
    with file:
        walker = SpoolWalker(file, at.offset)
        for stream, milliseconds, start, end in walker:
            lines.extend(assembler.feed(stream, milliseconds, walker.read(start, end)))
            if lines and end - at.offset >= most:
                break
        return lines, assembler.cursor(walker.end)


def last_lines(at: Cursor) -> tuple[list[OutputLine], Cursor]:
    """Return the unterminated lines at the end of an output, and the cursor after them."""
    assembler = LineAssembler(at)
    lines = list(assembler.end())
    return lines, assembler.cursor(at.offset)
