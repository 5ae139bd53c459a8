"""A run's output: taken from the engine's stream as it comes, spooled to disk, read back as lines.

The engine multiplexes stdout and stderr in frames of an 8-byte header (stream, three zero bytes,
length, big-endian) and a payload. The spool keeps what was read in the same spirit: records of a
13-byte header (stream, milliseconds since the epoch, length) and the bytes. Lines are made when the
spool is read, so that the container never waits for us, and a run of any output costs no memory.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

_log = logging.getLogger(__name__)

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}

# What is read of a spool at once, in bytes.
PIECE = 1 << 14

_FRAME = struct.Struct(">BxxxL")
# The header of a record of a spool: stream, milliseconds since the epoch, length.
RECORD = struct.Struct(">BQL")
# What a spool may have of headers where its cap is lower, in bytes.
_LEAST_OVERHEAD = 1 << 20


class Output(Protocol):
    """Takes what a command writes, as it comes; `truncated` once some of it was not kept, and no more will be."""

    truncated: bool

    def write(self, stream: int, data: memoryview) -> None:
        """Take `data` of `stream`; must not raise."""


class Demultiplexer:
    """Takes the engine's stream in pieces of any size; gives (stream, bytes)."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """The payloads in `data`, neighbours of the same stream joined; a frame cut short goes on in the next call.

        The engine sends a frame for each write of the container, and replays one for each line. Joined, they cost
        what reads them, and the spool, no more than a few large ones.
        """
        joined: list[memoryview] = []
        of = STDOUT
        for stream, payload in self._payloads(data):
            if joined and stream != of:
                yield of, _join(joined)
                joined = []
            of = stream
            joined.append(payload)
        if joined:
            yield of, _join(joined)

    def _payloads(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        view = memoryview(data)
        while view:
            if self._left:
                payload, view = view[: self._left], view[self._left :]
                self._left -= len(payload)
                yield self._stream, payload
                continue
            need = _FRAME.size - len(self._header)
            self._header += view[:need]
            view = view[need:]
            if len(self._header) == _FRAME.size:
                self._stream, self._left = _FRAME.unpack(self._header)
                self._header.clear()


def _join(payloads: list[memoryview]) -> memoryview:
    return payloads[0] if len(payloads) == 1 else memoryview(b"".join(payloads))


def _nobody() -> None:
    """Nobody wants to know."""


class LogWriter:
    """Spools output to `path`, at most `cap` bytes of it; what comes after is dropped.

    The same holds for what the spool has beside: output that comes byte by byte is cut earlier, after a million pieces.

    `wrote` is called behind each piece that a reader of the spool can find now.
    """

    def __init__(self, path: Path, cap: int, wrote: Callable[[], None] = _nobody) -> None:
        self._cap = cap
        self._wrote = wrote
        self._kept = self._records = 0
        self._skip: dict[int, int] = {}
        self._file: BinaryIO = path.open("wb", buffering=0)
        self.truncated = False

    @classmethod
    def resume(cls, path: Path, cap: int, wrote: Callable[[], None] = _nobody) -> LogWriter:
        """Take up a spool where it broke off, for an output that is replayed from its beginning."""
        kept: dict[int, int] = {}
        writer = cls.__new__(cls)
        writer._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        count = 0
        for stream, _, data in records(writer._file):
            count += 1
            kept[stream] = kept.get(stream, 0) + len(data)
        # A server that was killed may have left half a record.
        writer._file.truncate()
        writer._cap, writer._kept, writer._skip = cap, sum(kept.values()), kept
        writer._records = count
        # Full to the last byte, it is not worth a look through a flood at whether there was one more.
        writer.truncated, writer._wrote = 0 < cap <= writer._kept, wrote
        return writer

    def write(self, stream: int, data: memoryview) -> None:
        """Keep `data` of `stream`, as far as the cap allows. Never raises: a full disk costs log lines only."""
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
            # A disk with room for a part takes that part: cut it off, or nothing behind it could be read.
            self._file.seek(-written, os.SEEK_CUR)
            self._file.truncate()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the spool."""
        self._file.close()


def _most_records(cap: int) -> int:
    return max(cap, _LEAST_OVERHEAD) // RECORD.size


class Tail:
    """Keeps the last `size` bytes of an output, in memory."""

    truncated = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._kept = 0

    def write(self, stream: int, data: memoryview) -> None:
        """Keep `data` of `stream` for as long as it is among the last."""
        piece = bytes(data[-self._size :])
        self._pieces.append((stream, piece))
        self._kept += len(piece)
        while self._kept > self._size:
            stream, piece = self._pieces.popleft()
            left = piece[self._kept - self._size :]
            self._kept -= len(piece) - len(left)
            if left:
                self._pieces.appendleft((stream, left))

    def lines(self) -> list[str]:
        """What is kept, as lines."""
        assembler = LineAssembler()
        found = [line for stream, piece in self._pieces for line in assembler.feed(stream, 0, piece)]
        return [line.text for line in (*found, *assembler.end())]


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


def records(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(stream, milliseconds, bytes) of each whole record from where `file` stands.

    A record that is still being written is left: `file` then stands at its beginning.
    """
    while True:
        position = file.tell()
        header = file.read(RECORD.size)
        if len(header) == RECORD.size:
            stream, milliseconds, length = RECORD.unpack(header)
            data = file.read(length)
            if len(data) == length:
                yield stream, milliseconds, data
                continue
        file.seek(position)
        return


def read_log(path: Path, *, ended: bool = True) -> Iterator[OutputLine]:
    """The lines of the spool at `path`, with what lacks its newline where `ended`; none where there is no file."""
    try:
        file = path.open("rb")
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
        file = path.open("rb")
    except FileNotFoundError:
        return lines, at
    with file:
        file.seek(at.offset)
        for record in records(file):
            lines.extend(assembler.feed(*record))
            if lines and file.tell() - at.offset >= most:
                break
        return lines, assembler.cursor(file.tell())


def last_lines(at: Cursor) -> tuple[list[OutputLine], Cursor]:
    """What lacks its newline at the end of an output that has ended, and the cursor behind it."""
    assembler = LineAssembler(at)
    lines = list(assembler.end())
    return lines, assembler.cursor(at.offset)
