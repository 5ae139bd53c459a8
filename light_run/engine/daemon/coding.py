"""Where the body of an HTTP/1.1 answer ends: RFC 9112, section 6, fed with whatever pieces come."""

from __future__ import annotations

import re
from typing import Protocol

from light_run.errors import EngineUnavailable

_LINE_END = b"\r\n"
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class BodyDecoder(Protocol):
    """Finds the end of a body in what comes; `ended` from there on, `close` is what must follow it."""

    ended: bool
    close: bytes

    @property
    def remainder(self) -> bytes:
        """What came after the end."""

    def feed(self, data: bytes) -> bytes:
        """What `data` holds of the body. Raises EngineUnavailable."""


class LengthDecoder:
    """A body of a known length, in bytes."""

    close = b""

    def __init__(self, length: int) -> None:
        self._left = length
        self.remainder = b""
        self.ended = length == 0

    def feed(self, data: bytes) -> bytes:
        """See `BodyDecoder`."""
        body, more = data[: self._left], data[self._left :]
        self._left -= len(body)
        self.remainder += more
        self.ended = self._left == 0
        return body


class ChunkedDecoder:
    """HTTP/1.1's chunked coding (section 7.1)."""

    close = _LINE_END

    def __init__(self) -> None:
        self._pending = bytearray()
        self._left = 0
        self.ended = False

    @property
    def remainder(self) -> bytes:
        """See `BodyDecoder`."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> bytes:
        """See `BodyDecoder`."""
        self._pending += data
        out = bytearray()
        while self._pending and not self.ended:
            if self._left > len(_LINE_END):
                piece = self._pending[: self._left - len(_LINE_END)]
                del self._pending[: len(piece)]
                self._left -= len(piece)
                out += piece
            elif self._left:
                # The line end after a chunk.
                gone = min(self._left, len(self._pending))
                del self._pending[:gone]
                self._left -= gone
            else:
                line_end = self._pending.find(_LINE_END)
                if line_end < 0:
                    break
                size = _chunk_size(self._pending[:line_end])
                del self._pending[: line_end + len(_LINE_END)]
                self._left = size + len(_LINE_END) if size else 0
                self.ended = size == 0
        return bytes(out)


def _chunk_size(line: bytearray) -> int:
    match = _CHUNK_HEAD.fullmatch(line)
    if match is None:
        raise EngineUnavailable(
            f"the container engine's response is invalid: {bytes(line[:40])!r} is no chunk's head"
        )
    return int(match[1], 16)
