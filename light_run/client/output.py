"""Reads or follows the exact output of a run, and resumes after a broken connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import requests

from light_run.client import resuming
from light_run.client.connection import Connection
from light_run.client.model import OutputPiece, Stream
from light_run.client.resuming import ResumingReader

FRAMED = "application/vnd.docker.multiplexed-stream"

_FRAME = struct.Struct(">BxxxL")
_BLOCK = 1 << 16


class OutputFollower:
    """The output of one run, of `stream` (None: both)."""

    def __init__(self, connection: Connection, path: str, *, stream: Stream | None = None) -> None:
        self._connection = connection
        self._path = path
        self._stream = stream
        self._offset = 0
        self._complete = False

    def pieces(self, *, follow: bool) -> Iterator[OutputPiece]:
        """Yield the output so far; with `follow`, until the run ends.

        Raises `ServerUnavailable` if the connection breaks and the retries fail.
        """
        reader = ResumingReader(self._connection, self._request, lambda: self._complete, "output")
        return reader.read(follow=follow)

    def _request(self, follow: bool) -> Iterator[OutputPiece]:
        params = {"follow": "true" if follow else "false", "offset": str(self._offset)}
        if self._stream is not None:
            params["stream"] = self._stream
        with self._connection.send(
            "GET",
            self._path,
            params=params,
            headers={"Accept": FRAMED},
            stream=True,
            timeout=resuming.IDLE_TIMEOUT,
            retry=not follow,
        ) as response:
            # Only the output of a run that has ended has one, as nothing is added to it any more.
            complete = "ETag" in response.headers
            for piece in _pieces(response):
                self._offset += len(piece.data)
                yield piece
            self._complete = complete


def _pieces(response: requests.Response) -> Iterator[OutputPiece]:
    # What has arrived of a frame is yielded before the rest of the frame.
    header, left = b"", 0
    stream: Stream = "stdout"
    for block in response.iter_content(_BLOCK):
        data = block
        while data:
            if left:
                part, data = data[:left], data[left:]
                left -= len(part)
                yield OutputPiece(stream, part)
                continue
            need = _FRAME.size - len(header)
            header, data = header + data[:need], data[need:]
            if len(header) == _FRAME.size:
                number, left = _FRAME.unpack(header)
                stream, header = "stderr" if number == 2 else "stdout", b""
