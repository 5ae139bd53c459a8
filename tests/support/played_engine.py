"""A fake container engine, for responses that no real engine can be made to send."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

Answer = Callable[[str], bytes | Iterator[bytes] | None]

# Behind an answer: nothing follows, not even what its head says.
HANG_UP = b"<hang up>"


def answer(body: object, status: str = "200 OK") -> bytes:
    """Return a response with a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class PlayedEngine:
    """Answers each request line with what `answers` says, whole or in pieces; None is no answer at all.

    It hangs up behind an answer that is not what its head says.
    """

    def __init__(self, listener: socket.socket, answers: Answer) -> None:
        self.requests: list[str] = []
        self._listener = listener
        self._answers = answers
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            while line := reader.readline():
                length = 0
                while (header := reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                reader.read(length)
                self.requests.append(line.decode().rsplit(" ", 1)[0])
                said = self._answers(self.requests[-1])
                for piece in [said] if isinstance(said, bytes) else said or ():
                    connection.sendall(piece.removesuffix(HANG_UP))
                    if piece.endswith(HANG_UP):
                        return

    def close(self) -> None:
        """Hang up on everyone."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


VERSION = answer({"ApiVersion": "1.41"})


def versioned(answers: Answer) -> Answer:
    """`answers`, after the version was told."""
    return lambda line: VERSION if line.endswith("/version") else answers(line)
