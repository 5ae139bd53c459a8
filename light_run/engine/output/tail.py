"""The last bytes of an output, kept in memory."""

from __future__ import annotations

from collections import deque

from light_run.engine.output.lines import LineAssembler


class Tail:
    """Keeps the last `size` bytes of an output, in memory."""

    truncated = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._kept = 0

    def write(self, stream: int, data: memoryview) -> None:
        """Append `data` of `stream`, and drop the oldest bytes."""
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
        """Return the lines of the kept bytes."""
        assembler = LineAssembler()
        found = [line for stream, piece in self._pieces for line in assembler.feed(stream, 0, piece)]
        return [line.text for line in (*found, *assembler.end())]
