"""Splits the engine's stream of output into frames.

The engine multiplexes stdout and stderr in frames of an 8-byte header (stream, three zero bytes, length, big-endian)
and a payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

STDOUT, STDERR = 1, 2

_FRAME = struct.Struct(">BxxxL")


class OutputSink(Protocol):
    """Receives the output of a command. `truncated` is True once output was dropped; no more is then kept."""

    truncated: bool

    def write(self, stream: int, data: memoryview) -> None:
        """Receive `data` of `stream`; must not raise."""


class Demultiplexer:
    """Splits the engine's stream, which arrives in pieces of any size, into pairs of a stream and bytes."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield the payloads in `data`, neighbours of a stream joined; a partial frame continues in the next call.

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
