"""Lines of a run's output, made of the records of its spool."""

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
    """One line of output: `seq` counts from 0 over both streams, `time` is when its end came (ms since the epoch)."""

    seq: int
    time: int
    stream: str
    text: str


# As LogLine._make does it, for millions of lines without a call in Python for each.
_line: Callable[[tuple[int, int, str, str]], OutputLine] = partial(tuple.__new__, OutputLine)


class Cursor(NamedTuple):
    """A place between two records of a spool: its `offset` in bytes, and how far lines have come there.

    `seq` lines end before it, the last record at `time`; `begun` is what follows them of either stream.
    """

    offset: int = 0
    seq: int = 0
    time: int = 0
    begun: tuple[bytes, bytes] = (b"", b"")


START = Cursor()


class LineAssembler:
    """Makes lines of spooled records; the two streams are kept apart until a line is whole."""

    def __init__(self, at: Cursor = START) -> None:
        stdout, stderr = at.begun
        self._partial = {STDOUT: bytearray(stdout), STDERR: bytearray(stderr)}
        self._time = at.time
        self._seq = at.seq

    def cursor(self, offset: int) -> Cursor:
        """Where it stands, `offset` bytes into the spool."""
        begun = (bytes(self._partial[STDOUT]), bytes(self._partial[STDERR]))
        return Cursor(offset, self._seq, self._time, begun)

    def feed(self, stream: int, milliseconds: int, data: bytes) -> Iterator[OutputLine]:
        """The lines that `data` completes."""
        self._time = milliseconds
        begun = self._partial[stream if stream in self._partial else STDOUT]
        if b"\n" not in data:
            begun += data
            return
        whole, _, rest = data.rpartition(b"\n")
        # All at once: a newline is never part of another character, also among bytes that are no text.
        texts = _text(bytes(begun) + whole).split("\n")
        begun[:] = rest
        numbers = range(self._seq, self._seq + len(texts))
        self._seq += len(texts)
        name = repeat(_NAMES.get(stream, "stdout"))
        yield from map(_line, zip(numbers, repeat(milliseconds), name, texts))

    def end(self) -> Iterator[OutputLine]:
        """What is left without a newline once the output has ended."""
        for stream, begun in self._partial.items():
            if begun:
                text = _text(begun)
                begun.clear()
                yield OutputLine(self._seq, self._time, _NAMES[stream], text)
                self._seq += 1


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "replace")


def read_log(path: Path, *, ended: bool = True) -> Iterator[OutputLine]:
    """The lines of the spool at `path`, with what lacks its newline where `ended`; none where there is no file."""
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
    """The next whole lines of the spool at `path`, of `most` bytes or little more, and where they end.

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
    """What lacks its newline at the end of an output that has ended, and the cursor behind it."""
    assembler = LineAssembler(at)
    lines = list(assembler.end())
    return lines, assembler.cursor(at.offset)
