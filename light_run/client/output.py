"""Reads or follows the exact output of a run, and resumes after a broken connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import requests

from light_run.client.connection import Connection
from light_run.client.following import IDLE_TIMEOUT, OVERLOADED_PAUSE
from light_run.client.model import OutputPiece, Stream
from light_run.errors import LightRunError, Overloaded, ServerUnavailable

FRAMED = "application/vnd.docker.multiplexed-stream"

_FRAME = struct.Struct(">BxxxL")
_BLOCK = 1 << 16


class Output:
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
        tries = self._connection.retries.begin()
        asked_twice = False
        while True:
            failed: LightRunError = ServerUnavailable("the server ended the output too early")
            try:
                for piece in self._request(follow=follow):
                    self._offset += len(piece.data)
                    tries.reset()
                    asked_twice = False
                    yield piece
                if self._complete or not follow:
                    return
                if not asked_twice:
                    # The run has ended, or the server was stopped: only the next response says which.
                    asked_twice = True
                    continue
            except requests.RequestException as error:
                failed = self._connection.broken(error)
            except ServerUnavailable as error:
                failed = error
            except Overloaded as error:
                failed = error
                yield from self.pieces(follow=False)
                # The server responds, so retry without a limit. The pause below keeps this from being too often.
                tries.reset()
            if not tries.again(OVERLOADED_PAUSE if isinstance(failed, Overloaded) else 0.0):
                raise failed

    def _request(self, *, follow: bool) -> Iterator[OutputPiece]:
        params = {"follow": "true" if follow else "false", "offset": str(self._offset)}
        if self._stream is not None:
            params["stream"] = self._stream
        with self._connection.send(
            "GET",
            self._path,
            params=params,
            headers={"Accept": FRAMED},
            stream=True,
            timeout=IDLE_TIMEOUT,
            retry=not follow,
        ) as response:
            # Only the output of a run that has ended has one, as nothing is added to it any more.
            complete = "ETag" in response.headers
            yield from _pieces(response)
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
