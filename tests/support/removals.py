"""A way to the engine on which the removal of containers is held up, or goes wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REMOVAL = b"DELETE "


class Removals:
    """What becomes of requests to remove something; they get through at once until told otherwise."""

    def __init__(self, path: Path, engine: str) -> None:
        self.address = f"unix://{path}"
        self.asked = 0
        self._engine = engine
        self._cut = 0
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def hold(self) -> None:
        """Let none through until `let`."""
        self._open.clear()

    def let(self) -> None:
        """Let them through."""
        self._open.set()

    def cut(self, count: int) -> None:
        """Break the connection of the next `count` of them, which the engine does not see."""
        self._cut = count

    def close(self) -> None:
        """Cut every connection."""
        self._open.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _begin(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                self._sockets += [client, engine]
                engine.connect(self._engine)
                self._begin(self._pump, client, engine)
                self._begin(self._pump, engine, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if data.startswith(REMOVAL):
                    self.asked += 1
                    if self._cut:
                        self._cut -= 1
                        source.shutdown(socket.SHUT_RDWR)
                        break
                    self._open.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def removals(path: Path, engine: str) -> Iterator[Removals]:
    """A way to the engine at the socket `engine` by one at `path`."""
    found = Removals(path, engine)
    try:
        yield found
    finally:
        found.close()
